//! `squall doctor`: a look at the cluster of a plan before it runs. It reads and asks what it may do; it changes nothing. What a plan brings
//! by its manifests is looked at as it will be, where it is not there yet.

use std::collections::BTreeSet;

use futures::StreamExt;
use serde::Serialize;
use serde_json::Value;

use admission::{Asked, admission};

use super::rights::needed;
use crate::cluster::access::Reach;
use crate::cluster::{self, Cluster};
use crate::exit::{Exit, Failure};
use crate::gotchas::{self, Sight, Source, Weight, World};
use crate::names::ObjectRef;
use crate::plan::manifest::Manifest;
use crate::plan::{self, ClusterChoice, Plan};
use crate::rights::{Need, Reason, Rights, qualified};

mod admission;

/// Questions to the server at once.
const AT_ONCE: usize = 8;
/// The oldest release that is looked after: `v1.33`.
const OLDEST_MINOR: u32 = 33;

/// What the look came to.
#[derive(Clone, Debug, Serialize)]
pub struct Examination {
    pub plan: String,
    /// Where, in words.
    pub cluster: String,
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Check {
    /// `reachable`, `permission`, or the name of a gotcha.
    pub check: String,
    pub state: State,
    /// What it is about, where it is about one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    pub cause: String,
    /// The way out, where one is needed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fix: Option<String>,
    #[serde(skip)]
    exit: Exit,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    Ok,
    /// Worth knowing.
    Note,
    /// It could not be looked at.
    Unknown,
    Wrong,
}

impl Examination {
    /// The worst of it.
    pub fn exit(&self) -> Exit {
        self.checks.iter().fold(Exit::Pass, |worst, check| worst.or_worse(check.exit))
    }

    fn ok(&mut self, check: &str, cause: impl Into<String>) {
        self.add(check, State::Ok, None, cause.into(), None, Exit::Pass);
    }

    fn note(&mut self, check: &str, object: Option<String>, cause: impl Into<String>, fix: Option<String>) {
        self.add(check, State::Note, object, cause.into(), fix, Exit::Pass);
    }

    fn unknown(&mut self, check: &str, cause: impl Into<String>, fix: &str) {
        self.add(check, State::Unknown, None, cause.into(), Some(fix.to_owned()), Exit::Inconclusive);
    }

    /// The environment is not as the plan needs it.
    fn unfit(&mut self, check: &str, object: Option<String>, cause: impl Into<String>, fix: impl Into<String>) {
        self.add(check, State::Wrong, object, cause.into(), Some(fix.into()), Exit::Environment);
    }

    fn add(&mut self, check: &str, state: State, object: Option<String>, cause: String, fix: Option<String>, exit: Exit) {
        self.checks.push(Check { check: check.to_owned(), state, object, cause, fix, exit });
    }
}

const REACHABLE: &str = "reachable";
const PERMISSION: &str = "permission";
const OBJECTS: &str = "objects";
const MANIFESTS: &str = "manifests";

/// Looks. `home` is where manifests that name no namespace go, if not where the kubeconfig says; `agent_image` what agents come from.
///
/// # Errors
/// When the plan's manifests cannot be read; everything else is what it looks for.
pub async fn examine(plan: &Plan, reach: &Reach, home: Option<&str>, agent_image: Option<String>) -> Result<Examination, Failure> {
    let manifests = plan::read_manifests(plan).map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))?;
    let mut found = Examination { plan: plan.name.to_string(), cluster: String::new(), checks: Vec::new() };
    let context = match &plan.cluster {
        ClusterChoice::None => {
            found.cluster = "no cluster".to_owned();
            found.ok(REACHABLE, "it runs without a cluster: there is nothing to look at");
            return Ok(found);
        }
        ClusterChoice::Sandbox(_) => {
            found.cluster = "the sandbox".to_owned();
            found.ok(REACHABLE, "the sandbox starts with the run");
            found.ok(PERMISSION, "the sandbox grants everything");
            let asked = Asked { cluster: None, manifests: &manifests, home: "default", agent_image: None };
            admission(&mut found, plan, &asked).await;
            let mut world = World::default();
            planned(&mut world, &manifests, "default");
            world.foresee();
            gotchas(&mut found, &world, Whole::Yes);
            return Ok(found);
        }
        ClusterChoice::Context(context) => context.clone(),
    };
    let cluster = match Cluster::connect(reach.to(context)).await {
        Ok(cluster) => cluster,
        Err(error) => {
            found.cluster = "a cluster that is not reached".to_owned();
            found.unfit(REACHABLE, None, error.to_string(), "see that `kubectl version` works from here, with this context");
            return Ok(found);
        }
    };
    found.cluster = format!("the cluster at {}", cluster.server());
    let home = home.unwrap_or(cluster.default_namespace()).to_owned();
    version(&mut found, &cluster).await;
    let granted = permissions(&mut found, &cluster, &needed(plan, Some(&home))?.rights).await;
    // A trial that is refused for want of a permission says nothing new.
    if granted == Granted::All {
        let asked = Asked { cluster: Some(&cluster), manifests: &manifests, home: &home, agent_image };
        admission(&mut found, plan, &asked).await;
    }
    makeable(&mut found, &cluster, &manifests, &home).await;
    let (world, whole) = read(&mut found, &cluster, plan, &manifests, &home).await;
    gotchas(&mut found, &world, whole);
    Ok(found)
}

