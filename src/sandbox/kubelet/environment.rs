//! The environment of a container as a kubelet makes it: service addresses, config maps and secrets, fields of the pod, and `$(NAME)` in
//! values, command and arguments. Of this process's own environment only what programs need to start is passed on, no secrets.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sandbox::network::balancer::PORTS_ANNOTATION;
use crate::sandbox::resource::{CONFIGMAPS, SECRETS, SERVICES};
use crate::sandbox::store::{Store, text};

/// Variables of this process that pods get.
const PASSED_ON: &[&str] =
    &["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "JAVA_HOME", "VIRTUAL_ENV"];

/// A container's variables, in the order in which later ones override.
pub type Environment = BTreeMap<String, String>;

/// Makes the environment of `container`, or says what it refers to that is not there.
pub fn environment(store: &Store, pod: &Value, container: &Value, own: &[(&str, String)]) -> Result<Environment, String> {
    let ns = text(pod, "namespace");
    let mut env: Environment = PASSED_ON.iter().filter_map(|name| Some(((*name).into(), std::env::var(name).ok()?))).collect();
    let hostname = pod["spec"].get("hostname").and_then(Value::as_str).filter(|name| !name.is_empty());
    env.insert("HOSTNAME".into(), hostname.unwrap_or(text(pod, "name")).into());
    if pod["spec"]["enableServiceLinks"] != false {
        for service in store.list(&SERVICES, Some(ns)).0 {
            service_variables(&service, &mut env);
        }
    }
    for source in container["envFrom"].as_array().into_iter().flatten() {
        let prefix = source["prefix"].as_str().unwrap_or_default();
        for (reference, resource) in [("configMapRef", &CONFIGMAPS), ("secretRef", &SECRETS)] {
            let Some(name) = source[reference]["name"].as_str() else { continue };
            match store.get(resource, ns, name) {
                Some(object) => {
                    for (key, value) in entries(&object) {
                        env.insert(format!("{prefix}{key}"), value);
                    }
                }
                None if source[reference]["optional"] == true => (),
                None => return Err(format!("{} {name:?} not found", resource.singular)),
            }
        }
    }
    // The pod's own facts are there to be referred to, and a container may set them otherwise.
    for (name, value) in own {
        env.insert((*name).into(), value.clone());
    }
    for variable in container["env"].as_array().into_iter().flatten() {
        let Some(name) = variable["name"].as_str() else { continue };
        let value = match variable.get("valueFrom").filter(|from| from.is_object()) {
            None => Some(expand(variable["value"].as_str().unwrap_or_default(), &env)),
            Some(from) => referred(store, pod, container, from)?,
        };
        if let Some(value) = value {
            env.insert(name.into(), value);
        }
    }
    Ok(env)
}

/// Replaces `$(NAME)` by the variable's value; an unknown one stays, and `$$` is `$`.
pub fn expand(text: &str, env: &Environment) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(after) = rest.strip_prefix("$$") {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix("$(").and_then(|r| r.split_once(')')) {
            match env.get(name) {
                Some(value) => out.push_str(value),
                None => out.push_str(&rest[..name.len() + 3]),
            }
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out.push_str(rest);
    out
}

fn referred(store: &Store, pod: &Value, container: &Value, from: &Value) -> Result<Option<String>, String> {
    if let Some(path) = from["fieldRef"]["fieldPath"].as_str() {
        return field(pod, path).map(Some);
    }
    for (reference, resource) in [("configMapKeyRef", &CONFIGMAPS), ("secretKeyRef", &SECRETS)] {
        let source = &from[reference];
        let (Some(name), Some(key)) = (source["name"].as_str(), source["key"].as_str()) else { continue };
        let found = store.get(resource, text(pod, "namespace"), name);
        let value = found.as_ref().and_then(|object| entries(object).find(|(k, _)| k == key)).map(|(_, value)| value);
        return match value {
            Some(value) => Ok(Some(value)),
            None if source["optional"] == true => Ok(None),
            None if found.is_none() => Err(format!("{} {name:?} not found", resource.singular)),
            None => Err(format!("couldn't find key {key} in {} {}/{name}", resource.kind, text(pod, "namespace"))),
        };
    }
    if let Some(what) = from["resourceFieldRef"]["resource"].as_str() {
        let (kind, name) = what.split_once('.').unwrap_or((what, ""));
        let quantity = container["resources"][kind][name].as_str().and_then(crate::sandbox::quantity::milli).unwrap_or(0);
        // Whole units, rounded up, as the default divisor has it.
        return Ok(Some(((quantity + 999) / 1000).to_string()));
    }
    Err(format!("valueFrom {from} is not served by the sandbox"))
}

fn field(pod: &Value, path: &str) -> Result<String, String> {
    let string = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    if let Some((map, key)) = path.strip_suffix("']").and_then(|p| p.split_once("['"))
        && let "metadata.labels" | "metadata.annotations" = map
    {
        return Ok(string(&pod["metadata"][&map["metadata.".len()..]][key]));
    }
    match path {
        "metadata.name" | "metadata.namespace" | "metadata.uid" => Ok(text(pod, &path["metadata.".len()..]).to_owned()),
        "spec.nodeName" | "spec.serviceAccountName" => Ok(string(&pod["spec"][&path["spec.".len()..]])),
        "status.podIP" | "status.podIPs" => Ok(string(&pod["status"]["podIP"])),
        "status.hostIP" | "status.hostIPs" => Ok(string(&pod["status"]["hostIP"])),
        _ => Err(format!("field {path:?} is not served by the sandbox")),
    }
}

fn service_variables(service: &Value, env: &mut Environment) {
    let spec = &service["spec"];
    let Some(ip) = spec["clusterIP"].as_str().filter(|ip| ip.parse::<std::net::Ipv4Addr>().is_ok()) else { return };
    let prefix = text(service, "name").to_uppercase().replace(['-', '.'], "_");
    env.insert(format!("{prefix}_SERVICE_HOST"), ip.into());
    for (i, port) in spec["ports"].as_array().into_iter().flatten().enumerate() {
        let Some(declared) = port["port"].as_u64() else { continue };
        let number = listening(service, declared);
        if i == 0 {
            env.insert(format!("{prefix}_SERVICE_PORT"), number.to_string());
            env.insert(format!("{prefix}_PORT"), format!("tcp://{ip}:{number}"));
        }
        if let Some(name) = port["name"].as_str().filter(|name| !name.is_empty()) {
            env.insert(format!("{prefix}_SERVICE_PORT_{}", name.to_uppercase().replace('-', "_")), number.to_string());
        }
        let each = format!("{prefix}_PORT_{declared}_TCP");
        env.insert(format!("{each}_PROTO"), "tcp".into());
        env.insert(format!("{each}_PORT"), number.to_string());
        env.insert(format!("{each}_ADDR"), ip.into());
        env.insert(each, format!("tcp://{ip}:{number}"));
    }
}

/// Where a Service's port listens: itself, but for one that this user may not listen on.
fn listening(service: &Value, port: u64) -> u64 {
    let moved = service["metadata"]["annotations"][PORTS_ANNOTATION].as_str().unwrap_or_default();
    let of = |pair: &str| pair.split_once('=').and_then(|(from, to)| (from.parse() == Ok(port)).then(|| to.parse().ok())?);
    moved.split(',').find_map(of).unwrap_or(port)
}

/// The entries of a config map or a secret, as text.
fn entries(object: &Value) -> impl Iterator<Item = (String, String)> {
    let is_secret = object["kind"] == "Secret";
    let plain = |map: &Value| map.as_object().cloned().unwrap_or_default().into_iter();
    let data = plain(&object["data"]).filter_map(move |(key, value)| {
        let value = value.as_str()?.to_owned();
        Some((key, if is_secret { decode_base64(&value)? } else { value }))
    });
    let written = plain(&object["stringData"]).filter_map(|(key, value)| Some((key, value.as_str()?.to_owned())));
    data.chain(written)
}

fn decode_base64(text: &str) -> Option<String> {
    let mut bytes = vec![];
    let (mut bits, mut count) = (0u32, 0);
    for c in text.bytes().filter(|c| !c.is_ascii_whitespace() && *c != b'=') {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn variables_come_from_services_maps_secrets_fields_and_one_another() {
        let store = Store::new(1);
        let made = |resource, object: Value| drop(store.create(resource, object).unwrap());
        let meta = |name: &str| json!({"name": name, "namespace": "default"});
        made(
            &SERVICES,
            json!({"metadata": meta("pay-ments"), "spec": {"clusterIP": "127.16.0.10", "ports": [{"name": "web", "port": 80}]}}),
        );
        let mut moved = json!({"metadata": meta("low"), "spec": {"clusterIP": "127.16.0.11", "ports": [{"port": 80}]}});
        moved["metadata"]["annotations"][PORTS_ANNOTATION] = json!("80=10080");
        made(&SERVICES, moved);
        made(&CONFIGMAPS, json!({"metadata": meta("conf"), "data": {"A": "1", "B": "2"}}));
        made(&SECRETS, json!({"metadata": meta("key"), "data": {"token": "aMOkbGxv"}}));
        let pod = json!({"metadata": {"name": "p", "namespace": "default", "uid": "u", "labels": {"app": "x"}},
            "spec": {"nodeName": "n", "hostname": "h"}, "status": {"podIP": "127.16.1.1", "hostIP": "127.16.0.1"}});
        let container = json!({
        "envFrom": [{"prefix": "C_", "configMapRef": {"name": "conf"}}, {"configMapRef": {"name": "none", "optional": true}}],
        "env": [
            {"name": "URL", "value": "http://$(PAY_MENTS_SERVICE_HOST):$(PAY_MENTS_SERVICE_PORT_WEB)/$(NOPE)/$$(X)"},
            {"name": "TWICE", "value": "$(URL)$(POD_IP)"},
            {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "key", "key": "token"}}},
            {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "EMPTY", "valueFrom": {"configMapKeyRef": {"name": "conf", "key": "Z", "optional": true}}},
        ]});
        let env = environment(&store, &pod, &container, &[("POD_IP", "127.16.1.1".into())]).unwrap();
        for (name, value) in [
            ("URL", "http://127.16.0.10:80/$(NOPE)/$(X)"),
            ("TWICE", "http://127.16.0.10:80/$(NOPE)/$(X)127.16.1.1"),
            ("LOW_SERVICE_PORT", "10080"),
            ("C_B", "2"),
            ("TOKEN", "hällo"),
            ("APP", "x"),
            ("IP", "127.16.1.1"),
            ("HOSTNAME", "h"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
        assert!(!env.contains_key("EMPTY"));
        let missing = json!({"env": [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "none", "key": "k"}}}]});
        assert_eq!(environment(&store, &pod, &missing, &[]).unwrap_err(), "configmap \"none\" not found");
    }
}
