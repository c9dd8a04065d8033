//! The admission of pods by the label `pod-security.kubernetes.io/enforce` of their namespace, in the words of a real server: what of the
//! Pod Security Standards can be read off a pod alone. Not looked at: AppArmor, SELinux, sysctls and Windows.

use serde_json::Value;

use super::resource::{NAMESPACES, PODS};
use super::store::{Store, StoreError, text};

const ENFORCE: &str = "pod-security.kubernetes.io/enforce";
const ENFORCE_VERSION: &str = "pod-security.kubernetes.io/enforce-version";

/// What a container may add at level `baseline`.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// The volumes that level `restricted` allows.
const VOLUMES: [&str; 8] =
    ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Privileged,
    Baseline,
    Restricted,
}

impl Level {
    fn word(self) -> &'static str {
        match self {
            Level::Privileged => "privileged",
            Level::Baseline => "baseline",
            Level::Restricted => "restricted",
        }
    }
}

/// What a namespace demands of its pods.
#[derive(Clone, Debug)]
pub struct Policy {
    level: Level,
    version: String,
}

impl Policy {
    /// That of a namespace. Asks the store, so not to be called while it is being written.
    pub fn of(store: &Store, namespace: &str) -> Policy {
        let labels = store.get(&NAMESPACES, "", namespace).map(|object| object["metadata"]["labels"].clone()).unwrap_or_default();
        let level = match labels[ENFORCE].as_str() {
            None | Some("" | "privileged") => Level::Privileged,
            Some("baseline") => Level::Baseline,
            // What is no level is taken for the strictest, as there.
            Some(_) => Level::Restricted,
        };
        let version = labels[ENFORCE_VERSION].as_str().filter(|version| !version.is_empty()).unwrap_or("latest");
        Policy { level, version: version.to_owned() }
    }

    /// Refuses a pod that does not meet it, with all that is wrong.
    pub fn admit(&self, pod: &Value) -> Result<(), StoreError> {
        let wrong = violations(self.level, &pod["spec"]);
        if wrong.is_empty() {
            return Ok(());
        }
        let why = format!("violates PodSecurity \"{}:{}\": {}", self.level.word(), self.version, wrong.join(", "));
        Err(StoreError::Forbidden { resource: &PODS, name: text(pod, "name").to_owned(), why })
    }
}

