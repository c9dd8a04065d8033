//! An aggregate of anything that was recorded stays within a limit: what the client saw (`client.goodput`), or a reading of an
//! object (`shop/deployment/checkout.ready_replicas`).

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::certificate::{Certificate, integrity};
use super::detectors::Symptom;
use super::draft::{Draft, heaviest};
use super::level::{Step, hidden, increase, least, mean, quantile, steps};
use super::statistics::value_at;
use super::window::Window;
use super::words::{percent, significant};
use super::{Claim, Finding, Judge, Need, Verdict};
use crate::names::{Name, ObjectRef};
use crate::recording::History;
use crate::recording::fact::{Counts, Outcome};
use crate::recording::history::Selection;
use crate::recording::sink::Measure;
use crate::time::Offset;
use crate::units::Ratio;

/// A metric, how to make one number of it, and what that number must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// `client.NAME` for what the client saw each second (`rate`, `sent`, `goodput`, `rejected`, `failed`, `timed_out`, `unsent` per
    /// second, and `attempts`, of which there are more where clients retry or hedge; `amplification` as attempts for each request that was
    /// sent; `bad_ratio` as a share; `in_flight`, `connections`; `lateness_ms` as each second's p99), or
    /// `namespace/kind/name.METRIC` for a reading.
    pub metric: String,
    /// How one number is made of a value that changes: weighed with how long it held, except for `last` and `increase`.
    pub aggregate: Aggregate,
    /// The number is at most this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most: Option<f64>,
    /// The number is at least this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least: Option<f64>,
    /// For `client.` metrics: only this load; all together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub load: Option<Name>,
    /// For `client.` metrics that count requests: only this class; every class together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Name>,
    /// For the same: only this step of a flow; every step together when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<Name>,
    /// With `max` and `at_most`, or `min` and `at_least`: the share of the window's time that may lie beyond the limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tolerate: Option<Ratio>,
}

/// How one number is made of a value that changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Aggregate {
    Min,
    Max,
    Mean,
    /// The value at the end of the window.
    Last,
    P50,
    P95,
    P99,
    /// How much a counter grew over the window; `client.` metrics are no counters.
    Increase,
}

impl Aggregate {
    fn as_str(self) -> &'static str {
        match self {
            Aggregate::Min => "min",
            Aggregate::Max => "max",
            Aggregate::Mean => "mean",
            Aggregate::Last => "last",
            Aggregate::P50 => "p50",
            Aggregate::P95 => "p95",
            Aggregate::P99 => "p99",
            Aggregate::Increase => "increase",
        }
    }
}

/// What a client metric is, per second.
#[derive(Clone, Copy)]
enum Client {
    /// Requests per second.
    Rate(fn(&Counts) -> u64),
    /// What was sent, retries and hedges included.
    Attempts,
    /// The same for each request that was sent.
    Amplification,
    /// Bad out of ended.
    BadRatio,
    InFlight,
    Connections,
    LatenessMs,
}

const CLIENT: [(&str, Client, &str); 13] = [
    ("rate", Client::Rate(|counts| counts.intended), "1/s"),
    ("sent", Client::Rate(|counts| counts.sent), "1/s"),
    ("goodput", Client::Rate(|counts| counts.ok), "1/s"),
    ("rejected", Client::Rate(|counts| counts.rejected), "1/s"),
    ("failed", Client::Rate(|counts| counts.failed), "1/s"),
    ("timed_out", Client::Rate(|counts| counts.timed_out), "1/s"),
    ("unsent", Client::Rate(|counts| counts.unsent), "1/s"),
    ("attempts", Client::Attempts, "1/s"),
    ("amplification", Client::Amplification, "1"),
    ("bad_ratio", Client::BadRatio, "1"),
    ("in_flight", Client::InFlight, "1"),
    ("connections", Client::Connections, "1"),
    ("lateness_ms", Client::LatenessMs, "ms"),
];

/// Where the metric is found.
enum Source {
    Client(Client, &'static str),
    Object(ObjectRef, String),
}

impl Spec {
    fn source(&self) -> Result<Source, String> {
        if let Some(name) = self.metric.strip_prefix("client.") {
            if self.aggregate == Aggregate::Increase {
                return Err(format!(
                    "`increase` is how much a counter grew, and `{}` is no counter but so many in each second: use `max` or `mean`",
                    self.metric
                ));
            }
            return CLIENT
                .iter()
                .find(|(known, ..)| *known == name)
                .map(|(_, client, unit)| Source::Client(*client, unit))
                .ok_or_else(|| {
                    let known: Vec<&str> = CLIENT.iter().map(|(name, ..)| *name).collect();
                    format!("`{}` is not a metric of the client; there are client.{}", self.metric, known.join(", client."))
                });
        }
        let wrong = || {
            format!(
                "`{}` is not a metric: write client.NAME or namespace/kind/name.METRIC, as in shop/deployment/checkout.ready_replicas",
                self.metric
            )
        };
        let (object, metric) = self.metric.rsplit_once('.').ok_or_else(wrong)?;
        Ok(Source::Object(object.parse().map_err(|_| wrong())?, metric.to_owned()))
    }

