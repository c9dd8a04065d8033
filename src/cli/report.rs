//! `squall report`: a recorded run, in any format.

use std::io::Write;
use std::path::PathBuf;

use crate::exit::{Exit, Failure};
use crate::{report, run};

/// Which run, in which format.
#[derive(clap::Args)]
pub struct Args {
    /// The run's folder.
    run: PathBuf,
    /// The format; `squall list` names them.
    #[arg(long, default_value = "terminal")]
    format: String,
    /// Write it to this file instead of stdout.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// Ends with 0 when the report was made: the verdict is in it, and `squall judge` has it as exit code.
pub fn main(args: Args) -> Result<Exit, Failure> {
    let Some(format) = report::format(&args.format) else {
        let names: Vec<&str> = report::FORMATS.iter().map(|format| format.name).collect();
        return Err(Failure::new(Exit::Usage, format!("there is no format `{}`: use one of {}", args.format, names.join(", "))));
    };
    let judged = run::judge(&args.run, None, &[])?;
    let failed = |error: anyhow::Error| Failure::new(Exit::Environment, format!("failed to write the report: {error:#}"));
    match args.output {
        Some(file) => report::write_to(&judged.report, format, &file).map_err(failed)?,
        None => {
            let bytes = report::render(&judged.report, format).map_err(failed)?;
            match anstream::stdout().write_all(&bytes) {
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(failed(error.into())),
                _ => {}
            }
        }
    }
    Ok(Exit::Pass)
}
