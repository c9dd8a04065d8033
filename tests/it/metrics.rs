//! Goal: the numbers that a dashboard sees while a run goes on are those of its report, and nobody who reads or takes them can hurt the
//! run. How: the built binary, read by a scraper and pushing to a collector that are both in this process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::command::{Squall, file_says, wait_until};
use crate::fake_target::{Dial, FakeTarget, Then, Timing};

const PATIENCE: Duration = Duration::from_secs(60);
const OPENMETRICS: &str = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

/// What an endpoint answered.
struct Answer {
    head: String,
    body: String,
}

/// One request on a connection of its own; `None` where nobody listens or the answer is cut off.
fn ask(address: SocketAddr, request: &str) -> Option<Answer> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).expect("a TCP socket");
    stream.write_all(request.as_bytes()).ok()?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes).expect("an answer is text");
    let (head, body) = text.split_once("\r\n\r\n")?;
    Some(Answer { head: head.to_lowercase(), body: body.to_owned() })
}

fn scrape(address: SocketAddr, accept: &str) -> Option<Answer> {
    let answer = ask(address, &format!("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n\r\n"))?;
    assert!(answer.head.starts_with("http/1.1 200 ok"), "{}", answer.head);
    Some(answer)
}

/// The samples of a page, by series as it is written: `squall_requests_total{load="a",phase="b",outcome="ok"}`. A page that is not in
/// the format fails: what `promtool check metrics` would say, as far as it matters here.
#[track_caller]
fn linted(page: &str, openmetrics: bool) -> BTreeMap<String, f64> {
    let mut samples = BTreeMap::new();
    let mut told: BTreeSet<(String, String)> = BTreeSet::new();
    let mut families = BTreeSet::new();
    let (mut family, mut kind) = (String::new(), String::new());
    assert!(page.is_empty() || page.ends_with('\n'), "the last line ends");
    assert_eq!(page.ends_with("# EOF\n"), openmetrics);
    for line in page.lines().filter(|line| *line != "# EOF") {
        if let Some(comment) = line.strip_prefix("# ") {
            let [word, name, rest] = comment.splitn(3, ' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
            assert!(told.insert((word.to_owned(), name.to_owned())), "twice: {line}");
            match word {
                "HELP" => {
                    assert!(families.insert(name.to_owned()), "the series of {name} are not together");
                    (family, kind) = (name.to_owned(), String::new());
                }
                "TYPE" => kind = rest.to_owned(),
                "UNIT" => assert!(openmetrics && name.ends_with(&format!("_{rest}")), "{line}"),
                _ => panic!("{line}"),
            }
            assert_eq!(name, family, "{line}");
            continue;
        }
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no value: {line}"));
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("no number: {line}"));
        let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
        read_labels(labels);
        let suffixes: &[&str] = match kind.as_str() {
            "counter" if openmetrics => &["_total"],
            "histogram" => &["_bucket", "_sum", "_count"],
            "info" if openmetrics => &["_info"],
            "counter" | "gauge" => &[""],
            _ => panic!("{family} is of no type: {line}"),
        };
        assert!(name.strip_prefix(&family).is_some_and(|suffix| suffixes.contains(&suffix)), "{line} is not of {family}");
        assert!(!matches!(kind.as_str(), "counter" | "histogram") || value >= 0.0, "{line}");
        assert!(kind != "counter" || name.ends_with("_total"), "{line}");
        assert!(samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
    }
    check_buckets(page, &samples);
    samples
}

/// `load="a",phase="b"}`, with the escapes that the format knows and no others.
#[track_caller]
fn read_labels(text: &str) -> Vec<(String, String)> {
    let mut labels = Vec::new();
    let mut rest = text;
    while rest != "}" {
        let (name, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("{text}"));
        assert!(name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name} in {text}");
        let (mut value, mut chars) = (String::new(), after.char_indices());
        let end = loop {
            match chars.next().unwrap_or_else(|| panic!("a value does not end: {text}")) {
                (at, '"') => break at,
                (_, '\\') => match chars.next() {
                    Some((_, 'n')) => value.push('\n'),
                    Some((_, c @ ('\\' | '"'))) => value.push(c),
                    other => panic!("{other:?} is no escape: {text}"),
                },
                (_, c) => value.push(c),
            }
        };
        labels.push((name.to_owned(), value));
        rest = &after[end + 1..];
        rest = rest.strip_prefix(',').unwrap_or(rest);
    }
    labels
}

/// Buckets rise to `+Inf`, which holds as many as `_count` says.
#[track_caller]
fn check_buckets(page: &str, samples: &BTreeMap<String, f64>) {
    let mut last: Option<(String, f64, f64)> = None;
    for line in page.lines().filter(|line| line.contains("_bucket{")) {
        let (series, value) = line.rsplit_once(' ').expect("linted");
        let (rest, bound) = series.split_once("le=\"").unwrap_or_else(|| panic!("no bound: {line}"));
        let bound = bound.trim_end_matches("\"}");
        let (bound, value): (f64, f64) = (bound.replace("+Inf", "inf").parse().expect("a bound"), value.parse().expect("linted"));
        if let Some((of, below, less)) = last.replace((rest.to_owned(), bound, value)) {
            match of == rest {
                true => assert!(below < bound && less <= value, "not sorted: {line}"),
                false => assert_eq!(below, f64::INFINITY, "{of} has no last bucket"),
            }
        }
        if bound == f64::INFINITY {
            let of = |suffix| format!("{}}}", rest.replacen("_bucket{", suffix, 1).trim_end_matches(','));
            assert_eq!(samples.get(&of("_count{")), Some(&value), "{line}");
            assert!(samples.contains_key(&of("_sum{")), "{line}");
        }
    }
    assert!(last.is_none_or(|(_, bound, _)| bound == f64::INFINITY), "the last histogram has no last bucket");
}

/// A collector that takes everything, and keeps what it took.
struct Collector {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<(String, String)>>>,
}

impl Collector {
    fn start() -> Collector {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let taken: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
        let keep = taken.clone();
        // Ends with the process: there is nothing that it holds.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let keep = keep.clone();
                std::thread::spawn(move || take(stream.expect("a connection"), &keep));
            }
        });
        Collector { address, taken }
    }

    /// The pushes so far: head and body.
    fn taken(&self) -> Vec<(String, String)> {
        self.taken.lock().expect("nobody panics while keeping").clone()
    }

    /// The numbers of the last push, by name and labels as in [`flat`].
    fn last(&self) -> BTreeMap<String, Value> {
        let taken = self.taken();
        let (head, body) = taken.last().expect("something was pushed");
        assert!(head.starts_with("post /v1/metrics http/1.1") && head.contains("content-type: application/json"), "{head}");
        flat(&serde_json::from_str(body).expect("JSON"))
    }
}

