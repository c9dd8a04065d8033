//! The conductor: the only module that knows every stage. It reads like the map of the crate: a plan becomes a timeline, a world is
//! set up, load, faults and observation run on one clock into one recording, the world is taken down, and the recording is judged.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{broadcast, watch};

use crate::cluster::access::Reach;
use crate::exit::{Exit, Failure};
use crate::load::{self, Job};
use crate::metrics::{Exporting, Outlet};
use crate::plan::{self, ClusterChoice, Model, Plan};
use crate::protocol::{self, Destination, Unlearnt};
use crate::recording::Sink;
use crate::recording::fact::{Ending, Event, Fact, FaultLine, FlowLine, LoadLine, RunEnded, RunStarted, SCHEMA, StepLine};
use crate::recording::writer::Recording;
use crate::report::{self, Place};
use crate::schedule::Traffic;
use crate::time::{Clock, Offset};
use crate::timeline::{Start, Timeline};

pub mod capacity;
pub mod doctor;
mod environment;
mod fit;
mod folder;
mod interrupt;
mod judgement;
mod lookup;
mod machine;
mod preflight;
mod rehearsal;
mod rights;
mod world;

pub use fit::{Fit, Wanted, fit};
pub use folder::Folder;
pub use interrupt::{Interrupt, Interrupts};
pub use judgement::{Judged, judge, open};
pub use rights::{needed, rbac};

use world::World;

/// Between the start of the clock and the first phase: workers start.
const LEAD: Duration = Duration::from_millis(500);
/// The same where a cluster is watched: observers synchronise, and what they miss after it is a gap.
const LEAD_WATCHED: Duration = Duration::from_secs(2);

/// What to run.
pub struct Order {
    pub plan: Plan,
    pub seed: u64,
    /// The plan's file as the user named it, where there is one.
    pub plan_file: Option<PathBuf>,
    /// The run's own folder, fresh.
    pub folder: Folder,
    /// The way to a cluster that is not the sandbox.
    pub reach: Reach,
    /// Whether faults may be injected outside of the sandbox.
    pub allow_faults: bool,
    /// The image that holds `squall`, for clusters whose pods come from images; where one was named.
    pub agent_image: Option<String>,
    /// Where live metrics go out; nowhere unless asked for.
    pub outlets: Vec<Box<dyn Outlet>>,
}

/// What a run tells while it goes: stages of the setup in words, and then every event.
pub trait Audience: Send {
    fn stage(&mut self, words: &str);
    /// Something beside the run does not work, and the run does not hang on it.
    fn warn(&mut self, words: &str) {
        self.stage(&format!("warning: {words}"));
    }
    fn event(&mut self, event: &Event);
    /// Called a few times a second.
    fn tick(&mut self, now: Offset);
    /// So many events could not be shown: the display lags, the recording does not.
    fn missed(&mut self, events: u64);
    fn end(&mut self);
}

/// Runs a plan to its verdict. The first signal stops it, heals, and still judges; leaving at once on the second is the caller's
/// part, by dropping this future.
pub async fn run(mut order: Order, interrupts: &mut Interrupts, audience: &mut dyn Audience) -> Result<Judged, Failure> {
    let mut exporting = Exporting::open(std::mem::take(&mut order.outlets), |words| audience.stage(words)).await?;
    let timeline = Timeline::of(&order.plan, order.seed);
    order.folder.write(judgement::PLAN_FILE, &order.plan.source)?;
    let mut world = World::new(&order)?;
    set_up(&mut world, &order, interrupts, audience).await?;
    let ended = perform(&order, &timeline, &mut world, Afterwards::TakeDown, &mut exporting, interrupts, audience).await;
    audience.end();
    if let Err(failure) = ended {
        return Err(world.abandon(failure).await);
    }
    let (completed, judged) = conclude(&order)?;
    // Everything is recorded and judged: a signal has nothing to stop but the wait for those who fetch the last numbers. Whoever has
    // stopped the run waits for nobody.
    let patience = if completed { Duration::MAX } else { LAST_NUMBERS };
    tokio::select! {
        warnings = exporting.close() => warnings.iter().for_each(|warning| audience.warn(warning)),
        _ = interrupts.next() => {}
        () = tokio::time::sleep(patience) => {}
    }
    Ok(judged)
}

/// One of several runs in a world that stands already and stays: to its verdict, as [`run`]. Nobody watches its numbers.
async fn run_within(
    world: &mut World,
    order: &Order,
    interrupts: &mut Interrupts,
    audience: &mut dyn Audience,
) -> Result<Judged, Failure> {
    let mut nowhere = Exporting::open(Vec::new(), |_| {}).await?;
    let timeline = Timeline::of(&order.plan, order.seed);
    order.folder.write(judgement::PLAN_FILE, &order.plan.source)?;
    let ended = perform(order, &timeline, world, Afterwards::Keep, &mut nowhere, interrupts, audience).await;
    audience.end();
    ended?;
    conclude(order).map(|(_, judged)| judged)
}

/// What becomes of the world after a run in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Afterwards {
    TakeDown,
    /// Others run in it.
    Keep,
}

