//! Local only.
use clap::Parser;
#[derive(Parser)]
enum A {
    Workload(squall::workload::Options),
    #[command(subcommand)]
    Agent(squall::faults::agent::Agent),
}
fn main() -> anyhow::Result<()> {
    match A::parse() {
        A::Workload(o) => squall::workload::run(o),
        A::Agent(a) => squall::faults::agent::run(a),
    }
}
