//! Claims that the run was recorded: the smallest assertion there is, and the shape of every other. `ci/recipe` puts it into the tree
//! and builds it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::draft::Draft;
use super::{Claim, Finding, History, Judge, Need, Verdict};

/// Nothing to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

impl Judge for Spec {
    fn judge(&self, claim: &Claim, history: &History) -> Vec<Finding> {
        let (from, to) = history.whole();
        let events = history.events.len() as u64;
        let draft = Draft::of(claim, "recorded", self.describe(), "1").window(from, to).observed(events as f64).samples(events);
        vec![draft.end(Verdict::Pass, format!("{events} events were recorded"))]
    }

    fn needs(&self) -> Vec<Need> {
        Vec::new()
    }

    fn describe(&self) -> String {
        "the run was recorded".to_owned()
    }
}