    fn value(&self, steps: &[Step]) -> Option<(f64, Option<u64>)> {
        let tolerate = self.tolerate.map_or(0.0, Ratio::fraction);
        let step = match self.aggregate {
            Aggregate::Min => least(steps, tolerate),
            Aggregate::Max => quantile(steps, 1.0 - tolerate),
            Aggregate::P50 => quantile(steps, 0.5),
            Aggregate::P95 => quantile(steps, 0.95),
            Aggregate::P99 => quantile(steps, 0.99),
            Aggregate::Last => steps.last(),
            Aggregate::Mean => return mean(steps).map(|mean| (mean, None)),
            Aggregate::Increase => return steps.last().map(|last| (increase(steps), last.n)),
        };
        step.map(|step| (step.value, step.n))
    }

    /// Which requests a metric of the client is about.
    fn which(&self) -> Selection<'_> {
        Selection { load: self.load.as_ref(), class: self.class.as_ref(), step: self.step.as_ref() }
    }

    fn words(&self) -> String {
        let limits: Vec<String> = [("at least", self.at_least), ("at most", self.at_most)]
            .into_iter()
            .filter_map(|(word, limit)| Some(format!("{word} {}", limit?)))
            .collect();
        let class = self.class.as_ref().map(|class| format!(" of class {class}")).unwrap_or_default();
        let step = self.step.as_ref().map(|step| format!(" of step {step}")).unwrap_or_default();
        let load = self.load.as_ref().map(|load| format!(" of {load}")).unwrap_or_default();
        let of = format!("{class}{step}{load}");
        let but = self.tolerate.map(|share| format!(", but for {share} of the time")).unwrap_or_default();
        format!("the {} of {}{of} is {}{but}", self.aggregate.as_str(), self.metric, limits.join(" and "))
    }

    fn decide(&self, value: f64) -> Verdict {
        let holds = self.at_most.is_none_or(|limit| value <= limit) && self.at_least.is_none_or(|limit| value >= limit);
        if holds { Verdict::Pass } else { Verdict::Fail }
    }

    /// The limit that is nearer to `value`, or broken by it.
    fn nearest_limit(&self, value: Option<f64>) -> Option<f64> {
        match (self.at_least, self.at_most, value) {
            (Some(least), Some(most), Some(value)) => {
                Some(if (value - least).abs() <= (most - value).abs() { least } else { most })
            }
            (least, most, _) => most.or(least),
        }
    }
}

