//! What clients do on their own account, beyond sending a request once: they try again, and they ask twice. The words of a plan for it,
//! and what they come to. Where a plan says nothing of it, a request is sent once.

use std::fmt;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{self, IntoDeserializer, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use super::located::Located;
use crate::recording::Outcome;
use crate::units::{Ratio, Span};

/// Each key with its place, one line about it and what it looks like.
pub const CLIENT: &[(&str, &str, &str)] = &[
    (
        "client.retries",
        "another attempt after one that ended badly: how many, after what, how much later, and within which budget",
        "retries: {attempts: 4, on: [rejected, 502], backoff: {base: 50ms, cap: 2s, jitter: full}, budget: 20%}",
    ),
    (
        "retries.attempt_timeout",
        "how long one attempt may take; the request's timeout is that of all of them, waiting included",
        "attempt_timeout: 300ms",
    ),
    (
        "retries.retry_after",
        "Retry-After is waited for, in seconds or as a date; at most so long, or not at all (ignore)",
        "retry_after: 2s",
    ),
    (
        "retries.budget",
        "retries, as a share of requests, beside so many at once: a token bucket that ends a storm",
        "budget: {ratio: 20%, burst: 10}",
    ),
    (
        "client.hedge",
        "a second attempt beside one that has not answered; the first good answer wins, and the other is given up",
        "hedge: {after: 50ms, max: 1, budget: 5%}",
    ),
];

/// The jitters by name, with one line about each.
pub const JITTERS: &[(&str, &str)] = &[
    ("none", "exactly the backoff: whoever failed together comes again together"),
    ("full", "anywhere from nothing to the backoff, the default"),
    ("equal", "anywhere from half of the backoff to all of it"),
    ("decorrelated", "anywhere from the base to three times the wait before, at most the cap"),
];

/// The most attempts of a request: more are a loop.
pub(super) const ATTEMPTS_MOST: u32 = 20;
/// The most hedges beside one attempt.
pub(super) const HEDGES_MOST: u32 = 5;
/// The most tokens in a budget.
pub(super) const BURST_MOST: u32 = 100_000;
/// Tokens in a full budget whose plan does not say.
pub(super) const USUAL_BURST: u32 = 10;

/// What the client of a load does beyond sending each request once.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Client {
    pub retries: Option<Retries>,
    pub hedge: Option<Hedge>,
}

/// Attempts one after the other.
#[derive(Clone, Debug, PartialEq)]
pub struct Retries {
    /// The most attempts of a request, the first included; hedges beside them not.
    pub attempts: u32,
    /// After what.
    pub on: Vec<Trigger>,
    pub backoff: Backoff,
    pub budget: Option<Budget>,
    pub retry_after: Patience,
    /// How long each attempt may take; where there is none, as long as its request.
    pub attempt_timeout: Option<Span>,
}

/// Attempts side by side.
#[derive(Clone, Debug, PartialEq)]
pub struct Hedge {
    /// How long an attempt is without an answer before another is sent beside it.
    pub after: Span,
    /// The most beside each attempt.
    pub max: u32,
    pub budget: Option<Budget>,
}

/// A token bucket: each request puts `ratio` of a token in, each further attempt takes one out, and where there is none, none is sent.
/// Full at the start, with `burst` of them. So of any n requests in a row come at most ratio x n + burst further attempts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    pub ratio: Ratio,
    pub burst: u32,
}

/// What another attempt comes after: an outcome, or a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    Outcome(Outcome),
    Status(u16),
}

impl Trigger {
    /// What is tried again where the plan does not say.
    pub(super) const USUAL: [Trigger; 3] =
        [Trigger::Outcome(Outcome::Rejected), Trigger::Outcome(Outcome::Failed), Trigger::Outcome(Outcome::TimedOut)];
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trigger::Outcome(outcome) => f.write_str(outcome.as_str()),
            Trigger::Status(status) => write!(f, "status {status}"),
        }
    }
}

/// How long a client waits before attempt after attempt: `base`, twice as long each time, at most `cap`; not at all where both are zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    pub base: Span,
    pub cap: Span,
    pub jitter: Jitter,
}

