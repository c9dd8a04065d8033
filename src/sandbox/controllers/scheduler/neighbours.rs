//! Which nodes a pod may run on by who runs there already: the required parts of pod affinity and anti-affinity, its own and that of others,
//! and topology spread constraints that say `DoNotSchedule`.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::Place;
use super::requirements::chooses;
use super::taints::untolerated;
use crate::sandbox::objects::{int, is_leaving};
use crate::sandbox::selector::Selector;
use crate::sandbox::store::text;

pub const NOT_SPREAD: &str = "node(s) didn't match pod topology spread constraints";
pub const NO_LABEL: &str = "node(s) didn't match pod topology spread constraints (missing required label)";
pub const NO_FRIEND: &str = "node(s) didn't match pod affinity rules";
pub const FOE: &str = "node(s) didn't match pod anti-affinity rules";
pub const FOE_OF_OTHERS: &str = "node(s) didn't satisfy existing pods anti-affinity rules";

/// All that runs, and where.
pub struct Neighbourhood<'a> {
    pub places: &'a [Place],
    pub namespaces: &'a [Arc<Value>],
}

impl Neighbourhood<'_> {
    /// Why others keep a pod off a place; `None` where they do not.
    pub fn refusal(&self, pod: &Value, place: &Place) -> Option<&'static str> {
        self.unspread(pod, place).or_else(|| self.unwelcome(pod, place))
    }

    fn unspread(&self, pod: &Value, place: &Place) -> Option<&'static str> {
        let constraints = pod["spec"].get("topologySpreadConstraints").and_then(Value::as_array)?;
        let hard: Vec<&Value> = constraints.iter().filter(|one| one["whenUnsatisfiable"] == "DoNotSchedule").collect();
        if hard.iter().any(|one| domain(one, &place.node).is_none()) {
            return Some(NO_LABEL);
        }
        let labelled = |node: &Value| hard.iter().all(|one| domain(one, node).is_some());
        let skewed = |constraint: &&Value| {
            let Some(selector) = selector(constraint, pod) else { return false };
            let honours = |policy: &str, usual: bool| match constraint.get(policy).and_then(Value::as_str) {
                Some(word) => word == "Honor",
                None => usual,
            };
            let (by_affinity, by_taints) = (honours("nodeAffinityPolicy", true), honours("nodeTaintsPolicy", false));
            let counts = |node: &Value| {
                labelled(node)
                    && (!by_affinity || chooses(pod, node))
                    && (!by_taints || untolerated(pod, node, &["NoSchedule", "NoExecute"]).next().is_none())
            };
            let alike = |other: &Value| {
                let same_namespace = text(other, "namespace") == text(pod, "namespace");
                same_namespace && !is_leaving(other) && selector.matches(&other["metadata"]["labels"])
            };
            let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
            for other in self.places.iter().filter(|other| counts(&other.node)) {
                let pods = other.pods.iter().filter(|other| alike(other)).count() as i64;
                *domains.entry(domain(constraint, &other.node).unwrap_or_default()).or_default() += pods;
            }
            let enough = domains.len() as i64 >= int(&constraint["minDomains"], 1);
            let least = if enough { domains.values().min().copied().unwrap_or(0) } else { 0 };
            let here = domain(constraint, &place.node).and_then(|here| domains.get(here)).copied().unwrap_or(0);
            let itself = i64::from(selector.matches(&pod["metadata"]["labels"]));
            here + itself - least > int(&constraint["maxSkew"], 1)
        };
        hard.iter().any(skewed).then_some(NOT_SPREAD)
    }

    fn unwelcome(&self, pod: &Value, place: &Place) -> Option<&'static str> {
        let friends = terms(pod, "podAffinity");
        let is_friend = |other: &Value| friends.iter().all(|term| self.chooses(term, pod, other));
        let near = |term: &Value| {
            let here = domain(term, &place.node);
            self.places
                .iter()
                .filter(move |other| here.is_some() && domain(term, &other.node) == here)
                .flat_map(|other| &other.pods)
                .collect::<Vec<_>>()
        };
        if !friends.is_empty() {
            let labelled = friends.iter().all(|term| domain(term, &place.node).is_some());
            // The first of a group that keeps together has nobody to go to but itself.
            let is_first = || is_friend(pod) && !self.places.iter().flat_map(|other| &other.pods).any(|other| is_friend(other));
            if !labelled || !(friends.iter().all(|term| near(term).into_iter().any(|other| is_friend(other))) || is_first()) {
                return Some(NO_FRIEND);
            }
        }
        if terms(pod, "podAntiAffinity").iter().any(|term| near(term).into_iter().any(|other| self.chooses(term, pod, other))) {
            return Some(FOE);
        }
        let avoided = |other: &Place| {
            let same = |term: &Value| domain(term, &place.node).is_some() && domain(term, &place.node) == domain(term, &other.node);
            let avoids = |theirs: &Arc<Value>| {
                terms(theirs, "podAntiAffinity").iter().any(|term| same(term) && self.chooses(term, theirs, pod))
            };
            other.pods.iter().any(avoids)
        };
        self.places.iter().any(avoided).then_some(FOE_OF_OTHERS)
    }

    /// Whether a term of `of` chooses `pod`.
    fn chooses(&self, term: &Value, of: &Value, pod: &Value) -> bool {
        let ns = text(pod, "namespace");
        let named = term.get("namespaces").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        let selected = term.get("namespaceSelector").filter(|selector| selector.is_object());
        let labels = || self.namespaces.iter().find(|namespace| text(namespace, "name") == ns).map(|n| &n["metadata"]["labels"]);
        let here = named.iter().any(|name| name == ns)
            || selected.and_then(read).is_some_and(|selector| labels().is_some_and(|labels| selector.matches(labels)))
            || (named.is_empty() && selected.is_none() && text(of, "namespace") == ns);
        here && selector(term, of).is_some_and(|selector| selector.matches(&pod["metadata"]["labels"]))
    }
}

