//! The kinds of object that the sandbox serves, as two tables: discovery, routing, validation and the store all read them. A kind that
//! has no controller here is not in the table, so that a client gets "not found" instead of an object that nothing ever acts on.

/// One kind of object and how it is served.
#[derive(Debug)]
pub struct Resource {
    /// The API group; empty for the core group.
    pub group: &'static str,
    pub version: &'static str,
    /// The name in paths: `deployments`.
    pub plural: &'static str,
    pub singular: &'static str,
    pub kind: &'static str,
    /// What the sandbox does with it, in one line.
    pub summary: &'static str,
    pub namespaced: bool,
    pub short_names: &'static [&'static str],
    pub categories: &'static [&'static str],
    pub verbs: &'static [&'static str],
    pub subresources: &'static [Subresource],
    /// Whether the server counts changes of the object's desired state in `metadata.generation`.
    pub counts_generations: bool,
    /// The resource that this is another version of: its objects are kept as that one's.
    pub kept_as: Option<&'static Resource>,
    /// What the schema calls its type, where that is not the kind.
    pub type_name: Option<&'static str>,
}

/// A path below an object, as `pods/log`.
#[derive(Debug)]
pub struct Subresource {
    pub name: &'static str,
    /// Group and version of its kind, where they differ from those of the object.
    pub group_version: Option<(&'static str, &'static str)>,
    pub kind: &'static str,
    pub verbs: &'static [&'static str],
}

impl Resource {
    /// `v1`, `apps/v1`: what objects carry as `apiVersion`.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.to_owned() } else { format!("{}/{}", self.group, self.version) }
    }

    /// `pods`, `deployments.apps`: how messages name the resource.
    pub fn qualified(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// `Pod`, `Deployment.apps`: how messages about invalid objects name the kind.
    pub fn qualified_kind(&self) -> String {
        if self.group.is_empty() { self.kind.to_owned() } else { format!("{}.{}", self.kind, self.group) }
    }

    /// Whether a real cluster serves it only where its CustomResourceDefinition was installed. Such a kind has no strategic merge patch.
    pub fn is_custom(&self) -> bool {
        self.group.contains('.') && !self.group.ends_with(".k8s.io")
    }

    /// What its objects are kept as: itself, for all but older versions.
    pub fn kept(&'static self) -> &'static Resource {
        self.kept_as.unwrap_or(self)
    }

    /// Its type in the schema.
    pub fn type_name(&self) -> &'static str {
        self.type_name.unwrap_or(self.kind)
    }

    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }
}

impl PartialEq for Resource {
    fn eq(&self, other: &Resource) -> bool {
        self.plural == other.plural && self.group == other.group
    }
}

impl Eq for Resource {}

/// The resource of that group, version and plural.
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().copied().find(|r| r.group == group && r.version == version && r.plural == plural)
}

/// The resource whose objects say `api_version` and `kind`.
pub fn of_kind(api_version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES.iter().copied().find(|r| r.kind == kind && r.api_version() == api_version)
}

const ALL_VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: &[&str] = &["get", "patch", "update"];

const fn status(kind: &'static str) -> Subresource {
    Subresource { name: "status", group_version: None, kind, verbs: STATUS_VERBS }
}

const SCALE: Subresource =
    Subresource { name: "scale", group_version: Some(("autoscaling", "v1")), kind: "Scale", verbs: STATUS_VERBS };

/// What most resources have, to be overridden field by field.
const PLAIN: Resource = Resource {
    group: "",
    version: "v1",
    plural: "",
    singular: "",
    kind: "",
    summary: "",
    namespaced: true,
    short_names: &[],
    categories: &[],
    verbs: ALL_VERBS,
    subresources: &[],
    counts_generations: false,
    kept_as: None,
    type_name: None,
};

pub static CONFIGMAPS: Resource = Resource {
    plural: "configmaps",
    singular: "configmap",
    kind: "ConfigMap",
    summary: "what containers take into their environment; volumes of them are not mounted",
    short_names: &["cm"],
    ..PLAIN
};

pub static ENDPOINTS: Resource = Resource {
    plural: "endpoints",
    singular: "endpoints",
    kind: "Endpoints",
    summary: "the addresses behind a Service, the older way",
    short_names: &["ep"],
    ..PLAIN
};

pub static EVENTS: Resource = Resource {
    plural: "events",
    singular: "event",
    kind: "Event",
    summary: "what happened to which object, as real controllers and kubelets word it",
    short_names: &["ev"],
    ..PLAIN
};