impl Backoff {
    /// The next attempt follows at once.
    pub const NONE: Backoff = Backoff { base: Span::from_millis(0), cap: Span::from_millis(0), jitter: Jitter::None };
    /// That of a plan that does not say.
    pub const USUAL: Backoff = Backoff { base: Span::from_millis(100), cap: Span::from_secs(5), jitter: Jitter::Full };

    /// How long the `nth` retry, from 1, waits before chance has its say.
    pub fn nth(&self, nth: u32) -> Duration {
        let doubled = 1_u32.checked_shl(nth.saturating_sub(1)).unwrap_or(u32::MAX);
        self.base.duration().saturating_mul(doubled).min(self.cap.duration())
    }
}

impl Default for Backoff {
    fn default() -> Backoff {
        Backoff::USUAL
    }
}

/// What chance does to a backoff.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(inline)]
pub enum Jitter {
    /// Nothing.
    None,
    /// Anywhere from nothing to the backoff.
    #[default]
    Full,
    /// Anywhere from half of the backoff to all of it.
    Equal,
    /// Anywhere from the base to three times the wait before, at most the cap.
    Decorrelated,
}

/// Whether Retry-After is waited for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Patience {
    /// As long as the request's timeout allows.
    #[default]
    Any,
    /// Not if it is longer than this: the request is given up then.
    AtMost(Span),
    /// It is not looked at.
    Ignore,
}

impl Client {
    /// The most attempts that one request can come to.
    pub fn worst(&self) -> u32 {
        self.tries() * self.abreast()
    }

    /// The most attempts one after the other.
    pub fn tries(&self) -> u32 {
        self.retries.as_ref().map_or(1, |retries| retries.attempts)
    }

    /// The most attempts of a request that are on their way at once.
    pub fn abreast(&self) -> u32 {
        1 + self.hedge.as_ref().map_or(0, |hedge| hedge.max)
    }

    /// The attempts for each request that its budgets allow in the long run; `None` where one of them has none.
    pub fn budgeted(&self) -> Option<f64> {
        let share = |budget: Option<Budget>| budget.map(|budget| budget.ratio.fraction());
        let retries = self.retries.as_ref().map_or(Some(0.0), |retries| share(retries.budget))?;
        let hedges = self.hedge.as_ref().map_or(Some(0.0), |hedge| share(hedge.budget))?;
        Some(1.0 + retries + hedges)
    }
}

