//! What a plan needs of a cluster: the tables of everybody who asks one for something, joined for what the plan names. Read off the plan and
//! its manifests alone, so that it can be granted before anything runs. What a server tells everybody who has logged in (its version,
//! which kinds it serves) needs no grant.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::cluster::{address, manifests as applying, ready, scaled_object, watch, workload};
use crate::exit::{Exit, Failure};
use crate::names::ObjectRef;
use crate::observe;
use crate::plan::manifest::{Manifest, is_called};
use crate::plan::{self, ClusterChoice, Plan};
use crate::protocol::Destination;
use crate::rights::{Account, Kind, Rights, plural, render};

/// The kinds that a plan may name as workloads, with their groups: `deploy` is found by way of the first column.
const USUAL: [(&str, &str); 6] = [
    ("Deployment", "apps"),
    ("StatefulSet", "apps"),
    ("ReplicaSet", "apps"),
    ("DaemonSet", "apps"),
    ("HorizontalPodAutoscaler", "autoscaling"),
    (scaled_object::KIND.1, scaled_object::KIND.0),
];
/// Kinds that lie in no namespace, of those that people apply; of any other one its definition says it.
const ANYWHERE: [&str; 16] = [
    "Namespace",
    "Node",
    "PersistentVolume",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "StorageClass",
    "CSIDriver",
    "PriorityClass",
    "RuntimeClass",
    "IngressClass",
    "GatewayClass",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
    "ValidatingAdmissionPolicy",
];

/// A plan and what it needs.
pub struct Needed {
    pub rights: Rights,
    /// Where Squall is at home: the account's namespace, where manifests that name none go.
    pub home: String,
    /// The manifests' namespaces, which a run leaves alone where they are there already.
    pub namespaces: Vec<Value>,
}

/// The objects that grant a plan what it needs, in YAML; empty where it needs nothing.
///
/// # Errors
/// When a manifest cannot be read, or the plan names a kind that only a cluster knows.
pub fn rbac(plan: &Plan, home: Option<&str>) -> Result<String, Failure> {
    let needed = needed(plan, home)?;
    if needed.rights.is_empty() {
        return Ok(String::new());
    }
    Ok(render(&needed.rights, &Account::of(plan.name.as_str(), &needed.home), &needed.namespaces))
}

/// What a plan needs, with what for. `home` is where manifests that name no namespace go.
///
/// # Errors
/// As [`rbac`].
pub fn needed(plan: &Plan, home: Option<&str>) -> Result<Needed, Failure> {
    let manifests = plan::read_manifests(plan).map_err(|problems| Failure::new(Exit::Usage, problems.to_string()))?;
    let workload = plan.target.workload.as_ref();
    let homeless =
        manifests.iter().any(|manifest| manifest.value["metadata"]["namespace"].is_null() && !lies_anywhere(manifest, &manifests));
    let home = match (home, workload, &plan.target.autoscaler) {
        (Some(home), ..) => home.to_owned(),
        // As a kubeconfig that says nothing has it.
        (None, ..) if homeless => "default".to_owned(),
        (None, Some(object), _) | (None, None, Some(object)) => object.namespace.clone(),
        (None, None, None) => "default".to_owned(),
    };
    let namespaces = manifests.iter().filter(|manifest| manifest.kind() == "Namespace").map(|manifest| manifest.value.clone());
    let mut asking = Asking { rights: Rights::default(), manifests: &manifests, home: &home };
    if plan.cluster != ClusterChoice::None {
        asking.setting_up(plan)?;
        asking.observing(plan)?;
        for fault in &plan.faults {
            if let Some(object) = fault.spec.on().or(workload) {
                asking.workload(object, fault.name.as_str())?;
                asking.rights.table(&object.namespace, fault.spec.rights(), fault.name.as_str());
            }
        }
    }
    let rights = asking.rights;
    Ok(Needed { rights, namespaces: namespaces.collect(), home })
}

struct Asking<'a> {
    rights: Rights,
    manifests: &'a [Manifest],
    home: &'a str,
}

const MANIFESTS: &str = "manifests";
const TARGET: &str = "target";
const OBSERVATION: &str = "observation";

impl<'a> Asking<'a> {
    /// As `World::set_up` and `World::destination` ask.
    fn setting_up(&mut self, plan: &Plan) -> Result<(), Failure> {
        for manifest in self.manifests {
            self.manifest(manifest);
        }
        if let Some(object) = &plan.target.workload {
            self.workload(object, TARGET)?;
        }
        let destination = Destination::read(&plan.target.url, plan.target.tls.clone())
            .map_err(|error| Failure::new(Exit::Usage, format!("{error:#}")))?
            .through(plan.target.proxy.clone());
        let (host, port) = destination.door();
        if plan.target.resolved(host, port).is_none()
            && host.parse::<std::net::IpAddr>().is_err()
            && let Some((service, namespace)) = address::service_name(host)
        {
            let services = Kind { group: String::new(), plural: "services".to_owned() };
            self.rights.kind(Some(&namespace), &services, Some(&service), address::VERBS, TARGET);
            let object = ObjectRef { namespace: namespace.clone(), kind: "service".to_owned(), name: service };
            let known = self.manifests.iter().find(|manifest| manifest.is(&object));
            // One that is not in the manifests may be without an address of its own, for all that the plan says.
            if known.is_none_or(|manifest| manifest.value["spec"]["clusterIP"] == "None") {
                self.rights.table(&namespace, address::HEADLESS, TARGET);
            }
        }
        Ok(())
    }

