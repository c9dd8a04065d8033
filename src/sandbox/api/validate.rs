//! The rules that an object must keep, beyond its shape: all that are broken are told at once, with the field and the words of a real
//! server. Only the rules that people run into are here; the rest of the Kubernetes rulebook is not.

mod scaled_object;

use std::collections::HashSet;

use serde_json::{Value, json};

use super::super::objects::{Rounding, count_or_percent};
use super::super::quantity;
use super::super::resource::Resource;
use super::super::selector::Selector;
use super::failure::Cause;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
    and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with \
    an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const LABEL_1035: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, \
    and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start \
    and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
    '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const IMMUTABLE: &str = "field is immutable";
const NOT_NEGATIVE: &str = "must be greater than or equal to 0";
const POD_UPDATE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,\
    `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` \
    (allow it to be set to 1 if it was previously negative)";

/// What of a StatefulSet's spec may change.
const STATEFUL_SET_FREE: &[&str] = &[
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];
const STATEFUL_SET_UPDATE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
    'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// What is wrong with a new object.
pub fn created(resource: &'static Resource, object: &Value) -> Vec<Cause> {
    let mut causes = vec![];
    meta(resource, &object["metadata"], &mut causes);
    let (spec, of_job) = (&object["spec"], resource.kind == "Job");
    if let Some(selector) = spec.get("selector").filter(|_| of_job && spec["manualSelector"] != true) {
        causes.push(Cause::invalid("spec.selector", selector, "`selector` not auto-generated"));
    }
    content(resource, object, &mut causes);
    causes
}

/// What is wrong with a changed object.
pub fn updated(resource: &'static Resource, before: &Value, after: &Value) -> Vec<Cause> {
    let mut causes = vec![];
    meta(resource, &after["metadata"], &mut causes);
    content(resource, after, &mut causes);
    let (old, new) = (&before["spec"], &after["spec"]);
    match resource.kind {
        "Deployment" | "ReplicaSet" if old["selector"] != new["selector"] => {
            causes.push(Cause::invalid("spec.selector", &new["selector"], IMMUTABLE));
        }
        "Job" => {
            for field in ["selector", "template", "completionMode"] {
                if old[field] != new[field] {
                    causes.push(Cause::invalid(format!("spec.{field}"), &new[field], IMMUTABLE));
                }
            }
            // An Indexed Job grows and shrinks as a whole.
            let elastic = new["completionMode"] == "Indexed" && new["completions"] == new["parallelism"];
            if old.get("completions") != new.get("completions") && !elastic {
                causes.push(Cause::invalid("spec.completions", &new["completions"], IMMUTABLE));
            }
        }
        "StatefulSet" => {
            let fixed = |spec: &Value| {
                let mut spec = spec.clone();
                if let Some(spec) = spec.as_object_mut() {
                    STATEFUL_SET_FREE.iter().for_each(|free| drop(spec.shift_remove(*free)));
                }
                spec
            };
            if fixed(old) != fixed(new) {
                causes.push(Cause::forbidden("spec", STATEFUL_SET_UPDATE));
            }
        }
        "ControllerRevision" if before["data"] != after["data"] => causes.push(Cause::invalid("data", &after["data"], IMMUTABLE)),
        "Pod" => {
            let gates = |spec: &Value| spec.get("schedulingGates").and_then(Value::as_array).cloned().unwrap_or_default();
            if let Some(gate) = gates(new).iter().find(|gate| !gates(old).contains(gate)) {
                let name = gate["name"].as_str().unwrap_or_default();
                let why = format!("only deletion is allowed, but found new scheduling gate '{name}'");
                causes.push(Cause::forbidden("spec.schedulingGates", why));
            }
            if fixed_part(old) != fixed_part(new) {
                causes.push(Cause::forbidden("spec", POD_UPDATE));
            }
        }
        "Service" => {
            let (old_ip, new_ip) = (old["clusterIP"].as_str().unwrap_or_default(), &new["clusterIP"]);
            if !old_ip.is_empty() && new_ip != old_ip && new["type"] != "ExternalName" && old["type"] != "ExternalName" {
                causes.push(Cause::invalid("spec.clusterIPs[0]", &json!([new_ip]), "may not change once set"));
            }
        }
        "ConfigMap" | "Secret" if before["immutable"] == true => {
            for field in ["data", "binaryData", "immutable"] {
                if before[field] != after[field] {
                    causes.push(Cause::forbidden(field, "field is immutable when `immutable` is set"));
                }
            }
        }
        _ => {}
    }
    causes
}