/// Sets up the world of a run, or leaves nothing of it.
async fn set_up(world: &mut World, order: &Order, interrupts: &mut Interrupts, audience: &mut dyn Audience) -> Result<(), Failure> {
    let set_up = tokio::select! {
        done = world.set_up(order, audience) => done,
        signal = interrupts.next() => Err(Failure::new(signal.exit(), format!("{} while getting ready: no request was sent and nothing was broken", signal.name()))),
    };
    match set_up {
        Ok(()) => Ok(()),
        Err(failure) => Err(world.abandon(failure).await),
    }
}

/// From what was recorded to verdict and reports; whether the run went to its end.
fn conclude(order: &Order) -> Result<(bool, Judged), Failure> {
    let history = open(&order.folder.path).map_err(|failure| {
        let message = format!("{failure}; this run wrote it there: leave a run's folder alone until the run has ended");
        Failure::new(Exit::Environment, message)
    })?;
    let plan_file = order.plan_file.as_ref().map(|file| file.display().to_string());
    let completed = history.ended.as_ref().is_some_and(|ended| ended.how == Ending::Completed);
    let place = Place { plan_file, plan_source: Some(order.plan.source.clone()), folder: None };
    let mut judged = judgement::judge_history(&order.folder.path, history, &order.plan.claims, place);
    let written = report::write(&judged.report, &order.folder.path, &report::FORMATS.iter().collect::<Vec<_>>());
    judged.unsaved = written.err().map(|error| error.to_string());
    Ok((completed, judged))
}

/// How long the last numbers of a run that was stopped may take on their way.
const LAST_NUMBERS: Duration = Duration::from_secs(2);

/// From the first stamp of the clock to the last line of the recording.
async fn perform(
    order: &Order,
    timeline: &Timeline,
    world: &mut World,
    afterwards: Afterwards,
    exporting: &mut Exporting,
    interrupts: &mut Interrupts,
    audience: &mut dyn Audience,
) -> Result<(), Failure> {
    let (destination, lookups) = world.destination(&order.plan, audience).await?;
    let mut job = job(&order.plan, timeline, destination.clone());
    learn(&mut job).await?;
    let clock = Clock::starting_in(if order.plan.cluster == ClusterChoice::None { LEAD } else { LEAD_WATCHED });
    let (sink, mut recording) = Recording::tapped(&order.folder.path, clock, started(order, timeline, clock), exporting.tap())
        .map_err(|error| Failure::new(Exit::Environment, format!("{error:#}")))?;
    let mut live = recording.live();

    let observers = world.observe(&order.plan, &sink).await?;
    let mut load = load::start(job, sink.clone())
        .map_err(|error| Failure::new(Exit::Environment, format!("failed to start the load: {error:#}")))?;
    let (stop_faults, stopping) = watch::channel(false);
    let faults = world.faults(order, timeline, &sink, stopping)?.map(tokio::spawn);

    let (host, port) = destination.door();
    let mut ending = {
        let mut looking = std::pin::pin!(async {
            match lookups {
                Some(lookups) => lookups.keep(sink.clone(), || world.look_up(host, port)).await,
                None => std::future::pending().await,
            }
        });
        let mut play = std::pin::pin!(async {
            mark_phases(timeline, &sink).await;
            load.finished().await;
        });
        let mut ticks = tokio::time::interval(Duration::from_millis(100));
        loop {
            tokio::select! {
                () = &mut play => break Ending::Completed,
                signal = interrupts.next() => break Ending::Interrupted { signal: signal.name().to_owned() },
                never = &mut looking => match never {},
                event = live.recv() => hear(event, audience),
                warning = exporting.warning() => audience.warn(&warning),
                _ = ticks.tick() => {
                    audience.tick(clock.now());
                    // What is not recorded cannot be judged: breaking on would be for nothing.
                    if let Some(reason) = recording.broken() {
                        break Ending::Broken { reason };
                    }
                }
            }
        }
    };
    if ending != Ending::Completed {
        audience.stage("stopping: no more requests, healing what was broken");
        load.stop();
        load.finished().await;
    }
    stop_faults.send_replace(true);
    if let Some(faults) = faults {
        // Until it is known that nothing is: a conductor that breaks off leaves the journal open.
        world.may_be_active = true;
        let curtain = faults.await.map_err(|error| Failure::new(Exit::Bug, format!("the faults' conductor failed: {error}")))?;
        world.may_be_active = !curtain.all_healed();
    }
    if let Some(observers) = observers {
        observers.stop().await;
    }
    if afterwards == Afterwards::TakeDown {
        world.take_down(&sink, audience).await;
    }
    // A signal that came after the last request found nothing to stop, but whoever sent it is told.
    if let (Ending::Completed, Some(signal)) = (&ending, interrupts.next().now_or_never()) {
        ending = Ending::Interrupted { signal: signal.name().to_owned() };
    }
    while let Ok(event) = live.try_recv() {
        audience.event(&event);
    }
    recording
        .close(RunEnded { how: ending, lost_events: 0 })
        .map_err(|error| Failure::new(Exit::Environment, format!("the recording is incomplete: {error:#}")))
}

