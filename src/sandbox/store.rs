//! Where the sandbox keeps its objects: every write gets the next resource version and goes into a bounded history, from which any
//! number of watchers read. Watchers have no queues of their own, so a slow one costs nothing: when history has moved past it, it is
//! told that it is [`Gone`] and must list again, exactly as a real server does.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::Stream;
use rand::{Rng, RngExt, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Map, Value, json};
use tokio::sync::watch;

use super::defaults;
use super::resource::{DEPLOYMENTS, EVENTS, NAMESPACES, PODS, RESOURCES, Resource};
use crate::time::wall_now;

/// Changes of one resource that are kept for watchers. A watcher that falls further behind is [`Gone`].
pub const HISTORY_MAX: usize = 4096;
/// Objects of one resource. Creating more is refused; the oldest event makes room for a new one, as a real server's hour does.
pub const OBJECTS_MAX: usize = 10_000;
/// Events that are kept.
pub const EVENTS_MAX: usize = 2_000;
/// The version of an empty store. Versions before it count as compacted.
pub const FIRST_VERSION: u64 = 1000;

/// All objects, with their versions and their recent history.
pub struct Store {
    state: Mutex<State>,
    /// One bell per resource, rung after each of its changes.
    bells: HashMap<Key, watch::Sender<u64>>,
}

/// Group and plural: what objects of a resource are kept under.
type Key = (&'static str, &'static str);

struct State {
    /// The version of the latest change of any resource.
    version: u64,
    rng: Pcg64Mcg,
    shelves: HashMap<Key, Shelf>,
}

#[derive(Default)]
struct Shelf {
    /// By namespace (empty for cluster-wide resources) and name.
    objects: BTreeMap<(String, String), Arc<Value>>,
    history: VecDeque<Change>,
    /// The version of the last change that history forgot.
    forgotten: u64,
}

/// What happened to an object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One change, as watchers see it.
#[derive(Clone, Debug)]
pub struct Change {
    pub kind: ChangeKind,
    /// The object after the change; for a deletion its last state, carrying the version of the deletion.
    pub object: Arc<Value>,
    /// The resource version of the change.
    pub version: u64,
    /// The object before the change; `None` for an addition.
    pub previous: Option<Arc<Value>>,
}