impl Judge for Spec {
    fn judge(&self, claim: &Claim, history: &History) -> Vec<Finding> {
        let unit = match self.source() {
            Ok(Source::Client(_, unit)) => unit,
            Ok(Source::Object(_, metric)) if metric.ends_with("replicas") => "replicas",
            _ => "1",
        };
        let draft = Draft::of(claim, self.aggregate.as_str(), self.words(), unit);
        let bare = |draft: Draft| match self.nearest_limit(None) {
            Some(limit) => draft.limit(limit),
            None => draft,
        };
        let window = match Window::of(&claim.over, history) {
            Ok(window) => window,
            Err(blind) => return vec![bare(draft).blind(&blind)],
        };
        let draft = draft.window(window.from, window.to);
        // What was observed under a load that was not the planned one answers another question, as what the client saw does.
        let unsound = Certificate::over(history, window.from, window.to, None).blame();
        let (seen, blame) = match self.source() {
            Err(why) => return vec![bare(draft).inconclusive(why)],
            Ok(Source::Client(client, _)) => {
                if let Some(why) = unseen_share(client, self.load.as_ref(), history) {
                    return vec![bare(draft).inconclusive(why)];
                }
                (client_steps(client, self.which(), &window, history), unsound.clone().map(|why| (why, Vec::new())))
            }
            Ok(Source::Object(object, metric)) => {
                let seen = steps(&history.series(&object, &metric), window.from, window.to);
                if seen.is_empty() {
                    return vec![bare(draft).inconclusive(never_read(history, &object, &metric))];
                }
                let late = seen[0].from.since(window.from);
                let unseen = (late > Duration::from_secs(2)).then(|| {
                    let why = format!(
                        "the first reading came {} into the window: what it was before is not known",
                        super::words::seconds(late.as_secs_f64())
                    );
                    (why, seen[0].n.into_iter().collect())
                });
                let blame = unsound
                    .clone()
                    .map(|why| (why, Vec::new()))
                    .or_else(|| hidden(history, &[&object], window.from, window.to))
                    .or(unseen);
                (seen, blame)
            }
        };
        let Some((value, shown_by)) = self.value(&seen) else {
            return vec![
                bare(draft).inconclusive("no request that shows it was due in this window: give it load, or judge another"),
            ];
        };
        let evidence: Vec<u64> = match shown_by {
            Some(n) => vec![n],
            None if matches!(self.source(), Ok(Source::Client(..))) => {
                heaviest(history, self.which(), window.from, window.to, |tally| tally.counts.ended() - tally.counts.ok)
            }
            None => seen.iter().filter_map(|step| step.n).collect(),
        };
        let mut draft = draft.observed(value).samples(seen.len() as u64);
        if let (Aggregate::Mean, Ok(Source::Client(..))) = (self.aggregate, self.source()) {
            let values: Vec<f64> = seen.iter().map(|step| step.value).collect();
            if let Some((_, low, high)) = super::statistics::mean(&values) {
                draft = draft.interval(low, high);
            }
        }
        if let Some(limit) = self.nearest_limit(Some(value)) {
            draft = draft.limit(limit);
        }
        let said = format!(
            "the {} is {}{}",
            self.aggregate.as_str(),
            significant(value, 4),
            self.tolerate.map(|share| format!(" once {} of the time is left out", percent(share.fraction()))).unwrap_or_default()
        );
        let verdict = self.decide(value);
        vec![match blame {
            // What was seen to break a limit is broken, whatever else was hidden; all else could have been hidden. Too much of something
            // cannot come of too little load; too little of it can.
            Some((why, events)) => {
                let broken_all_the_same = verdict == Verdict::Fail
                    && matches!(self.source(), Ok(Source::Object(..)))
                    && self.tolerate.is_none()
                    && integrity(history).is_empty()
                    && match (self.aggregate, self.at_most, self.at_least) {
                        (Aggregate::Max, Some(_), None) => true,
                        (Aggregate::Min, None, Some(_)) => unsound.is_none(),
                        _ => false,
                    };
                if broken_all_the_same {
                    draft.evidence(evidence).note(why).end(Verdict::Fail, format!("{said}, beyond the limit"))
                } else {
                    draft.evidence(events).evidence(evidence).inconclusive(why)
                }
            }
            None if verdict == Verdict::Pass => draft.evidence(evidence).end(verdict, format!("{said}, within the limit")),
            None => draft.evidence(evidence).end(verdict, format!("{said}, beyond the limit")),
        }]
    }

    fn symptoms(&self, _: &str) -> &'static [Symptom] {
        let [few, many] = [self.at_least, self.at_most].map(|limit| limit.is_some());
        match self.source() {
            Ok(Source::Client(Client::InFlight | Client::LatenessMs, _)) => &[Symptom::Slow],
            Ok(Source::Client(..)) => &[Symptom::Lost, Symptom::Slow],
            Ok(Source::Object(_, metric)) if metric.ends_with("replicas") && few && !many => &[Symptom::TooFew],
            Ok(Source::Object(_, metric)) if metric.ends_with("replicas") && many && !few => &[Symptom::TooMany],
            _ => &[],
        }
    }

    fn needs(&self) -> Vec<Need> {
        let mut needs: Vec<Need> = self.load.iter().cloned().map(Need::Load).collect();
        needs.extend(self.class.iter().cloned().map(Need::Class));
        needs.extend(self.step.iter().cloned().map(Need::Step));
        let never = |why: &str| Need::Never { why: why.to_owned() };
        match self.source() {
            Err(why) => needs.push(Need::Never { why }),
            Ok(Source::Object(..)) if self.load.is_some() => needs.push(never("`load` chooses among client metrics, not readings")),
            Ok(Source::Object(..)) if self.class.is_some() => {
                needs.push(never("`class` chooses among client metrics, not readings"))
            }
            Ok(Source::Client(Client::InFlight | Client::Connections, _)) if self.class.is_some() => {
                needs.push(never("what is in flight, and on which connections, is not counted apart by class"));
            }
            Ok(Source::Object(..)) if self.step.is_some() => needs.push(never("`step` chooses among client metrics, not readings")),
            Ok(Source::Client(Client::InFlight | Client::Connections, _)) if self.step.is_some() => {
                needs.push(never("what is in flight, and on which connections, is not counted apart by step"));
            }
            Ok(Source::Client(Client::BadRatio, _)) => needs.push(Need::OpenModel { why: NO_SHARE.to_owned() }),
            Ok(_) => {}
        }
        match (self.at_least, self.at_most) {
            (None, None) => needs.push(never("it has no limit: give `at_most` or `at_least`")),
            (Some(least), Some(most)) if least > most => {
                needs.push(Need::Never { why: format!("nothing is at least {least} and at most {most}") });
            }
            _ => {}
        }
        let edge = matches!(
            (self.aggregate, self.at_least, self.at_most),
            (Aggregate::Max, None, Some(_)) | (Aggregate::Min, Some(_), None)
        );
        if self.tolerate.is_some() && !edge {
            needs.push(never("`tolerate` goes with `max` and `at_most`, or with `min` and `at_least`"));
        }
        needs
    }

    fn objects(&self) -> Vec<ObjectRef> {
        match self.source() {
            Ok(Source::Object(object, _)) => vec![object],
            _ => Vec::new(),
        }
    }

    fn describe(&self) -> String {
        self.words()
    }
}

