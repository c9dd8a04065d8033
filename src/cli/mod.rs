//! The command line: one file per subcommand. Arguments become a call of the library, and what comes back becomes text on stdout
//! (data) or stderr (talk) and an exit code.

use std::ffi::OsString;
use std::panic;
use std::path::{Path, PathBuf};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::catalog::{Entry, Section};
use crate::exit::{Exit, Failure};
use crate::plan::{ClusterChoice, Colour, Plan, Problems};
use crate::report::{self as reports, Detail};
use crate::run::{Fit, Judged, Wanted};
use crate::timeline::Timeline;

mod agent;
mod agent_image;
mod capacity;
mod check;
mod doctor;
mod exports;
mod heal;
mod judge;
mod list;
mod load;
mod rbac;
mod reach;
mod report;
mod run;
mod sandbox;
mod schema;
mod workload;

/// Runs a plan of bursts and faults against a service and says whether the promises held.
#[derive(Parser)]
#[command(name = "squall", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say more on stderr; twice for every detail. SQUALL_LOG filters by module.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Run a plan and end in a verdict.
    Run(run::Args),
    /// Put one URL under load: no plan file, no cluster.
    Load(Box<load::Args>),
    /// Find the highest rate at which an objective of a plan holds.
    Capacity(capacity::Args),
    /// Find every problem of a plan without running anything; --explain says what it does and needs.
    Check(check::Args),
    /// Look at a plan's cluster before a run: reachability, permissions, what stops autoscalers. Changes nothing.
    Doctor(doctor::Args),
    /// Print the ServiceAccount and Roles that a plan needs in a cluster, and no more.
    Rbac(rbac::Args),
    /// Judge a recorded run again, under its own plan or a new one, without sending a request.
    Judge(judge::Args),
    /// Render a report of a recorded run.
    Report(report::Args),
    /// Finish what a killed run left: heal faults, remove manifests, end stray processes.
    Heal(heal::Args),
    /// Keep an embedded cluster running that kubectl can use.
    Sandbox(sandbox::Args),
    /// List the commands, and all that a plan can say and a run can write, with an example of each.
    List(list::Args),
    /// Print the JSON Schema of the plan language.
    Schema(schema::Args),
    /// The demo service that the shipped plans run.
    #[command(hide = true)]
    Workload(workload::Args),
    /// The process that carries a fault inside a pod.
    #[command(hide = true)]
    Agent(agent::Args),
}

/// Runs the command that `args` name. Never panics and never exits: the code is the caller's to hand on.
pub fn main(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match parse(args) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers, not errors; clap knows which stream each belongs to.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Pass };
            let _ = error.print();
            return exit;
        }
    };
    prepare(cli.verbose);
    match panic::catch_unwind(panic::AssertUnwindSafe(|| dispatch(cli.command))) {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            if !failure.message.is_empty() {
                tell(&format!("error: {failure}"));
            }
            failure.exit
        }
        Err(_) => {
            tell("error: this is a bug in Squall, not in your plan or your service; please report it with the lines above");
            Exit::Bug
        }
    }
}

fn dispatch(command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Run(args) => run::main(args),
        Command::Load(args) => load::main(*args),
        Command::Capacity(args) => capacity::main(args),
        Command::Check(args) => check::main(args),
        Command::Doctor(args) => doctor::main(args),
        Command::Rbac(args) => rbac::main(args),
        Command::Judge(args) => judge::main(args),
        Command::Report(args) => report::main(args),
        Command::Heal(args) => heal::main(args),
        Command::Sandbox(args) => sandbox::main(args),
        Command::List(args) => list::main(args),
        Command::Schema(args) => schema::main(args),
        Command::Workload(args) => workload::main(args),
        Command::Agent(args) => agent::main(args),
    }
}