fn take(stream: TcpStream, keep: &Mutex<Vec<(String, String)>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            match stream.read_line(&mut head) {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        let head = head.to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok()).expect("a length");
        let mut body = vec![0; length];
        if stream.read_exact(&mut body).is_err() {
            return;
        }
        keep.lock().expect("nobody panics while keeping").push((head, String::from_utf8(body).expect("text")));
        let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n{\"partialSuccess\":{}}";
        if stream.get_mut().write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

/// The points of a push: `squall_requests_total{load="a",phase="b",outcome="ok"}` to its point.
fn flat(push: &Value) -> BTreeMap<String, Value> {
    let mut points = BTreeMap::new();
    for metric in push["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().expect("metrics") {
        let data = ["sum", "gauge", "histogram"].iter().find_map(|kind| metric.get(kind)).expect("data");
        for point in data["dataPoints"].as_array().expect("points") {
            let labels = point["attributes"].as_array().expect("attributes").iter();
            let labels: Vec<String> = labels
                .map(|label| format!("{}={}", label["key"].as_str().expect("a key"), label["value"]["stringValue"]))
                .collect();
            let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
            points.insert(format!("{}{labels}", metric["name"].as_str().expect("a name")), point.clone());
        }
    }
    points
}

/// Goal: what a dashboard showed last is what the report says, to the last request. How: two loads over two phases against a service that
/// hangs up on every second request; scraped while they go on and once after, pushed at the end, compared with `run.json`.
#[test]
fn the_last_numbers_are_those_of_the_report() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial { then: Then::CloseOnNext, ..Dial::good(Timing::After(Duration::from_millis(3))) });
    let collector = Collector::start();
    let address = FakeTarget::nobody();
    squall.file(
        "plan.yaml",
        &format!(
            "plan: p\nclaim: c\ntarget: {{url: \"{}\"}}\nphases: [{{name: calm, for: 1s}}, {{name: busy, for: 2s}}]\nload:\n\
             - {{name: shoppers, rate: {{calm: 40/s, busy: 120/s}}, request: {{get: /}}}}\n\
             - {{name: pollers, rate: {{busy: 60/s}}, request: {{get: /status}}}}\n\
             assert: [{{name: some, slo: {{available: 10%}}}}]\n",
            target.url()
        ),
    );
    let (metrics, otlp) = (address.to_string(), format!("http://{}", collector.address));
    let args =
        ["run", "plan.yaml", "--seed", "7", "--out", "run", "--otlp", &otlp, "--metrics", &metrics, "--metrics-linger", "60s"];
    let running = squall.start(&args);

    let total = |samples: &BTreeMap<String, f64>, name: &str| -> f64 {
        samples.iter().filter(|(series, _)| series.starts_with(name)).map(|(_, value)| value).sum()
    };
    let early = wait_until(PATIENCE, || {
        let answer = scrape(address, "*/*")?;
        assert!(answer.head.contains("content-type: text/plain; version=0.0.4; charset=utf-8"), "{}", answer.head);
        let samples = linted(&answer.body, false);
        (total(&samples, "squall_requests_total") > 0.0).then_some(samples)
    });
    let early = early.expect("requests show while the run goes on");
    assert_eq!(early["squall_run_ended"], 0.0);
    assert!(total(&early, "squall_requests_total") <= total(&early, "squall_requests_intended_total"));
    assert_eq!(early["squall_requests_total{load=\"pollers\",phase=\"busy\",outcome=\"unsent\"}"], 0.0);

    let answer =
        wait_until(PATIENCE, || scrape(address, OPENMETRICS).filter(|answer| answer.body.contains("\nsquall_run_ended 1\n")));
    let answer = answer.expect("the page stays until somebody has the last numbers");
    assert!(answer.head.contains("content-type: application/openmetrics-text; version=1.0.0; charset=utf-8"), "{}", answer.head);
    let last = linted(&answer.body, true);
    let said = running.wait(PATIENCE);
    assert!([0, 3].contains(&said.code), "{}{}", said.stdout, said.stderr);
    assert!(said.stderr.contains(&format!("metrics at http://{address}/metrics")), "{}", said.stderr);
    assert!(!said.stderr.contains("warning"), "{}", said.stderr);
    assert!(ask(address, "GET /metrics HTTP/1.1\r\n\r\n").is_none(), "the port is free again");

    let report = std::fs::read_to_string(squall.path("run/run.json")).expect("a report");
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let pushed = collector.last();
    let rows: Vec<&Value> = report["load"].as_array().expect("rows").iter().filter(|row| row["phase"] != "_all").collect();
    let sent: Vec<&&Value> = rows.iter().filter(|row| row["intended"] != 0).collect();
    assert_eq!(sent.len(), 3);
    for row in sent {
        let place = format!("load={},phase={}", row["name"], row["phase"]);
        let number = |key: &Value| key.as_f64().expect("a number");
        let same = |series: String, value: f64, of: &str| {
            assert_eq!(last.get(&series), Some(&value), "{series}");
            let point = &pushed[&series.replace("_count{", "{")];
            let told = point[of].as_str().unwrap_or_else(|| panic!("{series} has no {of}: {point}"));
            assert_eq!(told.parse(), Ok(value), "{series}");
        };
        for outcome in ["ok", "rejected", "failed", "timed_out", "unsent"] {
            same(format!("squall_requests_total{{{place},outcome=\"{outcome}\"}}"), number(&row[outcome]), "asInt");
        }
        for (name, key) in [
            ("requests_intended", "intended"),
            ("requests_sent", "sent"),
            ("received_bytes", "bytes_in"),
            ("sent_bytes", "bytes_out"),
        ] {
            same(format!("squall_{name}_total{{{place}}}"), number(&row[key]), "asInt");
        }
        for (cause, count) in row["causes"].as_object().expect("causes") {
            same(format!("squall_request_causes_total{{{place},cause=\"{cause}\"}}"), number(count), "asInt");
        }
        assert!(number(&row["failed"]) > 0.0 && number(&row["ok"]) > 0.0, "{row}");
        // Percentiles are over what ended ok or timed out; each outcome has a histogram of its own.
        let over = |name: &str| -> f64 {
            let outcomes = ["ok", "timed_out"].iter();
            outcomes.filter_map(|outcome| last.get(&format!("{name}_count{{{place},outcome=\"{outcome}\"}}"))).sum()
        };
        assert_eq!(over("squall_latency_seconds"), number(&row["latency_ms"]["n"]));
        assert_eq!(over("squall_service_time_seconds"), number(&row["service_ms"]["n"]));
        same(format!("squall_latency_seconds_count{{{place},outcome=\"failed\"}}"), number(&row["failed"]), "count");
        same(format!("squall_lateness_seconds_count{{{place}}}"), number(&row["lateness_ms"]["n"]), "count");
        let mean = last[&format!("squall_lateness_seconds_sum{{{place}}}")] / number(&row["lateness_ms"]["n"]) * 1e3;
        let told = number(&row["lateness_ms"]["mean"]);
        assert!((mean - told).abs() <= 0.001 + told * 0.001, "{mean} is not {told}");
    }
    let answers = total(&last, "squall_answers_total");
    assert_eq!(answers, total(&last, "squall_requests_total") - total(&last, "squall_request_causes_total"), "all are of fake-1");
    let run =
        format!("squall_run_info{{run_id={},plan=\"p\",seed=\"7\",version=\"{}\"}}", report["run_id"], env!("CARGO_PKG_VERSION"));
    assert_eq!(last.get(&run), Some(&1.0), "{run}");
    for gauge in ["squall_worker_cpu_ratio", "squall_connections", "squall_requests_in_flight", "squall_pacing_window_seconds"] {
        assert!(last.contains_key(gauge) && pushed.contains_key(gauge), "{gauge}");
    }
}

