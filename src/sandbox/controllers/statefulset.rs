//! Keeps the pods of a StatefulSet. Each has a number, and by it a name that outlives it; they come in order and go in reverse, one after
//! the other unless the set is `Parallel`, and an update replaces them from the last to the first, down to its partition.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::claim::claimed_where;
use super::history::{History, template_of};
use super::template::pod_of;
use super::{CREATED_MAX, Shared, follow};
use crate::sandbox::objects::{Key, Rounding, available_in, count_or_percent, has_ended, int, is_leaving, is_ready, key};
use crate::sandbox::recorder::{Recorder, Spot};
use crate::sandbox::resource::{PODS, STATEFULSETS};
use crate::sandbox::store::{DeleteOptions, Preconditions, StoreError, text};

const POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
const POD_INDEX: &str = "apps.kubernetes.io/pod-index";
const REVISION: &str = "controller-revision-hash";
/// Before a step that the store refused is taken again: what stands in its way may be nobody's whose end would be told to us.
const AGAIN: Duration = Duration::from_secs(1);

pub async fn run(shared: Shared) {
    let recorder = Recorder::new(&shared.store, "statefulset-controller", Spot::Nowhere);
    follow(&shared, &STATEFULSETS, &PODS, |at| Work { shared: &shared, recorder: &recorder }.sync(at)).await;
}

struct Work<'a> {
    shared: &'a Shared,
    recorder: &'a Recorder,
}

/// What a set asks for.
struct Wish {
    name: String,
    /// The number of the first pod.
    start: i64,
    replicas: i64,
    min_ready_s: i64,
    order: Order,
}

/// The pods that are there of those that a set asks for, by number.
type Replicas = BTreeMap<i64, Arc<Value>>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    /// Each waits for the one before it to be available.
    OneByOne,
    Parallel,
}

/// Whether there is more to do in this look.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    GoOn,
    Wait,
}

impl Wish {
    fn of(set: &Value) -> Wish {
        let spec = &set["spec"];
        Wish {
            name: text(set, "name").to_owned(),
            start: int(&spec["ordinals"]["start"], 0),
            replicas: int(&spec["replicas"], 1),
            min_ready_s: int(&spec["minReadySeconds"], 0),
            order: if spec["podManagementPolicy"] == "Parallel" { Order::Parallel } else { Order::OneByOne },
        }
    }

    fn is_available(&self, pod: &Value) -> bool {
        is_running(pod) && available_in(pod, self.min_ready_s).is_some_and(|left| left.is_zero())
    }

    /// The numbers of its pods. There may be more than would fit into memory.
    fn numbers(&self) -> Range<i64> {
        self.start..self.start.saturating_add(self.replicas)
    }

    /// Whether a pod counts as one that is missing for now.
    fn lacks(&self, pod: &Value) -> bool {
        !self.is_available(pod) || is_leaving(pod)
    }
}

