//! Reading and writing objects: get, list, create, update, patch, apply, delete. Each write is decoded, placed, completed, validated and
//! booked, in this order, and happens under the store's lock, so that what was validated is what is stored.

use std::sync::Arc;

use http::Method;
use serde_json::{Value, json};

use super::super::defaults;
use super::super::pod_security::Policy;
use super::super::resource::{JOBS, NODES, PODS, Resource, SERVICES};
use super::super::schema::Shape;
use super::super::selector::Selector;
use super::super::store::{self, Deletion, Preconditions, Propagation, Store, StoreError, metadata, text, version_of};
use super::failure::{Cause, Failure};
use super::fields::FieldSelector;
use super::managed::{self, Manager};
use super::neighbours::Neighbours;
use super::patch::{self, PatchKind};
use super::reply::{self, Reply};
use super::request::{Form, Request, Target};
use super::table::{self, Columns};
use super::watch::{self, Bookmarks, Filter, Telling};
use super::{Api, decode, validate, versions};

const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";

/// Which part of an object a write may change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Part {
    /// All but what has a path of its own.
    Main,
    Status,
    EphemeralContainers,
    /// A namespace's own finalizers.
    Finalizers,
}

impl Part {
    fn of(target: &Target) -> Result<Part, Failure> {
        match target.subresource.as_deref() {
            None => Ok(Part::Main),
            Some("status") => Ok(Part::Status),
            Some("ephemeralcontainers") => Ok(Part::EphemeralContainers),
            Some("finalize") => Ok(Part::Finalizers),
            Some(_) => Err(Failure::method_not_allowed()),
        }
    }
}

impl Api {
    pub(super) fn get(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let (form, name) = (request.form()?, target.name.as_deref().unwrap_or_default());
        let object = self.store.get(target.resource, target.ns(), name);
        let object = object.ok_or_else(|| Failure::not_found(target.resource, name))?;
        let include = request.query.get("includeObject").unwrap_or("Metadata");
        Ok(match form {
            Form::Whole => reply::json(200, &versions::seen(target.seen, &object)),
            Form::Metadata => reply::json(200, &table::partial(&object)),
            Form::Table => {
                let version = json!({"resourceVersion": object["metadata"]["resourceVersion"]});
                reply::json(200, &table::table(target.resource, &[&object], version, Columns::Told, include))
            }
        })
    }

    pub(super) fn list(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let (form, filter) = (request.form()?, filter(target, request)?);
        let resource = target.resource;
        let (objects, now) = self.store.list(resource, target.namespace.as_deref());
        self.check_version(request, now)?;
        let limit = request.query.number("limit")?.filter(|limit| *limit > 0).map_or(usize::MAX, |limit| limit as usize);
        let (version, after) = match request.query.get("continue").filter(|token| !token.is_empty()) {
            Some(token) => read_token(token)?,
            None => (now, String::new()),
        };
        let mut shown = objects.iter().filter(|object| place(object) > after && filter.shows(object));
        let page: Vec<&Value> = shown.by_ref().take(limit).map(|object| &**object).collect();
        let left = shown.count();
        let mut meta = json!({"resourceVersion": version.to_string()});
        if left > 0
            && let Some(last) = page.last()
        {
            meta["continue"] = json!(token(version, &place(last)));
            if filter.is_empty() {
                meta["remainingItemCount"] = json!(left);
            }
        }
        let include = request.query.get("includeObject").unwrap_or("Metadata");
        Ok(match form {
            Form::Table => reply::json(200, &table::table(resource, &page, meta, Columns::Told, include)),
            Form::Metadata => {
                let items: Vec<Value> = page.into_iter().map(table::partial).collect();
                let list =
                    json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1", "metadata": meta, "items": items});
                reply::json(200, &list)
            }
            Form::Whole => reply::json(200, &whole_list(target.seen, meta, page)),
        })
    }

