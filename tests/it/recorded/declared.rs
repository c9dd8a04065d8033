//! Where the sandbox is declared to differ from the recorded cluster, and why. One table; a row that excuses nothing any more fails the test.

use std::collections::BTreeSet;

use super::differences::Difference;

/// One thing that is known to differ.
struct Declared {
    /// Which exchanges: `file, title`, where `*` is anything.
    on: &'static str,
    /// Where in the answer, each by itself, where `*` is anything. `status` is the status code.
    at: &'static [&'static str],
    when: When,
    why: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// It hangs on who was faster, there or here. Of such a row only that it is about something is checked.
    ByChance,
}
use When::{Always, ByChance};

/// A page of an API that is not served, in place of the recorded answer.
const NO_PAGE: &[&str] = &["status", "headers.content-type", ""];

const DECLARED: &[Declared] = &[
    Declared {
        on: "*",
        at: &["*.containers[0].command*", "*.f:command"],
        when: Always,
        why: "the sandbox runs commands of this machine, not images: what the recorded image runs is written out",
    },
    Declared {
        on: "*",
        at: &["*.managedFields[*..", "*.managedFields[*.f:selector.f:*"],
        when: Always,
        why: "the sandbox books fields alone: neither that a map was there at all, nor that a selector is owned whole",
    },
    Declared {
        on: "objects, create a namespace",
        at: &[".metadata.managedFields[*.f:spec"],
        when: Always,
        why: "what the server itself fills in is booked to whoever makes the namespace",
    },
    Declared {
        on: "watch-errors, a watch that sends the initial state first",
        at: &["*.managedFields[*.f:ipFamil*"],
        when: Always,
        why: "what the server itself fills in is booked to whoever makes the service",
    },
    Declared {
        on: "ephemeral, *",
        at: &["*.managedFields[*.f:securityContext.*"],
        when: Always,
        why: "a security context is read and owned whole",
    },
    Declared {
        on: "objects, list*as a table",
        at: &[".columnDefinitions[*].description"],
        when: Always,
        why: "no client shows what a column is about",
    },
    Declared {
        on: "ephemeral, *",
        at: &[".spec.ephemeralContainers[0].command*"],
        when: Always,
        why: "this machine has its own sleep, which need not last as long",
    },
    Declared {
        on: "discovery, *",
        at: &[
            ".v1.bindings",
            ".v1.componentstatuses",
            ".v1.limitranges",
            ".v1.nodes/proxy",
            ".v1.persistentvolume*",
            ".v1.pods/binding",
            ".v1.pods/proxy",
            ".v1.pods/resize",
            ".v1.podtemplates",
            ".v1.replicationcontrollers*",
            ".v1.resourcequotas*",
            ".v1.serviceaccounts/token",
            ".v1.services/proxy",
            ".apps/v1.daemonsets*",
            ".authorization.k8s.io/v1.localsubjectaccessreviews",
            ".authorization.k8s.io/v1.subjectaccessreviews",
            ".batch/v1.cronjobs*",
            ".admissionregistration.k8s.io*",
            ".apiextensions.k8s.io*",
            ".apiregistration.k8s.io*",
            ".authentication.k8s.io/v1.tokenreviews",
            ".autoscaling/v1.horizontalpodautoscalers/status",
            ".certificates.k8s.io*",
            ".events.k8s.io*",
            ".flowcontrol.apiserver.k8s.io*",
            ".networking.k8s.io*",
            ".node.k8s.io*",
            ".rbac.authorization.k8s.io*",
            ".resource.k8s.io*",
            ".scheduling.k8s.io*",
            ".storage.k8s.io*",
        ],
        when: Always,
        why: "nothing in the sandbox acts on these, and what nothing acts on is not served",
    },
    Declared {
        on: "discovery, *",
        at: &[".keda.sh*"],
        when: Always,
        why: "the recorded cluster had no KEDA, which the sandbox has",
    },
    Declared {
        on: "discovery, *",
        at: &["*.storageVersionHash"],
        when: Always,
        why: "objects are stored in one version only, and need no mark of which",
    },
    Declared {
        on: "discovery, discovery /version",
        at: &[".gitVersion", ".gitCommit", ".goVersion", ".compiler"],
        when: Always,
        why: "the sandbox is another build of another program, and says so: its version ends in +squall",
    },
    Declared {
        on: "discovery, discovery /apis/events.k8s.io/v1",
        at: NO_PAGE,
        when: Always,
        why: "events are served as the core group's alone, where kubectl reads them",
    },
    Declared {
        on: "objects, pod metrics",
        at: &[".items*"],
        when: ByChance,
        why: "which pods were measured by then, and what was measured",
    },
    Declared {
        on: "objects, list one page",
        at: NO_PAGE,
        when: Always,
        why: "the token may do everything, and nobody else anything: there are no roles. Pages of other kinds are tested with them",
    },
    Declared { on: "objects, the next page", at: NO_PAGE, when: Always, why: "there are no roles" },
    Declared {
        on: "objects, may I evict",
        at: &[".status.reason"],
        when: Always,
        why: "why it is allowed is said, too: the recorded server leaves it to its authorizer, which said nothing",
    },
    Declared {
        on: "objects, may *",
        at: &[".metadata.managedFields"],
        when: Always,
        why: "a review is answered and not kept: there is nothing to own",
    },
    Declared {
        on: "objects, * a node",
        at: &[".status.*", ".metadata.labels.*", ".metadata.annotations*", ".spec.podCIDR*"],
        when: Always,
        why: "nodes are no machines, and not the recorded one",
    },
    Declared {
        on: "objects, * a node",
        at: &[".spec.taints*"],
        when: ByChance,
        why: "a controller taints a cordoned node a moment later",
    },
    Declared {
        on: "objects, strategic merge patch of a list by its key",
        at: &[".status.*"],
        when: ByChance,
        why: "how far the controller is with the patch before",
    },
    Declared {
        on: "objects, json patch",
        at: &[".status.*", ".metadata.annotations.deployment.kubernetes.io/revision"],
        when: ByChance,
        why: "how far the rollout is that the patch before has begun",
    },
    Declared {
        on: "objects, server-side apply, forced",
        at: &[".status.*", ".metadata.annotations.deployment.kubernetes.io/revision"],
        when: ByChance,
        why: "how far the rollout is",
    },
    Declared { on: "objects, get the status", at: &[".status.*"], when: ByChance, why: "how far the rollout is" },
    Declared { on: "objects, * the scale", at: &[".status.replicas"], when: ByChance, why: "how far the rollout is" },
    Declared {
        on: "eviction, the pod then",
        at: &[".status.observedGeneration", ".status.conditions[*].observedGeneration"],
        when: ByChance,
        why: "whether the kubelet has heard of it by then",
    },
    Declared {
        on: "watch-errors, a watch that sends the initial state first",
        at: &["line 1.object.spec", "line 1.object.status"],
        when: Always,
        why: "a bookmark carries the empty fields of its kind in a program of Go; no client reads them",
    },
];