/// Where a node lies, as a constraint or term divides the cluster.
fn domain<'a>(of: &Value, node: &'a Value) -> Option<&'a str> {
    node["metadata"]["labels"].get(of["topologyKey"].as_str()?).and_then(Value::as_str)
}

/// The selector of a constraint or term, narrowed to the values that the pod has for its `matchLabelKeys`. Where there is none, nobody is
/// chosen; by one that says nothing, everybody.
fn selector(of: &Value, pod: &Value) -> Option<Selector> {
    let mut selector = of.get("labelSelector").filter(|selector| selector.is_object())?.clone();
    for key in of.get("matchLabelKeys").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if let Some(value) = pod["metadata"]["labels"].get(key) {
            selector["matchLabels"][key] = value.clone();
        }
    }
    read(&selector)
}

fn read(selector: &Value) -> Option<Selector> {
    Selector::of(selector).ok()
}

/// The required terms of a pod's affinity (`podAffinity`) or anti-affinity.
fn terms<'a>(pod: &'a Value, kind: &str) -> &'a [Value] {
    let affinity = pod["spec"].get("affinity").and_then(|affinity| affinity.get(kind));
    let required = affinity.and_then(|kind| kind.get("requiredDuringSchedulingIgnoredDuringExecution"));
    required.and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Whether another pod that arrives may let a pod in, so that it is worth another look then: as the company that it seeks, or by evening out