/// The commands as a section of what is listed.
pub fn commands() -> Section {
    let command = Cli::command();
    let shown = command.get_subcommands().filter(|command| !command.is_hide_set());
    let entry = |command: &clap::Command| Entry {
        name: command.get_name().to_owned(),
        summary: command.get_about().map(|about| about.to_string().trim_end_matches('.').to_owned()).unwrap_or_default().into(),
        example: String::new(),
    };
    Section { name: "commands", title: "Commands (squall COMMAND --help)", entries: shown.map(entry).collect() }
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let codes: String = Exit::ALL.iter().map(|exit| format!("  {:>3}  {}\n", exit.code(), exit.meaning())).collect();
    let matches = Cli::command().after_help(format!("Exit codes:\n{codes}")).try_get_matches_from(args)?;
    Cli::from_arg_matches(&matches)
}

/// What every command needs once: one TLS provider for the whole process, and diagnostics where they were asked for.
fn prepare(verbose: u8) {
    // An error means that a provider is installed already, which is what we want.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let default = match verbose {
        0 => "off",
        1 => "squall=info",
        _ => "squall=debug",
    };
    let filter = tracing_subscriber::EnvFilter::try_from_env("SQUALL_LOG").unwrap_or_else(|_| default.into());
    let _ = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init();
}

/// The runtime of everything that waits but is not the load.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|error| Failure::new(Exit::Environment, format!("failed to start the runtime: {error}")))
}

/// Data to stdout. A reader that went away (`| head`) is no error of ours.
fn print(text: &str) -> Result<(), Failure> {
    use std::io::Write;
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Failure::new(Exit::Environment, format!("failed to write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// A line of talk to stderr. A stderr that takes nothing is nobody's failure, and no reason to leave a run half done.
fn tell(line: &str) {
    talk(&format!("{line}\n"));
}

fn talk(text: &str) {
    use std::io::Write;
    let _ = anstream::stderr().write_all(text.as_bytes());
}

/// `NAME=VALUE`, as `--set` takes it.
fn assignment(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("`{text}` sets nothing: write name=value")),
    }
}

/// Where a run goes and how it shows.
#[derive(clap::Args)]
struct How {
    /// The run's folder; it must be new or empty. `reports/<run-id>/` when absent.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Make the same choices as an earlier run: arrivals, targets, delays.
    #[arg(long)]
    seed: Option<u64>,
    /// Nothing but the verdict.
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    exports: exports::Exports,
}

/// Reads a plan with the environment of this process, to be run where it says or in `cluster`; its problems are printed as they are.
fn read_plan(path: &Path, sets: &[(String, String)], cluster: Option<ClusterChoice>) -> Result<Plan, Failure> {
    Plan::read_for(path, sets, &|name| std::env::var(name).ok(), cluster).map_err(invalid)
}

/// What the plan needs of this machine, and what there is.
fn fit(plan: &Plan, timeline: &Timeline, wanted: Wanted) -> Result<Fit, Failure> {
    Ok(runtime()?.block_on(crate::run::fit(plan, timeline, wanted)))
}

/// Refuses what cannot be done here, and says what may not.
fn fitting(fit: &Fit) -> Result<(), Failure> {
    fit.warnings.iter().for_each(|warning| tell(&format!("warning: {warning}")));
    match &fit.refusals[..] {
        [] => Ok(()),
        refusals => Err(Failure::new(Exit::Environment, format!("this machine cannot send that: {}", refusals.join("; ")))),
    }
}

/// A plan's problems, with their snippets, in colour where stderr takes it.
fn invalid(problems: Problems) -> Failure {
    let colour = match anstream::AutoStream::choice(&std::io::stderr()) {
        anstream::ColorChoice::Never => Colour::Plain,
        _ => Colour::Ansi,
    };
    talk(&problems.render(colour));
    Failure::said(Exit::Usage)
}

/// The report for a person, on stdout.
fn print_report(judged: &Judged, quiet: bool) -> Result<(), Failure> {
    let detail = if quiet { Detail::Brief } else { Detail::Full };
    reports::print(&judged.report, detail)
        .map_err(|error| Failure::new(Exit::Environment, format!("failed to write to stdout: {error}")))
}