/// The plan's load, ready to start.
fn job(plan: &Plan, timeline: &Timeline, destination: Destination) -> Job {
    let traffic = timeline.traffic.iter().map(|(_, traffic)| traffic.clone());
    Job {
        destination,
        identity_header: plan.target.identity_header.clone(),
        loads: plan.loads.iter().cloned().zip(traffic).collect(),
        generator: plan.generator,
    }
}

/// Asks the service for what only it can tell of its requests.
async fn learn(job: &mut Job) -> Result<(), Failure> {
    let requests = job.loads.iter_mut().map(|(load, _)| &mut load.request);
    protocol::learn(&job.destination, requests).await.map_err(|unlearnt| match unlearnt {
        Unlearnt::Server(error) => Failure::new(Exit::Environment, format!("failed to learn the service's types: {error:#}")),
        Unlearnt::Plan(why) => Failure::new(Exit::Usage, format!("the plan does not fit the service's types: {why}")),
    })
}

/// The first line of the recording.
fn started(order: &Order, timeline: &Timeline, clock: Clock) -> RunStarted {
    let plan = &order.plan;
    RunStarted {
        schema: SCHEMA.to_owned(),
        run_id: order.folder.run_id.clone(),
        squall: env!("CARGO_PKG_VERSION").to_owned(),
        plan: plan.name.to_string(),
        claim: plan.claim.clone(),
        seed: order.seed,
        params: plan.params.clone(),
        zero: format!("{:.3}", clock.wall(Offset::ZERO)),
        target: plan.target.url.clone(),
        workload: plan.target.workload.clone(),
        autoscaler: plan.target.autoscaler.clone(),
        phases: timeline.phases.clone(),
        loads: plan.loads.iter().zip(&timeline.traffic).map(|(load, (_, traffic))| load_line(load, traffic, timeline)).collect(),
        faults: plan
            .faults
            .iter()
            .zip(&timeline.faults)
            .map(|(fault, slot)| FaultLine {
                name: fault.name.clone(),
                kind: crate::kinds::Kind::key(&fault.spec).to_owned(),
                at: match slot.start {
                    Start::At(offset) => Some(offset),
                    Start::After { .. } => None,
                },
                duration_ns: fault.length.map(|length| length.duration().as_nanos() as u64),
            })
            .collect(),
        environment: environment::fingerprint(),
    }
}

fn load_line(load: &plan::Load, traffic: &Traffic, timeline: &Timeline) -> LoadLine {
    let intended = match traffic {
        Traffic::Open(schedule) => {
            timeline.phases.iter().map(|phase| (phase.name.clone(), schedule.count_in(phase.start, phase.end))).collect()
        }
        Traffic::Closed(_) => BTreeMap::new(),
    };
    let users = match &load.model {
        Model::Open { .. } => BTreeMap::new(),
        Model::Closed { users, .. } => {
            users.iter().map(|(phase, level)| (phase.clone(), <[_; 2]>::from(level.ends()).map(|users| users.count()))).collect()
        }
    };
    let names: Vec<&str> = load.steps().map(|step| step.name.as_str()).collect();
    LoadLine {
        name: load.name.clone(),
        method: if load.flows.is_empty() { load.request.method.clone() } else { plan::IN_STEPS.to_owned() },
        path: if load.flows.is_empty() { load.request.path.clone() } else { names.join(", ") },
        timeout_ns: load.requests().map(|request| request.timeout.duration().as_nanos() as u64).max().unwrap_or_default(),
        intended,
        users,
        classes: load.varying.classes(),
        flows: load.flows.iter().map(flow_line).collect(),
        attempts: load.client.as_ref().map(plan::Client::worst),
    }
}

fn flow_line(flow: &plan::Flow) -> FlowLine {
    let step = |step: &plan::Step| StepLine {
        name: step.name.clone(),
        method: step.request.method.clone(),
        path: step.request.path.clone(),
        timeout_ns: step.request.timeout.duration().as_nanos() as u64,
    };
    FlowLine { weight: flow.weight, steps: flow.steps.iter().map(step).collect() }
}

/// Says when each phase starts and ends; done when the last one has ended.
async fn mark_phases(timeline: &Timeline, sink: &Sink) {
    let clock = sink.clock();
    for phase in &timeline.phases {
        tokio::time::sleep_until(clock.instant(phase.start).into()).await;
        sink.emit_at(phase.start, Fact::PhaseStarted { phase: phase.name.clone() });
        tokio::time::sleep_until(clock.instant(phase.end).into()).await;
        sink.emit_at(phase.end, Fact::PhaseEnded { phase: phase.name.clone() });
    }
}

fn hear(event: Result<Arc<Event>, broadcast::error::RecvError>, audience: &mut dyn Audience) {
    match event {
        Ok(event) => audience.event(&event),
        Err(broadcast::error::RecvError::Lagged(events)) => audience.missed(events),
        Err(broadcast::error::RecvError::Closed) => {}
    }
}