pub static NAMESPACES: Resource = Resource {
    plural: "namespaces",
    singular: "namespace",
    kind: "Namespace",
    summary: "each with its service account; one that is deleted takes all in it along",
    namespaced: false,
    short_names: &["ns"],
    verbs: &["create", "delete", "get", "list", "patch", "update", "watch"],
    subresources: &[
        Subresource { name: "finalize", group_version: None, kind: "Namespace", verbs: &["update"] },
        status("Namespace"),
    ],
    ..PLAIN
};

pub static NODES: Resource = Resource {
    plural: "nodes",
    singular: "node",
    kind: "Node",
    summary: "virtual: `sandbox` is there, others can be made; room, zones, taints and cordons are heeded",
    namespaced: false,
    short_names: &["no"],
    subresources: &[status("Node")],
    ..PLAIN
};

pub static PODS: Resource = Resource {
    plural: "pods",
    singular: "pod",
    kind: "Pod",
    summary: "processes of this machine, each with an address, probes, init and ephemeral containers, logs and restarts; no sidecars",
    short_names: &["po"],
    categories: &["all"],
    counts_generations: true,
    subresources: &[
        Subresource { name: "attach", group_version: None, kind: "PodAttachOptions", verbs: &["create", "get"] },
        Subresource { name: "ephemeralcontainers", group_version: None, kind: "Pod", verbs: STATUS_VERBS },
        Subresource { name: "eviction", group_version: Some(("policy", "v1")), kind: "Eviction", verbs: &["create"] },
        Subresource { name: "exec", group_version: None, kind: "PodExecOptions", verbs: &["create", "get"] },
        Subresource { name: "log", group_version: None, kind: "Pod", verbs: &["get"] },
        Subresource { name: "portforward", group_version: None, kind: "PodPortForwardOptions", verbs: &["create", "get"] },
        status("Pod"),
    ],
    ..PLAIN
};

pub static SECRETS: Resource = Resource {
    plural: "secrets",
    singular: "secret",
    kind: "Secret",
    summary: "what containers take into their environment, from `data` or `stringData`",
    ..PLAIN
};

pub static SERVICEACCOUNTS: Resource = Resource {
    plural: "serviceaccounts",
    singular: "serviceaccount",
    kind: "ServiceAccount",
    summary: "kept; the token of the kubeconfig may do everything",
    short_names: &["sa"],
    ..PLAIN
};

pub static SERVICES: Resource = Resource {
    plural: "services",
    singular: "service",
    kind: "Service",
    summary: "addresses that balance connections over the ready pods, or stand for them (headless)",
    short_names: &["svc"],
    categories: &["all"],
    subresources: &[status("Service")],
    ..PLAIN
};

pub static CONTROLLERREVISIONS: Resource = Resource {
    group: "apps",
    plural: "controllerrevisions",
    singular: "controllerrevision",
    kind: "ControllerRevision",
    summary: "the revisions of a StatefulSet, for `rollout history` and `rollout undo`",
    ..PLAIN
};

pub static DEPLOYMENTS: Resource = Resource {
    group: "apps",
    plural: "deployments",
    singular: "deployment",
    kind: "Deployment",
    summary: "rolling update and Recreate, revisions, progress, pausing",
    short_names: &["deploy"],
    categories: &["all"],
    counts_generations: true,
    subresources: &[SCALE, status("Deployment")],
    ..PLAIN
};

pub static REPLICASETS: Resource = Resource {
    group: "apps",
    plural: "replicasets",
    singular: "replicaset",
    kind: "ReplicaSet",
    summary: "as many pods as asked for, taken away in the order of a real one",
    short_names: &["rs"],
    categories: &["all"],
    counts_generations: true,
    subresources: &[SCALE, status("ReplicaSet")],
    ..PLAIN
};

pub static STATEFULSETS: Resource = Resource {
    group: "apps",
    plural: "statefulsets",
    singular: "statefulset",
    kind: "StatefulSet",
    summary: "pods with names that stay, in order or Parallel; partition, maxUnavailable, OnDelete; no volumeClaimTemplates",
    short_names: &["sts"],
    categories: &["all"],
    counts_generations: true,
    subresources: &[SCALE, status("StatefulSet")],
    ..PLAIN
};

const HPA: Resource = Resource {
    group: "autoscaling",
    version: "v2",
    plural: "horizontalpodautoscalers",
    singular: "horizontalpodautoscaler",
    kind: "HorizontalPodAutoscaler",
    summary: "the real algorithm over CPU, memory, what pods show on /metrics and the triggers of ScaledObjects; no Object metrics",
    short_names: &["hpa"],
    categories: &["all"],
    subresources: &[status("HorizontalPodAutoscaler")],
    ..PLAIN
};

