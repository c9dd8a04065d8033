//! What can be wrong with a plan whose every part is right: moments outside of the run, loads that send nothing, faults without
//! anything to break, and assertions that could never be decided.

use std::fs;
use std::time::Duration;

use super::assemble::{Desk, FaultPlace, Places};
use super::manifest::{self, Manifest};
use super::problem::proposal;
use super::tree::Id;
use super::{ClusterChoice, Load, Model, Plan, PlannedFault};
use crate::faults::blast;
use crate::kinds::Kind;
use crate::names::{Name, ObjectRef};
use crate::schedule::{Traffic, most_chosen};
use crate::target::TargetUrl;
use crate::time::Offset;
use crate::timeline::Timeline;
use crate::units::Span;
use crate::verdict::{Claim, Need, Over};

/// The longest run that makes sense on one machine.
const RUN_MOST: Span = Span::from_secs(30 * 24 * 3600);
/// The most requests of one load: beyond it a rate or a length is mistyped.
const REQUESTS_MOST: f64 = 1e10;
/// The least latency that is measured: what took less counts as this.
const LATENCY_LEAST: Duration = Duration::from_micros(1);

/// Checks a plan as a whole.
pub(super) fn check(desk: &mut Desk<'_>, plan: &Plan, places: &Places) {
    let laid_out = phases(desk, plan, places) && places.phases_whole && !plan.phases.is_empty();
    let manifests = manifests(desk, plan, places);
    objects(desk, plan, places, manifests.as_deref());
    if !laid_out {
        return;
    }
    let timeline = Timeline::of(plan, plan.seed.unwrap_or_default());
    let counted = loads(desk, plan, places, &timeline) && places.loads_whole;
    faults(desk, plan, places, &timeline);
    claims(desk, plan, places, &timeline, counted);
}

fn phases(desk: &mut Desk<'_>, plan: &Plan, places: &Places) -> bool {
    let mut whole = true;
    let mut total = Span::default();
    for (phase, place) in plan.phases.iter().zip(&places.phases) {
        if phase.length == Span::default() {
            desk.wrong(place.length, format!("the phase `{}` takes no time", phase.name));
            whole = false;
        }
        let before = total;
        total = total.duration().saturating_add(phase.length.duration()).into();
        if total > RUN_MOST && before <= RUN_MOST {
            desk.wrong(place.length, format!("the run takes {total} up to here: at most {} (30 days)", RUN_MOST));
            whole = false;
        }
    }
    if plan.phases.is_empty()
        && places.phases_whole
        && let Some(list) = list(desk, "phases")
    {
        desk.wrong(list, "a run needs at least one phase").help = Some("as in `phases: [{name: steady, for: 30s}]`".into());
    }
    if plan.loads.is_empty()
        && places.loads_whole
        && let Some(list) = list(desk, "load")
    {
        desk.wrong(list, "a run needs at least one load").help =
            Some("as in `load: [{name: users, rate: 50/s, request: {get: /}}]`".into());
    }
    whole
}

fn list(desk: &Desk<'_>, key: &str) -> Option<Id> {
    desk.tree.roots.first().and_then(|root| desk.tree.get(*root, key))
}

fn loads(desk: &mut Desk<'_>, plan: &Plan, places: &Places, timeline: &Timeline) -> bool {
    let mut counted = true;
    for ((load, place), (_, traffic)) in plan.loads.iter().zip(&places.loads).zip(&timeline.traffic) {
        // What could not be read has been reported; and who only judges by the plan has no recording.
        let Some(at) = place.sends.filter(|_| load.is_known()) else {
            counted = false;
            continue;
        };
        let expected = match traffic {
            Traffic::Open(schedule) => schedule.expected_in(Offset::ZERO, timeline.end),
            Traffic::Closed(_) => 0.0,
        };
        if expected > REQUESTS_MOST {
            desk.wrong(at, format!("`{}` would send {expected:.0} requests: at most {REQUESTS_MOST:.0}", load.name));
            counted = false;
        } else if timeline.requests_in(Some(&load.name), Offset::ZERO, timeline.end) == Some(0) {
            let why = match traffic {
                Traffic::Open(_) => "no request falls into the run at this rate",
                Traffic::Closed(_) => "it has no users",
            };
            desk.wrong(at, format!("`{}` sends nothing: {why}", load.name));
            counted = false;
        } else if let (Some((feed, rows)), (fewest, _)) = (load.varying.lasts(), traffic.spread_in(Offset::ZERO, timeline.end))
            && fewest > rows
        {
            let message = format!("`{}` sends {fewest} requests at least, and the feed `{}` has {rows} rows", load.name, feed.name);
            desk.wrong(at, message).help = Some(
                "each row is used once: give the feed more rows, send fewer requests, or say `order: sequential`, which begins again"
                    .into(),
            );
        }
    }
    counted
}