#[test]
fn the_readme_has_the_buckets() {
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).expect("a README");
    let bounds: Vec<String> = squall::metrics::BOUNDS.iter().map(f64::to_string).collect();
    assert!(readme.contains(&format!("`{}`", bounds.join(" "))), "{}", bounds.join(" "));
}

/// Goal: nobody can hold up or spoil a run by how they read it. How: readers that say nothing, that say nonsense, that ask for what there
/// is not; a collector that is not there, and one that never answers.
#[test]
fn whoever_reads_or_takes_badly_costs_a_warning_at_most() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let deaf = FakeTarget::start_deaf();
    let nobody = FakeTarget::nobody();
    let address = FakeTarget::nobody();
    let run = |collector: SocketAddr, more: &[&str]| {
        let squall = Squall::new();
        let (url, otlp) = (target.url(), format!("http://{collector}"));
        let args = ["load", &url, "--rate", "200/s", "--for", "3s", "--out", "run", "--otlp", &otlp];
        let running = squall.start(&[&args[..], more].concat());
        (squall, running)
    };
    let metrics = address.to_string();
    let (first, unanswered) = run(deaf.address, &["--metrics", &metrics]);
    let (second, refused) = run(nobody, &[]);

    let say = |request: &str| wait_until(PATIENCE, || ask(address, request)).unwrap_or_else(|| panic!("no answer to {request}"));
    let other = say("GET / HTTP/1.1\r\n\r\n");
    assert!(other.head.starts_with("http/1.1 404") && other.body.contains("/metrics"), "{}", other.head);
    let post = say("POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n");
    assert!(post.head.starts_with("http/1.1 405") && post.head.contains("allow: get, head"), "{}", post.head);
    let head = say("HEAD /metrics HTTP/1.1\r\n\r\n");
    assert!(head.head.starts_with("http/1.1 200") && head.body.is_empty(), "{}{}", head.head, head.body);
    assert!(say("squall?\r\n\r\n").head.starts_with("http/1.1 400"));
    let long = format!("GET /metrics HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(1 << 20));
    let _cut_off = ask(address, &long);
    assert!(say("GET /metrics?x=y HTTP/1.0\r\n\r\n").head.contains(" 200 "));
    // More than are served at once, until the end of the run.
    let idle: Vec<TcpStream> = (0..20).filter_map(|_| TcpStream::connect(address).ok()).collect();
    assert!(!idle.is_empty());

    for (squall, running, why) in [(first, unanswered, "no answer within 2s"), (second, refused, "refused")] {
        let said = running.wait(PATIENCE);
        assert!([0, 3].contains(&said.code), "{}{}", said.stdout, said.stderr);
        let lines: Vec<&str> = said.stderr.lines().filter(|line| line.starts_with("warning: ")).collect();
        let last = lines.last().unwrap_or_else(|| panic!("no warning: {}", said.stderr));
        assert!(last.contains("the last numbers did not reach") && last.contains(why), "{last}");
        assert!(file_says(&squall.path("run/run.json"), "\"completed\": true"));
    }
}

