//! The targets, as one table.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::PathBuf;

use squall::answers::{BodyChecks, Expect, Heard, JsonPath, Matcher, Origin, Save, SaveFrom, Wanted};
use squall::cluster::{Workload, autoscaler, endpoints::Slice, pod::Pod, workload};
use squall::faults::agent::evidence::Line;
use squall::faults::journal;
use squall::grpc::Descriptors;
use squall::names::ObjectRef;
use squall::observe::exposition;
use squall::plan::{Plan, Talk, manifest};
use squall::protocol::fuzz;
use squall::proxy::Proxy;
use squall::recording::hlog;
use squall::report;
use squall::sandbox::{self, quantity, selector::Selector};
use squall::schedule::{Arrivals, Replayed};
use squall::target::TargetUrl;
use squall::timeline::Timeline;
use squall::tls::{Authorities, Credentials};
use squall::varying::feed::Table;
use squall::varying::template;

/// A parser and what it is first fed with: folders, from the top of the repository.
pub struct Target {
    pub name: &'static str,
    pub run: fn(&[u8]),
    pub seeds: &'static [&'static str],
}

const fn target(name: &'static str, run: fn(&[u8]), seeds: &'static [&'static str]) -> Target {
    Target { name, run, seeds }
}

pub const TARGETS: &[Target] = &[
    target("plan", plan, &["plans", "tests/plans"]),
    target("manifest", |bytes| text(bytes, |text| drop(manifest::read(text, "stack.yaml"))), &["plans", "tests/plans/stacks"]),
    target(
        "template",
        |bytes| text(bytes, |text| _ = (template::parts(text), template::escaped(text), template::sample(text))),
        &["tests/fuzz/seeds/template"],
    ),
    target("http1", |bytes| in_pieces(bytes, fuzz::http1), &["tests/fuzz/seeds/http1"]),
    target("http2", |bytes| in_pieces(bytes, fuzz::http2), &["tests/fuzz/seeds/http2"]),
    target("hpack", hpack, &["tests/fuzz/seeds/hpack"]),
    target("grpc", |bytes| in_pieces(bytes, fuzz::grpc), &["tests/fuzz/seeds/grpc"]),
    target("upgrade", |bytes| in_pieces(bytes, fuzz::upgrade), &["tests/fuzz/seeds/upgrade"]),
    target("websocket", |bytes| in_pieces(bytes, fuzz::websocket), &["tests/fuzz/seeds/websocket"]),
    target("reflection", fuzz::reflection, &["tests/fuzz/seeds/reflection"]),
    target("descriptors", descriptors, &["plans/protos", "tests/fuzz/seeds/descriptors"]),
    target("tunnel", |bytes| in_pieces(bytes, fuzz::tunnel), &["tests/fuzz/seeds/http1"]),
    target("retry_after", fuzz::retry_after, &["tests/fuzz/seeds/retry_after"]),
    target("cookies", fuzz::cookies, &["tests/fuzz/seeds/cookies"]),
    target("redirect", redirect, &["tests/fuzz/seeds/url"]),
    target("answer", answer, &["tests/fuzz/seeds/answer"]),
    target("jsonpath", jsonpath, &["tests/fuzz/seeds/jsonpath"]),
    target("url", |bytes| text(bytes, |text| _ = (text.parse::<Proxy>(), text.parse::<TargetUrl>())), &["tests/fuzz/seeds/url"]),
    target("pem", pem, &["tests/plans/bad/tls", "tests/fuzz/seeds/pem"]),
    target("replay", replay, &["tests/fuzz/seeds/replay"]),
    target("feed", feed, &["tests/plans/bad/feeds", "tests/fuzz/seeds/feed"]),
    target("recording", recording, &["tests/recordings"]),
    target("histograms", histograms, &["tests/recordings"]),
    target("agent", agent, &["tests/fuzz/seeds/agent"]),
    target("journal", |bytes| _ = journal::read(bytes).is_closed(), &["tests/fuzz/seeds/journal"]),
    target("exposition", |bytes| text(bytes, exposed), &["tests/fuzz/seeds/exposition"]),
    target("objects", objects, &["tests/kubernetes", "tests/fuzz/seeds/objects"]),
    target("sandbox_object", sandbox_object, &["tests/fuzz/seeds/objects"]),
    target("sandbox_request", |bytes| text(bytes, asked), &["tests/fuzz/seeds/url"]),
];

/// Where a parser takes text.
fn text(bytes: &[u8], run: impl FnOnce(&str)) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        run(text);
    }
}

/// The first byte says how long the pieces are.
fn in_pieces(bytes: &[u8], run: fn(&[u8], usize)) {
    if let Some((piece, bytes)) = bytes.split_first() {
        run(bytes, usize::from(*piece) + 1);
    }
}