fn faults(desk: &mut Desk<'_>, plan: &Plan, places: &Places, timeline: &Timeline) {
    for (fault, place) in plan.faults.iter().zip(&places.faults) {
        if !place.anchored {
            continue;
        }
        match timeline.nominal_start(&fault.name) {
            // The name it hangs on exists, and yet it comes to no moment: a circle, or it hangs on a fault that could not be read.
            None if circle(plan, fault) => {
                desk.wrong(place.at, format!("`{}` waits for itself, by way of `{}`", fault.name, fault.at.of));
            }
            None => {}
            Some(start) => within_run(desk, fault, place, start, timeline),
        }
    }
}

/// Whether following what a fault hangs on leads back to it.
fn circle(plan: &Plan, fault: &PlannedFault) -> bool {
    let mut at = &fault.at.of;
    for _ in &plan.faults {
        if *at == fault.name {
            return true;
        }
        match plan.faults.iter().find(|other| other.name == *at) {
            Some(other) => at = &other.at.of,
            None => return false,
        }
    }
    false
}

fn within_run(desk: &mut Desk<'_>, fault: &PlannedFault, place: &FaultPlace, start: Offset, timeline: &Timeline) {
    let end = timeline.end;
    if start < Offset::ZERO || start >= end {
        desk.wrong(place.at, format!("`{}` would strike at {}, outside of the run", fault.name, seconds(start))).label =
            format!("the run goes from 0s to {}", seconds(end));
        return;
    }
    let healed = start + fault.length.unwrap_or_default().duration();
    if healed > end {
        let at = place.length.unwrap_or(place.at);
        desk.wrong(at, format!("`{}` would last until {}, and the run ends at {}", fault.name, seconds(healed), seconds(end)))
            .help = Some("shorten the fault, or lengthen the last phase: what is healed after the run cannot be watched".into());
    }
}

fn seconds(offset: Offset) -> String {
    format!("{}s", offset.seconds())
}

fn claims(desk: &mut Desk<'_>, plan: &Plan, places: &Places, timeline: &Timeline, counted: bool) {
    for (claim, place) in plan.claims.iter().zip(&places.claims) {
        if !place.anchored {
            continue;
        }
        let mut needs = claim.spec.needs();
        if let Some(limit) = claim.spec.latency_limit().filter(|limit| limit.duration() < LATENCY_LEAST) {
            needs.push(Need::Never { why: format!("no request is answered within {limit}; latencies count from 1us on") });
        }
        let (load, class) = (load_of(&needs), class_of(&needs));
        let fixed = timeline.is_fixed(&claim.over);
        let window = timeline.window(&claim.over).map(|(from, to)| (from, if fixed { to } else { timeline.end }));
        if let Some((from, to)) = window
            && from >= to
        {
            let message = format!("the window of `{}` is empty: from {} to {}", claim.name, seconds(from), seconds(to));
            desk.wrong(place.over.unwrap_or(place.kind), message);
            continue;
        }
        let clusterless = plan.cluster == ClusterChoice::None && desk.source.to_be_run();
        let step = needs.iter().any(|need| matches!(need, Need::Step(_)));
        let known = Known { window: window.filter(|_| counted), fixed, load, class, step, clusterless };
        // What a claim needs for want of something that could not be read is a consequence of that.
        for need in needs.iter().filter(|_| place.whole) {
            if let Some((message, help)) = unmet(plan, claim, need, timeline, &known) {
                desk.wrong(place.kind, message).help = help;
            }
        }
    }
}

/// The one load that a claim with these needs speaks of, where it does not speak of all.
pub(super) fn load_of(needs: &[Need]) -> Option<&Name> {
    needs.iter().find_map(|need| match need {
        Need::Load(name) => Some(name),
        _ => None,
    })
}

/// The one class that a claim with these needs speaks of, where it does not speak of all.
pub(super) fn class_of(needs: &[Need]) -> Option<&Name> {
    needs.iter().find_map(|need| match need {
        Need::Class(name) => Some(name),
        _ => None,
    })
}