/// Goal: what cannot be served is found before anything is sent, and says what to do.
#[test]
fn an_address_that_cannot_be_had_is_an_error_before_anything_is_sent() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let url = target.url();
    let with = |more: &[&str]| squall.run(&[&["load", &url, "--rate", "200/s", "--for", "1s", "--out", "run"], more].concat());
    let holder = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let held = holder.local_addr().expect("a bound socket has an address").to_string();
    with(&["--metrics", &held]).expect(4).saying(&format!("failed to serve metrics at {held}")).saying("name a free port");
    // An address of documentation, which no machine has.
    with(&["--metrics", "192.0.2.1:9464"]).expect(4).saying("name an address of this machine");
    with(&["--metrics", ":9464"]).expect(2).saying("127.0.0.1:9464 for this machine alone");
    with(&["--metrics"]).expect(2);
    with(&["--metrics", "0", "--metrics-linger", "5"]).expect(2).saying("5s");
    with(&["--metrics-linger", "5s"]).expect(2).saying("--metrics");
    with(&["--otlp", "127.0.0.1:4318"]).expect(2).saying("--otlp: `127.0.0.1:4318`").saying("as in http://127.0.0.1:4318");
    with(&["--otlp"]).expect(2).saying("OTEL_EXPORTER_OTLP_ENDPOINT");
    assert_eq!(target.seen().connections, 0);
    assert!(!squall.path("run/recording.jsonl").exists());
}

