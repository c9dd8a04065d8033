//! The conductor of a search for capacity: sets the world up once, makes one run of each probe, with a recording in a folder of its own,
//! and asks [`capacity::next`] after each what to do. It judges nothing: the verdict of a probe is that of any run.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use super::judgement::PLAN_FILE;
use super::world::World;
use super::{Audience, Folder, Interrupts, Judged, Order, run_within, set_up};
use crate::capacity::{self, Capacity, Doubt, End, Outcome, Probe, SCHEMA, Scope, Seen, Size, Step, Tried};
use crate::cluster::access::Reach;
use crate::exit::{Exit, Failure};
use crate::names::Name;
use crate::plan::{Plan, Steady};
use crate::report::capacity as reports;
use crate::time::wall_now;
use crate::units::Span;
use crate::verdict::{Certificate, Verdict};

/// What is searched, and where.
pub struct Search<'s> {
    pub steady: Steady,
    pub plan_file: PathBuf,
    pub scope: Scope,
    /// The least window of a probe.
    pub least: Span,
    pub seed: u64,
    /// The search's own folder, fresh.
    pub folder: Folder,
    /// The way to a cluster that is not the sandbox.
    pub reach: Reach,
    /// Secrets of the plan.
    pub env: &'s dyn Fn(&str) -> Option<String>,
}

/// Who watches a search.
pub trait Onlooker {
    fn say(&mut self, words: &str);
    /// The audience of one more run.
    fn audience(&mut self) -> Box<dyn Audience>;
}

/// Searches to the end. A signal stops it in good order, with what is known by then; so does an environment that gives way.
///
/// # Errors
/// When it could not begin.
pub async fn search(search: Search<'_>, interrupts: &mut Interrupts, onlooker: &mut dyn Onlooker) -> Result<Capacity, Failure> {
    let mut found = blank(&search);
    search.steady.notes().iter().for_each(|note| onlooker.say(note));
    let first = capacity::next(&search.scope, &[]).expect("a search begins with a probe");
    // The world is that of every probe: they differ in their rates alone.
    let stage = search.order(
        search.plan(first)?.1,
        search.seed,
        Folder { path: search.folder.path.clone(), run_id: search.folder.run_id.clone() },
    );
    let mut world = World::new(&stage)?;
    let mut audience = onlooker.audience();
    set_up(&mut world, &stage, interrupts, &mut *audience).await?;
    audience.end();

    match probes(&search, &mut world, &mut found, interrupts, onlooker).await {
        Ok(outcome) => found.conclude(outcome),
        Err(Stopped { row, end, exit, why }) => {
            found.probes.extend(row.map(|row| *row));
            found.break_off(end, exit, &why);
        }
    }
    let mut audience = onlooker.audience();
    if let Err(left) = world.strike(&mut *audience).await {
        found.break_off(End::Broken, left.exit, &left.message);
    }
    let written = reports::write(&found, &search.folder.path);
    found.unsaved = written.err().map(|error| format!("{error:#}; make room: each probe is recorded, and this sums them up"));
    Ok(found)
}

/// Makes one probe after the other, until the search is over or somebody stops it.
async fn probes(
    search: &Search<'_>,
    world: &mut World,
    found: &mut Capacity,
    interrupts: &mut Interrupts,
    onlooker: &mut dyn Onlooker,
) -> Result<Outcome, Stopped> {
    let mut tried: Vec<Tried> = Vec::new();
    let mut following = capacity::next(&search.scope, &tried);
    loop {
        let step = match following {
            Ok(step) => step,
            Err(outcome) => return Ok(outcome),
        };
        let Probed { row, seen, size, environment } = probe(search, world, step, tried.len(), interrupts, onlooker).await?;
        onlooker.say(&said(&row));
        found.environment = environment;
        found.probes.push(row);
        if tried.is_empty() {
            beware(found, onlooker);
        }
        tried.push(Tried { step, seen });
        following = capacity::next(&search.scope, &tried);
        if following.is_ok() {
            rest(size.pause(seen), interrupts, onlooker).await?;
        }
    }
}

/// A probe that was made.
struct Probed {
    row: Probe,
    seen: Seen,
    size: Size,
    environment: BTreeMap<String, String>,
}

/// Why no further probe is made.
struct Stopped {
    /// The probe that was under way, as far as it was recorded.
    row: Option<Box<Probe>>,
    end: End,
    exit: Exit,
    why: String,
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Stopped {
        let end = if matches!(failure.exit, Exit::Interrupted | Exit::Terminated) { End::Interrupted } else { End::Broken };
        Stopped { row: None, end, exit: failure.exit, why: failure.message }
    }
}

async fn probe(
    search: &Search<'_>,
    world: &mut World,
    step: Step,
    before: usize,
    interrupts: &mut Interrupts,
    onlooker: &mut dyn Onlooker,
) -> Result<Probed, Stopped> {
    let n = before + 1;
    let (size, plan) = search.plan(step)?;
    onlooker.say(&format!("probe {n}: {}/s for {} after {} of warm-up", step.rate, size.window, size.warm_up));
    let folder = search.folder.within(&format!("probe-{n:02}"))?;
    // Each has arrivals of its own: what held by the luck of one draw is looked at under another.
    let order = search.order(plan, search.seed.wrapping_add(before as u64), folder);
    let judged = run_within(world, &order, interrupts, &mut *onlooker.audience()).await?;
    let (row, seen) = judge(search, n, step, size, &order, &judged);
    let (end, exit, why) = match (judged.exit, judged.unsaved) {
        (exit @ (Exit::Interrupted | Exit::Terminated), _) => {
            (End::Interrupted, exit, format!("probe {n} {}", judged.report.ended))
        }
        (exit @ (Exit::Environment | Exit::CleanupNotProven | Exit::Bug), _) => (End::Broken, exit, judged.report.exit.reason),
        (_, Some(why)) => (End::Broken, Exit::Environment, why),
        (_, None) => return Ok(Probed { row, seen, size, environment: judged.report.environment }),
    };
    // It was not the generator that ended it.
    Err(Stopped { row: Some(Box::new(Probe { limited: false, ..row })), end, exit, why })
}