/// What is wrong with a change of a pod's ephemeral containers: there may be new ones, and the old ones stay as they are.
pub fn ephemeral_containers(before: &Value, after: &Value) -> Vec<Cause> {
    let field = "spec.ephemeralContainers";
    let list = |pod: &Value| pod["spec"].get("ephemeralContainers").and_then(Value::as_array).cloned().unwrap_or_default();
    let (old, new) = (list(before), list(after));
    let mut causes = vec![];
    for was in &old {
        let name = &was["name"];
        match new.iter().find(|is| is["name"] == *name) {
            None => causes.push(Cause::forbidden(field, format!("existing ephemeral containers {name} may not be removed\n"))),
            Some(is) if is != was => {
                causes.push(Cause::forbidden(field, format!("existing ephemeral containers {name} may not be changed\n")));
            }
            Some(_) => {}
        }
    }
    if !causes.is_empty() {
        return causes;
    }
    let spec = &after["spec"];
    let mut names: HashSet<&str> = ["containers", "initContainers"]
        .iter()
        .filter_map(|list| spec.get(*list).and_then(Value::as_array))
        .flatten()
        .filter_map(|container| container["name"].as_str())
        .collect();
    let targets = names.clone();
    for (i, container) in new.iter().enumerate() {
        let at = format!("{field}[{i}]");
        container_basics(&at, container, &mut names, &mut causes);
        if let Some(target) = container.get("targetContainerName").and_then(Value::as_str).filter(|t| !targets.contains(t)) {
            let message = format!("Not found: \"{target}\"");
            causes.push(Cause { reason: "FieldValueNotFound", message, field: format!("{at}.targetContainerName") });
        }
        for forbidden in ["ports", "livenessProbe", "readinessProbe", "startupProbe", "lifecycle"] {
            if container.get(forbidden).is_some_and(|value| !value.is_null()) {
                causes.push(Cause::forbidden(format!("{at}.{forbidden}"), "cannot be set for an Ephemeral Container"));
            }
        }
        if container["resources"].as_object().is_some_and(|resources| !resources.is_empty()) {
            causes.push(Cause::forbidden(format!("{at}.resources"), "cannot be set for an Ephemeral Container"));
        }
    }
    causes
}

fn meta(resource: &'static Resource, meta: &Value, causes: &mut Vec<Cause>) {
    let name = meta["name"].as_str().unwrap_or_default();
    if name.is_empty() {
        if meta["generateName"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required("metadata.name", "name or generateName is required"));
        }
    } else if let Some(why) = wrong_name(resource, name) {
        causes.push(Cause::invalid("metadata.name", &meta["name"], why));
    }
    labels("metadata.labels", &meta["labels"], causes);
    for (key, _) in meta["annotations"].as_object().into_iter().flatten() {
        if !is_qualified(&key.to_lowercase()) {
            causes.push(Cause::invalid("metadata.annotations", &json!(key), QUALIFIED));
        }
    }
}

const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric \
    character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

fn wrong_name(resource: &'static Resource, name: &str) -> Option<&'static str> {
    match resource.kind {
        "Service" => (!(is_label(name) && name.starts_with(|c: char| c.is_ascii_lowercase()))).then_some(LABEL_1035),
        "Namespace" | "StatefulSet" => (!is_label(name)).then_some(LABEL),
        _ => (!is_subdomain(name)).then_some(SUBDOMAIN),
    }
}

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&text.len()) && text.chars().all(|c| inner(c) || c == '-') && text.starts_with(inner) && text.ends_with(inner)
}

fn is_subdomain(text: &str) -> bool {
    text.len() <= 253 && text.split('.').all(|part| !part.is_empty() && is_label(&part.chars().take(63).collect::<String>()))
}

/// `name` or `domain/name`.
fn is_qualified(key: &str) -> bool {
    let name = match key.split_once('/') {
        Some((domain, _)) if !is_subdomain(domain) => return false,
        Some((_, name)) => name,
        None => key,
    };
    !name.is_empty() && is_label_value(name)
}

