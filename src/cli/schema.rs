//! `squall schema`: the plan language as a JSON Schema, for editors.

use crate::exit::{Exit, Failure};
use crate::plan;

/// Takes nothing: the schema is the same for everybody.
#[derive(clap::Args)]
pub struct Args {}

pub fn main(_: Args) -> Result<Exit, Failure> {
    let schema = serde_json::to_string_pretty(&plan::schema()).expect("a schema is JSON");
    super::print(&format!("{schema}\n"))?;
    Ok(Exit::Pass)
}
