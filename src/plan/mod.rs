//! YAML -> [`Plan`]: a claim and the evidence asked for. The only folder that knows YAML.
//!
//! A `Plan` in hand has been read and checked: there is no other way to get one than [`Plan::read`], [`Plan::adhoc`]
//! and, from another, [`Steady::at`]. Problems are reported all at once, in file order, each with its place and the way out.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::names::{Anchor, Name, ObjectRef};
use crate::proxy::Proxy;
use crate::tls::Tls;
use crate::units::Span;
use crate::{faults, verdict};

mod adhoc;
mod assemble;
mod body;
mod check;
mod claims;
mod class;
mod client;
mod demand;
mod dns;
mod expect;
mod explain;
mod flow;
mod level;
mod load;
mod located;
pub mod manifest;
mod message;
mod params;
mod problem;
mod protocol;
mod recording;
mod rotation;
mod schema;
mod steady;
mod step;
mod transport;
mod tree;
mod written;

pub use adhoc::{Adhoc, AdhocCall, AdhocTls, USUAL, Volume};
pub use claims::read_manifests;
pub use client::{Backoff, Budget, CLIENT, Client, Hedge, JITTERS, Jitter, Patience, Retries, Trigger};
pub use demand::{Demand, Need, Reach};
pub use dns::{Dns, Override};
pub use expect::ANSWERS;
pub use explain::{explain, section};
pub use flow::{FLOWS, Flow, IN_STEPS, Step};
pub use level::{Level, Levels, PhaseRate, PhaseUsers, Quantity, peak};
pub use load::{Exchange, GENERATOR, Generator, Load, MODELS, Model, PACINGS, Pacing, Payload, REPLAYED, Request, Talk, WEBSOCKET};
pub use params::Secrets;
pub use problem::{Colour, Problem, Problems};
pub use protocol::Protocol;
pub use rotation::Rotation;
pub use schema::schema;
pub use steady::Steady;
pub use transport::TRANSPORT;

pub use crate::schedule::{Arrivals, Rhythm, Think};
pub use crate::target::TargetUrl;

use params::Environment;

/// The latency that Little's law is tried with where no assertion names one.
const ASSUMED_LATENCY: Span = Span::from_millis(100);

/// A plan that has been read and checked.
#[derive(Clone, Debug)]
pub struct Plan {
    pub name: Name,
    pub claim: String,
    /// The parameters as set; never a secret.
    pub params: BTreeMap<String, String>,
    pub cluster: ClusterChoice,
    /// Manifest files, resolved against the plan's own folder.
    pub manifests: Vec<PathBuf>,
    pub target: Target,
    pub generator: Generator,
    pub phases: Vec<Phase>,
    pub loads: Vec<Load>,
    pub faults: Vec<PlannedFault>,
    pub claims: Vec<verdict::Claim>,
    /// The seed that the plan fixes, where it does.
    pub seed: Option<u64>,
    /// The text that was read, line for line; secrets stand in it as `${NAME}`.
    pub source: String,
    /// Whether it names files relative to itself other than its manifests: feeds, keys, bodies, recordings.
    leans: bool,
    /// What came from the environment; its `Debug` prints names only.
    pub secrets: Secrets,
}

/// The largest plan that is read at all, in bytes.
const PLAN_MOST: u64 = 1 << 20;

impl Plan {
    /// Reads and checks the plan at `path`, with `--set` assignments and the environment for `${NAME}`. Manifests are looked up
    /// next to the plan. The error holds every problem of the plan, in file order.
    pub fn read(path: &Path, sets: &[(String, String)], env: &dyn Fn(&str) -> Option<String>) -> Result<Plan, Problems> {
        Plan::read_for(path, sets, env, None)
    }

    /// As [`Plan::read`], to be run in `cluster` whatever the plan says, where there is one: `--cluster`.
    pub fn read_for(
        path: &Path,
        sets: &[(String, String)],
        env: &dyn Fn(&str) -> Option<String>,
        cluster: Option<ClusterChoice>,
    ) -> Result<Plan, Problems> {
        let file = path.display().to_string();
        let text = read_text(path, &file)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let environment = Environment::Variables(env);
        assemble::read(&assemble::Source { file: &file, text: &text, folder: Some(folder), sets, environment, cluster })
    }

    /// As [`Plan::read`], for a text that is at hand. `file` is what problems call it.
    pub fn read_text(
        file: &str,
        text: &str,
        folder: &Path,
        sets: &[(String, String)],
        env: &dyn Fn(&str) -> Option<String>,
    ) -> Result<Plan, Problems> {
        let environment = Environment::Variables(env);
        assemble::read(&assemble::Source { file, text, folder: Some(folder), sets, environment, cluster: None })
    }