impl Work<'_> {
    /// One look; and after how long to look again if nothing changes.
    fn sync(&self, (ns, name): &Key) -> Option<Duration> {
        let set = self.shared.store.get(&STATEFULSETS, ns, name)?;
        let Ok(history) = History::of(&self.shared.store, &set) else { return Some(AGAIN) };
        let managed = if is_leaving(&set) { Ok(()) } else { self.manage(&set, &history) };
        let pods = self.pods(&set);
        let used: BTreeSet<&str> = pods.iter().map(|pod| revision(pod)).collect();
        let waits = self.write_status(&set, &pods, &history);
        history.forget_old(&self.shared.store, &set, &used);
        managed.err().map(|_| AGAIN).into_iter().chain(waits).min()
    }

    /// Its pods: what bears a name that it gives.
    fn pods(&self, set: &Value) -> Vec<Arc<Value>> {
        let name = text(set, "name");
        claimed_where(&self.shared.store, &STATEFULSETS, set, &PODS, |pod| ordinal(name, pod).is_some())
    }

    fn manage(&self, set: &Value, history: &History) -> Result<(), StoreError> {
        let wish = Wish::of(set);
        let mut replicas = Replicas::new();
        let mut condemned = vec![];
        for pod in self.pods(set) {
            match ordinal(&wish.name, &pod).filter(|number| wish.numbers().contains(number)) {
                Some(number) => drop(replicas.insert(number, pod)),
                None => condemned.push(pod),
            }
        }
        let mut made = 0;
        for number in wish.numbers() {
            if !replicas.contains_key(&number) {
                if made == CREATED_MAX {
                    // Those that were made will have the set looked at again.
                    return Ok(());
                }
                made += 1;
            }
            let step = self.keep(set, &wish, history, number, &mut replicas)?;
            if step == Step::Wait && wish.order == Order::OneByOne {
                return Ok(());
            }
        }
        condemned.sort_by_key(|pod| Reverse(ordinal(&wish.name, pod)));
        // In order, the lowest of those that are to go and are broken does not wait for itself to be well.
        let broken = condemned.iter().rev().find(|pod| wish.lacks(pod)).map(|pod| text(pod, "uid").to_owned());
        for pod in &condemned {
            let one_by_one = wish.order == Order::OneByOne;
            let is_broken = broken.as_deref() == Some(text(pod, "uid"));
            match is_leaving(pod) {
                true if one_by_one => return Ok(()),
                true => continue,
                false if one_by_one && !wish.is_available(pod) && !is_broken => return Ok(()),
                false => self.delete(set, pod)?,
            }
            if one_by_one {
                return Ok(());
            }
        }
        self.update(set, &wish, history, &replicas)
    }

    /// Makes the pod of that number where it is missing, and has it replaced where it has ended.
    fn keep(&self, set: &Value, wish: &Wish, history: &History, number: i64, replicas: &mut Replicas) -> Result<Step, StoreError> {
        let Some(pod) = replicas.get(&number) else {
            replicas.insert(number, self.create(set, wish, history, number)?);
            return Ok(Step::Wait);
        };
        if has_ended(pod) {
            if !is_leaving(pod) {
                self.delete(set, pod)?;
            }
            return Ok(Step::Wait);
        }
        if wish.lacks(pod) && wish.order == Order::OneByOne {
            return Ok(Step::Wait);
        }
        self.name(set, number, pod)?;
        Ok(Step::GoOn)
    }

    /// Replaces pods of another revision, from the last number down, as long as no more are missing than may be.
    fn update(&self, set: &Value, wish: &Wish, history: &History, replicas: &Replicas) -> Result<(), StoreError> {
        let strategy = &set["spec"]["updateStrategy"];
        if strategy["type"] == "OnDelete" {
            return Ok(());
        }
        let rolling = strategy.get("rollingUpdate").unwrap_or(&Value::Null);
        let first = wish.start.saturating_add(int(&rolling["partition"], 0));
        let most = count_or_percent(&rolling["maxUnavailable"], wish.replicas, Rounding::Down).unwrap_or(1).max(1);
        let missing = wish.replicas - replicas.values().filter(|pod| !wish.lacks(pod)).count() as i64;
        let latest = text(&history.update, "name");
        let free = replicas.iter().rev().take_while(|(number, _)| **number >= first).map(|(_, pod)| pod);
        let outdated = free.filter(|pod| revision(pod) != latest && !is_leaving(pod));
        for pod in outdated.take(usize::try_from(most - missing).unwrap_or(0)) {
            self.delete(set, pod)?;
        }
        Ok(())
    }

    fn create(&self, set: &Value, wish: &Wish, history: &History, number: i64) -> Result<Arc<Value>, StoreError> {
        let revision = if stays_behind(set, wish, number) { &history.current } else { &history.update };
        let mut of_revision = set.clone();
        of_revision["spec"]["template"] = template_of(revision);
        let mut pod = pod_of(&of_revision);
        let name = format!("{}-{number}", wish.name);
        pod["metadata"]["name"] = json!(name);
        pod["metadata"]["labels"][REVISION] = json!(text(revision, "name"));
        identify(&mut pod, &name, number);
        pod["spec"]["hostname"] = json!(name);
        if let Some(service) = set["spec"].get("serviceName").filter(|service| *service != "") {
            pod["spec"]["subdomain"] = service.clone();
        }
        let made = self.shared.make_pod(pod);
        if !matches!(made, Err(StoreError::AlreadyExists { .. })) {
            self.say("create", set, &name, made.as_ref().err());
        }
        made
    }

    fn delete(&self, set: &Value, pod: &Value) -> Result<(), StoreError> {
        let (ns, name) = key(pod);
        let demands = Preconditions { uid: Some(text(pod, "uid").to_owned()), ..Preconditions::default() };
        let how = DeleteOptions { demands, ..DeleteOptions::default() };
        let deleted = self.shared.store.begin_delete(&PODS, &ns, &name, &how);
        self.say("delete", set, &name, deleted.as_ref().err());
        deleted.map(drop)
    }

    /// Gives a pod back the labels of its number, where somebody has changed them.
    fn name(&self, set: &Value, number: i64, pod: &Value) -> Result<(), StoreError> {
        let (ns, name) = key(pod);
        let mut named = pod.clone();
        identify(&mut named, &name, number);
        if named == *pod {
            return Ok(());
        }
        let changed = self.shared.store.update(&PODS, &ns, &name, |pod| {
            identify(pod, &name, number);
            Ok(())
        });
        self.say("update", set, &name, changed.as_ref().err());
        changed.map(drop)
    }

    fn say(&self, verb: &str, set: &Value, pod: &str, error: Option<&StoreError>) {
        let title = format!("{}{}", verb[..1].to_uppercase(), &verb[1..]);
        let what = format!("{verb} Pod {pod} in StatefulSet {}", text(set, "name"));
        match error {
            None => self.recorder.normal(set, &format!("Successful{title}"), &format!("{what} successful")),
            Some(error) => self.recorder.warning(set, &format!("Failed{title}"), &format!("{what} failed error: {error}")),
        }
    }

    /// Also gives after how long the next of its pods will have been ready for long enough.
    fn write_status(&self, set: &Value, pods: &[Arc<Value>], history: &History) -> Option<Duration> {
        let wish = Wish::of(set);
        let (current, update) = (text(&history.current, "name"), text(&history.update, "name"));
        let count = |of: &dyn Fn(&Value) -> bool| pods.iter().filter(|pod| of(pod)).count() as i64;
        let at = |name: &str| count(&|pod: &Value| !is_leaving(pod) && revision(pod) == name);
        let (ready, available) = (count(&is_running), count(&|pod: &Value| wish.is_available(pod)));
        let (updated, total) = (at(update), pods.len() as i64);
        // An update is over when every pod is of its revision; a partition that holds some back keeps it open.
        let rolls = set["spec"]["updateStrategy"]["type"] == "RollingUpdate";
        let over = rolls && [updated, ready, total].iter().all(|n| *n == wish.replicas);
        let (current, at_current) = if over { (update, updated) } else { (current, at(current)) };
        let (ns, name) = key(set);
        // A set that went meanwhile has no status to write.
        let _ = self.shared.store.update(&STATEFULSETS, &ns, &name, |present| {
            let mut status = json!({"observedGeneration": set["metadata"]["generation"], "replicas": total});
            for (field, n) in [("readyReplicas", ready), ("currentReplicas", at_current), ("updatedReplicas", updated)] {
                if n > 0 {
                    status[field] = json!(n);
                }
            }
            status["currentRevision"] = json!(current);
            status["updateRevision"] = json!(update);
            status["collisionCount"] = json!(history.collisions);
            status["availableReplicas"] = json!(available);
            present["status"] = status;
            Ok(())
        });
        let waits = pods.iter().filter(|pod| is_running(pod)).filter_map(|pod| available_in(pod, wish.min_ready_s));
        waits.filter(|left| !left.is_zero()).min().map(|left| left + Duration::from_millis(1))
    }
}