/// Why the store refused.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error("{} \"{name}\" not found", .resource.qualified())]
    NotFound { resource: &'static Resource, name: String },
    #[error("{} \"{name}\" already exists", .resource.qualified())]
    AlreadyExists { resource: &'static Resource, name: String },
    /// The caller's view of the object is out of date.
    #[error("operation cannot be fulfilled on {} \"{name}\": {why}", .resource.qualified())]
    Conflict { resource: &'static Resource, name: String, why: String },
    /// A uid or version that the caller demanded does not hold.
    #[error("operation cannot be fulfilled on {} \"{name}\": {why}", .resource.kind)]
    Precondition { resource: &'static Resource, name: String, why: String },
    #[error("namespaces \"{namespace}\" not found")]
    NoNamespace { namespace: String },
    #[error("unable to create new content in namespace {namespace} because it is being terminated")]
    NamespaceTerminating { resource: &'static Resource, name: String, namespace: String },
    /// Admission does not let it in.
    #[error("{} \"{name}\" is forbidden: {why}", .resource.qualified())]
    Forbidden { resource: &'static Resource, name: String, why: String },
    #[error("the sandbox holds at most {OBJECTS_MAX} {}", .resource.qualified())]
    Full { resource: &'static Resource },
    /// The closure of an update refused, in words.
    #[error("{0}")]
    Refused(String),
}

/// The history no longer reaches back to where a watcher was: list again, and watch from there.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too old resource version: {asked} ({oldest})")]
pub struct Gone {
    /// The version that was asked for.
    pub asked: u64,
    /// The oldest version that can be watched from.
    pub oldest: u64,
}

/// What a caller demands of the object that it deletes or updates.
#[derive(Clone, Default, Debug)]
pub struct Preconditions {
    pub uid: Option<String>,
    pub resource_version: Option<String>,
}

/// How a caller wants an object deleted.
#[derive(Clone, Default, Debug)]
pub struct DeleteOptions {
    /// For a pod; its own grace period by default.
    pub grace_s: Option<i64>,
    pub demands: Preconditions,
    pub propagation: Propagation,
}

/// What becomes of the objects that a deleted one owns. The garbage collector reads it off the object's finalizers.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Propagation {
    /// What the object's finalizers say already; without any, as `Background`.
    #[default]
    Unsaid,
    /// They go after it.
    Background,
    /// They go before it.
    Foreground,
    /// They stay.
    Orphan,
}

/// The finalizer that holds an object until what it owns is gone.
pub const FOREGROUND: &str = "foregroundDeletion";
/// The finalizer that holds an object until what it owns is free of it.
pub const ORPHAN: &str = "orphan";

impl Propagation {
    /// Brings the finalizers to this policy.
    fn settle(self, object: &mut Value) {
        let wanted = match self {
            Propagation::Unsaid => return,
            Propagation::Background => None,
            Propagation::Foreground => Some(FOREGROUND),
            Propagation::Orphan => Some(ORPHAN),
        };
        let mut list = object["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
        list.retain(|finalizer| (finalizer != FOREGROUND && finalizer != ORPHAN) || finalizer.as_str() == wanted);
        if let Some(wanted) = wanted.filter(|wanted| !list.iter().any(|finalizer| finalizer == wanted)) {
            list.push(json!(wanted));
        }
        match list.is_empty() {
            true => metadata(object).shift_remove("finalizers"),
            false => metadata(object).insert("finalizers".into(), json!(list)),
        };
    }
}

/// How [`Store::begin_delete`] ended.
#[derive(Clone, Debug)]
pub enum Deletion {
    /// It is gone; this was its last state.
    Removed(Arc<Value>),
    /// It has its `deletionTimestamp`, and waits for its kubelet or its finalizers.
    Marked(Arc<Value>),
}

impl Deletion {
    pub fn object(&self) -> &Arc<Value> {
        match self {
            Deletion::Removed(object) | Deletion::Marked(object) => object,
        }
    }
}

impl Store {
    /// A store with the namespaces `default` and `kube-system`. Uids and generated names follow from `seed`.
    pub fn new(seed: u64) -> Arc<Store> {
        let key = |r: &&'static Resource| (r.group, r.plural);
        let store = Arc::new(Store {
            state: Mutex::new(State {
                version: FIRST_VERSION,
                rng: Pcg64Mcg::seed_from_u64(seed),
                shelves: RESOURCES.iter().map(|r| (key(r), Shelf { forgotten: FIRST_VERSION, ..Shelf::default() })).collect(),
            }),
            bells: RESOURCES.iter().map(|r| (key(r), watch::Sender::new(FIRST_VERSION))).collect(),
        });
        for name in ["default", "kube-system"] {
            let namespace = json!({"metadata": {"name": name}});
            store.create(&NAMESPACES, namespace).expect("a new store has room for its first namespaces");
        }
        store
    }

    /// The version of the latest change.
    pub fn version(&self) -> u64 {
        self.lock().version
    }

    /// The object of that name; `ns` is ignored for cluster-wide resources.
    pub fn get(&self, resource: &'static Resource, ns: &str, name: &str) -> Option<Arc<Value>> {
        self.lock().shelf(resource).objects.get(&address(resource, ns, name)).cloned()
    }

    /// All objects of a namespace, or of all namespaces, by namespace and name, and the version at which the list holds.
    pub fn list(&self, resource: &'static Resource, ns: Option<&str>) -> (Vec<Arc<Value>>, u64) {
        let mut state = self.lock();
        let version = state.version;
        (state.shelf(resource).in_namespace(resource, ns), version)
    }

    /// Stores a new object, completed by [`defaults`]. It gets `uid`, `resourceVersion`, `creationTimestamp`, `generation` where the resource counts it, and a
    /// name when it only has `generateName`. Its namespace must exist and must not be terminating.
    pub fn create(&self, resource: &'static Resource, object: Value) -> Result<Arc<Value>, StoreError> {
        let mut state = self.lock();
        let created = state.prepared(resource, object)?;
        let (ns, name) = (text(&created, "namespace").to_owned(), text(&created, "name").to_owned());
        let at = address(resource, &ns, &name);
        if *resource == EVENTS {
            state.forget_oldest_event();
        } else if state.shelf(resource).objects.len() >= OBJECTS_MAX {
            return Err(StoreError::Full { resource });
        }
        let object = state.write(resource, at, ChangeKind::Added, created);
        self.ring(resource, state);
        Ok(object)
    }

    /// What [`Store::create`] would store, without storing it.
    pub fn create_dry(&self, resource: &'static Resource, object: Value) -> Result<Value, StoreError> {
        self.lock().prepared(resource, object)
    }

    /// Changes an object in place. No change means no new version. A change of anything but `metadata` and `status` counts as a new
    /// generation. Identity (uid, name, creation time) cannot be changed. An object that is being deleted is removed when its last finalizer goes.
    pub fn update(
        &self,
        resource: &'static Resource,
        ns: &str,
        name: &str,
        change: impl FnOnce(&mut Value) -> Result<(), StoreError>,
    ) -> Result<Arc<Value>, StoreError> {
        self.try_update(resource, ns, name, change)
    }

    /// [`Store::update`] for callers whose closure fails in its own way.
    pub fn try_update<E: From<StoreError>>(
        &self,
        resource: &'static Resource,
        ns: &str,
        name: &str,
        change: impl FnOnce(&mut Value) -> Result<(), E>,
    ) -> Result<Arc<Value>, E> {
        let mut state = self.lock();
        let at = address(resource, ns, name);
        let before = state.existing(resource, &at)?;
        let mut after = (*before).clone();
        change(&mut after)?;
        settle(resource, &before, &mut after);
        if after == *before {
            return Ok(before);
        }
        let object = if finished(&after) {
            // The last finalizer of an object that was only waiting for it: this write is its removal.
            state.write(resource, at, ChangeKind::Deleted, after)
        } else {
            state.write(resource, at, ChangeKind::Modified, after)
        };
        self.ring(resource, state);
        Ok(object)
    }

    /// What [`Store::try_update`] would store, without storing it.
    pub fn try_update_dry<E: From<StoreError>>(
        &self,
        resource: &'static Resource,
        ns: &str,
        name: &str,
        change: impl FnOnce(&mut Value) -> Result<(), E>,
    ) -> Result<Value, E> {
        let before = self.lock().existing(resource, &address(resource, ns, name))?;
        let mut after = (*before).clone();
        change(&mut after)?;
        settle(resource, &before, &mut after);
        Ok(after)
    }

    /// Removes an object now; with finalizers it is marked as terminating instead, and goes with the last of them.
    /// This is how a kubelet ends a pod whose containers have stopped.
    pub fn delete(&self, resource: &'static Resource, ns: &str, name: &str) -> Result<Arc<Value>, StoreError> {
        let now = DeleteOptions { grace_s: Some(0), ..DeleteOptions::default() };
        self.begin_delete(resource, ns, name, &now).map(|d| d.object().clone())
    }

    /// Begins a deletion as a client asks for it. A pod that runs gets its grace and is marked; a second request can only shorten
    /// that. An object with finalizers is marked. Everything else is removed.
    pub fn begin_delete(
        &self,
        resource: &'static Resource,
        ns: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deletion, StoreError> {
        let mut state = self.lock();
        let at = address(resource, ns, name);
        let before = state.existing(resource, &at)?;
        options.demands.check(resource, name, &before)?;
        let (marked, waits) = sentenced(resource, &before, options);
        let latest = match marked {
            Some(marked) => state.write(resource, at.clone(), ChangeKind::Modified, marked),
            None => before,
        };
        let deletion = if waits {
            Deletion::Marked(latest)
        } else {
            let last = (*latest).clone();
            Deletion::Removed(state.write(resource, at, ChangeKind::Deleted, last))
        };
        self.ring(resource, state);
        Ok(deletion)
    }

    /// What [`Store::begin_delete`] would answer, without deleting anything.
    pub fn begin_delete_dry(
        &self,
        resource: &'static Resource,
        ns: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deletion, StoreError> {
        let before = self.lock().existing(resource, &address(resource, ns, name))?;
        options.demands.check(resource, name, &before)?;
        let (marked, waits) = sentenced(resource, &before, options);
        let latest = marked.map_or(before, Arc::new);
        Ok(if waits { Deletion::Marked(latest) } else { Deletion::Removed(latest) })
    }

    /// Changes of a resource, in order, without end. From a version: what came after it, or [`Gone`] when history does not reach back
    /// that far. From `None`: first an [`ChangeKind::Added`] for each object that is there now, then what changes.
    pub fn watch(self: &Arc<Self>, resource: &'static Resource, ns: Option<&str>, from: Option<u64>) -> Result<WatchStream, Gone> {
        let wake = self.bells[&(resource.group, resource.plural)].subscribe();
        let mut state = self.lock();
        let version = state.version;
        let shelf = state.shelf(resource);
        let (cursor, pending) = match from {
            Some(asked) if asked < shelf.forgotten => return Err(Gone { asked, oldest: shelf.forgotten }),
            Some(asked) => (asked, VecDeque::new()),
            None => {
                let present = shelf.in_namespace(resource, ns).into_iter();
                let added = present.map(|object| {
                    let version = version_of(&object);
                    Change { kind: ChangeKind::Added, object, version, previous: None }
                });
                (version, added.collect())
            }
        };
        drop(state);
        Ok(WatchStream { store: self.clone(), resource, ns: ns.map(str::to_owned), cursor, pending, wake })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic inside an update's closure leaves the state as it was: closures work on a copy.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of the state, then wakes the watchers, so that they do not wake into a held lock.
    fn ring(&self, resource: &'static Resource, state: MutexGuard<'_, State>) {
        let version = state.version;
        drop(state);
        self.bells[&(resource.group, resource.plural)].send_replace(version);
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("version", &self.version()).finish_non_exhaustive()
    }
}

impl Preconditions {
    pub fn check(&self, resource: &'static Resource, name: &str, object: &Value) -> Result<(), StoreError> {
        let conflict = |why: String| Err(StoreError::Precondition { resource, name: name.to_owned(), why });
        let (uid, version) = (text(object, "uid"), text(object, "resourceVersion"));
        match (&self.uid, &self.resource_version) {
            (Some(asked), _) if asked != uid => conflict(format!(
                "the UID in the precondition ({asked}) does not match the UID in record ({uid}). The object might have been deleted \
                 and then recreated"
            )),
            (_, Some(asked)) if asked != version => conflict(format!(
                "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record ({version}). The \
                 object might have been modified"
            )),
            _ => Ok(()),
        }
    }
}

impl State {
    fn shelf(&mut self, resource: &'static Resource) -> &mut Shelf {
        self.shelves.get_mut(&(resource.group, resource.plural)).expect("every resource of the table has its shelf")
    }

    fn existing(&mut self, resource: &'static Resource, at: &(String, String)) -> Result<Arc<Value>, StoreError> {
        let found = self.shelf(resource).objects.get(at).cloned();
        found.ok_or_else(|| StoreError::NotFound { resource, name: at.1.clone() })
    }

    /// Everything that a new object gets from the server, but for its version.
    fn prepared(&mut self, resource: &'static Resource, mut object: Value) -> Result<Value, StoreError> {
        object["apiVersion"] = json!(resource.api_version());
        object["kind"] = json!(resource.kind);
        let (uid, suffix) = (uid(&mut self.rng), suffix(&mut self.rng));
        let (mut name, prefix) = (text(&object, "name").to_owned(), text(&object, "generateName").to_owned());
        if name.is_empty() && !prefix.is_empty() {
            // A long prefix is cut so that the suffix fits, as a real server does.
            name = prefix.chars().take(58).collect::<String>() + &suffix;
            metadata(&mut object).insert("name".into(), json!(name));
        }
        if name.is_empty() {
            return Err(StoreError::Refused("name or generateName is required".into()));
        }
        let ns = text(&object, "namespace").to_owned();
        if resource.namespaced {
            let Some(namespace) = self.shelf(&NAMESPACES).objects.get(&(String::new(), ns.clone())) else {
                return Err(StoreError::NoNamespace { namespace: ns });
            };
            if !text(namespace, "deletionTimestamp").is_empty() {
                return Err(StoreError::NamespaceTerminating { resource, name, namespace: ns });
            }
        }
        if self.shelf(resource).objects.contains_key(&address(resource, &ns, &name)) {
            return Err(StoreError::AlreadyExists { resource, name });
        }
        let meta = metadata(&mut object);
        for server_owned in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion", "generation"] {
            meta.remove(server_owned);
        }
        if !resource.namespaced {
            meta.remove("namespace");
        }
        meta.insert("uid".into(), json!(uid));
        meta.insert("creationTimestamp".into(), json!(seconds(wall_now())));
        if resource.counts_generations {
            meta.insert("generation".into(), json!(1));
        }
        defaults::apply(resource, &mut object, defaults::Stage::New);
        Ok(ordered(object))
    }

    /// The one place where anything changes: next version, object, history.
    fn write(&mut self, resource: &'static Resource, at: (String, String), kind: ChangeKind, mut object: Value) -> Arc<Value> {
        self.version += 1;
        let version = self.version;
        metadata(&mut object).insert("resourceVersion".into(), json!(version.to_string()));
        let object = Arc::new(object);
        let shelf = self.shelf(resource);
        let previous = match kind {
            ChangeKind::Deleted => shelf.objects.remove(&at),
            ChangeKind::Added | ChangeKind::Modified => shelf.objects.insert(at, object.clone()),
        };
        if shelf.history.len() == HISTORY_MAX
            && let Some(oldest) = shelf.history.pop_front()
        {
            shelf.forgotten = oldest.version;
        }
        shelf.history.push_back(Change { kind, object: object.clone(), version, previous });
        object
    }

    fn forget_oldest_event(&mut self) {
        let shelf = self.shelf(&EVENTS);
        if shelf.objects.len() < EVENTS_MAX {
            return;
        }
        let oldest = shelf.objects.iter().min_by_key(|(_, object)| version_of(object));
        if let Some((at, object)) = oldest.map(|(at, object)| (at.clone(), (**object).clone())) {
            self.write(&EVENTS, at, ChangeKind::Deleted, object);
        }
    }
}

impl Shelf {
    fn in_namespace(&self, resource: &'static Resource, ns: Option<&str>) -> Vec<Arc<Value>> {
        match ns.filter(|_| resource.namespaced) {
            None => self.objects.values().cloned().collect(),
            Some(ns) => {
                let from = (ns.to_owned(), String::new());
                self.objects.range(from..).take_while(|((of, _), _)| of == ns).map(|(_, object)| object.clone()).collect()
            }
        }
    }
}

/// A watcher's place in the history of one resource.
pub struct WatchStream {
    store: Arc<Store>,
    resource: &'static Resource,
    ns: Option<String>,
    /// Everything up to this version has been seen or is pending.
    cursor: u64,
    pending: VecDeque<Change>,
    wake: watch::Receiver<u64>,
}

/// Changes taken from history at once, so that no watcher holds the lock for long.
const BATCH_MAX: usize = 256;

impl WatchStream {
    /// The next change, whenever it comes. Dropping the future loses nothing. After [`Gone`] every further call says so again.
    pub async fn next(&mut self) -> Result<Change, Gone> {
        loop {
            if let Some(change) = self.pending.pop_front() {
                return Ok(change);
            }
            // subtle: marked as seen before looking, so that a change between looking and waiting wakes us.
            self.wake.borrow_and_update();
            if !self.fetch()? && self.wake.changed().await.is_err() {
                // The bell lives in the store, which we hold.
                unreachable!("a store outlives its watchers");
            }
        }
    }

    /// The version that this watch begins after, or is at by now.
    pub fn begins_at(&self) -> u64 {
        self.cursor
    }

    /// The version up to which everything has been handed out: what a bookmark may say. `None` while there is more to hand out.
    pub fn caught_up(&mut self) -> Option<u64> {
        match self.pending.is_empty() && matches!(self.fetch(), Ok(false)) {
            true => Some(self.cursor),
            false => None,
        }
    }

    /// This watch as a stream, which ends after [`Gone`].
    pub fn into_stream(self) -> impl Stream<Item = Result<Change, Gone>> + Send {
        futures::stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(change) => Some((Ok(change), Some(watch))),
                Err(gone) => Some((Err(gone), None)),
            }
        })
    }

    /// Takes the next batch from history; whether it moved on.
    fn fetch(&mut self) -> Result<bool, Gone> {
        let mut state = self.store.lock();
        let version = state.version;
        let shelf = state.shelf(self.resource);
        if self.cursor < shelf.forgotten {
            return Err(Gone { asked: self.cursor, oldest: shelf.forgotten });
        }
        let from = shelf.history.partition_point(|change| change.version <= self.cursor);
        let fresh = shelf.history.len() - from;
        let batch = shelf.history.iter().skip(from).take(BATCH_MAX);
        let mut last = self.cursor;
        for change in batch {
            last = change.version;
            if self.ns.as_deref().is_none_or(|ns| !self.resource.namespaced || text(&change.object, "namespace") == ns) {
                self.pending.push_back(change.clone());
            }
        }
        // With nothing left of this resource, the watch is as far as the whole store is.
        self.cursor = if fresh > BATCH_MAX { last } else { version.max(self.cursor) };
        Ok(fresh > 0)
    }
}

/// A field of an object's metadata, empty when absent.
pub fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

/// An object's resource version as a number; 0 when it has none.
pub fn version_of(object: &Value) -> u64 {
    text(object, "resourceVersion").parse().unwrap_or(0)
}

/// An object's metadata, made when it has none.
pub fn metadata(object: &mut Value) -> &mut Map<String, Value> {
    if !object["metadata"].is_object() {
        object["metadata"] = json!({});
    }
    object["metadata"].as_object_mut().expect("metadata was just made an object")
}

/// A time as Kubernetes objects carry it: whole seconds, UTC.
pub fn seconds(time: jiff::Timestamp) -> String {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// An object with its fields in the order that people read them in.
fn ordered(mut object: Value) -> Value {
    let Some(fields) = object.as_object_mut() else { return object };
    let mut ordered = Map::new();
    for first in ["kind", "apiVersion", "metadata"] {
        if let Some(value) = fields.shift_remove(first) {
            ordered.insert(first.to_owned(), value);
        }
    }
    let status = fields.shift_remove("status");
    ordered.append(fields);
    if let Some(status) = status {
        ordered.insert("status".to_owned(), status);
    }
    Value::Object(ordered)
}

fn address(resource: &'static Resource, ns: &str, name: &str) -> (String, String) {
    (if resource.namespaced { ns.to_owned() } else { String::new() }, name.to_owned())
}

fn has_finalizers(object: &Value) -> bool {
    let listed = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    listed(&object["metadata"]["finalizers"]) || (object["kind"] == "Namespace" && listed(&object["spec"]["finalizers"]))
}

/// What a request for its deletion makes of an object, where it changes it, and whether the object then waits for its kubelet or its
/// finalizers.
fn sentenced(resource: &'static Resource, before: &Value, options: &DeleteOptions) -> (Option<Value>, bool) {
    let graceful = *resource == PODS;
    let asked = if graceful { pod_grace_s(before, options.grace_s) } else { 0 };
    let is_marked = !text(before, "deletionTimestamp").is_empty();
    let was = before["metadata"]["deletionGracePeriodSeconds"].as_i64().filter(|_| is_marked);
    let grace = was.map_or(asked, |was| was.min(asked));
    let mut after = before.clone();
    // An event owns nothing, and the collector looks at none: nobody would ever take the finalizer away.
    if *resource != EVENTS {
        options.propagation.settle(&mut after);
    }
    let waits = grace > 0 || has_finalizers(&after);
    // Marking is a change of its own when there is something to wait for, and for pods always: watchers see the mark first.
    let marks = if is_marked { was.is_some_and(|was| grace < was) } else { waits || graceful };
    if marks {
        after = marked(resource, &after, grace);
    }
    ((after != *before).then_some(after), waits)
}

/// `before` with its marks of deletion. Only the first mark is a new generation; a later one shortens the grace.
fn marked(resource: &'static Resource, before: &Value, grace_s: i64) -> Value {
    let mut after = before.clone();
    let due = wall_now() + std::time::Duration::from_secs(grace_s.max(0) as u64);
    let first = text(before, "deletionTimestamp").is_empty();
    let meta = metadata(&mut after);
    if first && resource.counts_generations {
        let generation = meta.get("generation").and_then(Value::as_i64).unwrap_or(0);
        meta.insert("generation".into(), json!(generation + 1));
    }
    meta.insert("deletionTimestamp".into(), json!(seconds(due)));
    meta.insert("deletionGracePeriodSeconds".into(), json!(grace_s));
    if *resource == NAMESPACES {
        after["status"]["phase"] = json!("Terminating");
    }
    after
}

/// Marked, with nothing left to wait for but, for a pod, its grace.
fn finished(object: &Value) -> bool {
    let grace = object["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    !text(object, "deletionTimestamp").is_empty() && grace == 0 && !has_finalizers(object)
}

/// The grace of a pod: asked for, else its own, else 30 s; none at all when nothing of it runs.
fn pod_grace_s(pod: &Value, asked: Option<i64>) -> i64 {
    let ended = matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    let unscheduled = pod["spec"]["nodeName"].as_str().unwrap_or_default().is_empty();
    if ended || unscheduled {
        return 0;
    }
    let own = pod["spec"]["terminationGracePeriodSeconds"].as_i64().unwrap_or(30);
    asked.unwrap_or(own).max(0)
}

/// Holds what an update may not touch, and counts the generation.
fn settle(resource: &'static Resource, before: &Value, after: &mut Value) {
    after["apiVersion"] = before["apiVersion"].clone();
    after["kind"] = before["kind"].clone();
    let held = ["name", "namespace", "uid", "creationTimestamp", "resourceVersion", "generation", "generateName"];
    let marks = ["deletionTimestamp", "deletionGracePeriodSeconds"];
    let meta = metadata(after);
    for field in held.into_iter().chain(marks) {
        match before["metadata"].get(field) {
            Some(value) => meta.insert(field.into(), value.clone()),
            None => meta.remove(field),
        };
    }
    if desired(before) == desired(after) && !(*resource == DEPLOYMENTS && noted(before) != noted(after)) {
        return;
    }
    defaults::apply(resource, after, defaults::Stage::Changed);
    if resource.counts_generations && !binds(before, after) {
        let generation = before["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
        metadata(after).insert("generation".into(), json!(generation));
    }
}

/// Whether all that happens to a pod is that it gets its node: nobody asked for anything else.
fn binds(before: &Value, after: &Value) -> bool {
    let node = |pod: &Value| pod["spec"].get("nodeName").cloned().unwrap_or_default();
    if before["kind"] != "Pod" || node(before) == node(after) {
        return false;
    }
    let mut unbound = after.clone();
    match before["spec"].get("nodeName") {
        Some(node) => unbound["spec"]["nodeName"] = node.clone(),
        None => drop(unbound["spec"].as_object_mut().map(|spec| spec.shift_remove("nodeName"))),
    }
    desired(before) == desired(&unbound)
}

/// All of an object but its metadata and status: what a new generation is a change of.
fn desired(object: &Value) -> Vec<(&String, &Value)> {
    let fields = object.as_object().into_iter().flatten();
    fields.filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status")).collect()
}

/// A deployment's annotations are desired state, too, but for the one that its controller writes.
fn noted(object: &Value) -> Vec<(&String, &Value)> {
    let annotations = object["metadata"]["annotations"].as_object().into_iter().flatten();
    annotations.filter(|(key, _)| *key != "deployment.kubernetes.io/revision").collect()
}

/// A version 4 uuid.
fn uid(rng: &mut Pcg64Mcg) -> String {
    let bits = (rng.random::<u128>() & !(0xf << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}

/// Five letters that cannot spell a word, as generated names end in.
fn suffix(rng: &mut Pcg64Mcg) -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[rng.next_u32() as usize % LETTERS.len()])).collect()
}

#[cfg(test)]
mod tests {
    use super::super::resource::{CONFIGMAPS, DEPLOYMENTS};
    use super::*;

    fn object(name: &str) -> Value {
        json!({"metadata": {"name": name, "namespace": "default"}, "spec": {"replicas": 1}})
    }

    #[test]
    fn a_new_object_gets_what_a_server_gives() {
        let store = Store::new(7);
        let made = store.create(&DEPLOYMENTS, object("web")).unwrap();
        assert_eq!(made["apiVersion"], "apps/v1");
        assert_eq!(made["metadata"]["generation"], 1);
        assert_eq!(text(&made, "uid").len(), 36);
        assert!(text(&made, "creationTimestamp").ends_with('Z') && text(&made, "creationTimestamp").len() == 20);
        assert!(matches!(store.create(&DEPLOYMENTS, object("web")), Err(StoreError::AlreadyExists { .. })));
        let generated = json!({"metadata": {"generateName": "web-", "namespace": "default"}});
        let named = store.create(&CONFIGMAPS, generated).unwrap();
        assert_eq!(text(&named, "name").len(), 9);
        let elsewhere = json!({"metadata": {"name": "x", "namespace": "nowhere"}});
        assert!(matches!(store.create(&CONFIGMAPS, elsewhere), Err(StoreError::NoNamespace { .. })));
    }

    #[test]
    fn only_a_change_makes_a_version_and_only_desired_state_a_generation() {
        let store = Store::new(7);
        let made = store.create(&DEPLOYMENTS, object("web")).unwrap();
        let same = store.update(&DEPLOYMENTS, "default", "web", |_| Ok(())).unwrap();
        assert_eq!(version_of(&made), version_of(&same));
        let status = store
            .update(&DEPLOYMENTS, "default", "web", |o| {
                o["status"] = json!({"replicas": 1});
                o["metadata"]["uid"] = json!("forged");
                Ok(())
            })
            .unwrap();
        assert!(version_of(&status) > version_of(&made));
        assert_eq!((&status["metadata"]["generation"], text(&status, "uid")), (&json!(1), text(&made, "uid")));
        let spec = store
            .update(&DEPLOYMENTS, "default", "web", |o| {
                o["spec"]["replicas"] = json!(2);
                Ok(())
            })
            .unwrap();
        assert_eq!(spec["metadata"]["generation"], 2);
    }

    #[tokio::test]
    async fn a_watch_sees_every_change_in_order_and_the_past_from_a_version() {
        let store = Store::new(7);
        let mut live = store.watch(&CONFIGMAPS, Some("default"), None).unwrap();
        let from = store.version();
        for i in 0..3 {
            store.create(&CONFIGMAPS, object(&format!("c{i}"))).unwrap();
        }
        store.create(&CONFIGMAPS, json!({"metadata": {"name": "other", "namespace": "kube-system"}})).unwrap();
        store.delete(&CONFIGMAPS, "default", "c1").unwrap();
        let mut past = store.watch(&CONFIGMAPS, Some("default"), Some(from)).unwrap();
        for watch in [&mut live, &mut past] {
            let mut seen = vec![];
            for _ in 0..4 {
                let change = watch.next().await.unwrap();
                seen.push((change.kind, text(&change.object, "name").to_owned(), change.previous.is_some()));
            }
            assert_eq!(seen[3], (ChangeKind::Deleted, "c1".to_owned(), true));
            assert_eq!(seen[0], (ChangeKind::Added, "c0".to_owned(), false));
            assert_eq!(watch.caught_up(), Some(store.version()));
        }
        let mut fresh = store.watch(&CONFIGMAPS, None, None).unwrap();
        let mut names = vec![];
        for _ in 0..3 {
            names.push(text(&fresh.next().await.unwrap().object, "name").to_owned());
        }
        assert_eq!(names, ["c0", "c2", "other"]);
    }

    #[tokio::test]
    async fn a_watcher_that_history_has_passed_is_told_so() {
        let store = Store::new(7);
        let mut slow = store.watch(&CONFIGMAPS, None, None).unwrap();
        store.create(&CONFIGMAPS, object("c")).unwrap();
        for i in 0..=HISTORY_MAX {
            let bump = |o: &mut Value| {
                o["data"] = json!({"i": i.to_string()});
                Ok(())
            };
            store.update(&CONFIGMAPS, "default", "c", bump).unwrap();
        }
        assert!(slow.next().await.is_err());
        assert!(store.watch(&CONFIGMAPS, None, Some(FIRST_VERSION)).is_err());
    }

    #[test]
    fn a_running_pod_is_marked_first_and_a_second_request_shortens_its_grace() {
        let store = Store::new(7);
        let pod = json!({"metadata": {"name": "p", "namespace": "default"},
            "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 5}, "status": {"phase": "Running"}});
        store.create(&PODS, pod).unwrap();
        let ask = |grace_s, demands| {
            store.begin_delete(&PODS, "default", "p", &DeleteOptions { grace_s, demands, ..DeleteOptions::default() })
        };
        let any = Preconditions::default();
        let marked = ask(None, any.clone()).unwrap();
        assert!(matches!(&marked, Deletion::Marked(pod) if pod["metadata"]["deletionGracePeriodSeconds"] == 5));
        let longer = ask(Some(60), any.clone()).unwrap();
        assert_eq!(version_of(longer.object()), version_of(marked.object()), "a longer grace changes nothing");
        let wrong = Preconditions { uid: Some("other".into()), ..any.clone() };
        assert!(matches!(ask(None, wrong), Err(StoreError::Precondition { .. })));
        let from = store.version();
        assert!(matches!(ask(Some(0), any).unwrap(), Deletion::Removed(_)));
        assert_eq!(store.version(), from + 2, "a forced deletion is a mark and a removal");
        assert!(store.get(&PODS, "default", "p").is_none());
    }

    #[test]
    fn finalizers_hold_an_object_until_the_last_is_gone() {
        let store = Store::new(7);
        let held = json!({"metadata": {"name": "c", "namespace": "default", "finalizers": ["a.b/c"]}});
        store.create(&CONFIGMAPS, held).unwrap();
        store.delete(&CONFIGMAPS, "default", "c").unwrap();
        assert!(!text(&store.get(&CONFIGMAPS, "default", "c").unwrap(), "deletionTimestamp").is_empty());
        let release = |o: &mut Value| {
            metadata(o).remove("finalizers");
            Ok(())
        };
        store.update(&CONFIGMAPS, "default", "c", release).unwrap();
        assert!(store.get(&CONFIGMAPS, "default", "c").is_none());
    }

    #[test]
    fn a_deletions_policy_holds_the_object_and_a_later_one_replaces_it() {
        let store = Store::new(7);
        store.create(&DEPLOYMENTS, object("web")).unwrap();
        let ask = |propagation, uid: Option<&str>| {
            let demands = Preconditions { uid: uid.map(str::to_owned), ..Preconditions::default() };
            store.begin_delete(&DEPLOYMENTS, "default", "web", &DeleteOptions { propagation, demands, ..DeleteOptions::default() })
        };
        assert!(ask(Propagation::Orphan, Some("other")).is_err());
        let untouched = store.get(&DEPLOYMENTS, "default", "web").unwrap();
        assert!(untouched["metadata"]["finalizers"].is_null(), "a request that is refused changes nothing");
        for (policy, finalizer) in
            [(Propagation::Orphan, ORPHAN), (Propagation::Foreground, FOREGROUND), (Propagation::Unsaid, FOREGROUND)]
        {
            let held = ask(policy, None).unwrap();
            assert!(matches!(&held, Deletion::Marked(o) if o["metadata"]["finalizers"] == json!([finalizer])), "{held:?}");
        }
        assert!(matches!(ask(Propagation::Background, None).unwrap(), Deletion::Removed(_)));
    }

    #[test]
    fn an_event_goes_at_once_whatever_the_deletions_policy() {
        let store = Store::new(7);
        for propagation in [Propagation::Foreground, Propagation::Orphan] {
            store.create(&EVENTS, object("e")).unwrap();
            let options = DeleteOptions { propagation, ..DeleteOptions::default() };
            let deletion = store.begin_delete(&EVENTS, "default", "e", &options).unwrap();
            assert!(matches!(deletion, Deletion::Removed(_)), "{deletion:?}");
        }
    }
}
