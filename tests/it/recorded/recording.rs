//! The recordings themselves, as they lie under `tests/kubernetes/`; the README beside them says what they hold.

use serde_json::Value;
use squall::sandbox::store::version_of;

pub struct Recording(Value);

impl Recording {
    pub fn read(file: &str) -> Recording {
        let path = format!("{FOLDER}/{file}.json");
        let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        Recording(serde_json::from_str(&text).unwrap_or_else(|e| panic!("{path}: {e}")))
    }

    /// Requests and their answers, in the order in which they were made.
    pub fn exchanges(&self) -> &[Value] {
        self.0["exchanges"].as_array().expect("a recording has exchanges")
    }

    /// The exchange of that title.
    pub fn exchange(&self, title: &str) -> &Value {
        self.exchanges()
            .iter()
            .find(|exchange| exchange["title"] == title)
            .unwrap_or_else(|| panic!("there is no exchange {title}"))
    }

    /// Its watches: the path of each collection, the version from which it was watched, and what was told.
    pub fn watches(&self) -> Vec<Watch<'_>> {
        let watches = self.0["watches"].as_array().expect("a recording has watches");
        watches.iter().map(Watch::of).collect()
    }

    /// What was told of the objects of one kind, in order.
    pub fn watched(&self, plural: &str) -> Vec<Value> {
        let watch = self.watches().into_iter().find(|watch| watch.plural() == plural).expect("it was watched");
        watch.events.to_vec()
    }

    /// Everything that was told, in the order in which the server did it.
    pub fn seen(&self) -> Vec<Seen> {
        let of = |watch: &Watch| {
            let plural = watch.plural().to_owned();
            watch.events.iter().map(|event| Seen::of(&plural, event)).collect::<Vec<_>>()
        };
        in_order(self.watches().iter().flat_map(of).collect())
    }

    /// Whatever else it holds, as it is written.
    pub fn field(&self, name: &str) -> &Value {
        &self.0[name]
    }
}

/// Where they lie.
pub const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kubernetes");

pub struct Watch<'a> {
    /// `/api/v1/namespaces/shop/pods`.
    pub path: &'a str,
    /// The `resourceVersion` of its query.
    pub from: u64,
    pub events: &'a [Value],
}

impl Watch<'_> {
    fn of(watch: &Value) -> Watch<'_> {
        let (path, query) = watch["path"].as_str().and_then(|path| path.split_once('?')).expect("a watch has a query");
        let from = query.split('&').find_map(|part| part.strip_prefix("resourceVersion=")).and_then(|from| from.parse().ok());
        let events = watch["events"].as_array().expect("a watch has events");
        Watch { path, from: from.expect("it was watched from a version on"), events }
    }

    pub fn plural(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// One change of an object as a watcher sees it, recorded or ours.
#[derive(Clone, Debug)]
pub struct Seen {
    pub plural: String,
    /// `ADDED`, `MODIFIED` or `DELETED`.
    pub how: String,
    pub object: Value,
    /// The version of the change: what is smaller was before.
    pub version: u64,
}

impl Seen {
    fn of(plural: &str, event: &Value) -> Seen {
        let object = event["object"].clone();
        let how = event["type"].as_str().unwrap_or_default().to_owned();
        Seen { plural: plural.to_owned(), how, version: version_of(&object), object }
    }
}

/// By version; what has none, as what was cut, stays where it is.
pub fn in_order(mut seen: Vec<Seen>) -> Vec<Seen> {
    seen.sort_by_key(|seen| seen.version);
    seen
}