/// What clients do on their own account.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Client", extend("minProperties" = 1))]
pub(super) struct WrittenClient {
    /// Another attempt after one that ended badly. The request ends as its last attempt did, and its latency counts from when it was due,
    /// waiting included. While it waits it is in flight, and keeps its connection.
    pub retries: Option<Located<WrittenRetries>>,
    /// Another attempt beside one that has not answered yet. The first good answer wins, and the others are given up.
    pub hedge: Option<Located<WrittenHedge>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Retries")]
pub(super) struct WrittenRetries {
    /// The most attempts of a request, the first included.
    #[schemars(required, range(min = 2, max = 20))]
    pub attempts: Option<Located<u32>>,
    /// After what: outcomes (rejected, failed, timed_out) and statuses. Unless said otherwise: all three outcomes. What this machine did
    /// not send is not tried again.
    #[schemars(length(min = 1))]
    pub on: Option<Located<Vec<Located<WrittenTrigger>>>>,
    /// How long the client waits before each further attempt: {base: 100ms, cap: 5s, jitter: full}, which is the default, or none.
    pub backoff: Option<Located<WrittenBackoff>>,
    /// Retries as a share of requests, as in 20%, or {ratio: 20%, burst: 10}: a token bucket that each request fills by the ratio, each
    /// retry empties by one, and that holds no more than burst. Unless said otherwise there is none.
    pub budget: Option<Located<WrittenBudget>>,
    /// The longest Retry-After that is waited for, as in 2s: after a longer one the request is given up. Or ignore. Unless said otherwise:
    /// as long as the request's timeout allows.
    pub retry_after: Option<Located<WrittenPatience>>,
    /// How long one attempt may take; the request's timeout is that of all of them together. Unless said otherwise: as long as that.
    pub attempt_timeout: Option<Located<Span>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Hedge")]
pub(super) struct WrittenHedge {
    /// How long an attempt is without an answer before another is sent beside it.
    #[schemars(required)]
    pub after: Option<Located<Span>>,
    /// The most beside each attempt, so much later each; 1 unless said otherwise.
    #[schemars(range(min = 1, max = 5))]
    pub max: Option<Located<u32>>,
    /// Hedges as a share of requests, as the budget of retries.
    pub budget: Option<Located<WrittenBudget>>,
}

/// An outcome or a status.
#[derive(Clone, Copy)]
pub(super) struct WrittenTrigger(pub Trigger);

impl<'de> Deserialize<'de> for WrittenTrigger {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = WrittenTrigger;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("rejected, failed, timed_out, or a status from 400 to 599")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<WrittenTrigger, E> {
                let known = Trigger::USUAL.into_iter().find(|trigger| trigger.to_string() == word);
                known.map(WrittenTrigger).ok_or_else(|| match word {
                    "unsent" => E::custom("what this machine did not send is not tried again: write rejected, failed or timed_out"),
                    "ok" => E::custom("what ended ok is not tried again: write rejected, failed or timed_out"),
                    _ => E::custom(format!(
                        "`{word}` is no way to end badly: write rejected, failed, timed_out, or a status as in 502"
                    )),
                })
            }
            fn visit_u64<E: de::Error>(self, status: u64) -> Result<WrittenTrigger, E> {
                match u16::try_from(status) {
                    Ok(status @ 400..=599) => Ok(WrittenTrigger(Trigger::Status(status))),
                    _ => Err(E::custom(format!("`{status}` is no status of an error: from 400 to 599"))),
                }
            }
            fn visit_i64<E: de::Error>(self, status: i64) -> Result<WrittenTrigger, E> {
                Err(E::custom(format!("`{status}` is no status of an error: from 400 to 599")))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenTrigger {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Trigger".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"enum": ["rejected", "failed", "timed_out"]},
            {"type": "integer", "minimum": 400, "maximum": 599, "description": "a status"}
        ]})
    }
}

/// `none`, or {base: 100ms, cap: 5s, jitter: full}.
pub(super) enum WrittenBackoff {
    None,
    Exponential(Exponential),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Exponential {
    /// The first wait; 100ms unless said otherwise. Each is twice as long as the one before.
    pub base: Option<Located<Span>>,
    /// The longest wait; 5s unless said otherwise.
    pub cap: Option<Located<Span>>,
    /// What chance does to it: none, full (the default), equal or decorrelated.
    #[serde(default)]
    pub jitter: Jitter,
}

impl<'de> Deserialize<'de> for WrittenBackoff {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenBackoff;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("{base: 100ms, cap: 5s, jitter: full}, or none")
            }
            fn visit_str<E: de::Error>(self, word: &str) -> Result<WrittenBackoff, E> {
                match word {
                    "none" => Ok(WrittenBackoff::None),
                    _ => Err(E::custom(format!("`{word}` is no backoff: write {{base: 100ms, cap: 5s, jitter: full}}, or none"))),
                }
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenBackoff, A::Error> {
                Exponential::deserialize(de::value::MapAccessDeserializer::new(map)).map(WrittenBackoff::Exponential)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenBackoff {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Backoff".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let exponential = generator.subschema_for::<Exponential>();
        json_schema!({"anyOf": [{"enum": ["none"]}, exponential]})
    }
}

/// `20%`, or {ratio: 20%, burst: 10}.
pub(super) enum WrittenBudget {
    Ratio(Ratio),
    Bucket(Bucket),
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub(super) struct Bucket {
    /// How much of a token each request puts in.
    pub ratio: Ratio,
    /// The tokens of a full bucket, as it is at the start; 10 unless said otherwise.
    #[schemars(range(min = 1, max = 100000))]
    pub burst: Option<Located<u32>>,
}

impl<'de> Deserialize<'de> for WrittenBudget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> Visitor<'de> for Either {
            type Value = WrittenBudget;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a share of requests as in 20%, or {ratio: 20%, burst: 10}")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenBudget, E> {
                text.parse().map(WrittenBudget::Ratio).map_err(E::custom)
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<WrittenBudget, E> {
                Ratio::deserialize(n.into_deserializer()).map(WrittenBudget::Ratio)
            }
            fn visit_f64<E: de::Error>(self, n: f64) -> Result<WrittenBudget, E> {
                Ratio::deserialize(n.into_deserializer()).map(WrittenBudget::Ratio)
            }
            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<WrittenBudget, A::Error> {
                Bucket::deserialize(de::value::MapAccessDeserializer::new(map)).map(WrittenBudget::Bucket)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenBudget {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Budget".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<Ratio>(), generator.subschema_for::<Bucket>()]})
    }
}

/// A span, or `ignore`.
pub(super) struct WrittenPatience(pub Patience);

impl<'de> Deserialize<'de> for WrittenPatience {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = WrittenPatience;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a length of time as in 2s, or ignore")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<WrittenPatience, E> {
                match text {
                    "ignore" => Ok(WrittenPatience(Patience::Ignore)),
                    _ => text.parse().map(|most| WrittenPatience(Patience::AtMost(most))).map_err(E::custom),
                }
            }
            fn visit_u64<E: de::Error>(self, n: u64) -> Result<WrittenPatience, E> {
                Span::deserialize(n.into_deserializer()).map(|most| WrittenPatience(Patience::AtMost(most)))
            }
        }
        deserializer.deserialize_any(Either)
    }
}

