//! The demo service over real sockets: what each dial does, seen from outside.

use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use super::{Options, server, service};
use crate::time::monotonic_now;

#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    options: Options,
}

fn options(arguments: &str) -> Options {
    let words = ["workload", "--pod", "pod-1"].into_iter().chain(arguments.split_whitespace());
    Arguments::try_parse_from(words).unwrap_or_else(|error| panic!("{error}")).options
}

/// A service that runs until it is stopped.
struct Running {
    address: String,
    stop: Option<oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<usize>,
}

impl Running {
    async fn with(arguments: &str) -> Running {
        let options = options(arguments);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound").to_string();
        let drain = options.drain.duration();
        let service = Arc::new(service::Service::new(options).expect("the options agree"));
        let (stop, stopped) = oneshot::channel();
        let ended = tokio::spawn(server::run(listener, service, drain, async move {
            let _ = stopped.await;
            "the test"
        }));
        Running { address, stop: Some(stop), ended }
    }

    async fn get(&self, path: &str) -> Answer {
        get(&self.address, path).await
    }

    async fn metric(&self, line: &str) -> f64 {
        let text = self.get("/metrics").await.body;
        text.lines().find_map(|l| l.strip_prefix(line)?.trim().parse().ok()).unwrap_or_else(|| panic!("no {line} in\n{text}"))
    }

    async fn until(&self, line: &str, value: f64) {
        let deadline = monotonic_now() + Duration::from_secs(10);
        while self.metric(line).await != value {
            assert!(monotonic_now() < deadline, "{line} never became {value}");
        }
    }
}

struct Answer {
    status: u16,
    head: String,
    body: String,
    took: Duration,
}

async fn get(address: &str, path: &str) -> Answer {
    let began = monotonic_now();
    let mut stream = TcpStream::connect(address).await.expect("it listens");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.expect("it reads");
    let mut text = String::new();
    stream.read_to_string(&mut text).await.expect("it answers");
    let (head, body) = text.split_once("\r\n\r\n").expect("an answer has a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a head has a status");
    Answer { status, head: head.to_lowercase(), body: body.to_owned(), took: began.elapsed() }
}

#[tokio::test]
async fn it_answers_after_its_service_time_and_says_who_it_is() {
    let service = Running::with("--service-time 30ms --cpu-per-request 3ms").await;
    let before = service.metric("process_cpu_seconds_total").await;
    let answer = service.get("/checkout").await;
    assert_eq!((answer.status, answer.body.as_str()), (200, "ok\n"));
    assert!(answer.took >= Duration::from_millis(30), "{:?}", answer.took);
    assert!(answer.head.contains("x-pod: pod-1"), "{}", answer.head);
    assert!(service.metric("process_cpu_seconds_total").await - before >= 0.003);
    assert_eq!(service.get("/healthz").await.status, 200);
    assert_eq!(service.get("/readyz").await.status, 200);
    // Probes and scrapes are not its work.
    assert_eq!(service.metric("http_requests_total{code=\"200\"}").await, 1.0);
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let service = Running::with("--service-time 10s --workers 1 --queue 1 --reject-with 429 --retry-after 2s").await;
    let stuck: Vec<_> = (0..2)
        .map(|_| {
            let address = service.address.clone();
            tokio::spawn(async move { get(&address, "/").await })
        })
        .collect();
    service.until("http_requests_in_flight", 2.0).await;
    assert_eq!(service.metric("queue_depth").await, 1.0);
    let answer = service.get("/").await;
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 2"), "{}", answer.head);
    assert!(answer.took < Duration::from_secs(5), "{:?}", answer.took);
    // Probes do not stand in the line.
    assert_eq!(service.get("/readyz").await.status, 200);
    stuck.iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn work_goes_on_after_its_client_has_gone() {
    let service = Running::with("--service-time 200ms --workers 1 --queue unbounded").await;
    let mut stream = TcpStream::connect(&service.address).await.expect("it listens");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
    service.until("http_requests_in_flight", 1.0).await;
    drop(stream);
    // The next in line waits for the abandoned one: 2 x 200 ms less what went by before.
    assert_eq!(service.get("/").await.status, 200);
    service.until("http_requests_in_flight", 0.0).await;
}

#[tokio::test]
async fn it_is_not_ready_before_it_is_warm_unless_it_lies() {
    let honest = Running::with("--ready-after 60s").await;
    let lying = Running::with("--ready-after 60s --ready-lies").await;
    assert_eq!(honest.get("/readyz").await.status, 503);
    assert_eq!(lying.get("/readyz").await.status, 200);
    for service in [honest, lying] {
        assert_eq!(service.get("/").await.status, 500);
        assert_eq!(service.get("/healthz").await.status, 200);
    }
}

#[tokio::test]
async fn a_slow_start_is_slow_and_ends() {
    let service = Running::with("--service-time 20ms --slow-start 60s --slow-start-factor 10").await;
    let answer = service.get("/").await;
    // 60 s of decay: a second in, the factor is still above 9.8.
    assert!(answer.took >= Duration::from_millis(150), "{:?}", answer.took);
    let normal = Running::with("--service-time 20ms --slow-start 1ms").await;
    assert_eq!(normal.get("/readyz").await.status, 200);
}

#[tokio::test]
async fn a_drain_finishes_what_is_in_flight_and_tells_clients_to_leave() {
    let mut service = Running::with("--service-time 300ms --drain 200ms").await;
    let address = service.address.clone();
    let slow = tokio::spawn(async move { get(&address, "/").await });
    service.until("http_requests_in_flight", 1.0).await;
    service.stop.take().expect("it runs").send(()).expect("it waits to be stopped");
    let deadline = monotonic_now() + Duration::from_secs(10);
    while service.get("/readyz").await.status != 503 {
        assert!(monotonic_now() < deadline, "it never stopped saying that it is ready");
    }
    assert_eq!(slow.await.expect("the request ends").status, 200);
    assert_eq!(service.ended.await.expect("the server ends"), 0, "nothing is cut off");
    assert!(TcpStream::connect(&service.address).await.is_err(), "it no longer accepts");
}

/// Goal: an old connection ends in good order, so that its client finds other pods. How: one keep-alive client; ends come as
/// `connection: close` on an answer, never as a broken one.
#[tokio::test]
async fn an_old_connection_is_given_up_in_good_order() {
    let payments = Running::with("--service-time 1ms --connection-age 20ms").await;
    let checkout = Running::with(&format!("--service-time 5ms --depends http://{}/pay", payments.address)).await;
    for _ in 0..40 {
        assert_eq!(checkout.get("/").await.status, 200);
    }
    assert_eq!(checkout.metric("dependency_attempts_total").await, 40.0);
    let mut stream = TcpStream::connect(&payments.address).await.expect("it listens");
    let mut answers = 0;
    loop {
        stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("it reads");
        let mut answer = [0; 1024];
        let length = stream.read(&mut answer).await.expect("it answers");
        answers += 1;
        let head = String::from_utf8_lossy(&answer[..length]).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{head}");
        if head.contains("connection: close") {
            break;
        }
        assert!(answers < 1000, "20 ms must come to an end");
    }
}

/// A dependency that closes each connection after one answer without saying so, as a restarted pod or an idle timeout does.
async fn forgetful_dependency() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = [0; 4096];
            let _ = stream.read(&mut head).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        }
    });
    address
}

