//! A push to an OpenTelemetry collector: OTLP over HTTP in JSON, every few seconds and once at the end. Sums are cumulative, so a push
//! that failed loses nothing once a later one arrives, and none is repeated.

use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::{Desk, Exporter, Flag, Given, Outlet, unavailable};
use crate::exit::Failure;
use crate::time::wall_now;

mod json;

const FLAG: &str = "otlp";

pub const EXPORTER: Exporter = Exporter {
    name: "otlp",
    summary: "pushed to an OpenTelemetry collector over OTLP/HTTP in JSON, every 5 s and at the end",
    example: "--otlp http://127.0.0.1:4318",
    flags: &[Flag {
        name: FLAG,
        value: "URL",
        help: "Push live metrics to an OpenTelemetry collector over HTTP: `http://127.0.0.1:4318`; alone, to where OTEL_EXPORTER_OTLP_ENDPOINT \
               says, with OTEL_EXPORTER_OTLP_HEADERS",
        alone: true,
    }],
    read,
};

/// Between two pushes.
const EVERY: Duration = Duration::from_secs(5);
/// How long a push may take, the last one too: this is how much a dead collector can hold up the end of a run.
const TIMEOUT: Duration = Duration::from_secs(2);
/// How much of an answer is read, in bytes.
const ANSWER_MAX: usize = 64 << 10;
/// Where metrics go below a collector's address.
const PATH: &str = "v1/metrics";

struct Push {
    collector: Collector,
    every: Duration,
    pushing: Option<Pushing>,
}

#[derive(Clone, Debug)]
struct Collector {
    url: Url,
    headers: HeaderMap,
}

struct Pushing {
    task: JoinHandle<Option<String>>,
    stop: watch::Sender<bool>,
}

fn read(given: &Given) -> Result<Box<dyn Outlet>, String> {
    let text = given.values.get(FLAG).map(String::as_str).unwrap_or_default();
    let collector = match text {
        "" => from_environment(given.environment)?,
        text => Collector { url: signal_url(text, &format!("--{FLAG}"))?, headers: HeaderMap::new() },
    };
    Ok(Box::new(Push { collector, every: EVERY, pushing: None }))
}

