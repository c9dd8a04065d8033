//! From text to a checked [`Plan`]: read the tree, fill in parameters, read the types, put the plan together, check it as a whole.
//! Every step goes on with what the one before could save, so that one run of `squall check` finds all there is to find.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::located::{self, LeftOut, Located, Pairs};
use super::params::{self, Environment, Secrets};
use super::problem::{Problem, Problems, nearest, proposal};
use super::tree::{Id, Limits, Meaning, Tree, Value};
use super::written::{During, Entry, Text, Written, WrittenClaim, WrittenCluster, WrittenFault, WrittenTarget, keys_of};
use super::{ClusterChoice, Dns, Load, Phase, Plan, PlannedFault, SandboxOptions, Target};
use crate::faults::{self, Lasting};
use crate::kinds::Kind;
use crate::names::Name;
use crate::target::{self, TargetUrl};
use crate::tls::Tls;
use crate::units::Span;
use crate::verdict::{self, Claim, Over};

mod call;
mod client;
mod exchange;
mod feeds;
mod flow;
mod load;
mod transport;
mod varying;
mod wanted;

pub(super) use load::{abreast, default_connections, default_in_flight, most_due};
pub(super) use transport::tells_who;

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
    /// What says how much it sends: a rate, users, a recording; `None` where that was not understood.
    pub sends: Option<Id>,
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
    /// Whether a file was asked for that is named relative to the plan.
    pub leans: bool,
}

impl Desk<'_> {
    /// Where a file is that the plan names; `None` where it is not to be run.
    pub fn beside(&mut self, file: &str) -> Option<PathBuf> {
        self.leans |= Path::new(file).is_relative();
        self.source.folder.map(|folder| folder.join(file))
    }

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

    /// Whether a map has one of these keys, or nearly, and it was reported already.
    fn is_left_out(&self, map: Id, keys: &[&str]) -> bool {
        let reported = |(key, value): &(Id, Id)| self.left_out.has(*key) || self.left_out.has(*value);
        self.tree
            .entries(map)
            .iter()
            .any(|entry| reported(entry) && nearest(self.tree.key(entry.0), keys.iter().copied()).is_some())
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
    let mut desk = Desk { source, tree: tree_for_reading, left_out, problems, leans: false };
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
        if missing && desk.tree.get(root, key).is_none() && !desk.is_left_out(root, &[key]) {
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
    let feeds = feeds::read(desk, written.feeds);
    let mut loads: Vec<(Located<Name>, Load)> = Vec::new();
    for load in written.load.into_iter().flatten() {
        let (name, (load, place)) = (load.value.name.clone(), load::load(desk, load, &names, &phases, &feeds));
        places.loads_whole &= place.sends.is_some();
        places.loads.push(place);
        loads.push((name, load));
    }
    varying::once(desk, &feeds, &loads);
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
    let target = target(desk, written.target, &params, &mut places);
    let plan = Plan {
        name: written.plan.map_or_else(fallback, |name| name.value),
        claim: written.claim.map_or_else(String::new, |claim| claim.value.trim().to_owned()),
        params,
        cluster,
        manifests,
        target,
        generator: load::generator(desk, written.generator),
        phases: phases.into_iter().map(|(name, length)| Phase { name: name.value, length }).collect(),
        loads: loads.into_iter().map(|(_, load)| load).collect(),
        faults: faults.into_iter().map(|(_, fault)| fault).collect(),
        claims: claims.into_iter().map(|(_, claim)| claim).collect(),
        seed: written.seed,
        source: desk.source.text.to_owned(),
        leans: desk.leans,
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

fn target(
    desk: &mut Desk<'_>,
    written: Option<Located<WrittenTarget>>,
    params: &BTreeMap<String, String>,
    places: &mut Places,
) -> Target {
    let mut target = Target {
        url: String::new(),
        workload: None,
        autoscaler: None,
        identity_header: "x-pod".to_owned(),
        tls: Tls::default(),
        dns: Dns::default(),
        proxy: None,
        resolve: Vec::new(),
    };
    let Some(Located { value: written, .. }) = written else { return target };
    if let Err(error) = written.url.value.parse::<TargetUrl>() {
        desk.wrong(written.url.at, error);
        places.target_whole = false;
    }
    target.url = written.url.value;
    target.workload = written.workload.map(|workload| workload.value);
    target.autoscaler = written.autoscaler.map(|autoscaler| autoscaler.value);
    let is_proxied = written.proxy.is_some();
    target.proxy = transport::proxy(desk, written.proxy, params);
    // A proxy that is written and was not read, as of a plan that is only judged by, says nothing of where connections go.
    let asked = if is_proxied && target.proxy.is_none() { None } else { transport::asked(&target) };
    target.resolve = transport::resolve(desk, asked, written.resolve);
    target.dns = transport::dns(desk, written.dns, &target.resolve);
    target.tls = transport::tls(desk, &target.url, written.tls, written.insecure);
    if let Some(identity) = written.identity {
        if let Err(error) = target::header(&identity.header.value, "") {
            desk.wrong(identity.header.at, error);
        }
        target.identity_header = identity.header.value;
    }
    target
}

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
