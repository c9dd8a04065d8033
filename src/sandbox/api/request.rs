//! A request, taken apart: the path names a resource, an object, a subresource; the query and headers say how. Parsing here is the only
//! place that knows how Kubernetes paths are built.

use bytes::Bytes;
use http::{HeaderMap, Method};

use super::super::resource::Resource;
use super::decode::FieldValidation;
use super::discovery;
use super::failure::Failure;
use super::managed::Manager;

/// What a path names.
#[derive(Clone, Debug)]
pub struct Target {
    /// What the objects are kept as.
    pub resource: &'static Resource,
    /// What the path says: the same, or an older version of it.
    pub seen: &'static Resource,
    /// The namespace; `None` for cluster-wide resources and for lists over all namespaces.
    pub namespace: Option<String>,
    /// The object; `None` for the collection.
    pub name: Option<String>,
    pub subresource: Option<String>,
}

impl Target {
    /// Reads `/api/v1/...` and `/apis/<group>/<version>/...`; the error is what an unknown path gets.
    pub fn parse(segments: &[String]) -> Result<Target, Failure> {
        let text: Vec<&str> = segments.iter().map(String::as_str).collect();
        let (group, version, rest) = match &text[..] {
            ["api", version, rest @ ..] => ("", *version, rest),
            ["apis", group, version, rest @ ..] => (*group, *version, rest),
            _ => return Err(Failure::no_such_resource()),
        };
        let owned = |text: &str| Some(text.to_owned());
        let (namespace, plural, name, subresource) = match rest {
            // The two subresources of a namespace look like collections inside it.
            ["namespaces", name, below @ ("status" | "finalize")] => (None, "namespaces", owned(name), owned(below)),
            ["namespaces"] => (None, "namespaces", None, None),
            ["namespaces", name] => (None, "namespaces", owned(name), None),
            ["namespaces", namespace, plural] => (owned(namespace), *plural, None, None),
            ["namespaces", namespace, plural, name] => (owned(namespace), *plural, owned(name), None),
            ["namespaces", namespace, plural, name, below] => (owned(namespace), *plural, owned(name), owned(below)),
            [plural] => (None, *plural, None, None),
            [plural, name] => (None, *plural, owned(name), None),
            [plural, name, below] => (None, *plural, owned(name), owned(below)),
            _ => return Err(Failure::no_such_resource()),
        };
        let mut served = discovery::served();
        let seen = served.find(|r| r.group == group && r.version == version && r.plural == plural);
        let seen = seen.ok_or_else(Failure::no_such_resource)?;
        // A namespaced object is only reached through its namespace, and a cluster-wide one never is.
        let misplaced = seen.namespaced != namespace.is_some() && (name.is_some() || !seen.namespaced);
        if misplaced || subresource.as_deref().is_some_and(|below| seen.subresource(below).is_none()) {
            return Err(Failure::no_such_resource());
        }
        Ok(Target { resource: seen.kept(), seen, namespace, name, subresource })
    }

    /// The namespace as the store wants it: empty for cluster-wide resources.
    pub fn ns(&self) -> &str {
        self.namespace.as_deref().unwrap_or_default()
    }
}

/// The body and everything around it.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: String,
    pub segments: Vec<String>,
    pub query: Query,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Whether the client asks for a dry run in the query.
    pub fn is_dry_run(&self) -> Result<bool, Failure> {
        match self.query.get("dryRun") {
            None | Some("") => Ok(false),
            Some("All") => Ok(true),
            Some(other) => Err(Failure::bad_request(format!("Invalid value: [\"{other}\"]: dryRun must be All"))),
        }
    }

    pub fn field_validation(&self) -> Result<FieldValidation, Failure> {
        match self.query.get("fieldValidation") {
            None | Some("" | "Warn") => Ok(FieldValidation::Warn),
            Some("Ignore") => Ok(FieldValidation::Ignore),
            Some("Strict") => Ok(FieldValidation::Strict),
            Some(other) => {
                Err(Failure::bad_request(format!("Invalid value: \"{other}\": fieldValidation must be Ignore, Warn or Strict")))
            }
        }
    }

    /// Who writes: the query's field manager, else the first word of the user agent.
    pub fn manager(&self, subresource: &str) -> Manager {
        let agent = self.header("user-agent").split('/').next().unwrap_or_default();
        let named = self.query.get("fieldManager").filter(|name| !name.is_empty());
        let name = named.unwrap_or(if agent.is_empty() { "unknown" } else { agent });
        Manager { name: name.chars().take(128).collect(), subresource: subresource.to_owned() }
    }

    /// In which form the client wants objects.
    pub fn form(&self) -> Result<Form, Failure> {
        let accept = self.header("accept");
        let mut understood = accept.is_empty();
        for range in accept.split(',').map(str::trim) {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            if !matches!(media, "application/json" | "application/*" | "*/*" | "application/yaml" | "text/plain" | "text/*") {
                continue;
            }
            let parameters: Vec<(&str, &str)> = parts.filter_map(|p| p.split_once('=')).collect();
            let of = |key: &str| parameters.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
            match (of("as"), of("v")) {
                (None, _) => return Ok(Form::Whole),
                (Some("Table"), Some("v1")) => return Ok(Form::Table),
                (Some("PartialObjectMetadata" | "PartialObjectMetadataList"), Some("v1")) => return Ok(Form::Metadata),
                // Another transformation: the next range may be one that is understood.
                _ => understood |= false,
            }
        }
        match understood {
            true => Ok(Form::Whole),
            false => {
                let message = "only the following media types are accepted: application/json";
                Err(Failure::new(406, "NotAcceptable", message).with(serde_json::json!({})))
            }
        }
    }
}

