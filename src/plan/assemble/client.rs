//! What the client of a load does beyond sending each request once, and what can never come of it.

use super::super::client::{
    ATTEMPTS_MOST, BURST_MOST, Backoff, Budget, Client, HEDGES_MOST, Hedge, Jitter, Patience, Retries, Trigger, USUAL_BURST,
    WrittenBackoff, WrittenBudget, WrittenClient, WrittenHedge, WrittenRetries,
};
use super::super::tree::Id;
use super::super::{Flow, Request, Talk};
use super::{Desk, Located};
use crate::recording::Outcome;
use crate::units::Span;

/// The longest that a client can be asked to wait between attempts: no request lasts longer.
const WAIT_MOST: Span = Span::from_secs(3_600);
/// The shortest wait, attempt and delay: timers know no shorter.
const LEAST: Span = Span::from_millis(1);

/// What is written, for a load that sends `request` or, where it has some, `flows`: the shortest of their timeouts counts.
pub(super) fn client(
    desk: &mut Desk<'_>,
    written: Option<Located<WrittenClient>>,
    request: &Request,
    flows: &[Flow],
) -> Option<Client> {
    let Located { value: written, at } = written?;
    let requests: Vec<&Request> = match flows {
        [] => vec![request],
        _ => flows.iter().flat_map(|flow| &flow.steps).map(|step| &step.request).collect(),
    };
    let timeout = requests.iter().map(|request| request.timeout).min().unwrap_or(request.timeout);
    // Of what was left out of it nothing more is to be said.
    if !desk.left_out.nothing_below(&desk.tree, at) {
        return None;
    }
    if written.retries.is_none() && written.hedge.is_none() {
        desk.wrong(at, "this client does nothing on its own account").help =
            Some("write `retries`, as in {attempts: 3}, `hedge`, as in {after: 50ms}, or both; or leave out `client`".into());
        return None;
    }
    if let Some(hedge) = written.hedge.as_ref().filter(|_| !flows.is_empty()) {
        desk.wrong(hedge.at, "the steps of a flow are not hedged: a step has one answer for the next one to go by").help =
            Some("leave out `hedge`; steps can be tried again (`retries`)".into());
    }
    let retries = written.retries.map(|written| retries(desk, written, (&requests, timeout)));
    let within = retries.as_ref().and_then(|retries| retries.attempt_timeout);
    let hedge = written.hedge.map(|written| hedge(desk, written, timeout, within));
    Some(Client { retries, hedge })
}

/// Attempts after attempts of `requests`, the shortest of whose timeouts is `timeout`.
fn retries(
    desk: &mut Desk<'_>,
    Located { value: written, at }: Located<WrittenRetries>,
    (requests, timeout): (&[&Request], Span),
) -> Retries {
    let attempts = match written.attempts {
        None => {
            desk.wrong(at, "`attempts` is missing").help =
                Some("say how many attempts a request has at most, the first included, as in `attempts: 3`".into());
            2
        }
        Some(attempts) => {
            if !(2..=ATTEMPTS_MOST).contains(&attempts.value) {
                let message = format!("{} attempts, the first included: from 2 to {ATTEMPTS_MOST}", attempts.value);
                desk.wrong(attempts.at, message);
            }
            attempts.value
        }
    };
    let attempt_timeout = written.attempt_timeout.map(|given| {
        if given.value < LEAST {
            desk.wrong(given.at, format!("no attempt can be given {}: at least {LEAST}", given.value));
        } else if given.value >= timeout {
            desk.wrong(given.at, format!("an attempt may take {}, and its request {timeout} in all", given.value)).help =
                Some("give an attempt less time, or the request more (`timeout`)".into());
        }
        given.value
    });
    let on = match written.on {
        None => Trigger::USUAL.to_vec(),
        Some(on) => {
            let written = on.value.iter().map(|trigger| (trigger.value.0, trigger.at));
            triggers(desk, written, on.at, (requests, attempt_timeout))
        }
    };
    let backoff = written.backoff.map_or(Backoff::USUAL, |written| backoff(desk, written, timeout));
    let retry_after = match written.retry_after {
        None => Patience::Any,
        Some(given) => {
            if let Patience::AtMost(most) = given.value.0
                && most >= timeout
            {
                desk.wrong(given.at, format!("nobody waits for {most}: a request may take {timeout} in all")).help =
                    Some("write a shorter time, give the request more (`timeout`), or leave it out".into());
            }
            given.value.0
        }
    };
    Retries { attempts, on, backoff, budget: budget(desk, written.budget), retry_after, attempt_timeout }
}