fn is_label_value(text: &str) -> bool {
    let ends = |c: char| c.is_ascii_alphanumeric();
    text.is_empty()
        || (text.len() <= 63
            && text.chars().all(|c| ends(c) || "-_.".contains(c))
            && text.starts_with(ends)
            && text.ends_with(ends))
}

fn labels(field: &str, labels: &Value, causes: &mut Vec<Cause>) {
    for (key, value) in labels.as_object().into_iter().flatten() {
        if !is_qualified(key) {
            causes.push(Cause::invalid(field, &json!(key), QUALIFIED));
        }
        if !value.as_str().is_some_and(is_label_value) {
            causes.push(Cause::invalid(field, value, LABEL_VALUE));
        }
    }
}

fn content(resource: &'static Resource, object: &Value, causes: &mut Vec<Cause>) {
    match resource.kind {
        "Deployment" | "ReplicaSet" => scaled(resource, &object["spec"], causes),
        "StatefulSet" => stateful_set(&object["spec"], causes),
        "ControllerRevision" => {
            if object.get("data").is_none_or(Value::is_null) {
                causes.push(Cause::required("data", "data is mandatory"));
            }
            if object["revision"].as_i64().is_some_and(|n| n < 0) {
                causes.push(Cause::invalid("revision", &object["revision"], NOT_NEGATIVE));
            }
        }
        "Job" => job(&object["spec"], causes),
        "Pod" => pod_spec("spec", &object["spec"], causes),
        "Service" => service(&object["spec"], causes),
        "HorizontalPodAutoscaler" => autoscaler(&object["spec"], causes),
        "ScaledObject" => scaled_object::check(object, causes),
        "PodDisruptionBudget" => {
            let spec = &object["spec"];
            if spec.get("minAvailable").is_some() && spec.get("maxUnavailable").is_some() {
                causes.push(Cause::invalid("spec", &json!({}), "minAvailable and maxUnavailable cannot be both set"));
            }
        }
        "ConfigMap" | "Secret" => {
            for (key, _) in object["data"].as_object().into_iter().flatten() {
                if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
                    let why = "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or \
                        'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')";
                    causes.push(Cause::invalid(format!("data[{key}]"), &json!(key), why));
                }
            }
        }
        _ => {}
    }
}

fn scaled(resource: &'static Resource, spec: &Value, causes: &mut Vec<Cause>) {
    not_negative(spec, "spec", &["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"], causes);
    controls_its_template(resource.singular, spec, causes);
    pod_spec("spec.template.spec", &spec["template"]["spec"], causes);
    always_restarts(&spec["template"]["spec"], causes);
    if resource.kind == "Deployment" {
        strategy(&spec["strategy"], causes);
    }
}

/// Whether the selector says something, and chooses what the template makes.
fn controls_its_template(kind: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let selector = &spec["selector"];
    let of_template = &spec["template"]["metadata"]["labels"];
    if selector.is_null() {
        causes.push(Cause::required("spec.selector", ""));
    } else {
        match Selector::of(selector) {
            Err(why) => causes.push(Cause::invalid("spec.selector", selector, why)),
            Ok(parsed) if parsed.is_empty() => {
                let why = format!("empty selector is invalid for {kind}");
                causes.push(Cause::invalid("spec.selector", selector, why));
            }
            Ok(parsed) if !parsed.matches(of_template) => {
                causes.push(Cause::invalid(
                    "spec.template.metadata.labels",
                    of_template,
                    "`selector` does not match template `labels`",
                ));
            }
            Ok(_) => {}
        }
    }
    labels("spec.template.labels", of_template, causes);
}

