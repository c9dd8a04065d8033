//! From text to a checked [`Plan`]: read the tree, fill in parameters, read the types, put the plan together, check it as a whole.
//! Every step goes on with what the one before could save, so that one run of `squall check` finds all there is to find.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::located::{self, LeftOut, Located, Pairs};
use super::params::{self, Environment, Secrets};
use super::problem::{Problem, Problems, nearest, proposal};
use super::recording;
use super::target::{self, TargetUrl};
use super::tree::{Id, Limits, Meaning, Tree, Value};
use super::written::{
    During, Entry, Rates, Text, Written, WrittenClaim, WrittenCluster, WrittenFault, WrittenLoad, WrittenRequest, WrittenTarget,
    keys_of,
};
use super::{Arrivals, ClusterChoice, Load, Phase, PhaseRate, Plan, PlannedFault, REPLAYED, Request, SandboxOptions, Target};
use crate::faults::{self, Lasting};
use crate::kinds::Kind;
use crate::names::Name;
use crate::schedule::Replayed;
use crate::units::{Rate, Span};
use crate::verdict::{self, Claim, Over};

/// Where a plan's text came from, and what may be asked while it is read.
pub(super) struct Source<'s> {
    /// As the user named it.
    pub file: &'s str,
    pub text: &'s str,
    /// The folder that manifests are relative to; `None` leaves them unread, as for a recorded plan.
    pub folder: Option<&'s Path>,
    pub sets: &'s [(String, String)],
    pub environment: Environment<'s>,
    /// Where it will run, whatever the plan says: `--cluster`.
    pub cluster: Option<ClusterChoice>,
}

impl Source<'_> {
    /// Whether the plan is to be run, and not only to be judged by.
    pub fn to_be_run(&self) -> bool {
        self.folder.is_some()
    }
}

/// Where the parts of a plan stand in its text, for the checks that come after.
pub(super) struct Places {
    pub target: Option<Id>,
    pub url: Option<Id>,
    pub workload: Option<Id>,
    pub autoscaler: Option<Id>,
    pub cluster: Option<Id>,
    pub manifests: Vec<Id>,
    pub phases: Vec<PhasePlace>,
    pub loads: Vec<LoadPlace>,
    pub faults: Vec<FaultPlace>,
    pub claims: Vec<ClaimPlace>,
    /// Every phase that is written down was understood: what hangs on the timeline can be checked.
    pub phases_whole: bool,
    pub loads_whole: bool,
    pub target_whole: bool,
}

pub(super) struct PhasePlace {
    pub length: Id,
}

pub(super) struct LoadPlace {
    /// What says how much is sent; `None` where that was not understood.
    pub rate: Option<Id>,
}

pub(super) struct FaultPlace {
    pub name: Id,
    pub at: Id,
    pub length: Option<Id>,
    pub kind: Id,
    /// What it hangs on is a phase or fault that exists.
    pub anchored: bool,
}

pub(super) struct ClaimPlace {
    pub over: Option<Id>,
    pub kind: Id,
    /// What it speaks of exists.
    pub anchored: bool,
    /// Everything under its kind was understood: what it needs is known.
    pub whole: bool,
}

/// What reading needs at every step.
pub(super) struct Desk<'s> {
    pub source: &'s Source<'s>,
    pub tree: Tree,
    pub left_out: LeftOut,
    pub problems: Vec<Problem>,
}

impl Desk<'_> {
    pub fn wrong(&mut self, at: Id, message: impl Into<String>) -> &mut Problem {
        self.problems.push(Problem::at(self.tree.span(at), message));
        self.problems.last_mut().expect("one was just pushed")
    }

    pub fn line(&self, at: Id) -> u32 {
        super::problem::place(self.source.text, self.tree.span(at).start).0
    }

    /// The names that entries of a list give themselves, even of those entries that are otherwise wrong.
    fn names(&self, list: &str) -> Vec<String> {
        let Some(list) = self.tree.roots.first().and_then(|root| self.tree.get(*root, list)) else { return Vec::new() };
        let name = |item: &Id| Some(self.tree.scalar(self.tree.get(*item, "name")?)?.text.clone());
        self.tree.items(list).iter().filter_map(name).collect()
    }

    /// Whether an entry has a key, though it could not be read, or one that was probably meant to be it: either has been reported.
    fn was_meant(&self, entry: Id, key: &str) -> bool {
        self.tree.entries(entry).iter().any(|(written, _)| {
            let word = self.tree.key(*written);
            word == key || (self.left_out.has(*written) && nearest(word, [key]).is_some())
        })
    }

    fn count(&self, list: &str) -> usize {
        self.tree.roots.first().and_then(|root| self.tree.get(*root, list)).map_or(0, |list| self.tree.items(list).len())
    }
}

