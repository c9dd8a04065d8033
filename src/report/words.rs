//! A fact of the recording as a sentence for a person: the same words in the final report, under a finding and in the live lines.
//! What comes from outside (messages of a cluster, reasons of a system) loses its control characters here.

use std::collections::BTreeMap;

use crate::recording::fact::{Ending, Fact, FaultStep, Lookup, SPACING_MS, Waking};
use crate::recording::plain::plain;
use crate::report::numbers;

/// What `fact` says, in one line.
pub fn of(fact: &Fact) -> String {
    clean(&match fact {
        Fact::RunStarted(run) => format!("run {} of {} starts, seed {}", run.run_id, run.plan, run.seed),
        Fact::PhaseStarted { phase } => format!("phase {phase} starts"),
        Fact::PhaseEnded { phase } => format!("phase {phase} ends"),
        Fact::Tally(tally) => {
            let c = &tally.counts;
            let mut text = format!("{} in second {} of the run: {} due, {} ok", tally.load, tally.second, c.intended, c.ok);
            for (n, what) in
                [(c.rejected, "rejected"), (c.failed, "failed"), (c.timed_out, "timed out"), (c.unsent, "unsent by Squall")]
            {
                if n > 0 {
                    text.push_str(&format!(", {n} {what}"));
                }
            }
            if !tally.causes.is_empty() {
                text.push_str(&format!(" ({})", causes(&tally.causes)));
            }
            text
        }
        Fact::Generator(sample) => format!(
            "generator in second {}: busiest worker at {} of a core, {} in flight, {} open",
            sample.second,
            numbers::value(sample.cpu * 100.0, "%"),
            sample.in_flight,
            numbers::plural(sample.connections, "connection"),
        ),
        Fact::Spacing(spacing) => format!(
            "{} in second {} of the run: {} sent, counted in windows of {} ms",
            spacing.load,
            spacing.second,
            numbers::plural(spacing.requests, "request"),
            SPACING_MS.map(|width| width.to_string()).join(", ")
        ),
        Fact::Fault { fault, step } => format!("fault {fault} {}", step_words(step)),
        Fact::Reading(reading) => {
            format!("{} has {} = {}", reading.object, reading.metric, numbers::value(reading.value, "1"))
        }
        Fact::Pod(pod) => {
            let state = match (pod.gone, pod.terminating, pod.ready) {
                (true, _, _) => "is gone",
                (_, true, _) => "is terminating",
                (_, _, true) => "is ready",
                _ => "is not ready",
            };
            let reason = pod.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
            let restarts =
                if pod.restarts > 0 { format!(", {}", numbers::plural(pod.restarts.into(), "restart")) } else { String::new() };
            format!("pod {}/{} {state}{reason}{restarts}", pod.namespace, pod.name)
        }
        Fact::Endpoints { service, ready, not_ready, terminating } => format!(
            "{service} has {} ready, {} not ready, {} terminating",
            numbers::plural(ready.len() as u64, "endpoint"),
            not_ready.len(),
            terminating.len()
        ),
        Fact::Autoscaler(spec) => format!(
            "{} scales {} from {} to {} replicas on {}; {}it looks every {} ({})",
            spec.object,
            spec.scales,
            spec.min_replicas,
            spec.max_replicas,
            spec.metrics.join(", "),
            spec.waking.as_ref().map(woken).unwrap_or_default(),
            numbers::value(spec.sync_period_s, "s"),
            spec.sync_period_source
        ),
        Fact::Condition { object, condition, status, reason, message } => {
            format!("{object} has {condition} {status} ({reason}){}", after_colon(message))
        }
        Fact::ClusterEvent { object, kind, reason, message, count } => {
            let times = if *count > 1 { format!(" ({count} times)") } else { String::new() };
            format!("{object}: {kind} event {reason}{times}{}", after_colon(message))
        }
        Fact::Gap(gap) => format!(
            "nothing was seen of `{}` from {} to {}{}",
            gap.source,
            numbers::moment(gap.from.seconds()),
            numbers::moment(gap.to.seconds()),
            after_colon(&gap.reason)
        ),
        Fact::Lookup(Lookup { host, failed: Some(why), .. }) => {
            format!("`{host}` could not be looked up, and the addresses of before are used on{}", after_colon(why))
        }
        Fact::Lookup(Lookup { host, found, addresses, .. }) => {
            let shown: Vec<&str> = addresses.iter().take(3).map(String::as_str).collect();
            let more = (*found as usize).saturating_sub(shown.len());
            let more = if more > 0 && !shown.is_empty() { format!(" and {more} more") } else { String::new() };
            format!(
                "{host} stands for {}{}{more}",
                numbers::plurals(*found, "address", "addresses"),
                after_colon(&shown.join(", "))
            )
        }
        Fact::Bound { what, limit, lost } => format!("a bound of Squall's own was hit: {what} (limit {limit}) cost {lost}"),
        Fact::LeftBehind { what, reason } => format!("{what} could not be proven gone{}", after_colon(reason)),
        Fact::RunEnded(ended) => {
            let lost = match ended.lost_events {
                0 => String::new(),
                n => format!("; {} found no room in the recording", numbers::plural(n, "event")),
            };
            format!("run {}{lost}", ending(&ended.how))
        }
    })
}

