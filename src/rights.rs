//! What Squall must be allowed to do in a cluster. Each part that asks an API server for something keeps a table of [`Right`]s beside the
//! code that asks; joined for a plan they are [`Rights`], from which `squall rbac`, `squall doctor` and `squall check --explain` are
//! written. Pure: nothing here asks anybody.

use std::collections::{BTreeMap, BTreeSet};

mod rbac;

pub use rbac::{Account, render};

/// A row of such a table: verbs on one resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Right {
    pub verbs: &'static [&'static str],
    /// Empty for the core group.
    pub group: &'static str,
    /// The plural, with its subresource: `pods`, `pods/log`.
    pub resource: &'static str,
    /// When it is asked for, where that is not always. What it is asked for then is done without where it is refused.
    pub only: Option<&'static str>,
    pub place: Place,
    pub without: Without,
}

/// What becomes of the work where a right is refused that is always asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Without {
    /// It cannot be done.
    Impossible,
    /// It can be done less well, or it shows by itself, before anything is touched, whether it can be done.
    Possible,
    /// It cannot be done where the API server is of this minor version of Kubernetes 1 or a later one; earlier ones do not ask for the right.
    ImpossibleFrom(u32),
}

/// Where what a right is about lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the namespace where the work is done.
    Namespace,
    /// In none.
    Anywhere,
}

impl Right {
    pub const fn to(verbs: &'static [&'static str], group: &'static str, resource: &'static str) -> Right {
        Right { verbs, group, resource, only: None, place: Place::Namespace, without: Without::Impossible }
    }

    /// The same, of what lies in no namespace.
    pub const fn anywhere(self) -> Right {
        Right { place: Place::Anywhere, ..self }
    }

    /// The same, with this to become of the work where it is refused.
    pub const fn without(self, without: Without) -> Right {
        Right { without, ..self }
    }

    /// Whether the work cannot be done where it is refused by an API server of such a minor version.
    pub fn is_vital(&self, minor: u32) -> bool {
        let needed = match self.without {
            Without::Impossible => true,
            Without::Possible => false,
            Without::ImpossibleFrom(first) => minor >= first,
        };
        needed && self.only.is_none()
    }

    /// The same, asked for only then.
    pub const fn only(self, when: &'static str) -> Right {
        Right { only: Some(when), ..self }
    }
}

/// One verb on one resource in one place: what an API server decides on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// None for what has no namespace.
    pub namespace: Option<String>,
    pub group: String,
    pub resource: String,
    /// The one object that is meant; every one where there is none.
    pub name: Option<String>,
    pub verb: String,
}

/// A resource, as rights name it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kind {
    /// Empty for the core group.
    pub group: String,
    pub plural: String,
}

/// Why something is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reason {
    /// Who asks: `observation`, a fault's name.
    pub who: BTreeSet<String>,
    /// When, where nobody needs it always.
    pub only: Option<&'static str>,
}

/// All that a plan needs.
#[derive(Clone, Debug, Default)]
pub struct Rights(BTreeMap<Need, Reason>);

/// In the order in which people read them.
const VERBS: [&str; 6] = ["get", "list", "watch", "create", "patch", "delete"];

impl Rights {
    /// Adds what a table says, for work in a namespace.
    pub fn table(&mut self, namespace: &str, table: &[Right], who: &str) {
        for right in table {
            for verb in right.verbs {
                let need = Need {
                    namespace: (right.place == Place::Namespace).then(|| namespace.to_owned()),
                    group: right.group.to_owned(),
                    resource: right.resource.to_owned(),
                    name: None,
                    verb: (*verb).to_owned(),
                };
                self.add(need, who, right.only);
            }
        }
    }

    /// Adds verbs on a kind that only the plan names; on one object of it, or on all.
    pub fn kind(&mut self, namespace: Option<&str>, kind: &Kind, name: Option<&str>, verbs: &[&str], who: &str) {
        for verb in verbs {
            let need = Need {
                namespace: namespace.map(str::to_owned),
                group: kind.group.clone(),
                resource: kind.plural.clone(),
                name: name.map(str::to_owned),
                verb: (*verb).to_owned(),
            };
            self.add(need, who, None);
        }
    }