/// Reads and checks a plan.
pub(super) fn read(source: &Source<'_>) -> Result<Plan, Problems> {
    let (mut tree, mut problems) = Tree::read(source.text, Limits::PLAN);
    let fail = |problems| Problems::new(source.file, source.text, problems);
    let Some(root) = tree.roots.first().copied() else {
        if problems.is_empty() {
            problems.push(empty());
        }
        return Err(fail(problems));
    };
    if tree.scalar(root).is_some_and(|scalar| scalar.meaning() == Meaning::Nothing) {
        problems.push(empty());
        return Err(fail(problems));
    }
    let mut left_out = LeftOut::default();
    tree.foreign.iter().for_each(|id| left_out.leave_out(*id));
    let params = parameters(source, &tree, root, &mut left_out, &mut problems);
    let secrets = params::fill(source.text, &mut tree, &params, source.environment, &mut left_out, &mut problems);
    let tree_for_reading = tree;
    let written: Option<Written> = located::read(&tree_for_reading, root, &mut left_out, &mut problems);
    let Some(written) = written else { return Err(fail(problems)) };
    let mut desk = Desk { source, tree: tree_for_reading, left_out, problems };
    let (plan, places) = assemble(&mut desk, root, written, params, secrets);
    super::check::check(&mut desk, &plan, &places);
    if desk.problems.is_empty() { Ok(plan) } else { Err(fail(desk.problems)) }
}

fn empty() -> Problem {
    Problem::nowhere("the file is empty").help("a plan says at least: plan, claim, target, phases, load")
}

/// The parameters as set: the plan's defaults, overridden by `--set`.
fn parameters(
    source: &Source<'_>,
    tree: &Tree,
    root: Id,
    left_out: &mut LeftOut,
    problems: &mut Vec<Problem>,
) -> BTreeMap<String, String> {
    let declared: Pairs<Located<Name>, Located<Text>> = tree
        .get(root, "params")
        .filter(|params| matches!(tree.node(*params).value, Value::Map(_)))
        .and_then(|params| located::read(tree, params, left_out, problems))
        .unwrap_or_default();
    let mut params: BTreeMap<String, String> =
        declared.0.into_iter().map(|(name, value)| (name.value.as_str().to_owned(), value.value.0)).collect();
    for (name, value) in source.sets {
        match params.get_mut(name) {
            Some(param) => value.clone_into(param),
            None => {
                let known: Vec<&str> = params.keys().map(String::as_str).collect();
                let help =
                    proposal(name, known.iter().copied()).unwrap_or_else(|| "the plan declares none: add it under `params`".into());
                problems.push(Problem::nowhere(format!("--set {name}: the plan has no parameter `{name}`")).help(help));
            }
        }
    }
    params
}