    /// Reads a plan out of a run's folder, to judge by it: with the parameters of then, without the environment (secrets stay
    /// `${NAME}`) and without its manifests.
    pub fn read_recorded(text: &str, params: &BTreeMap<String, String>) -> Result<Plan, Problems> {
        let sets: Vec<(String, String)> = params.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let environment = Environment::Recorded;
        let source = assemble::Source { file: "plan.yaml", text, folder: None, sets: &sets, environment, cluster: None };
        assemble::read(&source)
    }

    /// Whether its text alone can be run, wherever it lies: it names no file relative to itself.
    pub fn stands_alone(&self) -> bool {
        self.manifests.is_empty() && !self.leans
    }

    /// Whether the plan, as it stands, needs a cluster: what for, and what to do where there is none.
    fn needs_cluster(&self) -> Option<(String, String)> {
        let what = if let Some(fault) = self.faults.first() {
            format!("the fault `{}` needs pods to touch", fault.name)
        } else if !self.manifests.is_empty() {
            "manifests need somewhere to be applied".to_owned()
        } else if let Some(watched) = self.target.workload.as_ref().or(self.target.autoscaler.as_ref()) {
            format!("`{watched}` is watched through a cluster")
        } else {
            return None;
        };
        Some((
            what,
            "say where it runs, as in `cluster: sandbox` or `cluster: {context: NAME}`, or run it with --cluster".to_owned(),
        ))
    }
}

fn read_text(path: &Path, file: &str) -> Result<String, Problems> {
    let cannot = |problem: Problem| Problems::new(file, "", vec![problem]);
    let failed = |error: &std::io::Error| {
        let problem = Problem::nowhere(format!("failed to read the plan: {}", check::reason(error)));
        cannot(match error.kind() {
            std::io::ErrorKind::NotFound => problem.maybe_help(beside(path)),
            std::io::ErrorKind::IsADirectory => problem.help("name a plan in it"),
            _ => problem,
        })
    };
    let mut bytes = Vec::new();
    let plan = fs::File::open(path).map_err(|error| failed(&error))?;
    plan.take(PLAN_MOST + 1).read_to_end(&mut bytes).map_err(|error| failed(&error))?;
    if bytes.len() as u64 > PLAN_MOST {
        return Err(cannot(Problem::nowhere(format!("the file is larger than {PLAN_MOST} bytes: this is no plan"))));
    }
    String::from_utf8(bytes).map_err(|error| {
        let good = error.utf8_error().valid_up_to();
        let line = error.as_bytes()[..good].iter().filter(|byte| **byte == b'\n').count() + 1;
        cannot(Problem::nowhere(format!("the file is not UTF-8 text: line {line} holds other bytes")))
    })
}

/// A file beside the one that is not there, whose name is nearly the same.
fn beside(path: &Path) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut files: Vec<String> =
        fs::read_dir(folder).ok()?.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    files.sort();
    let near = problem::nearest(name, files.iter().map(String::as_str))?;
    Some(format!("did you mean `{}`?", path.with_file_name(near).display()))
}

/// Where the plan runs.
#[derive(Clone, Debug, PartialEq)]
pub enum ClusterChoice {
    /// No Kubernetes at all: a URL under load.
    None,
    /// The embedded one.
    Sandbox(SandboxOptions),
    /// A context of the kubeconfig (the current one when `None`).
    Context(Option<String>),
}

impl FromStr for ClusterChoice {
    type Err = std::convert::Infallible;

    /// As `--cluster` takes it: `sandbox`, `none`, `current`, else the name of a context.
    fn from_str(word: &str) -> Result<ClusterChoice, Self::Err> {
        Ok(match word {
            "sandbox" => ClusterChoice::Sandbox(SandboxOptions::default()),
            "none" => ClusterChoice::None,
            "current" => ClusterChoice::Context(None),
            context => ClusterChoice::Context(Some(context.to_owned())),
        })
    }
}

/// How the embedded cluster differs from a real one, on purpose.
#[derive(Clone, Debug, PartialEq)]
pub struct SandboxOptions {
    /// How often the autoscaler looks; 15 s in a real cluster, 1 s here.
    pub autoscaler_sync: Span,
    /// Whether latency faults take effect; `false` is for testing that an ineffective fault is noticed.
    pub interpose: bool,
}

impl Default for SandboxOptions {
    fn default() -> SandboxOptions {
        SandboxOptions { autoscaler_sync: Span::from_secs(1), interpose: true }
    }
}