async fn version(found: &mut Examination, cluster: &Cluster) {
    match cluster.version().await {
        Ok(version) => {
            let minor = version.split('.').nth(1).and_then(|minor| minor.parse::<u32>().ok());
            if minor.is_some_and(|minor| minor < OLDEST_MINOR) {
                let cause = format!("{version} answers, which is older than v1.{OLDEST_MINOR}: it may lack what faults rest on");
                found.note(REACHABLE, None, cause, Some(format!("use v1.{OLDEST_MINOR} or newer")));
            } else {
                found.ok(REACHABLE, format!("{version} answers"));
            }
        }
        Err(error) => found.unfit(REACHABLE, None, error.to_string(), "see that `kubectl version` works from here"),
    }
}

/// Whether all that a plan needs always is granted.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Granted {
    All,
    NotAll,
}

async fn permissions(found: &mut Examination, cluster: &Cluster, rights: &Rights) -> Granted {
    let each: Vec<(&Need, &Reason)> = rights.each().collect();
    let answers: Vec<Result<bool, cluster::Error>> =
        futures::stream::iter(&each).map(|(need, _)| cluster.may(need)).buffered(AT_ONCE).collect().await;
    let mut granted = 0;
    let always = each.iter().filter(|(_, reason)| reason.only.is_none()).count();
    for ((need, reason), answer) in each.into_iter().zip(answers) {
        let object = need.name.as_ref().map_or(String::new(), |name| format!(" {name}"));
        let place = need.namespace.as_ref().map_or("anywhere".to_owned(), |namespace| format!("in {namespace}"));
        let what = format!("{} {}{object} {place}", need.verb, qualified(&need.group, &need.resource));
        let who = reason.who.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let fix = "grant it: `squall rbac` prints what the plan needs, for `kubectl apply -f`";
        match (answer, reason.only) {
            (Ok(true), only) => granted += usize::from(only.is_none()),
            (Ok(false), None) => found.unfit(PERMISSION, Some(what), format!("not granted, and needed by {who}"), fix),
            (Ok(false), Some(when)) => {
                let fix = "grant it where that is so: `squall rbac` has it as a comment".to_owned();
                found.note(PERMISSION, Some(what), format!("not granted, and asked for by {who}, only {when}"), Some(fix));
            }
            (Err(error), _) => found.unknown(PERMISSION, format!("whether {what} is granted is not known: {error}"), "ask again"),
        }
    }
    if granted < always {
        return Granted::NotAll;
    }
    found.ok(PERMISSION, format!("all {always} that the plan needs are granted"));
    Granted::All
}

/// Whether the manifests can be made: nothing of them is there already.
async fn makeable(found: &mut Examination, cluster: &Cluster, manifests: &[Manifest], home: &str) {
    if manifests.is_empty() {
        return;
    }
    let objects = manifests.iter().map(|manifest| at_home(manifest, home)).collect();
    match cluster.prepare(objects, "doctor").await {
        Ok(_) => found.ok(MANIFESTS, format!("none of the {} objects is there already, or they are namespaces", manifests.len())),
        Err(error @ cluster::Error::Forbidden { .. }) => found.unknown(MANIFESTS, why(error), "grant it, and look again"),
        Err(error) if error.is_passing() => found.unknown(MANIFESTS, error.to_string(), "look again"),
        Err(error) => found.unfit(MANIFESTS, None, error.to_string(), "see to it that they can be made before the run"),
    }
}