fn stateful_set(spec: &Value, causes: &mut Vec<Cause>) {
    let policies = ["OrderedReady", "Parallel"];
    if !policies.iter().any(|policy| spec["podManagementPolicy"] == *policy) {
        let why = "must be 'OrderedReady' or 'Parallel'";
        causes.push(Cause::invalid("spec.podManagementPolicy", &spec["podManagementPolicy"], why));
    }
    let strategy = &spec["updateStrategy"];
    let rolling = strategy.get("rollingUpdate").unwrap_or(&Value::Null);
    let at = "spec.updateStrategy.rollingUpdate";
    match strategy["type"].as_str().unwrap_or_default() {
        "OnDelete" if !rolling.is_null() => {
            causes.push(Cause::invalid(at, rolling, "only allowed for updateStrategy 'RollingUpdate'"));
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            not_negative(rolling, at, &["partition"], causes);
            let most = &rolling["maxUnavailable"];
            if count_or_percent(most, 100, Rounding::Down) == Some(0) {
                causes.push(Cause::invalid(format!("{at}.maxUnavailable"), most, "cannot be 0"));
            }
        }
        _ => causes.push(Cause::invalid("spec.updateStrategy", strategy, "must be 'RollingUpdate' or 'OnDelete'")),
    }
    not_negative(spec, "spec", &["replicas", "minReadySeconds", "revisionHistoryLimit"], causes);
    not_negative(&spec["ordinals"], "spec.ordinals", &["start"], causes);
    controls_its_template("statefulset", spec, causes);
    let service = &spec["serviceName"];
    if service.as_str().is_some_and(|name| !name.is_empty() && !is_label(name)) {
        causes.push(Cause::invalid("spec.serviceName", service, LABEL));
    }
    let pod = &spec["template"]["spec"];
    pod_spec("spec.template.spec", pod, causes);
    always_restarts(pod, causes);
    if let Some(deadline) = pod.get("activeDeadlineSeconds") {
        causes.push(Cause::invalid("spec.template.spec.activeDeadlineSeconds", deadline, "must not be specified"));
    }
    if spec.get("volumeClaimTemplates").and_then(Value::as_array).is_some_and(|claims| !claims.is_empty()) {
        let why = "the sandbox has no PersistentVolumeClaims: its pods see this machine's files; leave the templates and their mounts \
            out, or run this plan on a cluster";
        causes.push(Cause::forbidden("spec.volumeClaimTemplates", why));
    }
}

fn always_restarts(pod: &Value, causes: &mut Vec<Cause>) {
    let restart = &pod["restartPolicy"];
    if !restart.is_null() && restart != "Always" {
        causes.push(Cause::unsupported("spec.template.spec.restartPolicy", restart, &["Always"]));
    }
}

fn job(spec: &Value, causes: &mut Vec<Cause>) {
    let numbers = ["parallelism", "completions", "activeDeadlineSeconds", "backoffLimit", "ttlSecondsAfterFinished"];
    not_negative(spec, "spec", &numbers, causes);
    if spec["manualSelector"] == true {
        controls_its_template("job", spec, causes);
    } else {
        labels("spec.template.labels", &spec["template"]["metadata"]["labels"], causes);
    }
    pod_spec("spec.template.spec", &spec["template"]["spec"], causes);
    let restart = &spec["template"]["spec"]["restartPolicy"];
    if restart.is_null() || restart == "Always" {
        let why = "valid values: \"OnFailure\", \"Never\"";
        causes.push(Cause::required("spec.template.spec.restartPolicy", why));
    }
    match spec["completionMode"].as_str() {
        Some("Indexed") if spec.get("completions").is_none() => {
            causes.push(Cause::required("spec.completions", "when completion mode is Indexed"));
        }
        Some("Indexed" | "NonIndexed") => {}
        _ => causes.push(Cause::unsupported("spec.completionMode", &spec["completionMode"], &["Indexed", "NonIndexed"])),
    }
    let replacements = ["Failed", "TerminatingOrFailed"];
    if !replacements.iter().any(|policy| spec["podReplacementPolicy"] == *policy) {
        causes.push(Cause::unsupported("spec.podReplacementPolicy", &spec["podReplacementPolicy"], &replacements));
    }
    for absent in ["podFailurePolicy", "successPolicy", "backoffLimitPerIndex", "maxFailedIndexes", "managedBy"] {
        if spec.get(absent).is_some() {
            let why = "the sandbox's Jobs do not have this: leave it out, or run this plan on a cluster";
            causes.push(Cause::forbidden(format!("spec.{absent}"), why));
        }
    }
}

