//! [`Rights`] as the objects of Kubernetes that grant them, in YAML that `kubectl apply -f` takes: an account, a Role and its binding for
//! each namespace, and a ClusterRole only for what lies in none.

use std::fmt::Write;

use serde_json::{Value, json};

use super::{Rights, Rule};

/// Who is to have the rights.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    pub name: String,
    pub namespace: String,
}

impl Account {
    /// The account of a plan: its name as Kubernetes takes names.
    pub fn of(plan: &str, namespace: &str) -> Account {
        let name = format!("squall-{}", plan.to_lowercase().replace('_', "-"));
        Account { name: name.trim_end_matches('-').to_owned(), namespace: namespace.to_owned() }
    }
}

/// The objects. `namespaces` are those that are to be there first, since a Role must lie in one that is.
pub fn render(rights: &Rights, account: &Account, namespaces: &[Value]) -> String {
    let mut documents: Vec<String> = namespaces.iter().map(namespace).collect();
    let mut later = String::new();
    documents.push(format!("apiVersion: v1\nkind: ServiceAccount\n{}", metadata(&account.name, Some(&account.namespace))));
    for place in rights.places() {
        let rules = rights.rules(place);
        let kind = if place.is_some() { "Role" } else { "ClusterRole" };
        let head =
            |kind: &str| format!("apiVersion: rbac.authorization.k8s.io/v1\nkind: {kind}\n{}", metadata(&account.name, place));
        let mut role = format!("{}rules:\n", head(kind));
        let optional = rules.iter().all(|rule| rule.only.is_some());
        for rule in &rules {
            role.push_str(&if optional { bare(rule) } else { written(rule) });
        }
        let binding = format!(
            "{}roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: {kind}, name: {name}}}\nsubjects:\n  - {{kind: ServiceAccount, \
             name: {name}, namespace: {namespace}}}\n",
            head(&format!("{kind}Binding")),
            name = account.name,
            namespace = text(&account.namespace),
        );
        if !optional {
            documents.extend([role, binding]);
            continue;
        }
        // Not a document of its own: one of comments alone would be an empty one.
        let when: Vec<String> = rules.iter().map(|rule| format!("{}, only {}", who(rule), rule.only.unwrap_or_default())).collect();
        let comments = format!("{}: uncomment it there\n---\n{role}---\n{binding}", when.join("; "));
        later.extend(comments.lines().map(|line| format!("# {line}\n")));
    }
    documents.join("---\n") + &later
}

fn namespace(manifest: &Value) -> String {
    // What is JSON is YAML, too.
    format!("apiVersion: v1\nkind: Namespace\nmetadata: {}\n", manifest["metadata"])
}

fn metadata(name: &str, namespace: Option<&str>) -> String {
    let mut lines = format!("metadata:\n  name: {name}\n");
    if let Some(namespace) = namespace {
        let _ = writeln!(lines, "  namespace: {}", text(namespace));
    }
    lines
}

/// Who needs a rule.
fn who(rule: &Rule) -> String {
    rule.who.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// A rule behind a comment that says who needs it; all of it a comment where it is needed only at times.
fn written(rule: &Rule) -> String {
    let (comment, sign) = match rule.only {
        Some(when) => (format!("# {}, only {when}: uncomment it there", who(rule)), "# "),
        None => (format!("# {}", who(rule)), ""),
    };
    let lines: String = bare(rule).lines().map(|line| format!("  {sign}{}\n", &line[2..])).collect();
    format!("  {comment}\n{lines}")
}

/// A rule by itself.
fn bare(rule: &Rule) -> String {
    let words = |words: &mut dyn Iterator<Item = &String>| json!(words.collect::<Vec<_>>()).to_string().replace("\",\"", "\", \"");
    let mut lines = vec![
        format!("- apiGroups: [{}]", text(&rule.group)),
        format!("  resources: [{}]", text(&rule.resource)),
        format!("  verbs: {}", words(&mut rule.verbs.iter())),
    ];
    if !rule.names.is_empty() {
        lines.insert(2, format!("  resourceNames: {}", words(&mut rule.names.iter())));
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// A word in quotes, so that YAML takes nothing else for it.
fn text(word: &str) -> String {
    Value::from(word).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rights::{Kind, Right};

    #[test]
    fn a_plan_s_name_becomes_one_that_kubernetes_takes() {
        assert_eq!(Account::of("Burst_scales_", "shop").name, "squall-burst-scales");
    }

    #[test]
    fn each_namespace_has_its_role_and_only_what_lies_in_none_a_cluster_role() {
        let mut rights = Rights::default();
        rights.table(
            "shop",
            &[Right::to(&["list"], "", "pods"), Right::to(&["get"], "", "pods/log").only("at times")],
            "observation",
        );
        let account = Account::of("p", "ops");
        let one = render(&rights, &account, &[json!({"metadata": {"name": "shop", "labels": {"a": "no"}}})]);
        assert_eq!(
            one,
            r##"apiVersion: v1
kind: Namespace
metadata: {"name":"shop","labels":{"a":"no"}}
---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: squall-p
  namespace: "ops"
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata:
  name: squall-p
  namespace: "shop"
rules:
  # observation
  - apiGroups: [""]
    resources: ["pods"]
    verbs: ["list"]
  # observation, only at times: uncomment it there
  # - apiGroups: [""]
  #   resources: ["pods/log"]
  #   verbs: ["get"]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata:
  name: squall-p
  namespace: "shop"
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: squall-p}
subjects:
  - {kind: ServiceAccount, name: squall-p, namespace: "ops"}
"##
        );
        let nodes = [Right::to(&["get"], "", "nodes").anywhere().only("in clusters of many kinds of nodes")];
        rights.table("shop", &nodes, "slow");
        let optional = render(&rights, &account, &[]);
        assert_eq!(
            optional.strip_prefix(&one[one.find("---").expect("a second document") + 4..]),
            Some(
                r##"# slow, only in clusters of many kinds of nodes: uncomment it there
# ---
# apiVersion: rbac.authorization.k8s.io/v1
# kind: ClusterRole
# metadata:
#   name: squall-p
# rules:
#   - apiGroups: [""]
#     resources: ["nodes"]
#     verbs: ["get"]
# ---
# apiVersion: rbac.authorization.k8s.io/v1
# kind: ClusterRoleBinding
# metadata:
#   name: squall-p
# roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: squall-p}
# subjects:
#   - {kind: ServiceAccount, name: squall-p, namespace: "ops"}
"##
            ),
            "what is asked for at times alone is a comment: {optional}"
        );
        let roles = Kind { group: "rbac.authorization.k8s.io".into(), plural: "clusterroles".into() };
        rights.kind(None, &roles, Some("reader"), &["get", "delete"], "manifests");
        let two = render(&rights, &account, &[]);
        assert!(two.contains("kind: ClusterRole\nmetadata:\n  name: squall-p\nrules:\n"), "{two}");
        assert!(two.contains("    resourceNames: [\"reader\"]\n    verbs: [\"get\", \"delete\"]\n"), "{two}");
        assert!(two.contains("kind: ClusterRoleBinding\n"), "{two}");
    }
}