/// As the specification of OpenTelemetry's exporters says: the variable for metrics alone goes before the one for all signals, and is
/// the whole address.
fn from_environment(variable: &dyn Fn(&str) -> Option<String>) -> Result<Collector, String> {
    let set = |name: &'static str| variable(name).filter(|value| !value.is_empty()).map(|value| (name, value));
    let of = |own: &'static str, all: &'static str| set(own).or_else(|| set(all));
    if let Some((name, value)) = of("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
        && value == "grpc"
    {
        return Err(format!(
            "{name} says grpc, and metrics are pushed over HTTP: name the collector's HTTP port, as in --{FLAG} http://127.0.0.1:4318"
        ));
    }
    let url = match of("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT") {
        Some((name @ "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", url)) => http_url(&url, name)?,
        Some((name, url)) => signal_url(&url, name)?,
        None => {
            return Err(format!(
                "--{FLAG} names no collector: write --{FLAG} http://127.0.0.1:4318, or set OTEL_EXPORTER_OTLP_ENDPOINT"
            ));
        }
    };
    let headers = match of("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS") {
        Some((name, text)) => headers(&text).map_err(|why| format!("{name}: {why}"))?,
        None => HeaderMap::new(),
    };
    Ok(Collector { url, headers })
}

/// The address for metrics under a collector's address.
fn signal_url(text: &str, place: &str) -> Result<Url, String> {
    let mut url = http_url(text, place)?;
    let path = url.path().trim_end_matches('/').to_owned();
    if !path.ends_with(PATH) {
        url.set_path(&format!("{path}/{PATH}"));
    }
    Ok(url)
}

fn http_url(text: &str, place: &str) -> Result<Url, String> {
    let way_out = "write the collector's address, as in http://127.0.0.1:4318";
    let shown = without_password(text);
    let url = Url::parse(text).map_err(|error| format!("{place}: `{shown}` is no URL ({error}): {way_out}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err(format!("{place}: `{shown}` is no HTTP address: {way_out}"));
    }
    Ok(url)
}

/// An address as it may be shown: who it names before an `@` stays out.
fn without_password(text: &str) -> String {
    let start = text.find("//").map_or(0, |at| at + 2);
    match text.rfind('@').filter(|at| *at >= start) {
        Some(at) => format!("{}...{}", &text[..start], &text[at..]),
        None => text.to_owned(),
    }
}

/// `name=value,name=value`, percent-encoded, as W3C baggage is. Values are secrets: no message holds one.
fn headers(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (index, pair) in text.split(',').enumerate().filter(|(_, pair)| !pair.trim().is_empty()) {
        let wrong = || format!("entry {} is no header: write name=value, percent-encoded", index + 1);
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let name: HeaderName = decoded(name.trim()).ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
        let mut value: HeaderValue = decoded(value.trim()).ok_or_else(wrong)?.parse().map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

/// Without percent-encoding; `None` where that is broken or hides bytes that are no text.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        rest = after;
        if *first == b'%' {
            let (hex, after) = rest.split_at_checked(2)?;
            bytes.push(u8::from_str_radix(str::from_utf8(hex).ok()?, 16).ok()?);
            rest = after;
        } else {
            bytes.push(*first);
        }
    }
    String::from_utf8(bytes).ok()
}

impl Outlet for Push {
    fn open(&mut self, desk: Desk) -> BoxFuture<'_, Result<String, Failure>> {
        async move {
            // An error means that a provider is installed already, which is what we want.
            let _ = rustls::crypto::ring::default_provider().install_default();
            let client = Client::builder()
                .no_proxy()
                .timeout(TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .user_agent(concat!("squall/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| unavailable(format!("failed to make an HTTP client for --{FLAG}: {}", root(&error))))?;
            let place = self.collector.display();
            let (stop, stopped) = watch::channel(false);
            let pusher = Pusher { client, collector: self.collector.clone(), desk, tried: 0, failed: 0 };
            self.pushing = Some(Pushing { task: tokio::spawn(pusher.run(self.every, stopped)), stop });
            Ok(format!("metrics are pushed to {place}"))
        }
        .boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Option<String>> {
        async move {
            let mut pushing = self.pushing.take()?;
            pushing.stop.send_replace(true);
            // A task that panicked has told so on stderr, and nothing hangs on it.
            (&mut pushing.task).await.ok().flatten()
        }
        .boxed()
    }
}

impl Drop for Pushing {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Collector {
    /// Its address without a name and a password that may be in it.
    fn display(&self) -> String {
        let mut url = self.url.clone();
        // An error means that it can have neither.
        let _ = (url.set_username(""), url.set_password(None));
        url.set_query(None);
        url.to_string()
    }
}

struct Pusher {
    client: Client,
    collector: Collector,
    desk: Desk,
    tried: u64,
    failed: u64,
}

impl Pusher {
    /// Pushes until told to stop, then once more. What became of the last one, where it failed.
    async fn run(mut self, every: Duration, mut stop: watch::Receiver<bool>) -> Option<String> {
        let mut ticks = tokio::time::interval(every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let again = async {
                ticks.tick().await;
                self.push().await
            };
            tokio::select! {
                pushed = again => self.warn_once(pushed),
                // A push that is under way then is given up: the last one carries all that it did, and more.
                _ = stop.changed() => break,
            }
        }
        let why = self.push().await.err()?;
        let before = match self.failed {
            0 => String::new(),
            failed => format!(", and {failed} of {} before them did not either", self.tried),
        };
        Some(format!("the last numbers did not reach {}: {why}{before}; the recording has them", self.collector.display()))
    }

    /// The first that failed is news; the others are of the same kind, or are told at the end.
    fn warn_once(&mut self, pushed: Result<(), String>) {
        self.tried += 1;
        if let Err(why) = pushed {
            self.failed += 1;
            if self.failed == 1 {
                let place = self.collector.display();
                self.desk.warn(format!("{place} takes no metrics: {why}; the run goes on, and so do the pushes"));
            }
        }
    }

    async fn push(&self) -> Result<(), String> {
        let snapshot = self.desk.numbers.snapshot();
        let Some(run) = &snapshot.run else { return Ok(()) };
        let body = json::encode(&snapshot, run, wall_now()).to_string();
        let request = self.client.post(self.collector.url.clone()).headers(self.collector.headers.clone());
        let told = |error: reqwest::Error| match error.is_timeout() {
            true => format!("no answer within {TIMEOUT:?}"),
            false => root(&error),
        };
        let mut answer = request.header(CONTENT_TYPE, "application/json").body(body).send().await.map_err(told)?;
        if !answer.status().is_success() {
            return Err(format!("it answers {}", answer.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(told)? {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > ANSWER_MAX {
                return Err(format!("it answers more than {ANSWER_MAX} bytes"));
            }
        }
        json::refused(&bytes).map_or(Ok(()), Err)
    }
}

/// What is at the root of an error: "connection refused" says more than "error sending request".
fn root(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |error| error.source()).last().map_or_else(String::new, ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recording::fact::{Ending, Event, Fact, RunEnded, RunStarted};
    use crate::time::Offset;
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
    use tokio::net::TcpListener;
    use tokio::sync::mpsc;

    fn environment<'a>(variables: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_collector_s_address_is_completed() {
        for (text, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/metrics"),
            ("http://127.0.0.1:4318/", "http://127.0.0.1:4318/v1/metrics"),
            ("https://x.test/otlp/", "https://x.test/otlp/v1/metrics"),
            ("http://x.test/v1/metrics", "http://x.test/v1/metrics"),
        ] {
            assert_eq!(signal_url(text, "--otlp").unwrap().as_str(), url);
        }
        for text in ["127.0.0.1:4318", "localhost:4318", "ftp://x.test", "", "http://"] {
            let why = signal_url(text, "--otlp").unwrap_err();
            assert!(why.starts_with("--otlp: ") && why.contains("as in http://127.0.0.1:4318"), "{why}");
        }
        let collector =
            Collector { url: signal_url("http://me:secret@x.test/?key=secret", "").unwrap(), headers: HeaderMap::new() };
        assert_eq!(collector.display(), "http://x.test/v1/metrics");
    }

    #[test]
    fn the_environment_names_a_collector_where_the_flag_does_not() {
        let all = from_environment(&environment(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x.test"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s%3D, x-tenant = gold ,"),
        ]))
        .unwrap();
        assert_eq!(all.url.as_str(), "http://x.test/v1/metrics");
        assert_eq!(
            (&all.headers["authorization"], &all.headers["x-tenant"]),
            (&"Bearer s=".parse().unwrap(), &"gold".parse().unwrap())
        );
        assert!(!format!("{all:?}").contains("Bearer"), "headers are secrets");
        let own = from_environment(&environment(&[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x.test"),
            ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://y.test/here"),
        ]));
        assert_eq!(own.unwrap().url.as_str(), "http://y.test/here");
        for (variables, words) in [
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "")][..], "--otlp http://127.0.0.1:4318"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "x.test:4317")], "OTEL_EXPORTER_OTLP_ENDPOINT: `x.test:4317`"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")], "over HTTP"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=1,key")], "entry 2 is no header"),
            (&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=%zz")], "entry 1 is no header"),
        ] {
            let why = from_environment(&environment(variables)).unwrap_err();
            assert!(why.contains(words), "{why}");
        }
        // Secrets of the environment are not for an address that somebody typed.
        let given = Given {
            values: BTreeMap::from([(FLAG, "http://z.test".to_owned())]),
            environment: &environment(&[("OTEL_EXPORTER_OTLP_HEADERS", "nonsense")]),
        };
        assert!(read(&given).is_ok());
    }

    /// A collector that answers `status` to the first push and 200 to the others, and hands on what was pushed.
    async fn collector(status: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (said, pushed) = mpsc::channel(64);
        tokio::spawn(async move {
            let mut status = status;
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let mut stream = BufReader::new(stream);
                let (mut head, mut length) = (String::new(), 0);
                while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head).await.unwrap() > 0 {}
                for line in head.to_lowercase().lines() {
                    length = line.strip_prefix("content-length: ").map_or(length, |length| length.parse().unwrap());
                }
                let mut body = vec![0; length];
                stream.read_exact(&mut body).await.unwrap();
                let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
                stream.write_all(answer.as_bytes()).await.unwrap();
                status = "200 OK";
                if said.send(String::from_utf8(body).unwrap()).await.is_err() {
                    return;
                }
            }
        });
        (address, pushed)
    }

    /// Goal: a collector that does not want the numbers for a while has them all in the end, and is told of once. How: pushes every few
    /// milliseconds to one that refuses the first.
    #[tokio::test]
    async fn pushes_go_on_after_one_that_failed() {
        let (address, mut pushed) = collector("503 Service Unavailable").await;
        let (desk, mut warnings) = Desk::new();
        let fact = Fact::RunStarted(Box::new(RunStarted::of_nothing()));
        desk.numbers.tap().event(&Event { n: 0, t_ns: Offset::ZERO, fact });
        let collector = Collector { url: signal_url(&format!("http://{address}"), "").unwrap(), headers: HeaderMap::new() };
        let mut push = Push { collector, every: Duration::from_millis(5), pushing: None };
        let said = push.open(desk.clone()).await.unwrap();
        assert_eq!(said, format!("metrics are pushed to http://{address}/v1/metrics"));
        for _ in 0..4 {
            let body: serde_json::Value = serde_json::from_str(&pushed.recv().await.unwrap()).unwrap();
            assert_eq!(body["resourceMetrics"][0]["resource"]["attributes"][2]["value"]["stringValue"], "r");
        }
        let ended = Fact::RunEnded(RunEnded { how: Ending::Completed, lost_events: 0 });
        desk.numbers.tap().event(&Event { n: 1, t_ns: Offset::ZERO, fact: ended });
        assert_eq!(push.close().await, None, "the last one arrived");
        let warning = warnings.try_recv().unwrap();
        assert!(warning.contains("it answers 503") && warnings.try_recv().is_err(), "{warning}");
        let mut last = String::new();
        while let Ok(body) = pushed.try_recv() {
            last = body;
        }
        let last: serde_json::Value = serde_json::from_str(&last).unwrap();
        let metrics = last["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap();
        let ended = metrics.iter().find(|metric| metric["name"] == "squall_run_ended").unwrap();
        assert_eq!(ended["gauge"]["dataPoints"][0]["asDouble"], 1.0);
    }
}