    fn add(&mut self, need: Need, who: &str, only: Option<&'static str>) {
        let first = !self.0.contains_key(&need);
        let reason = self.0.entry(need).or_default();
        // Whoever needs it always outranks whoever needs it at times.
        match (first, only) {
            (true, only) => reason.only = only,
            (false, None) if reason.only.is_some() => *reason = Reason::default(),
            (false, Some(_)) if reason.only.is_none() => return,
            (false, _) => {}
        }
        reason.who.insert(who.to_owned());
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each of them, in order. What is needed on every object is not named again for one.
    pub fn each(&self) -> impl Iterator<Item = (&Need, &Reason)> {
        self.0.iter().filter(|(need, reason)| {
            let all = Need { name: None, ..(*need).clone() };
            need.name.is_none() || !self.0.get(&all).is_some_and(|all| all.only.is_none() || reason.only.is_some())
        })
    }

    /// The namespaces in which something is needed; `None` stands for what has none.
    pub fn places(&self) -> BTreeSet<Option<&str>> {
        self.0.keys().map(|need| need.namespace.as_deref()).collect()
    }

    /// What is needed in one place, verbs on the same objects joined.
    pub fn rules(&self, place: Option<&str>) -> Vec<Rule> {
        // For each resource and verb, on which objects.
        type Objects<'a> = (BTreeSet<&'a str>, BTreeSet<&'a str>);
        let mut verbs: BTreeMap<(&str, &str, Option<&'static str>, &str), Objects<'_>> = BTreeMap::new();
        for (need, reason) in self.each().filter(|(need, _)| need.namespace.as_deref() == place) {
            let (names, who) = verbs.entry((&need.group, &need.resource, reason.only, &need.verb)).or_default();
            names.extend(need.name.as_deref());
            who.extend(reason.who.iter().map(String::as_str));
        }
        let mut rules: Vec<Rule> = Vec::new();
        for ((group, resource, only, verb), (names, who)) in verbs {
            let names: BTreeSet<String> = names.into_iter().map(str::to_owned).collect();
            let same = rules
                .iter_mut()
                .find(|rule| rule.group == group && rule.resource == resource && rule.only == only && rule.names == names);
            let rule = match same {
                Some(rule) => rule,
                None => {
                    rules.push(Rule { group: group.into(), resource: resource.into(), names, only, ..Rule::default() });
                    rules.last_mut().expect("one was put there")
                }
            };
            rule.verbs.push(verb.to_owned());
            rule.who.extend(who.into_iter().map(str::to_owned));
        }
        for rule in &mut rules {
            rule.verbs.sort_by_key(|verb| VERBS.iter().position(|known| known == verb));
        }
        // What is needed always comes first.
        rules.sort_by_key(|rule| rule.only.is_some());
        rules
    }

    /// A line for each rule, behind the place that it is for: for a person.
    pub fn lines(&self) -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for place in self.places() {
            let mut label = place.map_or("anywhere".to_owned(), |namespace| format!("in {namespace}"));
            for rule in self.rules(place) {
                lines.push((std::mem::take(&mut label), rule.to_string()));
            }
        }
        lines
    }
}

/// Verbs that are needed on the same objects of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    pub group: String,
    pub resource: String,
    /// Empty for all.
    pub names: BTreeSet<String>,
    pub verbs: Vec<String>,
    pub who: BTreeSet<String>,
    pub only: Option<&'static str>,
}

impl std::fmt::Display for Rule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verbs.join(","), qualified(&self.group, &self.resource))?;
        if !self.names.is_empty() {
            write!(f, " {}", joined(&self.names))?;
        }
        write!(f, " ({}", joined(&self.who))?;
        match self.only {
            Some(when) => write!(f, "; only {when})"),
            None => f.write_str(")"),
        }
    }
}