/// Up to three parts with a line of nothing between them, of which those that are missing are empty.
fn parts(bytes: &[u8]) -> [&[u8]; 3] {
    let mut rest = Some(bytes);
    [(); 3].map(|()| {
        let bytes = rest.take().unwrap_or_default();
        let Some(at) = bytes.windows(2).position(|pair| pair == b"\n\n") else { return bytes };
        rest = Some(&bytes[at + 2..]);
        &bytes[..at]
    })
}

fn plan(bytes: &[u8]) {
    text(bytes, |text| {
        // No folder has what it names: what is in files is for other targets.
        let env = |name: &str| name.starts_with('P').then(|| "http://a:b@proxy:3128".to_owned());
        match Plan::read_text("plan.yaml", text, "/nonexistent".as_ref(), &[], &env) {
            Ok(plan) => drop(squall::plan::explain(&plan, &Timeline::of(&plan, 1))),
            Err(problems) => drop(problems.to_string()),
        }
        let _ = Plan::read_recorded(text, &BTreeMap::new());
    });
}

fn hpack(bytes: &[u8]) {
    fuzz::hpack(parts(bytes));
}

/// A descriptor set, and a call by it.
fn descriptors(bytes: &[u8]) {
    let Ok(descriptors) = Descriptors::read(bytes) else { return };
    thread_local! {
        static PLAN: Plan = Plan::read_recorded(
            "plan: p\nclaim: c\ntarget: {url: http://a/}\nphases: [{name: a, for: 1s}]\nload:\n- name: l\n  rate: 1/s\n  protocol: grpc\n  \
             request: {grpc: shop.Checkout/Pay, reflection: true, message: {user: ann, items: [{sku: a, count: 1}], due: x, a: {b: [1, 2.5, null]}}}\n",
            &BTreeMap::new(),
        )
        .unwrap_or_else(|problems| panic!("{problems}"));
    }
    PLAN.with(|plan| {
        if let Talk::Grpc(call) = &plan.loads[0].request.talk {
            let _ = call.resolve(&descriptors);
        }
    });
}

fn redirect(bytes: &[u8]) {
    let origin = Origin::new("http", "shop:8080").expect("an origin");
    let [location, path, _] = parts(bytes);
    let path = [b"/", path].concat();
    if let Ok(Some(hop)) = origin.follow(302, "GET", &path, Some(location)) {
        assert!(hop.path.starts_with('/') && hop.path.bytes().all(|byte| byte > b' ' && byte < 0x7f), "{:?}", hop.path);
    }
}

/// A body, and what its header says of its coding.
fn answer(bytes: &[u8]) {
    thread_local! {
        static WANTED: (Wanted, Cell<Option<Heard>>) = {
            let path = |text: &str| text.parse::<JsonPath>().expect("a path");
            let expression = |text: &str| text.parse().expect("an expression");
            let json = vec![(path("$..a[?@.b == 1]"), Matcher::Equals("7".into())), (path("$.c"), Matcher::Regex(expression("^x+$")))];
            let checks = BodyChecks { contains: None, regex: None, json };
            let saves = [SaveFrom::Json(path("$..[?@.d > $.e]")), SaveFrom::Regex(expression("(a+)+b"))];
            let saves = saves.map(|from| Save { name: "saved".into(), from }).into();
            (Wanted { expect: Expect { body: Some(checks), ..Expect::default() }, saves, ..Wanted::default() }, Cell::default())
        };
    }
    let Some((coding, body)) = bytes.split_first() else { return };
    WANTED.with(|(wanted, kept)| {
        let (hears, mut heard) = (wanted.hears(), kept.take().unwrap_or_default());
        heard.clear();
        let coding = ["gzip", "identity", "x-gzip, ", "br", "gzip, gzip"][usize::from(*coding) % 5];
        heard.header(&hears, b"Content-Encoding", coding.as_bytes());
        for piece in body.chunks(1_000) {
            if heard.piece(piece).is_err() {
                return;
            }
        }
        let looked_at = |wanted: &Wanted, heard: &mut Heard| wanted.judge(&hears, heard, |_, _| {});
        // What is checked, and what is saved whether or not the checks hold.
        let _ = looked_at(wanted, &mut heard);
        let _ = looked_at(&Wanted { expect: Expect::default(), ..wanted.clone() }, &mut heard);
        kept.set(Some(heard));
    });
}

/// A path, and a body.
fn jsonpath(bytes: &[u8]) {
    let [path, body, _] = parts(bytes);
    let Some(path) = std::str::from_utf8(path).ok().and_then(|path| path.parse::<JsonPath>().ok()) else { return };
    let wanted = Wanted { saves: vec![Save { name: "saved".into(), from: SaveFrom::Json(path) }], ..Wanted::default() };
    let (hears, mut heard) = (wanted.hears(), Heard::default());
    if heard.piece(body).is_ok() {
        let _ = wanted.judge(&hears, &mut heard, |_, _| {});
    }
}