/// What a judged run says of its rate.
fn judge(search: &Search<'_>, n: usize, step: Step, size: Size, order: &Order, judged: &Judged) -> (Probe, Seen) {
    let history = &judged.history;
    let window = history.phase(&search.steady.window());
    let (from, to) = window.map_or_else(|| history.whole(), |phase| (phase.start, phase.end));
    let counts = history.counts(search.steady.load().as_ref(), from, to);
    let per_second = |count: u64| count as f64 / size.window.seconds();
    let limit = search.steady.claim().spec.latency_limit().map(Span::duration);
    // The window may be worse than the run around it.
    let blame = || {
        let whole = &judged.report.certificate;
        if whole.valid { Certificate::over(history, from, to, limit).reasons } else { whole.reasons.clone() }
    };
    let verdict = judged.report.verdict;
    let (seen, doubts) = match verdict {
        Verdict::Pass => (Seen::Passed, Vec::new()),
        Verdict::Fail => (Seen::Failed, Vec::new()),
        Verdict::Inconclusive => match blame() {
            reasons if reasons.is_empty() => {
                let open = judged.findings.iter().filter(|finding| finding.verdict == Verdict::Inconclusive);
                (Seen::Undecided(Doubt::Evidence), open.map(|finding| format!("{}: {}", finding.name, finding.reason)).collect())
            }
            reasons => (Seen::Undecided(Doubt::Generator), reasons),
        },
    };
    let row = Probe {
        n,
        rate_rps: step.rate,
        sent_rps: per_second(counts.ended() - counts.unsent),
        answered_rps: per_second(counts.ok),
        warm_up_s: size.warm_up.seconds(),
        window_s: size.window.seconds(),
        verdict,
        limited: seen == Seen::Undecided(Doubt::Generator),
        doubts,
        findings: judged.findings.clone(),
        started: judged.report.started.clone(),
        seed: order.seed,
        run_id: order.folder.run_id.clone(),
        folder: order.folder.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    (row, seen)
}

/// Leaves the service alone, so that its queues drain.
async fn rest(pause: Duration, interrupts: &mut Interrupts, onlooker: &mut dyn Onlooker) -> Result<(), Stopped> {
    if pause >= Duration::from_secs(5) {
        onlooker.say(&format!("resting for {}, so that queues drain", Span::from(pause)));
    }
    tokio::select! {
        () = tokio::time::sleep(pause) => Ok(()),
        signal = interrupts.next() => {
            let why = format!("the search was interrupted by {}", signal.name());
            Err(Stopped { row: None, end: End::Interrupted, exit: signal.exit(), why })
        }
    }
}

/// What a person should know of an objective that is met by refusing.
fn beware(found: &Capacity, onlooker: &mut dyn Onlooker) {
    let promises_answers = found.probes.iter().flat_map(Probe::checks).any(|(check, _)| check == "available");
    if !promises_answers {
        onlooker.say(&format!(
            "`{}` says nothing of availability: what is refused or fails does not count against it; add `available` to mean it",
            found.slo
        ));
    }
}

fn said(row: &Probe) -> String {
    let word = row.verdict;
    match row.doubt() {
        Some(doubt) => format!("probe {}: {word} at {}/s: {doubt}", row.n, row.rate_rps),
        None => format!("probe {}: {word} at {}/s", row.n, row.rate_rps),
    }
}

impl Search<'_> {
    /// How long a probe takes, and its plan.
    fn plan(&self, step: Step) -> Result<(Size, Plan), Failure> {
        let size = Size::of(step.rate, self.steady.samples(), self.least, step.length);
        let plan = self.steady.at(step.rate, size.warm_up, size.window, self.env);
        plan.map(|plan| (size, plan)).map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))
    }

    fn order(&self, plan: Plan, seed: u64, folder: Folder) -> Order {
        // Files are named relative to the plan that was searched: a probe's plan runs by itself where it names none.
        let plan_file = plan.stands_alone().then(|| folder.path.join(PLAN_FILE));
        let reach = self.reach.clone();
        Order { plan, seed, plan_file, folder, reach, allow_faults: false, agent_image: None, outlets: Vec::new() }
    }
}

/// A search of which nothing is known yet.
fn blank(search: &Search<'_>) -> Capacity {
    let plan = search.steady.plan();
    Capacity {
        schema: SCHEMA,
        search_id: search.folder.run_id.clone(),
        squall: env!("CARGO_PKG_VERSION").to_owned(),
        plan: plan.name.clone(),
        plan_file: Some(search.plan_file.display().to_string()),
        slo: search.steady.claim().name.clone(),
        claim: search.steady.claim().spec.describe(),
        target: plan.target.url.clone(),
        load: search.steady.load(),
        seed: search.seed,
        params: plan.params.clone(),
        started: format!("{:.3}", wall_now()),
        lowest_rps: search.scope.lowest,
        highest_rps: search.scope.highest,
        resolution_pct: search.scope.resolution * 100.0,
        end: End::Broken,
        exit_code: Exit::Bug.code(),
        capacity_rps: None,
        failed_rps: None,
        reason: String::new(),
        probes: Vec::new(),
        environment: BTreeMap::new(),
        unsaved: None,
    }
}

/// What the folder of a search is called after.
pub fn name(plan: &Name) -> Name {
    format!("{plan}-capacity").parse().unwrap_or_else(|_| plan.clone())
}