impl JsonSchema for WrittenPatience {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Patience".into()
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [generator.subschema_for::<Span>(), {"enum": ["ignore"]}]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Plan;

    fn plan(client: &str) -> String {
        format!(
            "plan: p\nclaim: c\ntarget: {{url: \"http://checkout.example/\"}}\nphases: [{{name: a, for: 9s}}]\n\
             load: [{{name: l, rate: 1/s, client: {{{client}}}, request: {{get: /}}}}]\n"
        )
    }

    /// Goal: what is listed can be copied. How: each is put into its place of a plan.
    #[test]
    fn every_example_is_read_in_its_place() {
        for (name, _, example) in CLIENT {
            let (place, key) = name.split_once('.').expect("a place and a key");
            assert!(example.starts_with(&format!("{key}: ")), "{name}: {example}");
            let client = match place {
                "client" => (*example).to_owned(),
                _ => format!("retries: {{attempts: 3, {example}}}"),
            };
            Plan::read_recorded(&plan(&client), &Default::default()).unwrap_or_else(|problems| panic!("{name}: {problems}"));
        }
        for (jitter, _) in JITTERS {
            let client = format!("retries: {{attempts: 2, backoff: {{jitter: {jitter}}}}}");
            Plan::read_recorded(&plan(&client), &Default::default()).unwrap_or_else(|problems| panic!("{jitter}: {problems}"));
        }
    }

    #[test]
    fn backoffs_double_up_to_their_cap() {
        let waits = |backoff: Backoff| [1, 2, 3, 7, 200].map(|nth| backoff.nth(nth).as_millis());
        assert_eq!(waits(Backoff::USUAL), [100, 200, 400, 5_000, 5_000]);
        assert_eq!(waits(Backoff::NONE), [0; 5]);
    }

    #[test]
    fn the_worst_is_worked_out() {
        let retries = Retries {
            attempts: 3,
            on: Trigger::USUAL.to_vec(),
            backoff: Backoff::NONE,
            budget: None,
            retry_after: Patience::Any,
            attempt_timeout: None,
        };
        let budget = Ratio::from_fraction(0.2).map(|ratio| Budget { ratio, burst: 10 });
        let hedge = Hedge { after: Span::from_millis(5), max: 1, budget };
        let both = Client { retries: Some(retries), hedge: Some(hedge.clone()) };
        assert_eq!((both.worst(), both.abreast(), both.budgeted()), (6, 2, None));
        let hedged = Client { retries: None, hedge: Some(hedge) };
        assert_eq!((hedged.worst(), hedged.budgeted()), (2, Some(1.2)));
        assert_eq!((Client::default().worst(), Client::default().budgeted()), (1, Some(1.0)));
    }
}
