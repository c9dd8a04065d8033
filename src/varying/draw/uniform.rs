//! Uniform keys: each as often as any other.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Chance, Distribution, Sampler};
use crate::varying::template::write_number;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Spec {
    /// How many keys there are: numbers from 1.
    #[schemars(range(min = 1))]
    of: u64,
}

impl Distribution for Spec {
    fn contradiction(&self) -> Option<String> {
        (self.of == 0).then(|| "of no keys none can be drawn: at least 1".to_owned())
    }

    fn describe(&self) -> String {
        format!("1 to {}, each as often as any other", self.of)
    }

    fn sampler(&self) -> Box<dyn Sampler> {
        Box::new(Uniform { of: self.of.max(1) })
    }
}

struct Uniform {
    of: u64,
}

impl Sampler for Uniform {
    fn draw(&self, chance: &mut Chance, out: &mut Vec<u8>) {
        write_number(1 + chance.below(self.of), out);
    }
}