/// Why users have no share of bad requests in each second.
const NO_SHARE: &str = "users wait for answers, and a second in which all of them wait has no share of bad requests";

/// Why a share of those that ended is none to aggregate over the seconds of users: those in which all of them wait have no share, and
/// are the worst.
fn unseen_share(client: Client, load: Option<&Name>, history: &History) -> Option<String> {
    let name = history.closed(load).next().filter(|_| matches!(client, Client::BadRatio))?;
    Some(format!("{NO_SHARE}: use `slo` over the window, or give {name} a `rate`"))
}

/// A client metric, one step per second; a second that the window cuts counts for the part within.
fn client_steps(client: Client, which: Selection<'_>, window: &Window, history: &History) -> Vec<Step> {
    const SECOND: Duration = Duration::from_secs(1);
    let counts: BTreeMap<i64, Counts> = history.per_second(which, window.from, window.to).into_iter().collect();
    if counts.values().all(|counts| counts.intended == 0) {
        return Vec::new();
    }
    let attempts = history.attempts_per_second(which, window.from, window.to);
    let samples: BTreeMap<i64, _> = history.generator().map(|(n, sample)| (sample.second, (n, sample))).collect();
    let mut steps = Vec::new();
    let mut second = window.from.second();
    loop {
        let start = Offset::from_nanos(second.saturating_mul(1_000_000_000));
        let (from, to) = (start.max(window.from), (start + SECOND).min(window.to));
        if start >= window.to {
            return steps;
        }
        let length = to.since(from).as_secs_f64();
        let here = counts.get(&second).cloned().unwrap_or_default();
        let tried = attempts.get(&second).copied().unwrap_or_default();
        let value = match client {
            // A sliver of a second at an edge holds too few requests for a rate.
            Client::Rate(_) | Client::Attempts if length < 0.5 => None,
            Client::Rate(of) => Some((of(&here) as f64 / length, None)),
            Client::Attempts => Some((tried as f64 / length, None)),
            Client::Amplification => (here.sent > 0).then(|| (tried as f64 / here.sent as f64, None)),
            Client::BadRatio => {
                let ended = here.ended() - here.unsent;
                (ended > 0).then(|| ((ended - here.ok) as f64 / ended as f64, None))
            }
            Client::InFlight => samples.get(&second).map(|(n, sample)| (sample.in_flight as f64, Some(*n))),
            Client::Connections => samples.get(&second).map(|(n, sample)| (sample.connections as f64, Some(*n))),
            Client::LatenessMs => {
                let late = history.histogram(which, &[Outcome::Ok], Measure::Lateness, from, to);
                (!late.is_empty()).then(|| (value_at(&late, 0.99) as f64 / 1e3, None))
            }
        };
        if let Some((value, n)) = value {
            steps.push(Step { from, to, value, n });
        }
        second += 1;
    }
}

/// Why there is nothing to judge, with what there is instead.
fn never_read(history: &History, object: &ObjectRef, metric: &str) -> String {
    let there = history.metrics_of(object);
    if there.is_empty() {
        let elsewhere: Vec<String> = history.objects_with(metric).iter().take(3).map(ToString::to_string).collect();
        if elsewhere.is_empty() {
            format!("nothing about {object} was recorded in this window or before it: is it observed, and does it exist?")
        } else {
            format!("nothing about {object} was recorded; `{metric}` was recorded of {}", elsewhere.join(", "))
        }
    } else if there.iter().any(|known| known == metric) {
        format!("`{metric}` of {object} was first read after this window")
    } else {
        format!("`{metric}` of {object} was never recorded; there are {}", there.join(", "))
    }
}