/// What is known of a claim before the run.
struct Known<'a> {
    /// The widest it can be.
    window: Option<(Offset, Offset)>,
    /// Whether it will be just that, and not less: how many requests are too few can be told only then.
    fixed: bool,
    /// The one load that it speaks of.
    load: Option<&'a Name>,
    /// The one class of requests that it speaks of.
    class: Option<&'a Name>,
    /// It speaks of one step of flows.
    step: bool,
    /// It is to be run where nobody watches pods.
    clusterless: bool,
}

/// Why a claim can never be decided, and what to do.
fn unmet(plan: &Plan, claim: &Claim, need: &Need, timeline: &Timeline, known: &Known<'_>) -> Option<(String, Option<String>)> {
    let name = &claim.name;
    let kind = claim.spec.key();
    match need {
        Need::Samples { least, why } => {
            let (from, to) = known.window?;
            let count = most_of(plan, timeline, known, from, to)?;
            let of = known.class.map(|class| format!(" of the class `{class}`")).unwrap_or_default();
            if count == 0 {
                return Some((
                    format!("`{name}` can never be decided: no request{of} is sent from {} to {}", seconds(from), seconds(to)),
                    Some("send load in this window, or assert over another".into()),
                ));
            }
            (known.fixed && count < *least).then(|| {
                (
                    format!(
                        "`{name}` can never be decided: at most {count} requests{of} are sent in its window, and it needs {least}"
                    ),
                    Some(format!("{why}; raise the rate, lengthen the window, or ask for less")),
                )
            })
        }
        Need::Fault => match &claim.over {
            Over::Fault(_) => None,
            _ => {
                let faults: Vec<&str> = plan.faults.iter().map(|fault| fault.name.as_str()).collect();
                let help = match faults[..] {
                    [] => "the plan has no faults: add one under `faults`".to_owned(),
                    [one, ..] => format!("say which fault, as in `fault: {one}`"),
                };
                Some((format!("`{name}` speaks of no fault, and {kind} needs one"), Some(help)))
            }
        },
        Need::Autoscaler if plan.target.autoscaler.is_none() => Some((
            format!("`{name}` can never be decided: the target names no autoscaler"),
            Some("add it to `target`, as in `autoscaler: shop/hpa/checkout`".into()),
        )),
        Need::Workload if plan.target.workload.is_none() => Some((
            format!("`{name}` can never be decided: the target names no workload"),
            Some("add it to `target`, as in `workload: shop/deployment/checkout`".into()),
        )),
        Need::Autoscaler | Need::Workload if known.clusterless => Some((
            format!("`{name}` can never be decided: without a cluster nobody watches the pods"),
            Some("say where it runs, as in `cluster: sandbox`".into()),
        )),
        Need::Autoscaler | Need::Workload => None,
        Need::OpenModel { why } => {
            let speaks_of = |load: &&Load| known.load.is_none_or(|name| *name == load.name);
            let closed = plan.loads.iter().filter(speaks_of).find(|load| matches!(load.model, Model::Closed { .. }))?;
            Some((
                format!("`{name}` can never be decided: {why}"),
                Some(format!(
                    "give `{}` a `rate` in place of `users`, or assert over a load that has one, as in `load: NAME`",
                    closed.name
                )),
            ))
        }
        Need::Load(load) => {
            let known = plan.loads.iter().map(|load| load.name.as_str());
            (!known.clone().any(|known| known == load.as_str()))
                .then(|| (format!("there is no load `{load}`"), proposal(load.as_str(), known)))
        }
        Need::Class(class) => {
            let speaks_of = |load: &&Load| known.load.is_none_or(|name| *name == load.name);
            let classes: Vec<Name> = plan.loads.iter().filter(speaks_of).flat_map(|load| load.varying.classes()).collect();
            let of = known.load.map(|load| format!(" of `{load}`")).unwrap_or_default();
            if classes.contains(class) {
                let share = |load: &Load| load.varying.share_of(class);
                let never = !plan.loads.iter().filter(speaks_of).any(|load| share(load) > 0.0);
                return never.then(|| {
                    (
                        format!("no request{of} has the class `{class}`: its weight is 0"),
                        Some("give it a weight, or leave out what is asserted of it".into()),
                    )
                });
            }
            Some({
                let help = proposal(class.as_str(), classes.iter().map(Name::as_str));
                let help = help.unwrap_or_else(|| {
                    format!("give the load its classes, as in `class: {{weighted: {{{class}: 10, default: 90}}}}`")
                });
                (format!("no request{of} has the class `{class}`"), Some(help))
            })
        }
        Need::Step(step) => {
            let speaks_of = |load: &&Load| known.load.is_none_or(|name| *name == load.name);
            let steps: Vec<&Name> =
                plan.loads.iter().filter(speaks_of).flat_map(|load| load.steps()).map(|step| &step.name).collect();
            let of = known.load.map(|load| format!(" of `{load}`")).unwrap_or_default();
            (!steps.contains(&step)).then(|| {
                let help = proposal(step.as_str(), steps.iter().map(|name| name.as_str()));
                let help =
                    help.unwrap_or_else(|| format!("give the load a flow with it, as in `flow: [{{name: {step}, get: /}}]`"));
                (format!("no flow{of} has the step `{step}`"), Some(help))
            })
        }
        Need::Never { why } => Some((format!("`{name}` can never hold: {why}"), None)),
    }
}