/// Whether the pod of that number belongs to what an update holds back.
fn stays_behind(set: &Value, wish: &Wish, number: i64) -> bool {
    let strategy = &set["spec"]["updateStrategy"];
    let held = match strategy.get("rollingUpdate") {
        Some(rolling) => int(&rolling["partition"], 0),
        None => int(&set["status"]["currentReplicas"], 0),
    };
    strategy["type"] == "RollingUpdate" && number < wish.start + held
}

fn is_running(pod: &Value) -> bool {
    pod["status"]["phase"] == "Running" && is_ready(pod)
}

fn revision(pod: &Value) -> &str {
    pod["metadata"]["labels"][REVISION].as_str().unwrap_or_default()
}

/// The number in the name of a pod of the set `name`: `web-3` is 3. `None` for what the set would not call so.
fn ordinal(name: &str, pod: &Value) -> Option<i64> {
    let digits = text(pod, "name").strip_prefix(name)?.strip_prefix('-')?;
    let number: u32 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number.into())
}

fn identify(pod: &mut Value, name: &str, number: i64) {
    pod["metadata"]["labels"][POD_NAME] = json!(name);
    pod["metadata"]["labels"][POD_INDEX] = json!(number.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_number_is_read_only_off_a_name_that_its_set_would_give() {
        let of = |pod: &str| ordinal("web", &json!({"metadata": {"name": pod}}));
        for (pod, number) in [("web-0", Some(0)), ("web-12", Some(12))] {
            assert_eq!(of(pod), number, "{pod}");
        }
        for stranger in ["web", "web-", "web-01", "web-a", "web-1-2", "webs-1", "other-1", "web--1"] {
            assert_eq!(of(stranger), None, "{stranger}");
        }
    }
}