fn strategy(strategy: &Value, causes: &mut Vec<Cause>) {
    let rolling = &strategy["rollingUpdate"];
    match strategy["type"].as_str().unwrap_or_default() {
        "RollingUpdate" => {
            let zero = |value: &Value| value == 0 || value == "0%" || value == "0";
            for field in ["maxUnavailable", "maxSurge"] {
                let value = &rolling[field];
                let percent = value.as_str().map(|text| text.strip_suffix('%').is_some_and(|n| n.parse::<u32>().is_ok()));
                let at = format!("spec.strategy.rollingUpdate.{field}");
                if percent == Some(false) {
                    let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex \
                        used for validation is '[0-9]+%')";
                    causes.push(Cause::invalid(at, value, why));
                } else if value.as_i64().is_some_and(|n| n < 0) {
                    causes.push(Cause::invalid(at, value, NOT_NEGATIVE));
                }
            }
            if zero(&rolling["maxUnavailable"]) && zero(&rolling["maxSurge"]) {
                let at = "spec.strategy.rollingUpdate.maxUnavailable";
                causes.push(Cause::invalid(at, &rolling["maxUnavailable"], "may not be 0 when `maxSurge` is 0"));
            }
        }
        "Recreate" => {
            if !rolling.is_null() {
                let why = "may not be specified when strategy `type` is 'Recreate'";
                causes.push(Cause::forbidden("spec.strategy.rollingUpdate", why));
            }
        }
        _ => causes.push(Cause::unsupported("spec.strategy.type", &strategy["type"], &["Recreate", "RollingUpdate"])),
    }
}

fn pod_spec(at: &str, spec: &Value, causes: &mut Vec<Cause>) {
    let containers = spec["containers"].as_array().cloned().unwrap_or_default();
    if containers.is_empty() {
        causes.push(Cause::required(format!("{at}.containers"), ""));
    }
    let restart = &spec["restartPolicy"];
    if !restart.is_null() && !["Always", "OnFailure", "Never"].iter().any(|policy| restart == policy) {
        causes.push(Cause::unsupported(format!("{at}.restartPolicy"), restart, &["Always", "OnFailure", "Never"]));
    }
    not_negative(spec, at, &["terminationGracePeriodSeconds"], causes);
    let volumes: HashSet<&str> =
        spec["volumes"].as_array().into_iter().flatten().filter_map(|volume| volume["name"].as_str()).collect();
    let mut names = HashSet::new();
    for list in ["initContainers", "containers"] {
        for (i, container) in spec[list].as_array().into_iter().flatten().enumerate() {
            let at = format!("{at}.{list}[{i}]");
            container_basics(&at, container, &mut names, causes);
            container_details(&at, container, &volumes, causes);
            own_restarts(&at, list, container, causes);
        }
    }
}

/// The kubelet restarts containers as their pod says, and knows no sidecars.
fn own_restarts(at: &str, list: &str, container: &Value, causes: &mut Vec<Cause>) {
    for field in ["restartPolicy", "restartPolicyRules"] {
        let Some(value) = container.get(field).filter(|value| !value.is_null()) else { continue };
        let why = match list == "initContainers" && value == "Always" {
            true => "the sandbox runs no sidecars: an init container has to end; make this one of `containers`",
            false => "the sandbox restarts all containers by the `restartPolicy` of their pod: leave this out",
        };
        causes.push(Cause::forbidden(format!("{at}.{field}"), why));
    }
}

fn container_basics<'a>(at: &str, container: &'a Value, names: &mut HashSet<&'a str>, causes: &mut Vec<Cause>) {
    match container["name"].as_str().unwrap_or_default() {
        "" => causes.push(Cause::required(format!("{at}.name"), "")),
        name if !is_label(name) => causes.push(Cause::invalid(format!("{at}.name"), &container["name"], LABEL)),
        name if !names.insert(name) => causes.push(Cause::duplicate(format!("{at}.name"), &container["name"])),
        _ => {}
    }
    if container["image"].as_str().unwrap_or_default().is_empty() {
        causes.push(Cause::required(format!("{at}.image"), ""));
    }
    for (i, variable) in container["env"].as_array().into_iter().flatten().enumerate() {
        if variable["name"].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("{at}.env[{i}].name"), ""));
        }
    }
}