/// The most requests that a claim can have to go by in a window: each run draws its own arrivals and classes, and only what no seed can
/// reach is refused. `None` where no load is of its class, which is reported by itself.
fn most_of(plan: &Plan, timeline: &Timeline, known: &Known<'_>, from: Offset, to: Offset) -> Option<u64> {
    // Of a load that does not exist nothing is known.
    let load = known.load.filter(|load| plan.loads.iter().any(|known| known.name == **load));
    // Of a run, each step is a request, as far as it gets; of one step there is one.
    let each = |load: &Load| if known.step { 1 } else { load.requests_most() };
    let Some(class) = known.class else {
        let all = plan.loads.iter().zip(&timeline.traffic).filter(|(one, _)| load.is_none_or(|name| *name == one.name));
        let most = all.map(|(load, (_, traffic))| traffic.spread_in(from, to).1.saturating_mul(each(load)));
        return Some(most.fold(0, u64::saturating_add));
    };
    let of_class: Vec<(&Load, f64)> = plan
        .loads
        .iter()
        .filter(|one| load.is_none_or(|name| *name == one.name))
        .map(|load| (load, load.varying.share_of(class)))
        .filter(|(_, share)| *share > 0.0)
        .collect();
    let most = |(load, share): &(&Load, f64)| {
        most_chosen(timeline.spread_in(Some(&load.name), from, to).1, *share).saturating_mul(each(load))
    };
    (!of_class.is_empty()).then(|| of_class.iter().map(most).fold(0, u64::saturating_add))
}

/// Reads the manifests, where they can be read now; reports those that cannot.
fn manifests(desk: &mut Desk<'_>, plan: &Plan, places: &Places) -> Option<Vec<Manifest>> {
    desk.source.folder?;
    let mut all = Some(Vec::new());
    for (path, at) in plan.manifests.iter().zip(&places.manifests) {
        let read = fs::read_to_string(path).map_err(|error| vec![format!("cannot read `{}`: {}", path.display(), reason(&error))]);
        let read = read.and_then(|text| manifest::read(&text, &path.display().to_string()).map_err(|problems| problems.lines()));
        match read {
            Ok(manifests) => {
                if let Some(all) = &mut all {
                    all.extend(manifests);
                }
            }
            Err(lines) => {
                for line in lines {
                    desk.wrong(*at, line);
                }
                all = None;
            }
        }
    }
    all
}

/// An I/O error in the words of a person.
pub(super) fn reason(error: &std::io::Error) -> String {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::NotFound => "there is no such file".into(),
        ErrorKind::PermissionDenied => "permission denied".into(),
        ErrorKind::IsADirectory => "it is a directory".into(),
        ErrorKind::InvalidData => "it is not UTF-8 text".into(),
        _ => error.to_string(),
    }
}

