//! `run.json`: the whole summary, for programs. Its keys only ever grow; what is missing is `null`, never zero.

use anyhow::Context;

use crate::report::{Format, Report};

pub const FORMAT: Format =
    Format { name: "json", file: "run.json", summary: "the whole summary with findings and certificate, for programs", render };

fn render(report: &Report) -> anyhow::Result<Vec<u8>> {
    let mut bytes = serde_json::to_vec_pretty(report).context("write the summary as JSON")?;
    bytes.push(b'\n');
    Ok(bytes)
}