/// `reason (details)` of each check that fails, in the order in which a real server has them.
fn violations(level: Level, spec: &Value) -> Vec<String> {
    let mut wrong = Vec::new();
    if level == Level::Privileged {
        return wrong;
    }
    let restricted = level == Level::Restricted;
    let containers: Vec<&Value> = ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|list| spec[*list].as_array().into_iter().flatten())
        .collect();
    let those = |like: &dyn Fn(&Value) -> bool| -> Vec<&str> {
        containers.iter().filter(|c| like(&c["securityContext"])).filter_map(|c| c["name"].as_str()).collect()
    };
    let mut found = |reason: &str, detail: String| wrong.push(format!("{reason} ({detail})"));

    if !restricted {
        let (bad, added) = adding(&containers, &CAPABILITIES);
        if !bad.is_empty() {
            found(
                "non-default capabilities",
                format!("{} must not include {added} in securityContext.capabilities.add", named(&bad)),
            );
        }
    }
    let shared: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| spec[**field] == true)
        .map(|field| format!("{field}=true"))
        .collect();
    if !shared.is_empty() {
        found("host namespaces", shared.join(", "));
    }
    let volumes: Vec<&Value> = spec["volumes"].as_array().into_iter().flatten().collect();
    if !restricted {
        let host: Vec<&str> =
            volumes.iter().filter(|volume| !volume["hostPath"].is_null()).filter_map(|volume| volume["name"].as_str()).collect();
        if !host.is_empty() {
            found("hostPath volumes", format!("{} {}", plural("volume", host.len()), quoted(&host)));
        }
    }
    let ports_of = |container: &Value| -> Vec<u64> {
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(|port| port["hostPort"].as_u64()).filter(|port| *port != 0).collect()
    };
    let ports: Vec<String> = containers.iter().flat_map(|c| ports_of(c)).map(|port| port.to_string()).collect();
    if !ports.is_empty() {
        let bad: Vec<&str> = containers.iter().filter(|c| !ports_of(c).is_empty()).filter_map(|c| c["name"].as_str()).collect();
        let uses = if bad.len() == 1 { "uses" } else { "use" };
        found("hostPort", format!("{} {uses} {} {}", named(&bad), plural("hostPort", ports.len()), ports.join(", ")));
    }
    let privileged = those(&|context| context["privileged"] == true);
    if !privileged.is_empty() {
        found("privileged", format!("{} must not set securityContext.privileged=true", named(&privileged)));
    }
    let unmasked = those(&|context| context["procMount"].as_str().is_some_and(|mount| mount != "Default"));
    if !unmasked.is_empty() {
        found("procMount", format!("{} must not set securityContext.procMount to \"Unmasked\"", named(&unmasked)));
    }
    let own = &spec["securityContext"];
    let profile = |context: &Value| context["seccompProfile"]["type"].as_str().map(str::to_owned);
    let unconfined = those(&|context| profile(context).as_deref() == Some("Unconfined"));
    let pod_unconfined = profile(own).as_deref() == Some("Unconfined");
    if !unconfined.is_empty() || pod_unconfined {
        let who = who(pod_unconfined, &unconfined);
        found("seccompProfile", format!("{who} must not set securityContext.seccompProfile.type to \"Unconfined\""));
    }
    if !restricted {
        return wrong;
    }

    let escalating = those(&|context| context["allowPrivilegeEscalation"] != false);
    if !escalating.is_empty() {
        let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&escalating));
        found("allowPrivilegeEscalation != false", detail);
    }
    let keeping =
        those(&|context| !context["capabilities"]["drop"].as_array().into_iter().flatten().any(|dropped| dropped == "ALL"));
    let (bad, added) = adding(&containers, &["NET_BIND_SERVICE"]);
    let mut details = Vec::new();
    if !keeping.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keeping)));
    }
    if !bad.is_empty() {
        details.push(format!("{} must not include {added} in securityContext.capabilities.add", named(&bad)));
    }
    if !details.is_empty() {
        found("unrestricted capabilities", details.join("; "));
    }
    let kind_of = |volume: &Value| -> Option<String> {
        volume.as_object()?.keys().find(|kind| *kind != "name" && !VOLUMES.contains(&kind.as_str())).cloned()
    };
    let odd: Vec<(&str, String)> = volumes.iter().filter_map(|volume| Some((volume["name"].as_str()?, kind_of(volume)?))).collect();
    if !odd.is_empty() {
        let names: Vec<&str> = odd.iter().map(|(name, _)| *name).collect();
        let mut kinds: Vec<&str> = odd.iter().map(|(_, kind)| kind.as_str()).collect();
        kinds.sort_unstable();
        kinds.dedup();
        let uses = if names.len() == 1 { "uses" } else { "use" };
        let detail = format!(
            "{} {} {uses} restricted {} {}",
            plural("volume", names.len()),
            quoted(&names),
            plural("volume type", kinds.len()),
            quoted(&kinds)
        );
        found("restricted volume types", detail);
    }
    let as_root = those(&|context| context["runAsNonRoot"] == false);
    let unsaid = those(&|context| context["runAsNonRoot"].is_null());
    if !as_root.is_empty() || own["runAsNonRoot"] == false {
        let who = who(own["runAsNonRoot"] == false, &as_root);
        found("runAsNonRoot != true", format!("{who} must not set securityContext.runAsNonRoot=false"));
    } else if own["runAsNonRoot"] != true && !unsaid.is_empty() {
        found("runAsNonRoot != true", format!("pod or {} must set securityContext.runAsNonRoot=true", named(&unsaid)));
    }
    let root = those(&|context| context["runAsUser"] == 0);
    if !root.is_empty() || own["runAsUser"] == 0 {
        found("runAsUser=0", format!("{} must not set runAsUser=0", who(own["runAsUser"] == 0, &root)));
    }
    let unsaid = those(&|context| profile(context).is_none());
    if profile(own).is_none() && !unsaid.is_empty() {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            named(&unsaid)
        );
        found("seccompProfile", detail);
    }
    wrong
}