/// What was excused, row by row.
#[derive(Default)]
pub struct Excuses {
    used: BTreeSet<(usize, usize)>,
}

impl Excuses {
    /// What of `found` nothing excuses.
    pub fn beyond(&mut self, on: &str, found: Vec<Difference>) -> Vec<Difference> {
        found.into_iter().filter(|difference| !self.excuses(on, &difference.path)).collect()
    }

    fn excuses(&mut self, on: &str, path: &str) -> bool {
        let mut excused = false;
        for (row, declared) in DECLARED.iter().enumerate().filter(|(_, declared)| matches(declared.on, on)) {
            for (i, _) in declared.at.iter().enumerate().filter(|(_, at)| matches(at, path)) {
                self.used.insert((row, i));
                excused = true;
            }
        }
        excused
    }

    /// The rows of exchanges like `told` that excused nothing.
    pub fn idle(&self, told: &BTreeSet<String>) -> Vec<String> {
        let mut idle = vec![];
        for (row, declared) in DECLARED.iter().enumerate() {
            if !told.iter().any(|on| matches(declared.on, on)) {
                idle.push(format!("there is no exchange {}, of which it is declared that {}", declared.on, declared.why));
            }
            let unused = declared.at.iter().enumerate().filter(|(i, _)| !self.used.contains(&(row, *i)));
            for (_, at) in unused.filter(|_| declared.when == Always) {
                idle.push(format!("{at} of {} differs no longer, of which it is declared that {}", declared.on, declared.why));
            }
        }
        idle
    }
}

/// Whether a pattern, in which `*` is anything, is the text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut left) = text.strip_prefix(first) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let last = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = left.find(part) else { return false };
        left = &left[at + part.len()..];
    }
    left.ends_with(last)
}

#[test]
fn a_star_is_anything() {
    for (pattern, text, is_it) in [
        ("*", "", true),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*", "abc", true),
        ("*c", "abc", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c-b", false),
        ("ab*b", "ab", false),
    ] {
        assert_eq!(matches(pattern, text), is_it, "{pattern} {text}");
    }
}