/// After what another attempt is made.
fn triggers(
    desk: &mut Desk<'_>,
    written: impl Iterator<Item = (Trigger, Id)>,
    list: Id,
    (requests, attempt_timeout): (&[&Request], Option<Span>),
) -> Vec<Trigger> {
    let mut on: Vec<Trigger> = Vec::new();
    for (trigger, at) in written {
        if on.contains(&trigger) {
            desk.wrong(at, format!("{trigger} is said twice"));
        }
        if trigger == Trigger::Outcome(Outcome::TimedOut) && attempt_timeout.is_none() {
            desk.wrong(at, "a request that has timed out has no time left for another attempt").help =
                Some("give each attempt less time than the request, as in `attempt_timeout: 300ms`".into());
        }
        if let Trigger::Status(status) = trigger {
            if requests.iter().all(|request| matches!(request.talk, Talk::Grpc(_))) {
                desk.wrong(at, format!("a call ends in a status of gRPC, not in {status}")).help =
                    Some("write outcomes, as in [rejected, failed]: UNAVAILABLE and RESOURCE_EXHAUSTED are `rejected`".into());
            } else if requests.iter().all(|request| request.wanted.expect.names(status) == Some(true)) {
                desk.wrong(at, format!("{status} is expected here, and what ended ok is not tried again")).help =
                    Some("leave it out here, or out of the statuses that are expected".into());
            }
        }
        on.push(trigger);
    }
    if on.is_empty() {
        desk.wrong(list, "after nothing there is no retry").help =
            Some("write outcomes or statuses, as in [rejected, failed, 502], or leave out `on`".into());
    }
    on
}

fn backoff(desk: &mut Desk<'_>, Located { value: written, at }: Located<WrittenBackoff>, timeout: Span) -> Backoff {
    let WrittenBackoff::Exponential(written) = written else { return Backoff::NONE };
    let base_at = written.base.as_ref().map_or(at, |base| base.at);
    let base = written.base.map_or(Backoff::USUAL.base, |base| base.value);
    if base < LEAST {
        desk.wrong(base_at, format!("no backoff begins with {base}: at least {LEAST}")).help =
            Some("for none at all, write `backoff: none`".into());
    } else if base >= timeout && written.jitter == Jitter::None {
        desk.wrong(base_at, format!("after {base} no request has time left: it may take {timeout} in all"));
    }
    let usual = Backoff::USUAL.cap.max(base);
    let cap_at = written.cap.as_ref().map_or(at, |cap| cap.at);
    let cap = written.cap.map_or(usual, |cap| cap.value);
    if cap < base {
        desk.wrong(cap_at, format!("{cap} at most, and {base} to begin with")).help = Some("`cap` is the longer of the two".into());
    } else if cap > WAIT_MOST {
        desk.wrong(cap_at, format!("no client waits for {cap}: at most {WAIT_MOST}"));
    }
    Backoff { base, cap, jitter: written.jitter }
}

fn budget(desk: &mut Desk<'_>, written: Option<Located<WrittenBudget>>) -> Option<Budget> {
    match written?.value {
        WrittenBudget::Ratio(ratio) => Some(Budget { ratio, burst: USUAL_BURST }),
        WrittenBudget::Bucket(bucket) => {
            let burst = bucket.burst.map_or(USUAL_BURST, |burst| {
                if !(1..=BURST_MOST).contains(&burst.value) {
                    desk.wrong(burst.at, format!("a bucket of {} tokens: from 1 to {BURST_MOST}", burst.value));
                }
                burst.value
            });
            Some(Budget { ratio: bucket.ratio, burst })
        }
    }
}

fn hedge(desk: &mut Desk<'_>, Located { value: written, at }: Located<WrittenHedge>, timeout: Span, within: Option<Span>) -> Hedge {
    let after = match written.after {
        None => {
            desk.wrong(at, "`after` is missing").help =
                Some("say how long an attempt is without an answer before another is sent, as in `after: 50ms`".into());
            LEAST
        }
        Some(after) => {
            let longest = within.unwrap_or(timeout).min(timeout);
            if after.value < LEAST {
                desk.wrong(after.at, format!("no hedge is sent after {}: at least {LEAST}", after.value));
            } else if after.value >= longest {
                let message = format!("after {} there is nothing to hedge: an attempt may take {longest}", after.value);
                desk.wrong(after.at, message).help =
                    Some("hedge earlier: near the latency that nineteen in twenty stay below is usual".into());
            }
            after.value
        }
    };
    let max = written.max.map_or(1, |max| {
        if !(1..=HEDGES_MOST).contains(&max.value) {
            desk.wrong(max.at, format!("{} hedges beside an attempt: from 1 to {HEDGES_MOST}", max.value));
        }
        max.value
    });
    Hedge { after, max, budget: budget(desk, written.budget) }
}