/// The containers that add a capability which is not allowed, and those capabilities.
fn adding<'a>(containers: &[&'a Value], allowed: &[&str]) -> (Vec<&'a str>, String) {
    let (mut bad, mut added) = (Vec::new(), Vec::new());
    for container in containers {
        let all = container["securityContext"]["capabilities"]["add"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let before = added.len();
        added.extend(all.filter(|capability| !allowed.contains(capability)));
        if added.len() > before {
            bad.extend(container["name"].as_str());
        }
    }
    added.sort_unstable();
    added.dedup();
    (bad, quoted(&added))
}

/// `pod and container "a"`: who says what he must not.
fn who(pod: bool, containers: &[&str]) -> String {
    match (pod, containers) {
        (true, []) => "pod".to_owned(),
        (true, containers) => format!("pod and {}", named(containers)),
        (false, containers) => named(containers),
    }
}

fn named(containers: &[&str]) -> String {
    format!("{} {}", plural("container", containers.len()), quoted(containers))
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn check(level: Level, spec: &Value, expected: &[&str]) {
        assert_eq!(violations(level, spec), expected, "{level:?} {spec}");
    }

    #[test]
    fn what_a_level_forbids_is_said_in_the_words_of_a_real_server() {
        let plain = json!({"containers": [{"name": "web"}]});
        check(Level::Privileged, &json!({"hostNetwork": true}), &[]);
        check(Level::Baseline, &plain, &[]);
        // As anybody knows it who has labelled a namespace.
        check(
            Level::Restricted,
            &plain,
            &[
                "allowPrivilegeEscalation != false (container \"web\" must set securityContext.allowPrivilegeEscalation=false)",
                "unrestricted capabilities (container \"web\" must set securityContext.capabilities.drop=[\"ALL\"])",
                "runAsNonRoot != true (pod or container \"web\" must set securityContext.runAsNonRoot=true)",
                "seccompProfile (pod or container \"web\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
                 \"Localhost\")",
            ],
        );
        let good = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}});
        let mut careful = json!({"securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{"name": "web", "securityContext": good}], "volumes": [{"name": "v", "emptyDir": {}}]});
        check(Level::Restricted, &careful, &[]);
        careful["volumes"] = json!([{"name": "v", "hostPath": {"path": "/"}}]);
        check(Level::Restricted, &careful, &["restricted volume types (volume \"v\" uses restricted volume type \"hostPath\")"]);
        check(Level::Baseline, &careful, &["hostPath volumes (volume \"v\")"]);
        careful["volumes"] = json!([]);
        careful["ephemeralContainers"] = json!([{"name": "agent", "securityContext": {"allowPrivilegeEscalation": false,
            "runAsUser": 0, "runAsNonRoot": false, "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}}}]);
        check(
            Level::Restricted,
            &careful,
            &[
                "unrestricted capabilities (container \"agent\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)",
                "runAsNonRoot != true (container \"agent\" must not set securityContext.runAsNonRoot=false)",
                "runAsUser=0 (container \"agent\" must not set runAsUser=0)",
            ],
        );
        let host = json!({"hostNetwork": true, "containers": [{"name": "a", "ports": [{"hostPort": 80}, {"hostPort": 81}],
            "securityContext": {"privileged": true, "seccompProfile": {"type": "Unconfined"}}}]});
        check(
            Level::Baseline,
            &host,
            &[
                "host namespaces (hostNetwork=true)",
                "hostPort (container \"a\" uses hostPorts 80, 81)",
                "privileged (container \"a\" must not set securityContext.privileged=true)",
                "seccompProfile (container \"a\" must not set securityContext.seccompProfile.type to \"Unconfined\")",
            ],
        );
    }
}
