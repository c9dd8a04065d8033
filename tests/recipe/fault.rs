//! Touches nobody: the smallest fault there is, and the shape of every other. `ci/recipe` puts it into the tree and builds it.

use futures::future::BoxFuture;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Error, Fault, Hold, Lasting, Scene, Targets, Undo};
use crate::cluster::Cluster;
use crate::names::ObjectRef;
use crate::rights::Right;

/// Nothing to say.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {}

impl Fault for Spec {
    fn on(&self) -> Option<&ObjectRef> {
        None
    }

    fn lasting(&self) -> Lasting {
        Lasting::Once
    }

    fn reach(&self, _ready: u32) -> u32 {
        0
    }

    fn rights(&self) -> &'static [Right] {
        &[]
    }

    fn targets<'a>(&'a self, scene: &'a Scene) -> BoxFuture<'a, Result<Targets, Error>> {
        Box::pin(async move {
            let workload = scene.admitted(None).await?;
            Ok(Targets { workload, pods: Vec::new(), of: 0, before: Value::Null })
        })
    }

    fn undo(&self, _scene: &Scene, _targets: &Targets) -> Vec<Undo> {
        Vec::new()
    }

    fn inject<'a>(&'a self, _scene: &'a Scene, _targets: Targets) -> BoxFuture<'a, Result<Hold, Error>> {
        Box::pin(async { Ok(Hold::new()) })
    }

    fn heal<'a>(&'a self, _cluster: &'a Cluster, _undos: &'a [Undo]) -> BoxFuture<'a, Result<String, Error>> {
        Box::pin(async { Ok("nothing was touched".to_owned()) })
    }
}
