use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

impl super::Judge for Spec {
    fn judge(&self, _claim: &super::Claim, _history: &super::History) -> Vec<super::Finding> {
        Vec::new()
    }
    fn needs(&self) -> Vec<super::Need> {
        Vec::new()
    }
    fn describe(&self) -> String {
        String::new()
    }
}