/// A manifest in the namespace where it goes, if it goes to one.
fn at_home(manifest: &Manifest, home: &str) -> Value {
    let mut object = manifest.value.clone();
    // Of what lies in no namespace the adapter looks away.
    if object["metadata"]["namespace"].is_null() {
        object["metadata"]["namespace"] = home.into();
    }
    object
}

/// Whether all that the plan is about could be seen.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    Yes,
    No,
}

/// The objects that the plan is about and what surrounds them.
async fn read(found: &mut Examination, cluster: &Cluster, plan: &Plan, manifests: &[Manifest], home: &str) -> (World, Whole) {
    let (mut world, mut whole) = (World::default(), Whole::Yes);
    let mut wanted: BTreeSet<ObjectRef> = plan.target.workload.iter().chain(&plan.target.autoscaler).cloned().collect();
    wanted.extend(plan.faults.iter().filter_map(|fault| fault.spec.on()).cloned());
    wanted.extend(plan.claims.iter().flat_map(|claim| claim.spec.objects()));
    for object in &wanted {
        let brought = manifests.iter().any(|manifest| manifest.is(object));
        match cluster.object(object).await {
            Ok((resource, mut value)) => {
                value["kind"] = resource.kind.into();
                if value.pointer("/spec/scaleTargetRef").is_none() {
                    world.workloads.push(value);
                } else if let Some(workload) = scaled_by(cluster, &value, object).await {
                    world.workloads.push(workload);
                }
            }
            Err(error) if error.is_not_found() && brought => {}
            Err(error @ (cluster::Error::NotFound { .. } | cluster::Error::UnknownKind { .. })) => {
                let fix = "correct the name in the plan, or make it before the run";
                found.unfit(OBJECTS, Some(object.to_string()), error.to_string(), fix);
            }
            Err(error) => {
                whole = Whole::No;
                found.unknown(OBJECTS, format!("{object} cannot be read: {}", why(error)), "grant it, and look again");
            }
        }
    }
    world.workloads.sort_by_key(identity);
    world.workloads.dedup_by_key(|workload| identity(workload));
    planned(&mut world, manifests, home);

    let mut places: BTreeSet<String> = wanted.into_iter().map(|object| object.namespace).collect();
    places.extend(world.workloads.iter().filter_map(|w| w["metadata"]["namespace"].as_str()).map(str::to_owned));
    match every(cluster, "horizontalpodautoscalers.autoscaling", &places, true).await {
        Sight::Seen(live) => {
            let there = |one: &Value| live.iter().any(|other| identity(other) == identity(one));
            world.autoscalers.retain(|one| !there(one));
            world.autoscalers.extend(live);
        }
        Sight::None => {}
        Sight::Hidden(why) => {
            whole = Whole::No;
            found.unknown("autoscalers", why, "grant `list` on horizontalpodautoscalers.autoscaling");
        }
    }
    let sources = Source::ALL.iter().filter(|source| **source != Source::ScaledObjects);
    see(cluster, &mut world, Source::ScaledObjects, &places).await;
    world.foresee();
    // Without anything that scales there is nothing to be kept from it.
    if world.scaled().next().is_none() && world.scaled_by_events().next().is_none() {
        return (world, whole);
    }
    for source in sources {
        see(cluster, &mut world, *source, &places).await;
    }
    match every(cluster, "replicasets.apps", &places, true).await {
        Sight::Seen(sets) => world.replica_sets = sets,
        Sight::None => {}
        // Without it nobody knows whose a pod is.
        Sight::Hidden(why) => world.pods = Sight::Hidden(why),
    }
    (world, whole)
}

/// The workload that a live autoscaler scales.
async fn scaled_by(cluster: &Cluster, autoscaler: &Value, named: &ObjectRef) -> Option<Value> {
    let target = autoscaler.pointer("/spec/scaleTargetRef")?;
    let (kind, name) = (target["kind"].as_str().unwrap_or("Deployment"), target["name"].as_str()?);
    let object = ObjectRef { namespace: named.namespace.clone(), kind: kind.to_lowercase(), name: name.to_owned() };
    let (resource, mut value) = cluster.object(&object).await.ok()?;
    value["kind"] = resource.kind.into();
    Some(value)
}