fn pem(bytes: &[u8]) {
    let _ = Authorities::of_pem("ca.pem", bytes);
    let _ = Credentials::of_pem(("cert.pem", bytes), ("key.pem", bytes));
}

fn replay(bytes: &[u8]) {
    text(bytes, |text| {
        thread_local! {
            static REPLAY: Arrivals = serde_json::from_str(r#"{"replay": {"file": "log"}}"#).expect("arrivals");
        }
        REPLAY.with(|arrivals| {
            if let Arrivals::Replay(spec) = arrivals {
                let _ = spec.with(text, Replayed::All);
                let _ = spec.with(text, Replayed::Times);
            }
        });
    });
}

fn feed(bytes: &[u8]) {
    text(bytes, |text| {
        for file in ["feed.csv", "feed.jsonl"] {
            if let Ok(table) = Table::read(file, text) {
                for row in 0..table.rows() {
                    (0..table.columns().len()).for_each(|column| _ = table.cell(row, column));
                }
            }
        }
    });
}

/// A recording, judged by a plan with claims, and a report of it: which ones, its length says.
fn recording(bytes: &[u8]) {
    thread_local! {
        static FOLDER: PathBuf = {
            // It is written anew for each input, and goes with the folder that it is in.
            let folder = std::env::temp_dir().join("recording");
            std::fs::create_dir_all(&folder).expect("a folder");
            folder
        };
    }
    const PLANS: [&str; 5] = [
        include_str!("../../recordings/unbounded-queue/plan.yaml"),
        include_str!("../../recordings/scales-out/plan.yaml"),
        include_str!("../../recordings/kill-absorbed/plan.yaml"),
        include_str!("../../recordings/fault-without-effect/plan.yaml"),
        include_str!("../../recordings/slow-and-failing/plan.yaml"),
    ];
    FOLDER.with(|folder| {
        let write = |file: &str, bytes: &[u8]| std::fs::write(folder.join(file), bytes).expect("room for a file");
        write("recording.jsonl", bytes);
        write("plan.yaml", PLANS[bytes.len() % PLANS.len()].as_bytes());
        if let Ok(judged) = squall::run::judge(folder, None, &[]) {
            let _ = report::render(&judged.report, &report::FORMATS[bytes.len() / PLANS.len() % report::FORMATS.len()]);
        }
    });
}

fn histograms(bytes: &[u8]) {
    let mut problems = Vec::new();
    hlog::read(bytes, &mut problems).for_each(drop);
}

fn exposed(text: &str) {
    if let Ok(samples) = exposition::read(text) {
        samples.iter().for_each(|sample| drop(sample.key()));
    }
}

/// What a cluster tells of its objects.
fn objects(bytes: &[u8]) {
    let Ok(value) = serde_json::from_slice::<serde_json::Value>(bytes) else { return };
    let _ = Pod::read(&value).map(|pod| (pod.serves(), pod.label()));
    let _ = autoscaler::AutoscalerStatus::read(&value);
    let object = ObjectRef { namespace: "shop".into(), kind: "hpa".into(), name: "checkout".into() };
    let _ = autoscaler::spec(&object, &value);
    let _ = Workload::read(&object, &value);
    let _ = (workload::conditions(&value), workload::selector(&value));
    let _ = Slice::read(&value);
    let _ = Selector::of(&value).map(|selector| selector.matches(&value));
    if let Some(text) = value.as_str() {
        let _ = autoscaler::quantity(text);
    }
}

/// What an agent in a pod says: read, and written back, it is the same.
fn agent(bytes: &[u8]) {
    let Ok(line) = serde_json::from_slice::<Line>(bytes) else { return };
    let told = serde_json::to_string(&line).expect("it is plain data");
    let again: Line = serde_json::from_str(&told).unwrap_or_else(|error| panic!("{told}: {error}"));
    assert_eq!(serde_json::to_string(&again).expect("it is plain data"), told);
}

fn sandbox_object(bytes: &[u8]) {
    if let Some((kind, bytes)) = bytes.split_first() {
        sandbox::api::fuzz::object(bytes, usize::from(*kind));
    }
}

/// What a client asks the sandbox for.
fn asked(text: &str) {
    sandbox::api::fuzz::request(text);
    if let Ok(selector) = Selector::parse(text) {
        selector.matches(&serde_json::json!({"a": "b"}));
    }
    let _ = (quantity::milli(text), quantity::nano(text), quantity::canonical(text));
}