pub static HPAS: Resource = HPA;

/// The older version, which `kubectl autoscale` writes.
pub static HPAS_V1: Resource =
    Resource { version: "v1", subresources: &[], kept_as: Some(&HPAS), type_name: Some("HorizontalPodAutoscalerV1"), ..HPA };

pub static JOBS: Resource = Resource {
    group: "batch",
    plural: "jobs",
    singular: "job",
    kind: "Job",
    summary: "completions, parallelism, Indexed, back-off, deadline, time to live, suspension",
    categories: &["all"],
    counts_generations: true,
    subresources: &[status("Job")],
    ..PLAIN
};

pub static LEASES: Resource = Resource {
    group: "coordination.k8s.io",
    plural: "leases",
    singular: "lease",
    kind: "Lease",
    summary: "kept for whoever holds them",
    ..PLAIN
};

pub static ENDPOINTSLICES: Resource = Resource {
    group: "discovery.k8s.io",
    plural: "endpointslices",
    singular: "endpointslice",
    kind: "EndpointSlice",
    summary: "the addresses behind a Service: ready, serving, terminating",
    counts_generations: true,
    ..PLAIN
};

pub static PODDISRUPTIONBUDGETS: Resource = Resource {
    group: "policy",
    plural: "poddisruptionbudgets",
    singular: "poddisruptionbudget",
    kind: "PodDisruptionBudget",
    summary: "heeded by evictions, as `kubectl drain` makes them",
    short_names: &["pdb"],
    counts_generations: true,
    subresources: &[status("PodDisruptionBudget")],
    ..PLAIN
};

pub static SCALEDOBJECTS: Resource = Resource {
    group: "keda.sh",
    version: "v1alpha1",
    plural: "scaledobjects",
    singular: "scaledobject",
    kind: "ScaledObject",
    summary: "scaling to zero and back as KEDA's operator does it, by triggers of cron, metrics-api and prometheus",
    short_names: &["so"],
    counts_generations: true,
    subresources: &[status("ScaledObject")],
    ..PLAIN
};

/// A question about the asker: answered, never stored.
const REVIEW: Resource = Resource { namespaced: false, verbs: &["create"], ..PLAIN };

/// "Who am I?"
pub static SELF_SUBJECT_REVIEWS: Resource = Resource {
    group: "authentication.k8s.io",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    kind: "SelfSubjectReview",
    ..REVIEW
};

/// "May I do this?"
pub static SELF_SUBJECT_ACCESS_REVIEWS: Resource = Resource {
    group: "authorization.k8s.io",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    kind: "SelfSubjectAccessReview",
    ..REVIEW
};

/// "What may I do?"
pub static SELF_SUBJECT_RULES_REVIEWS: Resource = Resource {
    group: "authorization.k8s.io",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    kind: "SelfSubjectRulesReview",
    ..REVIEW
};

const METRICS: Resource = Resource { group: "metrics.k8s.io", version: "v1beta1", verbs: &["get", "list"], ..PLAIN };

/// What pods use, measured when somebody asks.
pub static POD_METRICS: Resource = Resource { plural: "pods", kind: "PodMetrics", ..METRICS };

/// What the pods of each node use together.
pub static NODE_METRICS: Resource = Resource { plural: "nodes", kind: "NodeMetrics", namespaced: false, ..METRICS };

/// What is answered and never kept, and what is kept as something else.
pub static ANSWERED: &[&Resource] =
    &[&HPAS_V1, &SELF_SUBJECT_REVIEWS, &SELF_SUBJECT_ACCESS_REVIEWS, &SELF_SUBJECT_RULES_REVIEWS, &NODE_METRICS, &POD_METRICS];

/// Everything that is kept, in the order of discovery.
pub static RESOURCES: &[&Resource] = &[
    &CONFIGMAPS,
    &ENDPOINTS,
    &EVENTS,
    &NAMESPACES,
    &NODES,
    &PODS,
    &SECRETS,
    &SERVICEACCOUNTS,
    &SERVICES,
    &CONTROLLERREVISIONS,
    &DEPLOYMENTS,
    &REPLICASETS,
    &STATEFULSETS,
    &HPAS,
    &JOBS,
    &LEASES,
    &ENDPOINTSLICES,
    &PODDISRUPTIONBUDGETS,
    &SCALEDOBJECTS,
];