/// Goal: a collector that the environment names is used when the flag says so and no other, with its headers; and who waits for a last
/// reader can be told not to.
#[test]
fn the_environment_names_the_collector_and_a_signal_ends_the_wait() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let (asked, unasked) = (Collector::start(), Collector::start());
    let headers = Path::new("authorization=Bearer%20s3cret");
    let url = target.url();
    let start = |collector: &Collector, more: &[&str]| {
        let endpoint = format!("http://{}", collector.address);
        let variables = [("OTEL_EXPORTER_OTLP_ENDPOINT", Path::new(&endpoint)), ("OTEL_EXPORTER_OTLP_HEADERS", headers)];
        let args = ["load", &url, "--rate", "100/s", "--for", "1s", "--metrics", "0", "--metrics-linger", "10m", "--out"];
        squall.start_with(&[&args[..], more].concat(), &variables)
    };
    let (silent, running) = (start(&unasked, &["silent"]), start(&asked, &["run", "--otlp"]));
    wait_until(PATIENCE, || (!asked.taken().is_empty()).then_some(())).expect("a push arrives");
    for (run, running) in [("silent", silent), ("run", running)] {
        let ended = || file_says(&squall.path(run).join("recording.jsonl"), "\"run_ended\"").then_some(());
        wait_until(PATIENCE, ended).expect("the run ends");
        running.signal(Signal::INT);
        let said = running.wait(PATIENCE);
        assert!([3, 130].contains(&said.code), "without a claim there is no verdict: {}", said.stderr);
        assert!(!said.stderr.contains("s3cret"), "{}", said.stderr);
    }
    assert!(asked.taken().iter().all(|(head, _)| head.contains("authorization: bearer s3cret")), "{:?}", asked.taken());
    assert!(unasked.taken().is_empty(), "nobody asked for a push");
}