/// who is where. Who keeps away from others gains nothing by more of them.
pub fn minds_others(pod: &Value) -> bool {
    let spreads = pod["spec"].get("topologySpreadConstraints").is_some_and(|value| !value.is_null());
    spreads || !terms(pod, "podAffinity").is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Nodes `a`, `b` of zone east and `c` of zone west, with pods of app `web` on them as numbered.
    fn places(pods: [usize; 3], theirs: Value) -> Vec<Place> {
        let of = |(i, name): (usize, &str)| {
            let zone = if name == "c" { "west" } else { "east" };
            let pod = json!({"metadata": {"namespace": "x", "labels": {"app": "web"}}, "spec": theirs.clone()});
            let node = json!({"metadata": {"name": name, "labels": {"zone": zone, "host": name}}});
            let mut place = Place::of(Arc::new(node));
            (0..pods[i]).for_each(|_| place.take(Arc::new(pod.clone())));
            place
        };
        ["a", "b", "c"].into_iter().enumerate().map(of).collect()
    }

    /// Why a pod of app `app` is kept off each of the nodes.
    #[track_caller]
    fn check(app: &str, spec: Value, places: &[Place], expected: [Option<&'static str>; 3]) {
        let pod = json!({"metadata": {"namespace": "x", "labels": {"app": app}}, "spec": spec});
        let namespaces = [Arc::new(json!({"metadata": {"name": "x", "labels": {"team": "one"}}}))];
        let neighbourhood = Neighbourhood { places, namespaces: &namespaces };
        let found: Vec<_> = places.iter().map(|place| neighbourhood.refusal(&pod, place)).collect();
        assert_eq!(found, expected, "{pod}");
    }

    #[test]
    fn pods_are_spread_over_zones_and_hosts() {
        let spread = |key: &str, more: Value| {
            let mut one = json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "web"}}});
            json_patch::merge(&mut one, &more);
            json!({"topologySpreadConstraints": [one]})
        };
        let none = json!({});
        check("web", spread("zone", none.clone()), &places([1, 0, 0], none.clone()), [Some(NOT_SPREAD), Some(NOT_SPREAD), None]);
        check("web", spread("host", none.clone()), &places([1, 0, 0], none.clone()), [Some(NOT_SPREAD), None, None]);
        check("web", spread("zone", none.clone()), &places([1, 0, 1], none.clone()), [None; 3]);
        check("web", spread("rack", none.clone()), &places([0; 3], none.clone()), [Some(NO_LABEL); 3]);
        check("web", spread("zone", json!({"maxSkew": 2})), &places([1, 0, 0], none.clone()), [None; 3]);
        check(
            "web",
            spread("zone", json!({"minDomains": 3})),
            &places([1, 0, 0], none.clone()),
            [Some(NOT_SPREAD), Some(NOT_SPREAD), None],
        );
        check("web", spread("zone", json!({"whenUnsatisfiable": "ScheduleAnyway"})), &places([9, 0, 0], none.clone()), [None; 3]);
        // One that the constraint does not count goes anywhere.
        check("other", spread("zone", none.clone()), &places([1, 0, 0], none), [None; 3]);
    }

    #[test]
    fn pods_keep_together_and_apart_and_others_keep_them_off() {
        let term = |more: Value| {
            let mut one = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}});
            json_patch::merge(&mut one, &more);
            json!([one])
        };
        let with =
            |kind: &str, more: Value| json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": term(more)}}});
        let none = json!({});
        check("api", with("podAffinity", none.clone()), &places([1, 0, 0], none.clone()), [None, None, Some(NO_FRIEND)]);
        check("api", with("podAffinity", none.clone()), &places([0; 3], none.clone()), [Some(NO_FRIEND); 3]);
        check("web", with("podAffinity", none.clone()), &places([0; 3], none.clone()), [None; 3]);
        check(
            "web",
            with("podAntiAffinity", json!({"topologyKey": "host"})),
            &places([1, 0, 1], none.clone()),
            [Some(FOE), None, Some(FOE)],
        );
        let shy = with("podAntiAffinity", json!({"labelSelector": {"matchLabels": {"app": "api"}}}));
        check("api", none.clone(), &places([1, 0, 0], shy), [Some(FOE_OF_OTHERS), Some(FOE_OF_OTHERS), None]);
        // Terms look into their own namespace unless they say otherwise.
        for (elsewhere, expected) in [
            (json!({"namespaces": ["y"]}), [None; 3]),
            (json!({"namespaceSelector": {}}), [Some(FOE), Some(FOE), None]),
            (json!({"namespaceSelector": {"matchLabels": {"team": "two"}}}), [None; 3]),
        ] {
            check("web", with("podAntiAffinity", elsewhere), &places([1, 0, 0], none.clone()), expected);
        }
    }
}
