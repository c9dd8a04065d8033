//! What may be done, and what there is: questions for whoever looks at a cluster before anything is done in it. They change nothing.

use http::Method;
use serde_json::{Value, json};

use super::call::Write;
use super::discovery::Resource;
use super::{Cluster, Error, list};
use crate::rights::Need;

/// As many objects as an answer may have; a server that has more says where to go on.
const PAGE: usize = 500;
/// Pages that are read of one kind.
const PAGES_MAX: usize = 40;

impl Cluster {
    /// Whether whoever asks may do that, by a SelfSubjectAccessReview, which everybody may make and nobody keeps.
    pub async fn may(&self, need: &Need) -> Result<bool, Error> {
        let (resource, subresource) = need.resource.split_once('/').unwrap_or((&need.resource, ""));
        let mut attributes = json!({"verb": need.verb, "group": need.group, "resource": resource});
        for (key, value) in
            [("subresource", Some(subresource)), ("namespace", need.namespace.as_deref()), ("name", need.name.as_deref())]
        {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                attributes[key] = value.into();
            }
        }
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
            "spec": {"resourceAttributes": attributes}});
        let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
        let answer = self.write(Method::POST, path, Write::Json, &review).await?;
        answer["status"]["allowed"].as_bool().ok_or_else(|| Error::Unreadable {
            what: format!("POST {path}"),
            why: "the review says nothing of what is allowed".into(),
        })
    }

    /// Every object of a kind, in a namespace or in all; each says its kind, which lists leave out.
    pub async fn every(&self, resource: &Resource, namespace: Option<&str>) -> Result<Vec<Value>, Error> {
        let path = resource.path(namespace, None);
        let (mut all, mut from) = (Vec::new(), String::new());
        for _ in 0..PAGES_MAX {
            let answer = self.get(&format!("{path}?limit={PAGE}{from}")).await?;
            all.extend(list(&answer, "/items").iter().cloned().map(|mut object| {
                object["kind"] = resource.kind.as_str().into();
                object
            }));
            match answer["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) {
                None => return Ok(all),
                Some(token) => from = format!("&continue={}", super::call::encode(token)),
            }
        }
        Err(Error::Unreadable { what: format!("GET {path}"), why: format!("there are more than {} objects", all.len()) })
    }
}