/// `pods/log`, `deployments.apps`: a resource with its group, as `kubectl auth can-i` takes it.
pub fn qualified(group: &str, resource: &str) -> String {
    match (group, resource.split_once('/')) {
        ("", _) => resource.to_owned(),
        (group, Some((plural, below))) => format!("{plural}.{group}/{below}"),
        (group, None) => format!("{resource}.{group}"),
    }
}

fn joined(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}

/// The resource of a kind, as the API's conventions form it: `services`, `ingresses`, `networkpolicies`.
pub fn plural(kind: &str) -> String {
    let kind = kind.to_lowercase();
    match kind.strip_suffix('y') {
        _ if kind == "endpoints" => kind,
        Some(stem) if !stem.ends_with(['a', 'e', 'i', 'o', 'u']) => format!("{stem}ies"),
        _ if ["s", "x", "z", "ch", "sh"].iter().any(|end| kind.ends_with(end)) => format!("{kind}es"),
        _ => format!("{kind}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &[Right] =
        &[Right::to(&["list", "watch"], "", "pods"), Right::to(&["get"], "", "pods/proxy").only("where nothing else leads there")];

    fn deployments() -> Kind {
        Kind { group: "apps".into(), plural: "deployments".into() }
    }

    #[test]
    fn what_several_need_is_said_once_with_all_of_them() {
        let mut rights = Rights::default();
        rights.table("shop", TABLE, "observation");
        rights.table("shop", &[Right::to(&["delete", "list"], "", "pods")], "kill");
        rights.kind(Some("shop"), &deployments(), Some("web"), &["get", "delete"], "manifests");
        rights.kind(Some("shop"), &deployments(), Some("db"), &["get"], "kill");
        rights.kind(Some("shop"), &deployments(), None, &["create"], "manifests");
        let lines: Vec<String> = rights.lines().into_iter().map(|(place, line)| format!("{place}|{line}")).collect();
        assert_eq!(
            lines,
            [
                "in shop|list,watch,delete pods (kill, observation)",
                "|create deployments.apps (manifests)",
                "|delete deployments.apps web (manifests)",
                "|get deployments.apps db, web (kill, manifests)",
                "|get pods/proxy (observation; only where nothing else leads there)",
            ]
        );
    }

    #[test]
    fn whoever_needs_it_always_or_on_all_outranks_whoever_does_not() {
        let mut rights = Rights::default();
        rights.table("shop", TABLE, "slow");
        rights.table("shop", &[Right::to(&["get"], "", "pods/proxy")], "sure");
        rights.table("shop", TABLE, "again");
        let proxy: Vec<String> = rights.rules(Some("shop")).iter().map(ToString::to_string).collect();
        assert_eq!(proxy, ["list,watch pods (again, slow)", "get pods/proxy (sure)"]);
        let mut rights = Rights::default();
        rights.kind(Some("shop"), &deployments(), Some("web"), &["get"], "kill");
        rights.kind(Some("shop"), &deployments(), None, &["get"], "observation");
        assert_eq!(rights.each().count(), 1);
    }

    #[test]
    fn what_the_work_can_do_without_is_not_vital() {
        let right = Right::to(&["create"], "", "pods/attach");
        assert!(right.is_vital(33) && !right.only("at times").is_vital(33) && !right.without(Without::Possible).is_vital(33));
        let late = right.without(Without::ImpossibleFrom(35));
        assert!(!late.is_vital(34) && late.is_vital(35) && late.is_vital(36) && !late.only("at times").is_vital(36));
    }

    #[test]
    fn kinds_have_plurals() {
        for (kind, resource) in
            [("Service", "services"), ("Ingress", "ingresses"), ("NetworkPolicy", "networkpolicies"), ("Gateway", "gateways")]
        {
            assert_eq!(plural(kind), resource);
        }
        assert_eq!(qualified("apps", "deployments/scale"), "deployments.apps/scale");
    }
}