/// What is under test.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// `http://` or `https://`, host, optional port and base path.
    pub url: String,
    pub workload: Option<ObjectRef>,
    pub autoscaler: Option<ObjectRef>,
    /// The response header that tells who answered.
    pub identity_header: String,
    /// How connections to an https:// one are encrypted.
    pub tls: Tls,
    /// On the way there.
    pub proxy: Option<Proxy>,
    /// How often its name is looked up.
    pub dns: Dns,
    /// What names stand for, whatever DNS says.
    pub resolve: Vec<Override>,
}

impl Target {
    /// What a host at a port stands for, where the plan says it.
    pub fn resolved(&self, host: &str, port: u16) -> Option<&[SocketAddr]> {
        self.resolve.iter().find(|known| known.is_of(host, port)).map(|known| &known.addresses[..])
    }
}

/// A stretch of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Phase {
    pub name: Name,
    pub length: Span,
}

/// A fault at its moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedFault {
    pub name: Name,
    pub at: Anchor,
    /// How long it lasts, for faults that last.
    pub length: Option<Span>,
    pub spec: faults::Spec,
    pub line: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plan of the design, which everybody has in mind.
    pub(super) const SHOP: &str = include_str!("../../tests/plans/good/shop.yaml");

    #[test]
    fn another_cluster_is_held_against_the_plan_before_it_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("p.yaml");
        let text = "plan: p\nclaim: c\ntarget: {url: http://127.0.0.1/, workload: a/deployment/b}\nphases: [{name: a, for: 9s}]\n\
                    load: [{name: l, rate: 9/s, request: {get: /}}]\nfaults: [{name: k, at: a, pod_kill: {pods: 1}}]\n";
        fs::write(&path, text).unwrap();
        let read = |cluster: Option<&str>| Plan::read_for(&path, &[], &|_| None, cluster.map(|c| c.parse().unwrap()));
        assert!(read(None).unwrap_err().to_string().contains("needs pods to touch"));
        assert_eq!(read(Some("staging")).unwrap().cluster, ClusterChoice::Context(Some("staging".into())));
        let sandboxed = format!("cluster: {{sandbox: {{interpose: false}}}}\n{text}");
        fs::write(&path, sandboxed).unwrap();
        // The sandbox holds nothing but manifests, of which there are none.
        assert!(read(Some("sandbox")).unwrap_err().to_string().contains("the sandbox has nothing else"));
        assert_eq!(read(Some("current")).unwrap().cluster, ClusterChoice::Context(None));
        assert!(read(Some("none")).is_err());
        // What ran elsewhere by --cluster can be judged by what its folder holds.
        assert!(Plan::read_recorded(text, &BTreeMap::new()).is_ok());
    }

    /// Goal: what ran can be judged. How: a proxy that the environment names is not known then, nor that `resolve` speaks of it.
    #[test]
    fn a_plan_whose_proxy_came_from_the_environment_can_be_judged_by() {
        let text = "plan: p\nclaim: c\ntarget: {url: http://shop/, proxy: \"${PROXY}\", resolve: {\"proxy.corp:3128\": [10.0.0.1]}}\n\
                    phases: [{name: a, for: 9s}]\nload: [{name: l, rate: 9/s, request: {get: /}}]\n";
        let env = |_: &str| Some("http://a:hunter2@proxy.corp:3128".to_owned());
        let ran = Plan::read_text("p.yaml", text, Path::new(""), &[], &env).unwrap_or_else(|problems| panic!("{problems}"));
        let judged = Plan::read_recorded(text, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(judged.target.resolve, ran.target.resolve);
    }

    #[test]
    fn the_plan_of_the_design_is_read() {
        let plan = Plan::read_recorded(SHOP, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
        assert_eq!(plan.name.as_str(), "burst-scales-out");
        assert_eq!(plan.phases.len(), 3);
        let Model::Open { arrivals, rate } = &plan.loads[0].model else { panic!("a rate makes an open model") };
        assert_eq!((arrivals.to_string().as_str(), rate.len()), ("poisson", 3));
        assert_eq!(plan.loads[0].connections, 500, "250/s for the 2s of a timeout");
        assert_eq!(plan.loads[0].in_flight, 1_000);
        assert_eq!(plan.loads[0].request.headers, [("x-tenant".to_owned(), "gold".to_owned())]);
        assert_eq!(plan.faults[1].length, Some(Span::from_secs(15)));
        assert_eq!(plan.faults[0].line, 25);
        assert_eq!(plan.cluster, ClusterChoice::Sandbox(SandboxOptions::default()));
    }
}