/// How a run ended: `completed`, `was interrupted by SIGINT`.
pub fn ending(how: &Ending) -> String {
    match how {
        Ending::Completed => "completed".to_owned(),
        Ending::Interrupted { signal } => format!("was interrupted by {signal}"),
        Ending::Broken { reason } => format!("broke off: {reason}"),
    }
}

/// Which witness said what about a fault, and on which side it stands.
pub fn witness(witness: &str, says: &str, supports: bool) -> String {
    let against = if supports { "" } else { " (against)" };
    clean(&format!("{witness}{against}: {}", plain(says)))
}

/// `status 503 x12, reset x3`, the most frequent first, at most four.
pub fn causes(causes: &BTreeMap<String, u64>) -> String {
    let mut sorted: Vec<(&String, &u64)> = causes.iter().collect();
    sorted.sort_by(|a, b| b.1.cmp(a.1).then(a.0.cmp(b.0)));
    let mut shown: Vec<String> = sorted.iter().take(4).map(|(cause, n)| format!("{cause} x{n}")).collect();
    if sorted.len() > 4 {
        shown.push(format!("{} more kinds", sorted.len() - 4));
    }
    shown.join(", ")
}

/// The text on one line, without the control characters by which a message from outside could move a cursor or break a row.
pub fn clean(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' | '\r' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}') => {}
            c => out.push(c),
        }
    }
    out.trim_end().to_owned()
}

fn step_words(step: &FaultStep) -> String {
    match step {
        FaultStep::Targeted { targets, of } => {
            let mut shown: Vec<&str> = targets.iter().take(3).map(String::as_str).collect();
            let more = format!("{} more", targets.len().saturating_sub(3));
            if targets.len() > 3 {
                shown.push(&more);
            }
            format!("will touch {} of {of}: {}", targets.len(), shown.join(", "))
        }
        FaultStep::Journalled => "has its undo on disk".to_owned(),
        FaultStep::Injected => "is injected".to_owned(),
        FaultStep::Evidence { witness: who, says, supports } => format!("has a witness, {}", witness(who, says, *supports)),
        FaultStep::Effective => "is proven effective".to_owned(),
        FaultStep::Healing => "is being healed".to_owned(),
        FaultStep::Healed => "is proven healed".to_owned(),
        FaultStep::Failed { during, reason } => format!("failed during {during}: {}", plain(reason)),
    }
}

fn woken(waking: &Waking) -> String {
    format!(
        "it is woken to {} within a look at its triggers every {}, and rests {} after the last activity; ",
        numbers::plural(waking.first.into(), "replica"),
        numbers::value(waking.polling_interval_s, "s"),
        numbers::value(waking.cooldown_s, "s"),
    )
}

fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_from_outside_cannot_move_the_cursor_or_break_the_line() {
        assert_eq!(clean("a\x1b[2Jb\nc\u{202e}d\0 "), "a[2Jb cd");
    }

    #[test]
    fn causes_come_by_frequency_and_are_bounded() {
        let causes_of = |pairs: &[(&str, u64)]| causes(&pairs.iter().map(|(c, n)| ((*c).to_owned(), *n)).collect());
        assert_eq!(causes_of(&[("reset", 3), ("status 503", 12)]), "status 503 x12, reset x3");
        assert_eq!(causes_of(&[("a", 1), ("b", 1), ("c", 1), ("d", 1), ("e", 1)]), "a x1, b x1, c x1, d x1, 1 more kinds");
    }
}