/// What needs a cluster has one, and what is named in the sandbox is there: its objects all come from the manifests.
fn objects(desk: &mut Desk<'_>, plan: &Plan, places: &Places, manifests: Option<&[Manifest]>) {
    if plan.cluster == ClusterChoice::None && desk.source.to_be_run() && desk.problems_of_cluster_free(places) {
        let needs = plan.needs_cluster();
        if let Some((what, way)) = needs {
            let at = places.faults.first().map(|fault| fault.name).or(places.manifests.first().copied());
            if let Some(at) = at.or(places.workload).or(places.autoscaler).or(places.target) {
                desk.wrong(at, format!("{what}, and the plan names no cluster")).help = Some(way);
            }
        }
    }
    let sandbox = matches!(plan.cluster, ClusterChoice::Sandbox(_));
    let known = manifests.filter(|_| sandbox && desk.source.to_be_run());
    if let (Some(workload), Some(at)) = (&plan.target.workload, places.workload) {
        podded(desk, workload, at, known);
    }
    if let (Some(autoscaler), Some(at)) = (&plan.target.autoscaler, places.autoscaler)
        && !AUTOSCALERS.iter().any(|kind| manifest::is_called(&autoscaler.kind, kind))
    {
        let message = format!("`{autoscaler}` is no autoscaler: a HorizontalPodAutoscaler or a ScaledObject is watched");
        desk.wrong(at, message).help = Some("name it as in shop/hpa/checkout or shop/scaledobject/checkout".into());
    }
    if let (Some(url), Some(known)) = (places.url.filter(|_| places.target_whole), known)
        && !known.is_empty()
    {
        service(desk, &plan.target.url, url, known);
    }
    for (fault, place) in plan.faults.iter().zip(&places.faults) {
        match fault.spec.on().or(plan.target.workload.as_ref()) {
            None => {
                desk.wrong(
                    place.kind,
                    format!("`{}` has no pods to touch: neither it nor the target names a workload", fault.name),
                )
                .help = Some("add `on: NAMESPACE/KIND/NAME` to it, or `workload` to the target".into());
            }
            Some(workload) if blast::is_protected(&workload.namespace) => {
                let message = format!("`{}` would break `{workload}`: {} is protected", fault.name, workload.namespace);
                desk.wrong(place.kind, message).help = Some("no fault is injected where the cluster itself runs".into());
            }
            // The target's own was looked at above.
            Some(workload) if Some(workload) != plan.target.workload.as_ref() => podded(desk, workload, place.kind, known),
            Some(_) => {}
        }
    }
}

impl Desk<'_> {
    /// Whether nothing has been said about the cluster yet: without it, what needs one is a consequence.
    fn problems_of_cluster_free(&self, places: &Places) -> bool {
        places.cluster.is_some() || list(self, "cluster").is_none()
    }
}

/// What scales.
const AUTOSCALERS: [&str; 2] = ["horizontalpodautoscaler", "scaledobject"];
/// Kinds that are at hand where a workload is asked for, and make no pods.
const NO_WORKLOADS: [&str; 5] = ["service", "pod", "configmap", "horizontalpodautoscaler", "scaledobject"];

/// A workload makes pods, and is there as far as that can be known.
fn podded(desk: &mut Desk<'_>, object: &ObjectRef, at: Id, known: Option<&[Manifest]>) {
    if NO_WORKLOADS.iter().any(|kind| manifest::is_called(&object.kind, kind)) {
        desk.wrong(at, format!("`{object}` is no workload: it makes no pods")).help =
            Some("name what makes them, as in shop/deployment/checkout".into());
        return;
    }
    let Some(known) = known else { return };
    if known.iter().any(|manifest| manifest.is(object)) {
        return;
    }
    let all: Vec<String> = known
        .iter()
        .filter(|manifest| manifest.value["spec"]["template"].is_object())
        .map(|manifest| format!("{}/{}/{}", manifest.namespace(), manifest.kind().to_lowercase(), manifest.name()))
        .collect();
    let help =
        proposal(&object.to_string(), all.iter().map(String::as_str)).unwrap_or_else(|| "no manifest of the plan has pods".into());
    desk.wrong(at, format!("there is no `{object}` in the manifests, and the sandbox has nothing else")).help = Some(help);
}

fn service(desk: &mut Desk<'_>, url: &str, at: Id, known: &[Manifest]) {
    let Ok(url) = url.parse::<TargetUrl>() else { return };
    if url.host == "localhost" || url.host.parse::<std::net::IpAddr>().is_ok() {
        return;
    }
    let services: Vec<&Manifest> = known.iter().filter(|manifest| manifest.kind() == "Service").collect();
    let found = url
        .service()
        .is_some_and(|(name, namespace)| services.iter().any(|service| service.name() == name && service.namespace() == namespace));
    if !found {
        let all: Vec<String> = services.iter().map(|service| format!("{}.{}", service.name(), service.namespace())).collect();
        let help = proposal(&url.host, all.iter().map(String::as_str)).unwrap_or_else(|| "the manifests hold no Service".into());
        desk.wrong(at, format!("no Service of the manifests is `{}`, and the sandbox has nothing else", url.host)).help =
            Some(help);
    }
}