fn container_details(at: &str, container: &Value, volumes: &HashSet<&str>, causes: &mut Vec<Cause>) {
    let mut port_names = HashSet::new();
    for (i, port) in container["ports"].as_array().into_iter().flatten().enumerate() {
        port_number(format!("{at}.ports[{i}].containerPort"), &port["containerPort"], causes);
        if let Some(name) = port["name"].as_str().filter(|name| !port_names.insert(name.to_owned())) {
            causes.push(Cause::duplicate(format!("{at}.ports[{i}].name"), &json!(name)));
        }
    }
    for (i, mount) in container["volumeMounts"].as_array().into_iter().flatten().enumerate() {
        if let Some(name) = mount["name"].as_str().filter(|name| !volumes.contains(name)) {
            let (reason, message) = ("FieldValueNotFound", format!("Not found: \"{name}\""));
            causes.push(Cause { reason, message, field: format!("{at}.volumeMounts[{i}].name") });
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let Some(value) = container.get(probe).filter(|value| value.is_object()) else { continue };
        if !["exec", "httpGet", "tcpSocket", "grpc"].iter().any(|handler| value.get(*handler).is_some()) {
            causes.push(Cause::required(format!("{at}.{probe}"), "must specify a handler type"));
        }
        let numbers = ["initialDelaySeconds", "timeoutSeconds", "periodSeconds", "successThreshold", "failureThreshold"];
        not_negative(value, &format!("{at}.{probe}"), &numbers, causes);
    }
    let resources = &container["resources"];
    let nano = |quantity: &Value| quantity.as_str().and_then(quantity::nano);
    for of in ["limits", "requests"] {
        for (name, quantity) in resources[of].as_object().into_iter().flatten() {
            let field = format!("{at}.resources.{of}[{name}]");
            match nano(quantity) {
                Some(n) if n < 0 => causes.push(Cause::invalid(field, quantity, NOT_NEGATIVE)),
                Some(n) if of == "requests" && nano(&resources["limits"][name]).is_some_and(|limit| n > limit) => {
                    let limit = resources["limits"][name].to_string();
                    let why = format!("must be less than or equal to {name} limit of {}", limit.trim_matches('"'));
                    causes.push(Cause::invalid(format!("{at}.resources.requests"), quantity, why));
                }
                // What is no quantity was refused when the object was decoded.
                Some(_) | None => {}
            }
        }
    }
}

fn service(spec: &Value, causes: &mut Vec<Cause>) {
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
    if !kinds.iter().any(|kind| spec["type"] == *kind) {
        causes.push(Cause::unsupported("spec.type", &spec["type"], &kinds));
    }
    let ports = spec["ports"].as_array().cloned().unwrap_or_default();
    if ports.is_empty() && spec["type"] != "ExternalName" && spec["clusterIP"] != "None" {
        causes.push(Cause::required("spec.ports", ""));
    }
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    for (i, port) in ports.iter().enumerate() {
        port_number(format!("spec.ports[{i}].port"), &port["port"], causes);
        if !["TCP", "UDP", "SCTP"].iter().any(|protocol| port["protocol"] == *protocol) {
            causes.push(Cause::unsupported(format!("spec.ports[{i}].protocol"), &port["protocol"], &["SCTP", "TCP", "UDP"]));
        }
        let name = port["name"].as_str().unwrap_or_default();
        if name.is_empty() && ports.len() > 1 {
            causes.push(Cause::required(format!("spec.ports[{i}].name"), ""));
        } else if !name.is_empty() && !names.insert(name.to_owned()) {
            causes.push(Cause::duplicate(format!("spec.ports[{i}].name"), &port["name"]));
        }
        if !numbers.insert((port["port"].to_string(), port["protocol"].to_string())) {
            causes.push(Cause::duplicate(format!("spec.ports[{i}]"), port));
        }
    }
    labels("spec.selector", &spec["selector"], causes);
}

fn autoscaler(spec: &Value, causes: &mut Vec<Cause>) {
    let target = &spec["scaleTargetRef"];
    for field in ["kind", "name"] {
        if target[field].as_str().unwrap_or_default().is_empty() {
            causes.push(Cause::required(format!("spec.scaleTargetRef.{field}"), ""));
        }
    }
    let (min, max) = (spec["minReplicas"].as_i64().unwrap_or(1), spec["maxReplicas"].as_i64().unwrap_or(0));
    if min < 1 {
        causes.push(Cause::invalid("spec.minReplicas", &json!(min), "must be greater than or equal to 1"));
    }
    if max < 1 {
        causes.push(Cause::invalid("spec.maxReplicas", &json!(max), "must be greater than 0"));
    } else if max < min {
        causes.push(Cause::invalid("spec.maxReplicas", &json!(max), "must be greater than or equal to `minReplicas`"));
    }
    let kinds = [
        ("ContainerResource", "containerResource"),
        ("External", "external"),
        ("Object", "object"),
        ("Pods", "pods"),
        ("Resource", "resource"),
    ];
    for (i, metric) in spec["metrics"].as_array().into_iter().flatten().enumerate() {
        let at = format!("spec.metrics[{i}]");
        match kinds.iter().find(|(kind, _)| metric["type"] == *kind) {
            None => causes.push(Cause::unsupported(format!("{at}.type"), &metric["type"], &kinds.map(|(kind, _)| kind))),
            Some((_, source)) => match metric.get(*source).map(|source| &source["target"]) {
                None => {
                    let why = "must populate information for the given metric source";
                    causes.push(Cause::required(format!("{at}.{source}"), why));
                }
                Some(target) => {
                    let types = ["Utilization", "Value", "AverageValue"];
                    if !types.iter().any(|kind| target["type"] == *kind) {
                        let why = "must be either Utilization, Value, or AverageValue";
                        causes.push(Cause::invalid(format!("{at}.{source}.target.type"), &target["type"], why));
                    }
                }
            },
        }
    }
    behavior("spec.behavior", spec.get("behavior").unwrap_or(&Value::Null), causes);
}

fn behavior(at: &str, behavior: &Value, causes: &mut Vec<Cause>) {
    for direction in ["scaleUp", "scaleDown"] {
        let rules = &behavior[direction];
        let at = format!("{at}.{direction}");
        if rules["stabilizationWindowSeconds"].as_i64().is_some_and(|s| s > 3600) {
            let why = "must be less than or equal to 3600";
            causes.push(Cause::invalid(format!("{at}.stabilizationWindowSeconds"), &rules["stabilizationWindowSeconds"], why));
        }
        not_negative(rules, &at, &["stabilizationWindowSeconds"], causes);
        for (i, policy) in rules["policies"].as_array().into_iter().flatten().enumerate() {
            for field in ["value", "periodSeconds"] {
                if policy[field].as_i64().is_none_or(|n| n <= 0) {
                    causes.push(Cause::invalid(format!("{at}.policies[{i}].{field}"), &policy[field], "must be greater than zero"));
                }
            }
        }
    }
}

fn not_negative(object: &Value, at: &str, fields: &[&str], causes: &mut Vec<Cause>) {
    for field in fields {
        if object[field].as_i64().is_some_and(|n| n < 0) {
            causes.push(Cause::invalid(format!("{at}.{field}"), &object[field], NOT_NEGATIVE));
        }
    }
}

fn port_number(at: String, port: &Value, causes: &mut Vec<Cause>) {
    match port.as_i64() {
        None | Some(0) => causes.push(Cause::required(at, "")),
        Some(n) if !(1..=65535).contains(&n) => {
            causes.push(Cause::invalid(at, port, "must be between 1 and 65535, inclusive"));
        }
        Some(_) => {}
    }
}

/// All of a pod's spec that an update may not touch.
fn fixed_part(spec: &Value) -> Value {
    let mut spec = spec.clone();
    for list in ["containers", "initContainers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            container["image"] = Value::Null;
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        for free in ["activeDeadlineSeconds", "tolerations", "ephemeralContainers", "schedulingGates"] {
            spec.shift_remove(free);
        }
    }
    spec
}

#[cfg(test)]
mod tests {
    use super::super::super::defaults;
    use super::super::super::resource::{DEPLOYMENTS, HPAS, JOBS, PODS, RESOURCES, SERVICES};
    use super::*;

    #[track_caller]
    fn check(resource: &'static Resource, mut object: Value, expected: &[&str]) {
        defaults::apply(resource, &mut object, defaults::Stage::New);
        let told: Vec<String> = created(resource, &object).iter().map(|c| format!("{}: {}", c.field, c.message)).collect();
        assert_eq!(told.len(), expected.len(), "{told:#?}");
        for (told, expected) in told.iter().zip(expected) {
            assert!(told.starts_with(expected), "{told} should start with {expected}");
        }
    }

    #[test]
    fn the_usual_mistakes_are_all_told_at_once() {
        assert!(RESOURCES.len() > 10);
        check(
            &DEPLOYMENTS,
            json!({"metadata": {"name": "Web"}, "spec": {"replicas": -1, "selector": {"matchLabels": {"app": "a"}},
                "template": {"metadata": {"labels": {"app": "b"}}, "spec": {"restartPolicy": "Never", "containers": [
                    {"name": "a", "ports": [{"containerPort": 70000}], "volumeMounts": [{"name": "v", "mountPath": "/"}]}]}}}}),
            &[
                "metadata.name: Invalid value: \"Web\": a lowercase RFC 1123 subdomain",
                "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
                "spec.template.metadata.labels: Invalid value: {\"app\":\"b\"}: `selector` does not match template `labels`",
                "spec.template.spec.containers[0].image: Required value",
                "spec.template.spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between",
                "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"v\"",
                "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            ],
        );
        check(
            &DEPLOYMENTS,
            json!({"metadata": {}}),
            &[
                "metadata.name: Required value: name or generateName is required",
                "spec.selector: Required value",
                "spec.template.spec.containers: Required value",
            ],
        );
        check(
            &HPAS,
            json!({"metadata": {"name": "a"}, "spec": {"minReplicas": 5, "maxReplicas": 2, "metrics": [{"type": "Pods"}]}}),
            &[
                "spec.scaleTargetRef.kind: Required",
                "spec.scaleTargetRef.name: Required",
                "spec.maxReplicas: Invalid value: 2: must be greater than or equal to `minReplicas`",
                "spec.metrics[0].pods: Required value: must populate information for the given metric source",
            ],
        );
        check(
            &SERVICES,
            json!({"metadata": {"name": "1a"}, "spec": {}}),
            &["metadata.name: Invalid", "spec.ports: Required value"],
        );
    }

    #[test]
    fn a_job_says_how_its_pods_end_and_leaves_its_selector_to_the_server() {
        let template = json!({"spec": {"containers": [{"name": "a", "image": "i"}]}});
        let mut job = json!({"metadata": {"name": "a"}, "spec": {"template": template, "completionMode": "Indexed", "parallelism": 1,
            "selector": {"matchLabels": {"app": "a"}}, "successPolicy": {}}});
        check(
            &JOBS,
            job.clone(),
            &[
                "spec.selector: Invalid value: {\"matchLabels\":{\"app\":\"a\"}}: `selector` not auto-generated",
                "spec.template.spec.restartPolicy: Required value: valid values: \"OnFailure\", \"Never\"",
                "spec.completions: Required value: when completion mode is Indexed",
                "spec.successPolicy: Forbidden: the sandbox's Jobs do not have this",
            ],
        );
        job["spec"] = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}}});
        check(&JOBS, job, &[]);
    }

    #[test]
    fn a_sidecar_is_refused_instead_of_blocking_its_pod() {
        let init = json!([{"name": "once", "image": "i"}, {"name": "proxy", "image": "i", "restartPolicy": "Always"}]);
        let spec = json!({"initContainers": init, "containers": [{"name": "a", "image": "i"}]});
        let refusal = "initContainers[1].restartPolicy: Forbidden: the sandbox runs no sidecars";
        check(&PODS, json!({"metadata": {"name": "p"}, "spec": spec}), &[&format!("spec.{refusal}")]);
        let labels = json!({"app": "a"});
        let owner = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec}}});
        check(&DEPLOYMENTS, owner, &[&format!("spec.template.spec.{refusal}")]);
    }

    #[test]
    fn a_container_that_restarts_by_a_policy_of_its_own_is_refused_instead_of_restarting_as_its_pod_does() {
        let rules = json!([{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]);
        let init = json!([{"name": "once", "image": "i", "restartPolicy": "Never"}]);
        let main = json!([{"name": "a", "image": "i", "restartPolicy": "Always", "restartPolicyRules": rules}, {"name": "b", "image": "i"}]);
        let pod = json!({"metadata": {"name": "p"}, "spec": {"initContainers": init, "containers": main}});
        check(
            &PODS,
            pod,
            &[
                "spec.initContainers[0].restartPolicy: Forbidden: the sandbox restarts all containers by",
                "spec.containers[0].restartPolicy: Forbidden: the sandbox restarts all containers by",
                "spec.containers[0].restartPolicyRules: Forbidden: the sandbox restarts all containers by",
            ],
        );
    }
}