fn assemble(desk: &mut Desk<'_>, root: Id, written: Written, params: BTreeMap<String, String>, secrets: Secrets) -> (Plan, Places) {
    for (missing, key) in [
        (written.plan.is_none(), "plan"),
        (written.claim.is_none(), "claim"),
        (written.target.is_none(), "target"),
        (written.phases.is_none(), "phases"),
        (written.load.is_none(), "load"),
    ] {
        // A key that is there and wrong has been reported, and so has one that is misspelt.
        let misspelt =
            || desk.tree.entries(root).iter().any(|(k, _)| desk.left_out.has(*k) && nearest(desk.tree.key(*k), [key]).is_some());
        if missing && desk.tree.get(root, key).is_none() && !misspelt() {
            let problem = desk.wrong(root, format!("`{key}` is missing"));
            problem.help = Some(
                match key {
                    "plan" => "give the plan a name, as in `plan: burst-scales-out`",
                    "claim" => "say in one sentence what should hold, as in `claim: A burst is absorbed by scaling out.`",
                    "target" => "say what is under test, as in `target: {url: http://checkout.shop/}`",
                    "phases" => "lay out the run, as in `phases: [{name: steady, for: 30s}]`",
                    _ => "say what is sent, as in `load: [{name: users, rate: 50/s, request: {get: /}}]`",
                }
                .to_owned(),
            );
        }
    }
    let fallback = || "unnamed".parse::<Name>().expect("it is a name");
    let mut places = Places {
        target: written.target.as_ref().map(|target| target.at),
        url: written.target.as_ref().map(|target| target.value.url.at),
        workload: written.target.as_ref().and_then(|target| target.value.workload.as_ref().map(|w| w.at)),
        autoscaler: written.target.as_ref().and_then(|target| target.value.autoscaler.as_ref().map(|a| a.at)),
        cluster: written.cluster.as_ref().map(|cluster| cluster.at),
        manifests: written.manifests.iter().flatten().map(|file| file.at).collect(),
        phases: Vec::new(),
        loads: Vec::new(),
        faults: Vec::new(),
        claims: Vec::new(),
        phases_whole: written.phases.as_ref().is_some_and(|phases| phases.len() == desk.count("phases")),
        loads_whole: written.load.as_ref().is_some_and(|loads| loads.len() == desk.count("load")),
        target_whole: written.target.is_some(),
    };
    let folder = desk.source.folder.unwrap_or(Path::new(""));
    let manifests: Vec<PathBuf> = written.manifests.iter().flatten().map(|file| folder.join(&file.value)).collect();

    let mut phases = Vec::new();
    for phase in written.phases.into_iter().flatten() {
        places.phases.push(PhasePlace { length: phase.r#for.at });
        phases.push((phase.name, phase.r#for.value));
    }
    let names = Names { phases: desk.names("phases"), faults: desk.names("faults") };
    unique(desk, "phase", phases.iter().map(|(name, _)| name));
    let mut loads: Vec<(Located<Name>, Load)> = Vec::new();
    for load in written.load.into_iter().flatten() {
        let (name, (load, place)) = (load.name.clone(), self::load(desk, load, &names, &phases));
        places.loads_whole &= place.rate.is_some();
        places.loads.push(place);
        loads.push((name, load));
    }
    unique(desk, "load", loads.iter().map(|(name, _)| name));
    let mut faults: Vec<(Located<Name>, PlannedFault)> = Vec::new();
    for entry in &written.faults {
        if let Some((name, fault, place)) = fault(desk, entry, &names) {
            places.faults.push(place);
            faults.push((name, fault));
        }
    }
    unique(desk, "fault", faults.iter().map(|(name, _)| name));
    for (name, _) in &faults {
        if names.phases.iter().any(|phase| phase == name.value.as_str()) {
            let message = format!("`{}` is a phase already: a moment in either could not be told apart", name.value);
            desk.wrong(name.at, message).help = Some("give the fault another name".into());
        }
    }
    let mut claims: Vec<(Located<Name>, Claim)> = Vec::new();
    for entry in &written.assert {
        if let Some((name, claim, place)) = claim(desk, entry, &names) {
            places.claims.push(place);
            claims.push((name, claim));
        }
    }
    unique(desk, "assertion", claims.iter().map(|(name, _)| name));

    let planned = cluster(desk, written.cluster);
    let cluster = match (desk.source.cluster.clone(), planned) {
        (None, planned) => planned,
        // The options of the plan's sandbox hold for the sandbox that is asked for.
        (Some(ClusterChoice::Sandbox(_)), ClusterChoice::Sandbox(options)) => ClusterChoice::Sandbox(options),
        (Some(asked), _) => asked,
    };
    let plan = Plan {
        name: written.plan.map_or_else(fallback, |name| name.value),
        claim: written.claim.map_or_else(String::new, |claim| claim.value.trim().to_owned()),
        params,
        cluster,
        manifests,
        target: target(desk, written.target, &mut places),
        phases: phases.into_iter().map(|(name, length)| Phase { name: name.value, length }).collect(),
        loads: loads.into_iter().map(|(_, load)| load).collect(),
        faults: faults.into_iter().map(|(_, fault)| fault).collect(),
        claims: claims.into_iter().map(|(_, claim)| claim).collect(),
        seed: written.seed,
        source: desk.source.text.to_owned(),
        secrets,
    };
    (plan, places)
}

/// The names that moments and stretches may use.
struct Names {
    phases: Vec<String>,
    faults: Vec<String>,
}

impl Names {
    fn is_phase(&self, name: &Name) -> bool {
        self.phases.iter().any(|phase| phase == name.as_str())
    }
    fn is_fault(&self, name: &Name) -> bool {
        self.faults.iter().any(|fault| fault == name.as_str())
    }
    fn all(&self) -> impl Iterator<Item = &str> + Clone {
        self.phases.iter().chain(&self.faults).map(String::as_str)
    }
}

fn unique<'n>(desk: &mut Desk<'_>, what: &str, names: impl Iterator<Item = &'n Located<Name>>) {
    let mut first: HashMap<&str, Id> = HashMap::new();
    for name in names {
        match first.get(name.value.as_str()) {
            Some(earlier) => {
                let line = desk.line(*earlier);
                let problem = desk.wrong(name.at, format!("there are two {what}s called `{}`", name.value));
                problem.label = format!("first called so on line {line}");
            }
            None => {
                first.insert(name.value.as_str(), name.at);
            }
        }
    }
}

fn cluster(desk: &mut Desk<'_>, written: Option<Located<WrittenCluster>>) -> ClusterChoice {
    let sandbox = SandboxOptions::default;
    let Some(Located { value, at }) = written else { return ClusterChoice::None };
    match value {
        WrittenCluster::Word(word) => match word.as_str() {
            "sandbox" => ClusterChoice::Sandbox(sandbox()),
            "current" => ClusterChoice::Context(None),
            _ => ClusterChoice::None,
        },
        WrittenCluster::Map(map) => match (map.sandbox, map.context) {
            (Some(options), None) => {
                let sync = options.autoscaler_sync;
                if let Some(sync) =
                    sync.as_ref().filter(|sync| sync.value < Span::from_millis(100) || sync.value > Span::from_secs(3600))
                {
                    desk.wrong(sync.at, format!("the autoscaler cannot look every {}: from 100ms to 1h", sync.value));
                }
                ClusterChoice::Sandbox(SandboxOptions {
                    autoscaler_sync: sync.map_or(sandbox().autoscaler_sync, |sync| sync.value),
                    interpose: options.interpose.unwrap_or(sandbox().interpose),
                })
            }
            (None, Some(context)) => ClusterChoice::Context(Some(context.value)),
            (Some(_), Some(_)) => {
                desk.wrong(at, "a plan runs in one cluster: `sandbox` or `context`, not both");
                ClusterChoice::None
            }
            (None, None) => {
                if desk.tree.entries(at).is_empty() {
                    desk.wrong(at, "no cluster is named").help = Some("write sandbox, none, current, or {context: NAME}".into());
                }
                ClusterChoice::None
            }
        },
    }
}

fn target(desk: &mut Desk<'_>, written: Option<Located<WrittenTarget>>, places: &mut Places) -> Target {
    let mut target =
        Target { url: String::new(), workload: None, autoscaler: None, identity_header: "x-pod".to_owned(), insecure: false };
    let Some(Located { value: written, .. }) = written else { return target };
    if let Err(error) = written.url.value.parse::<TargetUrl>() {
        desk.wrong(written.url.at, error);
        places.target_whole = false;
    }
    target.url = written.url.value;
    target.workload = written.workload.map(|workload| workload.value);
    target.autoscaler = written.autoscaler.map(|autoscaler| autoscaler.value);
    target.insecure = written.insecure;
    if let Some(identity) = written.identity {
        if let Err(error) = target::header(&identity.header.value, "") {
            desk.wrong(identity.header.at, error);
        }
        target.identity_header = identity.header.value;
    }
    target
}

fn load(desk: &mut Desk<'_>, written: Located<WrittenLoad>, names: &Names, phases: &[(Located<Name>, Span)]) -> (Load, LoadPlace) {
    let Located { value: written, at } = written;
    let mut place = LoadPlace { rate: written.rate.as_ref().map(|rate| rate.at) };
    // What could not be read has been reported, and what it would have sent is not known.
    let known = written.arrivals.is_some() || desk.tree.get(at, "arrivals").is_none();
    let replays = written.arrivals.as_ref().is_some_and(|arrivals| arrivals.has_own_rate());
    let rate = match written.rate.map(|rate| (rate.value, rate.at)) {
        None => {
            if !replays && known && !desk.was_meant(at, "rate") {
                desk.wrong(at, "`rate` is missing");
            }
            BTreeMap::new()
        }
        Some((_, at)) if replays => {
            desk.wrong(at, "a recording has its own rate").help =
                Some("leave out `rate`; `warp` makes a replay faster or slower".into());
            BTreeMap::new()
        }
        Some((Rates::All(rate), at)) => {
            self::rate(desk, at, rate);
            phases.iter().map(|(name, _)| (name.value.clone(), rate)).collect()
        }
        Some((Rates::PerPhase(Pairs(pairs)), _)) => {
            let mut rates = BTreeMap::new();
            for (phase, rate) in pairs {
                if !names.is_phase(&phase.value) {
                    let help = proposal(phase.value.as_str(), names.phases.iter().map(String::as_str));
                    desk.wrong(phase.at, format!("there is no phase `{}`", phase.value)).help = help;
                }
                self::rate(desk, rate.at, rate.value);
                rates.insert(phase.value, rate.value);
            }
            rates
        }
    };
    let says_what = written.request.as_ref().is_some_and(|request| !request.value.methods().is_empty());
    let replayed = if says_what { Replayed::Times } else { Replayed::All };
    let arrivals_at = written.arrivals.as_ref().map(|arrivals| arrivals.at);
    let arrivals = if known { arrivals(desk, written.arrivals, &rate, replayed) } else { None };
    place.rate = if replays { arrivals_at } else { place.rate }.filter(|_| arrivals.is_some());
    if written.request.is_none() && !replays && known && !desk.was_meant(at, "request") {
        desk.wrong(at, "`request` is missing");
    }
    let request = request(desk, written.request, at, arrivals.as_ref());
    let arrivals = arrivals.unwrap_or_default();
    let due = most_due(&arrivals, &rate, request.timeout);
    let connections = bounded(desk, written.connections, default_connections(due), CONNECTIONS_MOST, "connections");
    let in_flight = bounded(desk, written.in_flight, default_in_flight(due), IN_FLIGHT_MOST, "requests in flight");
    (Load { name: written.name.value, arrivals, rate, request, connections, in_flight }, place)
}

/// How requests come due, with the recording where they need one; `None` where they cannot come due so, which has been reported.
fn arrivals(
    desk: &mut Desk<'_>,
    written: Option<Located<Arrivals>>,
    rate: &BTreeMap<Name, PhaseRate>,
    replayed: Replayed,
) -> Option<Arrivals> {
    let Some(Located { value: arrivals, at }) = written else { return Some(Arrivals::default()) };
    // Of what was left out of it nothing more is to be said.
    if !desk.left_out.nothing_below(&desk.tree, at) {
        return None;
    }
    let impossible = || rate.values().find_map(|rate| arrivals.impossible_at(rate.mean().per_second()));
    let too_many = || {
        let most = rate.values().map(|rate| arrivals.most_within(rate.peak().per_second(), 1.0)).fold(0.0, f64::max);
        let said = rate.values().any(|rate| rate.peak().per_second() > RATE_MOST);
        (most > RATE_MOST && !said).then(|| format!("this makes {most:.0} in one second: at most {RATE_MOST:.0}"))
    };
    match arrivals.contradiction().or_else(impossible).or_else(too_many) {
        None => recording::read(desk, at, arrivals, replayed),
        Some(why) => {
            desk.wrong(at, why);
            None
        }
    }
}

/// The most connections that a load may have: there are no more ports to have them from.
const CONNECTIONS_MOST: u32 = 65_535;
/// The most requests that a load may have in flight: each costs memory here.
const IN_FLIGHT_MOST: u32 = 1_000_000;
/// The bytes of body of all different requests of a replay: every worker keeps them.
const BODIES_MOST: usize = 64 << 20;
/// A load faster than this is a mistyped unit: no machine sends it.
const RATE_MOST: f64 = 10_000_000.0;

/// The most requests that can be under way when every one runs into its timeout: those that come due within it (Little's law).
pub(super) fn most_due(arrivals: &Arrivals, rate: &BTreeMap<Name, PhaseRate>, timeout: Span) -> f64 {
    if arrivals.has_own_rate() {
        return arrivals.most_within(0.0, timeout.seconds());
    }
    rate.values().map(|rate| arrivals.most_within(rate.peak().per_second(), timeout.seconds())).fold(0.0, f64::max)
}

/// Connections of a load whose plan does not say: as many as there are requests under way when every one runs into its timeout
/// ([`most_due`]), so that a service that is slow is not slower for want of one. At least 256, and at most 4,096, for which any
/// machine has ports and descriptors: a service that hangs must not look like a generator that has run out of them.
pub(super) fn default_connections(due: f64) -> u32 {
    due.ceil().clamp(256.0, 4_096.0) as u32
}

/// Requests in flight of a load whose plan does not say: half as many again as there are when every request runs into its
/// timeout ([`most_due`]), so that a service that hangs costs no request; between 1,000 and 100,000.
pub(super) fn default_in_flight(due: f64) -> u32 {
    (due * 1.5).clamp(1_000.0, 100_000.0) as u32
}

fn bounded(desk: &mut Desk<'_>, written: Option<Located<u32>>, default: u32, most: u32, what: &str) -> u32 {
    let Some(written) = written else { return default };
    if written.value == 0 || written.value > most {
        desk.wrong(written.at, format!("{} {what}: it must be from 1 to {most}", written.value));
    }
    written.value
}

fn rate(desk: &mut Desk<'_>, at: Id, rate: PhaseRate) {
    if rate.peak().per_second() > RATE_MOST {
        desk.wrong(at, format!("{} is more than any machine sends", rate.peak())).help = Some(format!("at most {RATE_MOST}/s"));
    }
}

fn request(desk: &mut Desk<'_>, written: Option<Located<WrittenRequest>>, load: Id, arrivals: Option<&Arrivals>) -> Request {
    let given = written.is_some();
    let Located { value: written, at } = written.unwrap_or(Located { value: WrittenRequest::default(), at: load });
    let methods = written.methods();
    let (mut method, mut path) = ("GET", String::from("/"));
    let recorded = arrivals.map_or(&[][..], |arrivals| arrivals.requests());
    match (&methods[..], arrivals.and_then(|arrivals| arrivals.replays())) {
        ([], Some(replay)) => {
            if replay.is_read() && recorded.is_empty() {
                desk.wrong(at, format!("the recording `{}` says when something was sent, and not what", replay.file())).help =
                    Some("say what is sent, as in `request: {get: /checkout}`, or record a column `path`".into());
            }
            (method, path) = (REPLAYED, replay.file().to_owned());
        }
        // Where it is missing, or nobody knows whether a recording says it, that has been reported.
        ([], None) if !given || arrivals.is_none() => {}
        ([], None) => {
            // One that is there and unreadable has been reported.
            if !desk.tree.entries(at).iter().any(|(key, value)| desk.left_out.has(*key) || desk.left_out.has(*value)) {
                let problem = desk.wrong(at, "the request names no method");
                problem.help =
                    Some("say what is sent, as in `get: /checkout`; also post, put, delete, patch, head, options".into());
            }
        }
        ([(only, given)], _) => {
            if let Err(error) = target::path(&given.value) {
                desk.wrong(given.at, error);
            }
            (method, path) = (*only, given.value.clone());
        }
        ([.., (_, second)], _) => {
            let all: Vec<String> = methods.iter().map(|(method, _)| format!("`{}`", method.to_lowercase())).collect();
            desk.wrong(second.at, format!("one request has one method, not {}", all.join(" and ")));
        }
    }
    let mut headers: Vec<(String, String)> = Vec::new();
    for (name, value) in written.headers.0 {
        if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(&name.value)) {
            let message = format!("the header `{}` is given twice: upper and lower case are the same in it", name.value);
            desk.wrong(name.at, message);
        }
        if let Err(error) = target::header(&name.value, &value.value.0) {
            desk.wrong(name.at, error);
        }
        headers.push((name.value, value.value.0));
    }
    let timeout = written.timeout.as_ref().map_or(DEFAULT_TIMEOUT, |timeout| timeout.value);
    if let Some(given) = &written.timeout
        && (given.value < Span::from_millis(1) || given.value > Span::from_secs(3600))
    {
        desk.wrong(given.at, format!("no request can be given {}: from 1ms to 1h", given.value));
    }
    let (body_at, body) = written.body.map(|body| (body.at, body.value.0.into_bytes())).unwrap_or((at, Vec::new()));
    let different = recorded.len();
    if different * body.len() > BODIES_MOST {
        desk.wrong(body_at, format!("{different} different requests with a body of {} bytes each", body.len())).help =
            Some(format!("at most {} MiB together: send less, or fewer", BODIES_MOST >> 20));
    }
    Request { method: method.to_owned(), path, headers, body, timeout }
}

/// The timeout of a request whose plan does not say.
pub(super) const DEFAULT_TIMEOUT: Span = Span::from_secs(5);

/// Reads an entry's own keys and its kind. `None` when either could not be read; every reason has been reported.
fn entry<C, K>(desk: &mut Desk<'_>, entry: &Entry<C, K>, what: &str) -> Option<(Id, Option<C>, Option<K>, Id)>
where
    C: for<'de> serde::Deserialize<'de> + schemars::JsonSchema,
    K: Kind,
{
    let id = entry.node.0;
    if desk.left_out.has(id) {
        return None;
    }
    if !matches!(desk.tree.node(id).value, Value::Map(_)) {
        desk.wrong(id, format!("expected {what} with its name and kind, found something that is no map"));
        return None;
    }
    let own = keys_of::<C>();
    let known = || own.iter().map(String::as_str).chain(K::ALL.iter().map(|row| row.key));
    let mut kinds = Vec::new();
    let mut meant_a_kind = false;
    for (key, value) in desk.tree.entries(id).to_vec() {
        let word = desk.tree.key(key).to_owned();
        if K::ALL.iter().any(|row| row.key == word) {
            kinds.push((key, value));
        } else if !own.contains(&word) {
            let near = nearest(&word, known());
            meant_a_kind |= near.is_none_or(|near| K::ALL.iter().any(|row| row.key == near));
            let help = match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("the keys of {what} are {}", known().collect::<Vec<_>>().join(", ")),
            };
            desk.left_out.leave_out_key(key, near);
            desk.wrong(key, format!("unknown key `{word}`")).help = Some(help);
        }
    }
    // The kinds step aside while the entry's own keys are read.
    let mut own_only = LeftOut::default();
    std::mem::swap(&mut own_only, &mut desk.left_out);
    for (key, _) in &kinds {
        own_only.leave_out(*key);
    }
    let common: Option<C> = located::read(&desk.tree, id, &mut own_only, &mut desk.problems);
    std::mem::swap(&mut own_only, &mut desk.left_out);

    if let [_, (second, _), ..] = kinds[..] {
        let all: Vec<String> = kinds.iter().map(|(key, _)| format!("`{}`", desk.tree.key(*key))).collect();
        desk.wrong(second, format!("{what} is of one kind, not {}", all.join(" and "))).help =
            Some("make an entry of its own for each".into());
    }
    let Some((key, value)) = kinds.first().copied() else {
        if !meant_a_kind {
            let keys: Vec<&str> = K::ALL.iter().map(|row| row.key).collect();
            desk.wrong(id, format!("this is of no kind: {what} needs one of {}", keys.join(", ")));
        }
        return None;
    };
    let word = desk.tree.key(key).to_owned();
    let spec = located::read_with(&desk.tree, value, &mut desk.left_out, &mut desk.problems, |node| {
        K::read(&word, node).expect("the key was found in the table")
    });
    Some((id, common, spec, key))
}

fn fault(
    desk: &mut Desk<'_>,
    written: &Entry<WrittenFault, faults::Spec>,
    names: &Names,
) -> Option<(Located<Name>, PlannedFault, FaultPlace)> {
    let (id, common, spec, kind) = entry(desk, written, "a fault")?;
    let common = common?;
    let at = common.at.value;
    let mut anchored = true;
    if at.of == common.name.value {
        desk.wrong(common.at.at, format!("`{}` cannot wait for itself", at.of)).help =
            Some("hang it on a phase, or on another fault".into());
        anchored = false;
    } else {
        anchored &= moment(desk, common.at.at, &at, names);
    }
    let spec = spec?;
    match (&common.r#for, spec.lasting() == Lasting::UntilHealed) {
        (None, true) => {
            desk.wrong(kind, format!("`for` is missing: {} lasts until it is healed", spec.key())).help =
                Some("say for how long, as in `for: 15s`".into());
        }
        (Some(length), false) => {
            desk.wrong(length.at, format!("{} happens at once and lasts for no time: leave out `for`", spec.key()));
        }
        (Some(length), true) if length.value == Span::default() => {
            desk.wrong(length.at, "a fault that lasts 0s breaks nothing");
        }
        _ => {}
    }
    if let Some(why) = spec.contradiction() {
        desk.wrong(kind, why);
    }
    let place = FaultPlace {
        name: common.name.at,
        at: common.at.at,
        length: common.r#for.as_ref().map(|length| length.at),
        kind,
        anchored,
    };
    let fault = PlannedFault {
        name: common.name.value.clone(),
        at,
        length: common.r#for.map(|length| length.value),
        spec,
        line: desk.line(id),
    };
    Some((common.name, fault, place))
}

/// Whether a moment names a phase or fault that exists, and one of its own moments.
fn moment(desk: &mut Desk<'_>, at: Id, anchor: &crate::names::Anchor, names: &Names) -> bool {
    use crate::names::Moment::{Effective, End, Healed, Injected, Start};
    let (phase, fault) = (names.is_phase(&anchor.of), names.is_fault(&anchor.of));
    match anchor.moment {
        _ if !phase && !fault => {
            let help = proposal(anchor.of.as_str(), names.all());
            desk.wrong(at, format!("there is no phase or fault `{}`", anchor.of)).help = help;
            false
        }
        Some(Injected | Effective | Healed) if !fault => {
            desk.wrong(at, format!("`{}` is a phase: it has .start and .end", anchor.of));
            false
        }
        Some(Start | End) if !phase => {
            desk.wrong(at, format!("`{}` is a fault: it has .injected, .effective and .healed", anchor.of));
            false
        }
        _ => true,
    }
}

fn claim(
    desk: &mut Desk<'_>,
    written: &Entry<WrittenClaim, verdict::Spec>,
    names: &Names,
) -> Option<(Located<Name>, Claim, ClaimPlace)> {
    let (id, common, spec, kind) = entry(desk, written, "an assertion")?;
    let common = common?;
    let mut anchored = true;
    let mut place = None;
    if let (Some(during), Some(fault)) = (&common.during, &common.fault) {
        let later = during.at.max(fault.at);
        desk.wrong(later, "an assertion speaks of `during` or of `fault`, not of both");
    }
    let over = match (common.during, common.fault) {
        (Some(Located { value: During::Phase(name), at }), _) => {
            place = Some(at);
            if !names.is_phase(&name) {
                let help = match names.is_fault(&name) {
                    true => Some(format!("`{name}` is a fault: write `fault: {name}`")),
                    false => proposal(name.as_str(), names.phases.iter().map(String::as_str)),
                };
                desk.wrong(at, format!("there is no phase `{name}`")).help = help;
                anchored = false;
            }
            Over::Phase(name)
        }
        (Some(Located { value: During::Between(stretch), at }), _) => {
            place = Some(at);
            let from = moment(desk, stretch.from.at, &stretch.from.value, names);
            let to = moment(desk, stretch.to.at, &stretch.to.value, names);
            anchored = from && to;
            Over::Between(stretch.from.value, stretch.to.value)
        }
        (None, Some(Located { value: name, at })) => {
            place = Some(at);
            if !names.is_fault(&name) {
                let help = match names.is_phase(&name) {
                    true => Some(format!("`{name}` is a phase: write `during: {name}`")),
                    false => {
                        proposal(name.as_str(), names.faults.iter().map(String::as_str)).or(Some("the plan has no faults".into()))
                    }
                };
                desk.wrong(at, format!("there is no fault `{name}`")).help = help;
                anchored = false;
            }
            Over::Fault(name)
        }
        (None, None) => {
            // A `during` that could not be read was left out: nothing can be said of its window.
            anchored = !desk.tree.entries(id).iter().any(|(key, value)| {
                (desk.left_out.has(*key) || desk.left_out.has(*value)) && matches!(desk.tree.key(*key), "during" | "fault")
            });
            Over::Run
        }
    };
    let spec = spec?;
    let whole = desk.tree.get(id, spec.key()).is_some_and(|asserted| desk.left_out.nothing_below(&desk.tree, asserted));
    let claim = Claim { name: common.name.value.clone(), over, spec, line: desk.line(id) };
    Some((common.name, claim, ClaimPlace { over: place, kind, anchored, whole }))
}

impl PhaseRate {
    /// The rate over the whole phase.
    pub fn mean(self) -> Rate {
        match self {
            PhaseRate::Steady(rate) => rate,
            PhaseRate::Ramp { from, to } => {
                Rate::per_second_of((from.per_second() + to.per_second()) / 2.0).expect("it lies between two rates")
            }
        }
    }

    /// The highest rate of the phase.
    pub fn peak(self) -> Rate {
        match self {
            PhaseRate::Steady(rate) => rate,
            PhaseRate::Ramp { from, to } => {
                if from.per_second() > to.per_second() {
                    from
                } else {
                    to
                }
            }
        }
    }
}