/// The forms of an object in an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Whole,
    Table,
    Metadata,
}

/// The parameters of a URL.
#[derive(Clone, Default, Debug)]
pub struct Query(Vec<(String, String)>);

impl Query {
    pub fn parse(text: &str) -> Query {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decoded(key, Plus::IsSpace), decoded(value, Plus::IsSpace))
        });
        Query(pairs.collect())
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// Whether a parameter is given and not `false` or `0`.
    pub fn is_set(&self, key: &str) -> bool {
        self.get(key).is_some_and(|value| !matches!(value, "false" | "0"))
    }

    /// A whole number, where given.
    pub fn number(&self, key: &str) -> Result<Option<u64>, Failure> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Failure::bad_request(format!("{key}: Invalid value: \"{text}\": must be a whole number"))),
        }
    }
}

/// The segments of a path, decoded.
pub fn segments(path: &str) -> Vec<String> {
    path.split('/').filter(|segment| !segment.is_empty()).map(|segment| decoded(segment, Plus::IsPlus)).collect()
}

#[derive(Clone, Copy, PartialEq)]
enum Plus {
    IsSpace,
    IsPlus,
}

fn decoded(text: &str, plus: Plus) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut i = 0;
    while i < bytes.len() {
        let hex = bytes.get(i + 1..i + 3).and_then(|two| std::str::from_utf8(two).ok());
        match (bytes[i], hex.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                i += 2;
            }
            (b'+', _) if plus == Plus::IsSpace => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        i += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_what_they_name_on_a_real_server() {
        let parse = |path: &str| {
            Target::parse(&segments(path)).map(|t| (t.resource.kind, t.ns().to_owned(), t.name.unwrap_or_default(), t.subresource))
        };
        let some = |kind, ns: &str, name: &str, sub: Option<&str>| Some((kind, ns.into(), name.into(), sub.map(str::to_owned)));
        for (path, expected) in [
            ("/api/v1/pods", some("Pod", "", "", None)),
            ("/api/v1/namespaces/shop/pods/a/log", some("Pod", "shop", "a", Some("log"))),
            ("/api/v1/namespaces/shop", some("Namespace", "", "shop", None)),
            ("/api/v1/namespaces/shop/finalize", some("Namespace", "", "shop", Some("finalize"))),
            ("/apis/apps/v1/namespaces/shop/deployments/web/scale", some("Deployment", "shop", "web", Some("scale"))),
            ("/api/v1/nodes/a", some("Node", "", "a", None)),
            ("/api/v1/pods/a", None),
            ("/api/v1/namespaces/shop/nodes", None),
            ("/api/v1/namespaces/shop/pods/a/nothing", None),
            ("/apis/apps/v2/namespaces/shop/deployments", None),
        ] {
            assert_eq!(parse(path).ok(), expected, "{path}");
        }
    }

    #[test]
    fn queries_are_decoded() {
        let query = Query::parse("labelSelector=app+in+(web,api),!c&fieldSelector=a%3Db&watch=1&follow=false");
        assert_eq!(query.get("labelSelector"), Some("app in (web,api),!c"));
        assert_eq!(query.get("fieldSelector"), Some("a=b"));
        assert!(query.is_set("watch") && !query.is_set("follow") && !query.is_set("limit"));
    }
}
