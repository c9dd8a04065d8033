//! What the client of a load does beyond sending each request once, and what that comes to at worst.

use super::super::assemble::abreast;
use super::super::level::peak;
use super::super::{Backoff, Budget, Client, Hedge, Jitter, Load, Model, Patience, Retries};
use super::Page;

/// How many waits are shown.
const WAITS: u32 = 4;

pub(super) fn client(page: &mut Page, load: &Load) {
    let Some(client) = &load.client else { return };
    if let Some(retries) = &client.retries {
        self::retries(page, load, retries);
    }
    if let Some(hedge) = &client.hedge {
        self::hedge(page, hedge);
    }
    worst(page, load, client);
}

fn retries(page: &mut Page, load: &Load, retries: &Retries) {
    let on: Vec<String> = retries.on.iter().map(ToString::to_string).collect();
    page.item(2, "retries     ", &format!("at most {} attempts, the first included; after {}", retries.attempts, on.join(", ")));
    if let Some(request) = load.requests().find(|request| matches!(request.method.as_str(), "POST" | "PATCH")) {
        let said = format!("{} is not idempotent: what was done before an attempt failed is done again", request.method);
        page.item(2, "            ", &said);
    }
    page.item(2, "backoff     ", &backoff(&retries.backoff, retries.attempts));
    let retry_after = match retries.retry_after {
        Patience::Any => "waited for, as far as the timeout allows (default)".to_owned(),
        Patience::AtMost(most) => format!("waited for up to {most}; after a longer one the request is given up"),
        Patience::Ignore => "ignored".to_owned(),
    };
    page.item(2, "Retry-After ", &retry_after);
    if let Some(timeout) = retries.attempt_timeout {
        let all = if load.flows.is_empty() { load.request.timeout.to_string() } else { "a step's timeout".to_owned() };
        let said = format!("{timeout} for each attempt, {all} for all of them and the waits between");
        page.item(2, "attempt     ", &said);
    }
    budget(page, "retries", retries.budget);
}

fn backoff(backoff: &Backoff, attempts: u32) -> String {
    if *backoff == Backoff::NONE {
        return "none: the next attempt follows at once".to_owned();
    }
    let waits: Vec<String> =
        (1..attempts).take(WAITS as usize).map(|nth| crate::units::Span::from(backoff.nth(nth)).to_string()).collect();
    let more = if attempts > WAITS + 1 { ", ..." } else { "" };
    let jitter = match backoff.jitter {
        Jitter::None => "exactly so long: without jitter, whoever failed together comes again together",
        Jitter::Full => "full jitter: anywhere from nothing to that",
        Jitter::Equal => "equal jitter: anywhere from half of that to all of it",
        Jitter::Decorrelated => {
            return format!(
                "{} to three times the wait before, at most {}: decorrelated jitter; to the millisecond",
                backoff.base, backoff.cap
            );
        }
    };
    format!("{}{more} (at most {}), {jitter}; to the millisecond", waits.join(", "), backoff.cap)
}

fn budget(page: &mut Page, of: &str, budget: Option<Budget>) {
    let said = match budget {
        Some(Budget { ratio, burst }) => {
            format!("{ratio} of requests + {burst}: of any n requests in a row come at most {ratio} x n + {burst} {of}")
        }
        None => format!("none: nothing but the number of attempts bounds {of}"),
    };
    page.item(2, "budget      ", &said);
}

fn hedge(page: &mut Page, hedge: &Hedge) {
    let more = if hedge.max > 1 { ", and again so much later" } else { "" };
    page.item(
        2,
        "hedge       ",
        &format!(
            "another attempt beside one without an answer after {}{more}; at most {} beside each; the first that is answered ok wins",
            hedge.after, hedge.max
        ),
    );
    budget(page, "hedges", hedge.budget);
}

/// What it comes to when every attempt fails, or none is answered.
fn worst(page: &mut Page, load: &Load, client: &Client) {
    let hedges = client.abreast() - 1;
    let beside = if hedges > 0 { format!(" x (1 + {hedges} beside each)") } else { String::new() };
    let mut said = format!("{} in a row{beside} = {} attempts for each request", client.tries(), client.worst());
    if let Model::Open { arrivals, rate } = &load.model
        && !arrivals.has_own_rate()
    {
        let peak = peak(rate);
        said.push_str(&format!(": at the highest rate {peak}/s -> {}/s", peak * f64::from(client.worst())));
    }
    if let Some(budgeted) = client.budgeted() {
        said.push_str(&format!(", and by the budget {} for each in the long run", (budgeted * 1e3).round() / 1e3));
    }
    page.item(2, "at worst    ", &said);
    let mut keeps =
        "A request that waits for its next attempt is in flight and keeps its connection; its timeout is that of all its attempts."
            .to_owned();
    if abreast(Some(client)) > 1.0 {
        keeps
            .push_str(&format!(" Each may have {} attempts on their way at once, which need a connection each.", client.abreast()));
    }
    page.text(2, &keeps);
}