    fn manifest(&mut self, manifest: &'a Manifest) {
        let kind = Kind { group: group(manifest).to_owned(), plural: plural(manifest.kind()) };
        let name = Some(manifest.name());
        if manifest.kind() == "Namespace" && kind.group.is_empty() {
            // To an API server a namespace lies in itself.
            return self.rights.kind(name, &kind, name, applying::VERBS_OF_NAMESPACE, MANIFESTS);
        }
        let namespace = (!lies_anywhere(manifest, self.manifests)).then(|| self.namespace(manifest));
        self.rights.kind(namespace, &kind, name, applying::VERBS, MANIFESTS);
        self.rights.kind(namespace, &kind, None, applying::VERBS_OF_KIND, MANIFESTS);
        // Its pods must be up, and gone.
        if let Some(namespace) = namespace.filter(|_| applying::pods_of(&manifest.value).is_some()) {
            self.rights.table(namespace, workload::PODS, MANIFESTS);
            self.rights.table(namespace, ready::PODS, MANIFESTS);
        }
    }

    /// As `World::observe` and `observe::start` ask.
    fn observing(&mut self, plan: &Plan) -> Result<(), Failure> {
        let mut workloads: BTreeSet<ObjectRef> = plan.target.workload.iter().cloned().collect();
        workloads.extend(plan.faults.iter().filter_map(|fault| fault.spec.on()).cloned());
        workloads.extend(plan.claims.iter().flat_map(|claim| claim.spec.objects()));
        let mut places: BTreeSet<String> = workloads.iter().chain(&plan.target.autoscaler).map(|o| o.namespace.clone()).collect();
        let namespaced = self.manifests.iter().filter(|manifest| !lies_anywhere(manifest, self.manifests));
        places.extend(namespaced.map(|manifest| self.namespace(manifest).to_owned()));
        // What scales is watched as what it is, and has no pods of its own.
        let scales = |object: &ObjectRef| is_called(&object.kind, "HorizontalPodAutoscaler") || is_scaled_object(object);
        let scalers: BTreeSet<ObjectRef> =
            workloads.iter().chain(&plan.target.autoscaler).filter(|object| scales(object)).cloned().collect();
        workloads.retain(|object| !scales(object));
        let brought = self.manifests.iter().filter(|manifest| manifest.kind() == scaled_object::KIND.1);
        let mut scaled: BTreeSet<&str> = brought.map(|manifest| self.namespace(manifest)).collect();
        scaled.extend(scalers.iter().filter(|object| is_scaled_object(object)).map(|object| object.namespace.as_str()));
        for place in scaled {
            self.rights.table(place, scaled_object::WATCHED, OBSERVATION);
        }
        for object in &workloads {
            // Its metrics are read from its pods, for which it is looked up.
            self.workload(object, OBSERVATION)?;
            let kind = self.kind(object)?;
            for place in &places {
                self.rights.kind(Some(place), &kind, None, watch::VERBS, OBSERVATION);
            }
        }
        for place in &places {
            self.rights.table(place, observe::WATCHED, OBSERVATION);
        }
        Ok(())
    }

    /// As `Cluster::workload` and `Cluster::pods_of` ask.
    fn workload(&mut self, object: &ObjectRef, who: &str) -> Result<(), Failure> {
        let kind = self.kind(object)?;
        self.rights.kind(Some(&object.namespace), &kind, Some(&object.name), workload::VERBS, who);
        if kind.group != "apps" {
            let scale = Kind { plural: format!("{}/scale", kind.plural), ..kind };
            self.rights.kind(Some(&object.namespace), &scale, Some(&object.name), workload::VERBS, who);
        }
        Ok(())
    }

    /// The kind that the plan's word means.
    fn kind(&self, object: &ObjectRef) -> Result<Kind, Failure> {
        let usual = USUAL.iter().find(|(kind, _)| is_called(&object.kind, kind)).map(|(kind, group)| (*kind, *group));
        let brought = || {
            let manifest = self.manifests.iter().find(|manifest| is_called(&object.kind, manifest.kind()))?;
            Some((manifest.kind(), group(manifest)))
        };
        if let Some((kind, group)) = usual.or_else(brought) {
            return Ok(Kind { group: group.to_owned(), plural: plural(kind) });
        }
        let qualified = object.kind.split_once('.');
        let (plural, group) = qualified.ok_or_else(|| {
            let message = format!(
                "which resource `{object}` is cannot be said without a cluster: write its kind as the plural with its group, as in \
                 {}/rollouts.argoproj.io/{}",
                object.namespace, object.name
            );
            Failure::new(Exit::Usage, message)
        })?;
        Ok(Kind { group: group.to_owned(), plural: plural.to_owned() })
    }

    fn namespace(&self, manifest: &'a Manifest) -> &'a str {
        manifest.value["metadata"]["namespace"].as_str().unwrap_or(self.home)
    }
}

fn is_scaled_object(object: &ObjectRef) -> bool {
    is_called(&object.kind, scaled_object::KIND.1)
}

fn group(manifest: &Manifest) -> &str {
    manifest.value["apiVersion"].as_str().and_then(|version| version.split_once('/')).map_or("", |(group, _)| group)
}

/// Whether it lies in no namespace, as far as that can be known without a cluster.
fn lies_anywhere(manifest: &Manifest, all: &[Manifest]) -> bool {
    let defined = all.iter().find(|definition| {
        definition.kind() == "CustomResourceDefinition" && definition.value["spec"]["names"]["kind"] == manifest.kind()
    });
    match defined {
        Some(definition) => definition.value["spec"]["scope"] == "Cluster",
        None => ANYWHERE.contains(&manifest.kind()),
    }
}