    pub(super) fn watch(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let resource = target.resource;
        let query = &request.query;
        let sends_initial = query.is_set("sendInitialEvents");
        if sends_initial && query.get("resourceVersionMatch") != Some("NotOlderThan") {
            let why = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
            let cause = Cause::forbidden("resourceVersionMatch", why);
            return Err(Failure::invalid("meta.k8s.io", "ListOptions", "", &[cause]));
        }
        let permit = self.watchers.clone().try_acquire_owned().map_err(|_| Failure::too_many("too many watches are open", 1))?;
        let telling = Telling {
            seen: target.seen,
            filter: filter(target, request)?,
            form: request.form()?,
            include: query.get("includeObject").unwrap_or("Metadata").to_owned(),
            bookmarks: match (query.is_set("allowWatchBookmarks"), sends_initial) {
                (false, _) => Bookmarks::None,
                (true, false) => Bookmarks::Now,
                (true, true) => Bookmarks::WithInitialEnd,
            },
            lasts: match query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0) {
                Some(seconds) => std::time::Duration::from_secs(seconds).min(watch::LASTS_MAX),
                None => watch::LASTS_MAX,
            },
        };
        let namespace = target.namespace.as_deref();
        let from = self.version_asked(request)?;
        let (initial, from) = match from {
            Some(from) if !sends_initial => {
                self.check_version(request, self.store.version())?;
                (vec![], from)
            }
            _ => self.store.list(resource, namespace),
        };
        let lines = match self.store.watch(resource, namespace, Some(from)) {
            Ok(changes) => watch::lines(changes, initial, telling, permit, self.stop.clone()),
            Err(gone) => {
                let line = futures::stream::iter([Ok(watch::refused(&gone.into()))]);
                return Ok(reply::stream("application/json", line));
            }
        };
        Ok(reply::stream("application/json", lines))
    }

    /// The version of the query; absent and 0 both mean "whatever there is".
    fn version_asked(&self, request: &Request) -> Result<Option<u64>, Failure> {
        match request.query.get("resourceVersion") {
            None | Some("" | "0") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                let cause = Cause::invalid("resourceVersion", &json!(text), "strconv.ParseUint: parsing: invalid syntax");
                Failure::invalid("meta.k8s.io", "ListOptions", "", &[cause])
            }),
        }
    }

    fn check_version(&self, request: &Request, now: u64) -> Result<(), Failure> {
        match self.version_asked(request)? {
            Some(asked) if asked > now => {
                let message = format!("Timeout: Too large resource version: {asked}, current: {now}");
                let causes = json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]);
                let mut failure = Failure::new(504, "Timeout", message).with(json!({"causes": causes, "retryAfterSeconds": 1}));
                failure.retry_after_s = Some(1);
                Err(failure)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn create(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let seen = target.seen;
        let decoded = decode::object(seen, super::body_of(request, seen)?, request.field_validation()?)?;
        let object = versions::kept(seen, None, decoded.object);
        let object = self.store_new(target, object, Books::Update(request.manager("")), request.is_dry_run()?)?;
        Ok(reply::with_warnings(reply::json(201, &versions::seen(seen, &object)), &decoded.warnings))
    }

    fn store_new(&self, target: &Target, mut object: Value, books: Books, dry_run: bool) -> Result<Arc<Value>, Failure> {
        let resource = target.resource;
        if let Some(name) = &target.name {
            metadata(&mut object).entry("name").or_insert_with(|| json!(name));
        }
        placed(target, &mut object)?;
        // A new object's status is the server's to begin and the controllers' to go on with. A node alone says how much it has.
        if resource.subresource("status").is_some()
            && *resource != NODES
            && let Some(object) = object.as_object_mut()
        {
            object.shift_remove("status");
        }
        defaults::apply(resource, &mut object, defaults::Stage::New);
        let causes = validate::created(resource, &object);
        if !causes.is_empty() {
            return Err(invalid(resource, &object, &causes));
        }
        let gate = Gate::of(&self.store, resource, text(&object, "namespace"));
        if *resource == PODS {
            gate.policy.admit(&object)?;
        }
        gate.neighbours.admit(&object)?;
        match &books {
            Books::Update(manager) => {
                metadata(&mut object).shift_remove("managedFields");
                managed::book_update(resource, &json!({}), &mut object, manager);
            }
            Books::Kept => {}
        }
        // Two services must not choose the same address: choosing and storing are one step.
        let _choosing = self.addresses.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if *resource == SERVICES {
            self.give_address(&mut object)?;
        }
        Ok(match dry_run {
            true => Arc::new(self.store.create_dry(resource, object)?),
            false => self.store.create(resource, object)?,
        })
    }

    /// A cluster IP for a service that has none yet, or the one that it asks for.
    fn give_address(&self, service: &mut Value) -> Result<(), Failure> {
        let spec = &service["spec"];
        if spec["type"] == "ExternalName" || spec["clusterIP"] == "None" {
            return Ok(());
        }
        let (services, _) = self.store.list(&SERVICES, None);
        let taken = |ip: &str| services.iter().any(|service| service["spec"]["clusterIP"] == ip);
        let asked = spec["clusterIP"].as_str().unwrap_or_default().to_owned();
        let name = text(service, "name").to_owned();
        let refused =
            |why: String| Failure::invalid("", "Service", &name, &[Cause::invalid("spec.clusterIPs", &json!([asked]), why)]);
        let address = if asked.is_empty() {
            let free = self.service_addresses.addresses().find(|ip| !taken(ip));
            free.ok_or_else(|| Failure::new(500, "InternalError", "failed to allocate a serviceIP: range is full"))?
        } else if !self.service_addresses.addresses().any(|ip| ip == asked) {
            return Err(refused(format!("failed to allocate IP {asked}: the provided IP is not in the sandbox's range")));
        } else if taken(&asked) {
            return Err(refused(format!("failed to allocate IP {asked}: provided IP is already allocated")));
        } else {
            asked
        };
        service["spec"]["clusterIPs"] = json!([address]);
        service["spec"]["clusterIP"] = json!(address);
        Ok(())
    }

    pub(super) fn update(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let (resource, seen, part) = (target.resource, target.seen, Part::of(target)?);
        let name = target.name.as_deref().unwrap_or_default();
        let mut decoded = decode::object(seen, super::body_of(request, seen)?, request.field_validation()?)?;
        placed(target, &mut decoded.object)?;
        let said = text(&decoded.object, "name").to_owned();
        if said != name {
            return Err(Failure::bad_request(format!(
                "the name of the object ({said}) does not match the name on the URL ({name})"
            )));
        }
        let incoming = decoded.object;
        let manager = request.manager(target.subresource.as_deref().unwrap_or_default());
        let gate = Gate::of(&self.store, resource, target.ns());
        let object = self.write(target, request.is_dry_run()?, |live| {
            let before = live.clone();
            let after = combined(part, &before, &versions::kept(seen, Some(&before), incoming));
            *live = settled(resource, part, &before, after, &Books::Update(manager), &gate)?;
            Ok(())
        })?;
        Ok(reply::with_warnings(reply::json(200, &versions::seen(seen, &object)), &decoded.warnings))
    }

    pub(super) fn patch(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let (resource, seen, part) = (target.resource, target.seen, Part::of(target)?);
        let kind = PatchKind::of(request.header("content-type"))?;
        if kind == PatchKind::Apply {
            return self.apply(target, part, request);
        }
        if kind == PatchKind::Strategic && resource.is_custom() {
            return Err(Failure::no_strategic_patch());
        }
        let patch = decode::yaml(&request.body, resource.kind)?;
        let validation = request.field_validation()?;
        let manager = request.manager(target.subresource.as_deref().unwrap_or_default());
        let mut warnings = vec![];
        let gate = Gate::of(&self.store, resource, target.ns());
        let object = self.write(target, request.is_dry_run()?, |live| {
            let before = live.clone();
            let mut after = versions::seen(seen, &before).into_owned();
            patched(&Shape::Struct(seen.type_name()), kind, &mut after, &patch)?;
            let decoded = decode::object(seen, after, validation)?;
            warnings = decoded.warnings;
            let after = combined(part, &before, &versions::kept(seen, Some(&before), decoded.object));
            *live = settled(resource, part, &before, after, &Books::Update(manager), &gate)?;
            Ok(())
        })?;
        Ok(reply::with_warnings(reply::json(200, &versions::seen(seen, &object)), &warnings))
    }

    /// Server-side apply: creates what is not there.
    fn apply(&self, target: &Target, part: Part, request: &Request) -> Result<Reply, Failure> {
        let (resource, seen) = (target.resource, target.seen);
        let name = target.name.as_deref().unwrap_or_default();
        if request.query.get("fieldManager").unwrap_or_default().is_empty() {
            let cause = Cause::required("fieldManager", "is required for apply patch");
            return Err(Failure::invalid("meta.k8s.io", "PatchOptions", "", &[cause]));
        }
        let mut decoded = decode::object(seen, super::body_of(request, seen)?, request.field_validation()?)?;
        if decoded.object["metadata"].get("managedFields").is_some() {
            return Err(Failure::bad_request("metadata.managedFields must be nil"));
        }
        metadata(&mut decoded.object).entry("name").or_insert_with(|| json!(name));
        placed(target, &mut decoded.object)?;
        let exists = self.store.get(resource, target.ns(), name).is_some();
        if part == Part::Main
            && resource.subresource("status").is_some()
            && (exists || *resource != NODES)
            && let Some(object) = decoded.object.as_object_mut()
        {
            object.shift_remove("status");
        }
        let wanted = versions::kept(seen, None, decoded.object);
        let manager = request.manager(target.subresource.as_deref().unwrap_or_default());
        let (force, dry_run) = (request.query.is_set("force"), request.is_dry_run()?);
        if part == Part::Main && !exists {
            let mut object = managed::apply(resource, &json!({}), &wanted, &manager, force)?;
            // A node's, which belongs to nobody.
            if let Some(status) = wanted.get("status") {
                object["status"] = status.clone();
            }
            match self.store_new(target, merged_identity(object, &wanted), Books::Kept, dry_run) {
                // Somebody else created it in between: then it is an apply to theirs.
                Err(failure) if failure.reason == "AlreadyExists" => {}
                created => return Ok(reply::with_warnings(reply::json(201, &versions::seen(seen, &*created?)), &decoded.warnings)),
            }
        }
        let gate = Gate::of(&self.store, resource, target.ns());
        let object = self.write(target, dry_run, |live| {
            let before = live.clone();
            check_identity(resource, &before, &wanted)?;
            let after = managed::apply(resource, &before, &wanted, &manager, force)?;
            let after = combined(part, &before, &after);
            *live = settled(resource, part, &before, after, &Books::Kept, &gate)?;
            Ok(())
        })?;
        Ok(reply::with_warnings(reply::json(200, &versions::seen(seen, &object)), &decoded.warnings))
    }

    fn write(
        &self,
        target: &Target,
        dry_run: bool,
        change: impl FnOnce(&mut Value) -> Result<(), Failure>,
    ) -> Result<Arc<Value>, Failure> {
        let (resource, ns, name) = (target.resource, target.ns(), target.name.as_deref().unwrap_or_default());
        match dry_run {
            true => self.store.try_update_dry(resource, ns, name, change).map(Arc::new),
            false => self.store.try_update(resource, ns, name, change),
        }
    }

    pub(super) fn delete(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let resource = target.resource;
        let name = target.name.as_deref().unwrap_or_default();
        let mut options = DeleteOptions::of(request)?;
        let warnings = keep_pods_of_jobs(resource, &mut options);
        let deletion = self.begin_delete(resource, target.ns(), name, &options)?;
        let object = deletion.object();
        // As a real server: some kinds answer with what they were, the others with a Status once they are gone.
        let shows_object = matches!(resource.kind, "Pod" | "Service" | "ServiceAccount") || matches!(deletion, Deletion::Marked(_));
        if shows_object {
            return Ok(reply::with_warnings(reply::json(200, &versions::seen(target.seen, object)), &warnings));
        }
        let mut details = super::failure::details(resource, name);
        details["uid"] = object["metadata"]["uid"].clone();
        let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
        Ok(reply::with_warnings(reply::json(200, &status), &warnings))
    }

    pub(super) fn delete_collection(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let resource = target.resource;
        let (mut options, filter) = (DeleteOptions::of(request)?, filter(target, request)?);
        let warnings = keep_pods_of_jobs(resource, &mut options);
        let (objects, version) = self.store.list(resource, target.namespace.as_deref());
        let mut deleted = vec![];
        for object in objects.iter().filter(|object| filter.shows(object)) {
            match self.begin_delete(resource, text(object, "namespace"), text(object, "name"), &options) {
                Ok(deletion) => deleted.push(deletion.object().clone()),
                Err(failure) if failure.code == 404 => {}
                Err(failure) => return Err(failure),
            }
        }
        let list = whole_list(target.seen, json!({"resourceVersion": version.to_string()}), deleted.iter().map(|o| &**o).collect());
        Ok(reply::with_warnings(reply::json(200, &list), &warnings))
    }

    pub(super) fn begin_delete(
        &self,
        resource: &'static Resource,
        ns: &str,
        name: &str,
        options: &DeleteOptions,
    ) -> Result<Deletion, Failure> {
        Ok(match options.dry_run {
            true => self.store.begin_delete_dry(resource, ns, name, &options.how)?,
            false => self.store.begin_delete(resource, ns, name, &options.how)?,
        })
    }

    pub(super) fn get_scale(&self, target: &Target) -> Result<Reply, Failure> {
        let name = target.name.as_deref().unwrap_or_default();
        let object = self.store.get(target.resource, target.ns(), name);
        let object = object.ok_or_else(|| Failure::not_found(target.resource, name))?;
        Ok(reply::json(200, &scale_of(&object)))
    }

    /// Sets the number of replicas, by a whole `Scale` or by a patch of one.
    pub(super) fn set_scale(&self, target: &Target, request: &Request) -> Result<Reply, Failure> {
        let (resource, name) = (target.resource, target.name.as_deref().unwrap_or_default());
        let kind = if request.method == Method::PATCH { Some(PatchKind::of(request.header("content-type"))?) } else { None };
        let body = match kind {
            Some(PatchKind::Apply) | None => super::body(request, "Scale")?,
            Some(_) => decode::yaml(&request.body, "Scale")?,
        };
        let manager = request.manager("scale");
        let validation = request.field_validation()?;
        let object = self.write(target, request.is_dry_run()?, |live| {
            let before = live.clone();
            let mut scale = scale_of(&before);
            match kind {
                None => scale = body,
                Some(PatchKind::Apply) => patch::merge(&mut scale, &body)?,
                Some(kind) => patched(&Shape::Struct("Scale"), kind, &mut scale, &body)?,
            }
            let scale = decode::shaped("Scale", "v1", scale, validation)?.object;
            let asked = text(&scale, "resourceVersion");
            if !asked.is_empty() && asked != text(&before, "resourceVersion") {
                return Err(StoreError::Conflict { resource, name: name.to_owned(), why: MODIFIED.into() }.into());
            }
            let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
            if replicas < 0 {
                let cause = Cause::invalid("spec.replicas", &json!(replicas), "must be greater than or equal to 0");
                return Err(Failure::invalid("autoscaling", "Scale", name, &[cause]));
            }
            live["spec"]["replicas"] = json!(replicas);
            managed::book_update(resource, &before, live, &manager);
            Ok(())
        })?;
        Ok(reply::json(200, &scale_of(&object)))
    }
}

