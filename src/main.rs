//! Arguments in, exit code out: the only place that exits.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(squall::cli::main(std::env::args_os()).code())
}
