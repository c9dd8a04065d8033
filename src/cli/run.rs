//! `squall run`: a plan, to its verdict.

use std::path::{Path, PathBuf};

use crate::cluster::access::Reach;
use crate::exit::{Exit, Failure};
use crate::plan::{ClusterChoice, Plan};
use crate::recording::Event;
use crate::report::live::{Display, Live};
use crate::run::{self, Audience, Folder, Interrupt, Interrupts, Order, Wanted};
use crate::time::Offset;
use crate::timeline::Timeline;

/// Which plan, and how.
#[derive(clap::Args)]
pub struct Args {
    /// The plan.
    plan: PathBuf,
    /// Set a parameter of the plan; may be given again.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = super::assignment)]
    sets: Vec<(String, String)>,
    /// Run here instead of where the plan says: `sandbox`, `none`, or a context of the kubeconfig.
    #[arg(long, value_name = "WHERE")]
    cluster: Option<ClusterChoice>,
    /// Let the plan break things in a cluster that is not the sandbox.
    #[arg(long)]
    allow_faults: bool,
    #[command(flatten)]
    agent_image: super::agent_image::Flag,
    #[command(flatten)]
    reach: super::reach::Flags,
    #[command(flatten)]
    how: super::How,
}

pub fn main(args: Args) -> Result<Exit, Failure> {
    let plan = super::read_plan(&args.plan, &args.sets, args.cluster)?;
    let reach = args.reach.reach(&plan)?;
    perform(plan, Some(args.plan), args.allow_faults, args.agent_image.named(), reach, args.how)
}

/// Runs a plan, shows how it goes on stderr and the report on stdout.
pub fn perform(
    plan: Plan,
    plan_file: Option<PathBuf>,
    allow_faults: bool,
    agent_image: Option<String>,
    reach: Reach,
    how: super::How,
) -> Result<Exit, Failure> {
    let seed = how.seed.or(plan.seed).unwrap_or_else(fresh_seed);
    let outlets = how.exports.outlets()?;
    super::fitting(&super::fit(&plan, &Timeline::of(&plan, seed), Wanted::Decisive)?)?;
    let folder = Folder::create(&plan.name, seed, how.out.as_deref())?;
    let path = folder.path.clone();
    let order = Order { plan, seed, plan_file, folder, reach, allow_faults, agent_image, outlets };
    let mut audience = Screen::new(how.quiet);
    let judged = watched(&path, async |interrupts| run::run(order, interrupts, &mut audience).await)?;
    super::print_report(&judged, how.quiet)?;
    match judged.unsaved {
        Some(why) => Err(Failure::new(judged.exit.or_worse(Exit::Environment), why)),
        None => Ok(judged.exit),
    }
}

/// Does what breaks things, or may leave something, until its end: the first signal is its own to hear, the second leaves at once,
/// whatever it is doing. `folder` is what `squall heal` would be given.
pub fn watched<T>(folder: &Path, work: impl AsyncFnOnce(&mut Interrupts) -> Result<T, Failure>) -> Result<T, Failure> {
    let runtime = super::runtime()?;
    let ended = runtime.block_on(async {
        let (mut first, mut second) = (Interrupts::listen()?, Interrupts::listen()?);
        tokio::select! {
            // A run that a second signal finds judged has left nothing broken.
            biased;
            done = work(&mut first) => done,
            signal = async { stopping(second.next().await, folder); second.again().await } => {
                super::tell(&format!("{}: leaving at once; what was broken may still be: run `squall heal {}`", signal.name(), folder.display()));
                Err(Failure::new(signal.exit(), "left without healing"))
            }
        }
    });
    // Whatever still runs in the background must not hold up the exit.
    runtime.shutdown_background();
    ended
}

/// What a person is told at the first signal.
fn stopping(signal: Interrupt, folder: &Path) {
    let (signal, folder) = (signal.name(), folder.display());
    super::tell(&format!(
        "{signal}: stopping in good order; a second signal leaves at once, and needs `squall heal {folder}` then"
    ));
}

/// A seed that no other run has; printed, so that the run can be repeated.
pub fn fresh_seed() -> u64 {
    let nanos = crate::time::wall_now().as_nanosecond() as u64;
    // Short enough to be typed again.
    (nanos ^ (u64::from(std::process::id()) << 20)) % 1_000_000_000
}

/// How a run shows on stderr.
pub struct Screen {
    live: Live,
    quiet: bool,
}

impl Screen {
    fn new(quiet: bool) -> Screen {
        Screen { live: Live::new(if quiet { Display::Quiet } else { Display::detect() }), quiet }
    }

    /// One of many runs: no plain lines of its own.
    pub fn of_many(quiet: bool) -> Screen {
        let display = match Display::detect() {
            Display::Line if !quiet => Display::Line,
            _ => Display::Quiet,
        };
        Screen { live: Live::new(display), quiet }
    }
}

impl Audience for Screen {
    fn stage(&mut self, words: &str) {
        if !self.quiet {
            super::tell(words);
        }
    }

    fn warn(&mut self, words: &str) {
        self.live.warn(words);
    }

    fn event(&mut self, event: &Event) {
        self.live.event(event);
    }

    fn tick(&mut self, now: Offset) {
        self.live.tick(now);
    }

    fn missed(&mut self, events: u64) {
        self.live.missed(events);
    }

    fn end(&mut self) {
        self.live.finish();
    }
}