#[tokio::test]
async fn a_stale_pooled_connection_costs_nobody_a_request() {
    let dependency = forgetful_dependency().await;
    let service = Running::with(&format!("--service-time 1ms --depends http://{dependency}/pay")).await;
    for _ in 0..20 {
        assert_eq!(service.get("/").await.status, 200);
    }
    assert_eq!(service.metric("dependency_operations_total").await, 20.0);
    assert_eq!(service.metric("dependency_attempts_total").await, 20.0, "a reconnect is not a retry");
}

#[tokio::test]
async fn a_keep_alive_dependency_is_called_over_one_connection() {
    let payments = Running::with("--service-time 1ms --connections 1").await;
    let checkout = Running::with(&format!("--service-time 1ms --depends http://{}/pay", payments.address)).await;
    for _ in 0..20 {
        assert_eq!(checkout.get("/").await.status, 200);
    }
    assert_eq!(checkout.metric("dependency_reconnects_total").await, 0.0);
}

/// Goal: naive retries multiply, a budget does not. How: a dependency that always fails, 100 operations with up to three retries;
/// naive makes 400 attempts, a 20 % budget at most 100 + 10 saved + 20 earned.
#[tokio::test]
async fn a_budget_bounds_retries_and_naive_ones_multiply() {
    let broken = Running::with("--ready-after 60s").await;
    for (mode, most, least) in [("naive", 400.0, 400.0), ("budget", 130.0, 110.0)] {
        let service = Running::with(&format!(
            "--service-time 0s --depends http://{}/ --retries 3 --retry-mode {mode} --retry-budget 20%",
            broken.address
        ))
        .await;
        for _ in 0..100 {
            assert_eq!(service.get("/").await.status, 502);
        }
        let attempts = service.metric("dependency_attempts_total").await;
        assert!((least..=most).contains(&attempts), "{mode}: {attempts}");
    }
}

#[tokio::test]
async fn the_dependencys_trouble_keeps_its_kind() {
    let busy = Running::with("--service-time 60s --workers 1 --queue 0").await;
    let address = busy.address.clone();
    let stuck = tokio::spawn(async move { get(&address, "/").await });
    busy.until("http_requests_in_flight", 1.0).await;
    let hanging = Running::with("--service-time 60s").await;
    let gone = {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        listener.local_addr().expect("it is bound").to_string()
    };
    for (dependency, status) in [(&busy.address, 503), (&hanging.address, 504), (&gone, 502)] {
        let service = Running::with(&format!("--service-time 0s --depends http://{dependency}/ --dependency-timeout 50ms")).await;
        assert_eq!(service.get("/").await.status, status);
    }
    stuck.abort();
}

#[test]
fn wrong_dials_are_refused_with_the_way_out() {
    for (arguments, says) in [
        ("--queue lots", "unbounded"),
        ("--reject-with 404", "use 503 or 429"),
        ("--service-time 20", "write 20ms or 20s"),
        ("--workers 0", "1..="),
        ("--retry-mode never", "naive"),
    ] {
        let words = ["workload"].into_iter().chain(arguments.split_whitespace());
        let error = Arguments::try_parse_from(words).err().map(|error| error.to_string()).expect(arguments);
        assert!(error.contains(says), "{arguments}: {error}");
    }
    let error = service::Service::new(options("--depends https://x/")).err().expect("no TLS here").to_string();
    assert!(error.contains("not an http:// URL"), "{error}");
}