/// Who lets an object in, beyond the rules of its kind.
struct Gate {
    policy: Policy,
    neighbours: Neighbours,
}

impl Gate {
    /// Asks the store, so not to be called while it is being written.
    fn of(store: &Store, resource: &'static Resource, namespace: &str) -> Gate {
        Gate { policy: Policy::of(store, namespace), neighbours: Neighbours::of(store, resource, namespace) }
    }
}

/// What becomes of `managedFields`.
enum Books {
    /// The manager owns what it changes.
    Update(Manager),
    /// They are written already.
    Kept,
}

/// How a client wants something deleted.
#[derive(Clone, Default, Debug)]
pub(super) struct DeleteOptions {
    pub dry_run: bool,
    pub how: store::DeleteOptions,
}

impl DeleteOptions {
    /// From the body when there is one; then the query is not looked at, as on a real server.
    fn of(request: &Request) -> Result<DeleteOptions, Failure> {
        if !request.body.is_empty() {
            let body = super::body(request, "DeleteOptions")?;
            let options = decode::shaped("DeleteOptions", "v1", body, decode::FieldValidation::Ignore)?.object;
            return DeleteOptions::of_object(&options);
        }
        let grace = request.query.number("gracePeriodSeconds")?;
        let orphans = request.query.get("orphanDependents").map(|_| request.query.is_set("orphanDependents"));
        Ok(DeleteOptions {
            dry_run: request.is_dry_run()?,
            how: store::DeleteOptions {
                grace_s: grace.map(|seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
                demands: Preconditions::default(),
                propagation: propagation(request.query.get("propagationPolicy"), orphans)?,
            },
        })
    }

    pub(super) fn of_object(options: &Value) -> Result<DeleteOptions, Failure> {
        let demand = |field: &str| options["preconditions"][field].as_str().map(str::to_owned);
        Ok(DeleteOptions {
            dry_run: options["dryRun"].as_array().is_some_and(|list| list.iter().any(|all| all == "All")),
            how: store::DeleteOptions {
                grace_s: options["gracePeriodSeconds"].as_i64(),
                demands: Preconditions { uid: demand("uid"), resource_version: demand("resourceVersion") },
                propagation: propagation(options["propagationPolicy"].as_str(), options["orphanDependents"].as_bool())?,
            },
        })
    }
}

/// What is to become of an object's dependents, in today's words or in the older `orphanDependents`.
fn propagation(policy: Option<&str>, orphans: Option<bool>) -> Result<Propagation, Failure> {
    match (policy, orphans) {
        (None | Some(""), None) => Ok(Propagation::Unsaid),
        (None | Some(""), Some(true)) | (Some("Orphan"), _) => Ok(Propagation::Orphan),
        (None | Some(""), Some(false)) | (Some("Background"), _) => Ok(Propagation::Background),
        (Some("Foreground"), _) => Ok(Propagation::Foreground),
        (Some(other), _) => {
            let cause = Cause::unsupported("propagationPolicy", &json!(other), &["Foreground", "Background", "Orphan", "nil"]);
            Err(Failure::invalid("meta.k8s.io", "DeleteOptions", "", &[cause]))
        }
    }
}

/// A Job that is deleted without a word about its pods leaves them behind, as it always has on a real server, which warns of it.
fn keep_pods_of_jobs(resource: &'static Resource, options: &mut DeleteOptions) -> Vec<String> {
    if *resource != JOBS || options.how.propagation != Propagation::Unsaid {
        return vec![];
    }
    options.how.propagation = Propagation::Orphan;
    let warning = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set \
        propagationPolicy=Orphan to suppress this warning";
    vec![warning.into()]
}

pub(super) fn filter(target: &Target, request: &Request) -> Result<Filter, Failure> {
    let labels = Selector::parse(request.query.get("labelSelector").unwrap_or_default()).map_err(Failure::bad_request)?;
    let mut fields = request.query.get("fieldSelector").unwrap_or_default().to_owned();
    if let Some(name) = &target.name {
        fields = format!("metadata.name={name}");
    }
    Ok(Filter { labels, fields: FieldSelector::parse(target.resource, &fields)? })
}

pub(super) fn whole_list(seen: &'static Resource, meta: Value, objects: Vec<&Value>) -> Value {
    // The items of a list of a built-in kind do not repeat what the list says.
    let repeats = |key: &str| !seen.is_custom() && matches!(key, "kind" | "apiVersion");
    let items: Vec<Value> = objects
        .into_iter()
        .map(|object| {
            let object = versions::seen(seen, object);
            let fields = object.as_object().into_iter().flatten().filter(|(key, _)| !repeats(key));
            Value::Object(fields.map(|(key, value)| (key.clone(), value.clone())).collect())
        })
        .collect();
    json!({"kind": format!("{}List", seen.kind), "apiVersion": seen.api_version(), "metadata": meta, "items": items})
}

/// Where an object stands in a list.
fn place(object: &Value) -> String {
    // A control character sorts before anything that a name can hold.
    format!("{}\u{1}{}", text(object, "namespace"), text(object, "name"))
}

/// A continue token: opaque to clients, in hexadecimal so that it needs no escaping.
fn token(version: u64, after: &str) -> String {
    let plain = json!({"v": "squall/v1", "rv": version, "after": after}).to_string();
    plain.bytes().map(|byte| format!("{byte:02x}")).collect()
}

fn read_token(token: &str) -> Result<(u64, String), Failure> {
    let broken = |why: &str| Failure::bad_request(format!("invalid continue token: continue key is not valid: {why}"));
    let byte = |i: usize| token.get(i..i + 2).and_then(|two| u8::from_str_radix(two, 16).ok());
    let bytes: Option<Vec<u8>> = (0..token.len()).step_by(2).map(byte).collect();
    let plain: Value = serde_json::from_slice(&bytes.ok_or_else(|| broken("it is not one of this server's"))?)
        .map_err(|error| broken(&error.to_string()))?;
    match (plain["rv"].as_u64(), plain["after"].as_str()) {
        (Some(version), Some(after)) => Ok((version, after.to_owned())),
        _ => Err(broken("it has no version or no place")),
    }
}

/// Puts an object into the namespace of the path, or refuses.
fn placed(target: &Target, object: &mut Value) -> Result<(), Failure> {
    let Some(namespace) = &target.namespace else {
        metadata(object).shift_remove("namespace");
        return Ok(());
    };
    let said = text(object, "namespace");
    if !said.is_empty() && said != namespace {
        let message = "the namespace of the provided object does not match the namespace sent on the request";
        return Err(Failure::bad_request(message));
    }
    metadata(object).insert("namespace".into(), json!(namespace));
    Ok(())
}

fn patched(shape: &Shape, kind: PatchKind, object: &mut Value, body: &Value) -> Result<(), Failure> {
    match kind {
        PatchKind::Json => patch::json_patch(object, body),
        PatchKind::Merge => patch::merge(object, body),
        PatchKind::Strategic => patch::strategic(shape, object, body),
        PatchKind::Apply => Err(Failure::method_not_allowed()),
    }
}

/// `before` with the part of `incoming` that this path may change.
fn combined(part: Part, before: &Value, incoming: &Value) -> Value {
    let take = |into: &mut Value, from: &Value, field: &str| match from.get(field) {
        Some(value) => into[field] = value.clone(),
        None => {
            if let Some(into) = into.as_object_mut() {
                into.shift_remove(field);
            }
        }
    };
    let mut after;
    match part {
        Part::Main => {
            after = incoming.clone();
            if before.get("status").is_some() {
                take(&mut after, before, "status");
            }
            if before["kind"] == "Pod" && after["spec"].is_object() {
                take(&mut after["spec"], &before["spec"], "ephemeralContainers");
            }
            if before["kind"] == "Service" && after["spec"].is_object() {
                for kept in ["clusterIP", "clusterIPs"] {
                    if after["spec"].get(kept).is_none() && after["spec"]["type"] != "ExternalName" {
                        take(&mut after["spec"], &before["spec"], kept);
                    }
                }
            }
        }
        Part::Status => {
            after = before.clone();
            take(&mut after, incoming, "status");
        }
        Part::EphemeralContainers => {
            after = before.clone();
            take(&mut after["spec"], &incoming["spec"], "ephemeralContainers");
        }
        Part::Finalizers => {
            after = before.clone();
            take(&mut after["spec"], &incoming["spec"], "finalizers");
        }
    }
    if part != Part::Main {
        let meta = metadata(&mut after);
        for said in ["resourceVersion", "uid", "managedFields"] {
            match incoming["metadata"].get(said) {
                Some(value) => meta.insert(said.to_owned(), value.clone()),
                None => meta.shift_remove(said),
            };
        }
    }
    after
}

/// What a writer demands of the object that it changes: the version and uid that it names, where it names them.
fn check_identity(resource: &'static Resource, before: &Value, incoming: &Value) -> Result<(), Failure> {
    let name = text(before, "name").to_owned();
    let (version, uid) = (text(incoming, "resourceVersion"), text(incoming, "uid"));
    if !uid.is_empty() && uid != text(before, "uid") {
        let demands = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        demands.check(resource, &name, before)?;
    }
    if !version.is_empty() && version.parse() != Ok(version_of(before)) {
        return Err(StoreError::Conflict { resource, name, why: MODIFIED.into() }.into());
    }
    Ok(())
}

/// A changed object, checked, completed, validated and booked.
fn settled(
    resource: &'static Resource,
    part: Part,
    before: &Value,
    mut after: Value,
    books: &Books,
    gate: &Gate,
) -> Result<Value, Failure> {
    check_identity(resource, before, &after)?;
    if text(&after, "name") != text(before, "name") {
        return Err(invalid(
            resource,
            before,
            &[Cause::invalid("metadata.name", &after["metadata"]["name"], "field is immutable")],
        ));
    }
    defaults::apply(resource, &mut after, defaults::Stage::Changed);
    let causes = match part {
        Part::Main => validate::updated(resource, before, &after),
        Part::EphemeralContainers => validate::ephemeral_containers(before, &after),
        Part::Status | Part::Finalizers => vec![],
    };
    if !causes.is_empty() {
        return Err(invalid(resource, before, &causes));
    }
    match part {
        Part::Main => gate.neighbours.admit(&after)?,
        Part::EphemeralContainers => gate.policy.admit(&after)?,
        Part::Status | Part::Finalizers => {}
    }
    if let Books::Update(manager) = books {
        managed::book_update(resource, before, &mut after, manager);
    }
    Ok(after)
}

fn invalid(resource: &'static Resource, object: &Value, causes: &[Cause]) -> Failure {
    Failure::invalid(resource.group, resource.kind, text(object, "name"), causes)
}

/// An applied object with the identity that was said; the books hold only fields.
fn merged_identity(mut object: Value, wanted: &Value) -> Value {
    let meta = metadata(&mut object);
    for field in ["name", "namespace"] {
        if let Some(value) = wanted["metadata"].get(field) {
            meta.insert(field.to_owned(), value.clone());
        }
    }
    object
}

fn scale_of(object: &Value) -> Value {
    let selector = Selector::of(&object["spec"]["selector"]).map(|selector| selector.to_string()).unwrap_or_default();
    let mut meta = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        meta[field] = object["metadata"][field].clone();
    }
    json!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": meta,
        "spec": {"replicas": object["spec"]["replicas"]},
        "status": {"replicas": object["status"]["replicas"].as_i64().unwrap_or(0), "selector": selector}})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_continue_token_comes_back_as_it_was_and_another_is_refused() {
        assert_eq!(read_token(&token(7, "shop\u{1}web")).unwrap(), (7, "shop\u{1}web".to_owned()));
        for broken in ["xyz", "zz", "7b7d", "é"] {
            assert_eq!(read_token(broken).unwrap_err().code, 400, "{broken}");
        }
    }
}