/// By which an object is known from others.
fn identity(object: &Value) -> String {
    format!("{}/{}/{}", object["kind"], object["metadata"]["namespace"], object["metadata"]["name"])
}

/// What the manifests bring, where it is not there yet.
fn planned(world: &mut World, manifests: &[Manifest], home: &str) {
    for manifest in manifests {
        let object = at_home(manifest, home);
        let workload = object.pointer("/spec/template").is_some() && object.pointer("/spec/selector").is_some();
        let place = match manifest.kind() {
            "HorizontalPodAutoscaler" => &mut world.autoscalers,
            _ if workload => &mut world.workloads,
            "ScaledObject" => seen(&mut world.scaled_objects),
            "VerticalPodAutoscaler" => seen(&mut world.vertical),
            "KafkaTopic" => seen(&mut world.topics),
            _ => continue,
        };
        if !place.iter().any(|other| identity(other) == identity(&object)) {
            place.push(object);
        }
    }
}

/// The objects of a sight, which is one of some from now on.
fn seen(sight: &mut Sight) -> &mut Vec<Value> {
    if !matches!(sight, Sight::Seen(_)) {
        *sight = Sight::Seen(Vec::new());
    }
    match sight {
        Sight::Seen(objects) => objects,
        Sight::None | Sight::Hidden(_) => unreachable!("it was made one of some above"),
    }
}

/// Looks at one kind, beside what the manifests bring of it.
async fn see(cluster: &Cluster, world: &mut World, source: Source, places: &BTreeSet<String>) {
    let (group, plural, namespaced) = source.resource();
    let live = every(cluster, &qualified(group, plural), places, namespaced).await;
    let sight = world.sight(source);
    match live {
        Sight::None => {}
        Sight::Seen(mut live) => {
            let planned = sight.objects().iter().filter(|one| !live.iter().any(|other| identity(other) == identity(one)));
            let planned: Vec<Value> = planned.cloned().collect();
            live.extend(planned);
            *sight = Sight::Seen(live);
        }
        Sight::Hidden(why) => *sight = Sight::Hidden(why),
    }
}

async fn every(cluster: &Cluster, word: &str, places: &BTreeSet<String>, namespaced: bool) -> Sight {
    let resource = match cluster.resource_named(word).await {
        Ok(resource) => resource,
        Err(cluster::Error::UnknownKind { .. }) => return Sight::None,
        Err(error) => return Sight::Hidden(error.to_string()),
    };
    let mut all = Vec::new();
    let places = places.iter().map(|place| Some(place.as_str())).filter(|_| namespaced).chain((!namespaced).then_some(None));
    for place in places {
        match cluster.every(&resource, place).await {
            Ok(objects) => all.extend(objects),
            Err(error) => return Sight::Hidden(format!("{word} cannot be listed: {}", why(error))),
        }
    }
    Sight::Seen(all)
}

/// What the server said, without the path that it said it of.
fn why(error: cluster::Error) -> String {
    match error {
        cluster::Error::Forbidden { why, .. } => why,
        error => error.to_string(),
    }
}

fn gotchas(found: &mut Examination, world: &World, whole: Whole) {
    let anything = world.scaled().next().is_some() || world.scaled_by_events().next().is_some();
    for gotcha in gotchas::ALL {
        let hidden: Vec<&str> = gotcha
            .needs
            .iter()
            .filter_map(|source| match world.seen(*source) {
                Sight::Hidden(why) if anything || *source == Source::ScaledObjects => Some(why.as_str()),
                _ => None,
            })
            .collect();
        let all = (gotcha.look)(world);
        for one in &all {
            let (state, exit) = match one.weight {
                Weight::Wrong => (State::Wrong, Exit::Fail),
                Weight::Note => (State::Note, Exit::Pass),
            };
            found.add(gotcha.name, state, Some(one.object.clone()), one.cause.clone(), Some(one.fix.clone()), exit);
        }
        if !hidden.is_empty() {
            let fix = "let whoever looks list it, or look as somebody who may";
            found.unknown(gotcha.name, format!("{}: not looked at: {}", gotcha.summary, hidden.join("; ")), fix);
        } else if all.is_empty() && whole == Whole::Yes {
            found.ok(gotcha.name, "not there");
        }
    }
}
