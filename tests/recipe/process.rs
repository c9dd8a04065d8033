//! Constant under another name: the smallest arrival process there is, and the shape of every other. `ci/recipe` puts it into the tree
//! and builds it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::profile::Profile;
use super::{Process, Walk, constant};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

impl Process for Spec {
    fn walk(&self, profile: &Arc<Profile>, _: u64) -> Walk {
        constant::walk(Arc::clone(profile), 1)
    }
}
