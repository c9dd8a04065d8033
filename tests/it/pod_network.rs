//! Goal: the agent takes a pod's port in a real network, gives the dose, counts what its clients see, and is gone when it is, by whatever
//! death. How: a client and a pod in network namespaces of their own, joined by a cable; the built binary in the pod's, looked at with `nft`.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use serde_json::Value;

use crate::command::wait_until;

const PORT: u16 = 8080;
/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace, for as long as the process in it lives; its input ends with this process, whatever becomes of it.
struct Namespace {
    keeper: Child,
    _open: ChildStdin,
}

/// A pod with a server that says back each line, and a client's place beside it.
struct Pair {
    pod: Namespace,
    client: Namespace,
    ip: IpAddr,
}

/// An agent in the pod.
struct Agent {
    child: Child,
    stdin: Option<ChildStdin>,
    said: Arc<Mutex<Vec<Value>>>,
    stderr: Arc<Mutex<String>>,
}

/// A connection of the client's.
struct Client(BufReader<TcpStream>);

/// What these tests need is here; where it must be, it is.
fn possible() -> bool {
    let missing = if !rustix::process::geteuid().is_root() {
        Some("network namespaces need root".to_owned())
    } else {
        ["ip", "nft", "unshare", "nsenter"]
            .iter()
            .find(|program| Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err())
            .map(|program| format!("`{program}` is not installed"))
    };
    let missing = missing.or_else(|| {
        let tried = Command::new("unshare").args(["--net", "nft", "list", "ruleset"]).output().expect("it is installed");
        (!tried.status.success())
            .then(|| format!("no nftables in a new namespace: {}", String::from_utf8_lossy(&tried.stderr).trim()))
    });
    let Some(missing) = missing else { return true };
    let required = std::env::var("SQUALL_TEST_NAMESPACES").is_ok_and(|word| word == "required");
    assert!(!required, "{missing}, and SQUALL_TEST_NAMESPACES says that it must be");
    // Said aloud, because a test that did not run must not look like one that passed.
    println!("{missing}: this test has checked nothing");
    false
}

impl Namespace {
    fn new() -> Namespace {
        let mut keeper = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo here; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("unshare is installed");
        let mut here = String::new();
        BufReader::new(keeper.stdout.take().expect("it is piped")).read_line(&mut here).expect("it is text");
        assert_eq!(here.trim(), "here");
        let open = keeper.stdin.take().expect("it is piped");
        Namespace { keeper, _open: open }
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.keeper.id())
    }

    /// Does it in here. Sockets that it makes and processes that it starts stay here.
    fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(self.path()).expect("the keeper lives");
        let there = move || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("we are root");
            work()
        };
        std::thread::scope(|scope| scope.spawn(there).join()).unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// Runs a command in here; what it said.
    #[track_caller]
    fn command(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let output = self.within(|| Command::new(words[0]).args(&words[1..]).output().expect("it is installed"));
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn ruleset(&self) -> String {
        self.command("nft list ruleset")
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

impl Pair {
    fn new(pod: &str, client: &str) -> Pair {
        let pair = Pair { pod: Namespace::new(), client: Namespace::new(), ip: pod.parse().expect("an address") };
        let long = if pair.ip.is_ipv4() { 24 } else { 64 };
        pair.pod.command(&format!("ip link add eth0 type veth peer name eth0 netns {}", pair.client.keeper.id()));
        for (namespace, ip) in [(&pair.pod, pod), (&pair.client, client)] {
            let nodad = if pair.ip.is_ipv4() { "" } else { "nodad" };
            namespace.command("ip link set lo up");
            namespace.command(&format!("ip address add {ip}/{long} dev eth0 {nodad}"));
            namespace.command("ip link set eth0 up");
        }
        let any = if pair.ip.is_ipv4() { "0.0.0.0" } else { "::" };
        let listener = pair.pod.within(|| TcpListener::bind((any, PORT)).expect("nobody else is here"));
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                std::thread::spawn(move || {
                    let mut bytes = [0; 4096];
                    while let Ok(got @ 1..) = stream.read(&mut bytes) {
                        if stream.write_all(&bytes[..got]).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        pair
    }

    fn v4() -> Pair {
        Pair::new("10.77.0.2", "10.77.0.1")
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::new(self.ip, PORT)
    }

    fn connect(&self) -> Client {
        Client::of(self.client.within(|| TcpStream::connect(self.address())).expect("the pod's port answers"))
    }

    /// An agent that is active; its heartbeats are the test's to give.
    #[track_caller]
    fn agent(&self, more: &str) -> Agent {
        let agent = self.start(more, &[], Stdio::piped());
        agent.heard("active");
        agent
    }

    fn start(&self, more: &str, before: &[&str], stdin: Stdio) -> Agent {
        let deadline = jiff::Timestamp::now() + Duration::from_secs(120);
        let own = format!("{} agent latency --port {PORT} --deadline {deadline} {more}", env!("CARGO_BIN_EXE_squall"));
        let words: Vec<&str> = before.iter().copied().chain(own.split_whitespace()).collect();
        let mut child = self.pod.within(move || {
            Command::new(words[0])
                .args(&words[1..])
                .env("POD_IP", self.ip.to_string())
                .env_remove("SQUALL_INTERPOSE")
                .stdin(stdin)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("the binary was built")
        });
        let (said, stderr) = (Arc::<Mutex<Vec<Value>>>::default(), Arc::<Mutex<String>>::default());
        let (lines, ears) = (BufReader::new(child.stdout.take().expect("it is piped")), said.clone());
        std::thread::spawn(move || {
            for line in lines.lines().map_while(Result::ok) {
                ears.lock().expect("nobody panics with it").push(serde_json::from_str(&line).expect("the agent speaks JSON"));
            }
        });
        let (mut errors, ears) = (child.stderr.take().expect("it is piped"), stderr.clone());
        std::thread::spawn(move || {
            let mut text = String::new();
            let _ = errors.read_to_string(&mut text);
            *ears.lock().expect("nobody panics with it") = text;
        });
        let mut stdin = child.stdin.take();
        if let Some(stdin) = &mut stdin {
            // It touches nothing before it is spoken to; one that refused at once does not hear it.
            let _ = stdin.write_all(b"beat\n");
        }
        Agent { stdin, child, said, stderr }
    }
}

impl Agent {
    /// Waits for a line of this kind.
    #[track_caller]
    fn heard(&self, event: &str) -> Value {
        let line = || self.said.lock().expect("nobody panics with it").iter().rev().find(|line| line["event"] == event).cloned();
        wait_until(PATIENCE, line).unwrap_or_else(|| panic!("no `{event}`: {:?} {:?}", self.said, self.stderr))
    }

    /// Ends it as its harness does, by closing its input, and gives its last counters.
    #[track_caller]
    fn end(mut self) -> Value {
        drop(self.stdin.take());
        let reverted = self.heard("reverted");
        assert_eq!(reverted["cleared"], true, "{reverted}");
        assert!(self.child.wait().expect("our own child can be waited for").success());
        reverted["counters"].clone()
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("our own child can be signalled");
    }

    /// Why it ended at once.
    #[track_caller]
    fn refused(&mut self) -> String {
        wait_until(PATIENCE, || self.child.try_wait().expect("our own child can be waited for")).expect("it ends");
        wait_until(PATIENCE, || Some(self.stderr.lock().expect("nobody panics with it").clone()).filter(|text| !text.is_empty()))
            .expect("it says why")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Client {
    fn of(stream: TcpStream) -> Client {
        stream.set_nodelay(true).expect("it is a socket");
        stream.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
        Client(BufReader::new(stream))
    }

    /// Says a line and waits for it to come back.
    fn ask(&mut self) -> std::io::Result<Duration> {
        let began = Instant::now();
        self.0.get_mut().write_all(LINE.as_bytes())?;
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            _ => Ok(began.elapsed()),
        }
    }
}

const LINE: &str = "what is said\n";

/// The lower quartile: what a busy machine adds to some is not the agent's, and what the agent does to each shows in this.
fn quartile(mut took: Vec<Duration>) -> Duration {
    took.sort();
    took[took.len() / 4]
}

#[track_caller]
fn dose(pair: &Pair) {
    const ADD: Duration = Duration::from_secs(1);
    const REQUESTS: u64 = 9;
    let ask = || (0..REQUESTS).map(|_| pair.connect().ask().expect("it answers")).collect::<Vec<_>>();
    let before = quartile(ask());
    let agent = pair.agent("--add 1s --lease 60s");
    assert!(pair.pod.ruleset().contains("table inet squall-agent"), "{}", pair.pod.ruleset());
    let during = ask();
    assert!(during.iter().all(|took| *took >= ADD), "nobody gets less: {during:?}");
    let added = quartile(during).saturating_sub(before);
    assert!(added.abs_diff(ADD) <= ADD.mul_f64(0.02), "{added:?} was added, {ADD:?} asked ({before:?} before)");

    let counters = agent.end();
    assert_eq!(counters["connections"], REQUESTS, "{counters}");
    assert_eq!(counters["chunks"], REQUESTS, "one piece each: {counters}");
    assert_eq!(counters["bytes"], REQUESTS * LINE.len() as u64, "{counters}");
    assert_eq!((&counters["reset"], &counters["refused"]), (&0.into(), &0.into()), "{counters}");
    let mean = counters["delay_ms_mean"].as_f64().expect("a number");
    assert!((1000.0..1100.0).contains(&mean), "{counters}");
    assert_eq!(pair.pod.ruleset().trim(), "", "nothing is left");
    let after = quartile(ask());
    assert!(after < ADD / 2, "{after:?}");
}

#[test]
fn the_dose_is_given_and_counted() {
    if possible() {
        dose(&Pair::v4());
    }
}

#[test]
fn the_dose_is_given_over_the_newer_protocol_too() {
    if possible() {
        dose(&Pair::new("fd77::2", "fd77::1"));
    }
}

#[test]
fn connections_that_are_open_are_reset_and_counted() {
    if !possible() {
        return;
    }
    let pair = Pair::v4();
    let mut old: Vec<Client> = (0..3).map(|_| pair.connect()).collect();
    for client in &mut old {
        client.ask().expect("it answers");
    }
    let own = |ip: IpAddr| Client::of(pair.pod.within(|| TcpStream::connect((ip, PORT))).expect("the pod reaches itself"));
    let mut own = [own(pair.ip), own([127, 0, 0, 1].into())];
    for client in &mut own {
        client.ask().expect("it answers");
    }

    let agent = pair.agent("--add 600ms --existing reset --lease 60s");
    for client in &mut old {
        // Told at once, also where it has nothing to say.
        let error = client.0.read(&mut [0]).expect_err("it is reset");
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    }
    let mut new = pair.connect();
    assert!(new.ask().expect("it answers") >= Duration::from_millis(600));
    for client in &mut own {
        assert!(client.ask().expect("a pod that talks to itself is nobody's client") < Duration::from_millis(400));
    }
    let counters = agent.end();
    assert_eq!((&counters["reset"], &counters["connections"]), (&3.into(), &1.into()), "{counters}");
    let error = new.ask().expect_err("connections through the proxy are reset with it");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    pair.connect().ask().expect("the pod answers again");
}

#[test]
fn connections_that_are_left_alone_go_on_through_both_ends() {
    if !possible() {
        return;
    }
    let pair = Pair::v4();
    let mut old = pair.connect();
    old.ask().expect("it answers");
    let mut agent = pair.agent("--add 600ms --existing leave --lease 60s");
    assert!(old.ask().expect("it is left") < Duration::from_millis(400), "undelayed");
    let mut new = pair.connect();
    assert!(new.ask().expect("it answers") >= Duration::from_millis(600));
    drop(agent.stdin.take());
    wait_until(PATIENCE, || pair.pod.ruleset().trim().is_empty().then_some(())).expect("the table is gone first");
    assert!(new.ask().expect("it goes on through the proxy") < Duration::from_millis(400), "undelayed");
    assert!(pair.connect().ask().expect("the pod answers") < Duration::from_millis(400));
    drop(new);
    let counters = agent.end();
    assert_eq!((&counters["connections"], &counters["reset"]), (&1.into(), &Value::Null), "{counters}");
    old.ask().expect("it never noticed");
}

/// What a kernel refuses or sends elsewhere shows as an error here, for as long as it does.
#[test]
fn kill_nine_of_agent_and_harness_leaves_nothing() {
    if !possible() {
        return;
    }
    let pair = Pair::v4();
    // The harness: somebody whose heartbeats come through a pipe.
    let mut harness = Command::new("sh")
        .args(["-c", "while echo beat; do sleep 0.2; done"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    let heartbeats = harness.stdout.take().expect("it is piped");
    let lease = Duration::from_secs(3);
    let mut agent = pair.start("--add 300ms --lease 3s", &[], heartbeats.into());
    agent.heard("active");
    // Longer than the lease: it is the heartbeats that keep it.
    let held = Instant::now() + lease + Duration::from_secs(1);
    while Instant::now() < held {
        assert!(pair.connect().ask().expect("it answers") >= Duration::from_millis(300));
    }
    let mut open = pair.connect();
    open.ask().expect("it answers");

    harness.kill().expect("our own child can be killed");
    agent.child.kill().expect("our own child can be killed");
    harness.wait().expect("our own child can be waited for");
    agent.child.wait().expect("our own child can be waited for");
    let killed = Instant::now();
    open.ask().expect_err("it went through the agent");
    wait_until(PATIENCE, || pair.client.within(|| TcpStream::connect(pair.address())).ok().map(|stream| Client::of(stream).ask()))
        .expect("the pod answers")
        .expect("by itself");
    assert!(killed.elapsed() < lease, "{:?}", killed.elapsed());
    assert!(pair.connect().ask().expect("the pod answers") < Duration::from_millis(200), "undelayed");
    assert_eq!(pair.pod.ruleset().trim(), "", "the kernel took the table away with the agent");
}

/// The kernel's own lease: an agent that stands still renews nothing, and holds connections up for no longer than the lease.
#[test]
fn an_agent_that_stands_still_loses_the_port() {
    if !possible() {
        return;
    }
    let pair = Pair::v4();
    let agent = pair.agent("--add 100ms --lease 2s");
    agent.signal(Signal::STOP);
    let stopped = Instant::now();
    // A connection that was led to it waits there; one after the lease does not.
    wait_until(PATIENCE, || (!pair.pod.ruleset().contains("elements")).then_some(())).expect("the element expires");
    assert!(stopped.elapsed() < Duration::from_secs(4), "{:?}", stopped.elapsed());
    pair.connect().ask().expect("the pod answers");
    assert!(pair.pod.ruleset().contains("table inet squall-agent"), "the table is the agent's, which lives");
    agent.signal(Signal::KILL);
    wait_until(PATIENCE, || pair.pod.ruleset().trim().is_empty().then_some(())).expect("and goes with it");
}

/// What an agent leaves on a kernel that does not take its table away: made here with `nft`, as such an agent would.
#[test]
fn what_a_dead_agent_left_is_removed_by_the_next_and_never_that_of_a_living() {
    if !possible() {
        return;
    }
    let pair = Pair::v4();
    pair.pod.command("nft add table inet squall-dead");
    pair.pod.command("nft add set inet squall-dead lease { type inet_service; flags timeout; }");
    pair.pod.command("nft add chain inet squall-dead inbound { type filter hook prerouting priority mangle; }");
    let rule = "meta iiftype != loopback ip daddr 10.77.0.2 tcp dport @lease tproxy ip to 10.77.0.2:9";
    pair.pod.command(&format!("nft add rule inet squall-dead inbound {rule}"));
    pair.pod.command("nft add element inet squall-dead lease { 8080 timeout 3s }");
    pair.connect().ask().expect("without the dead agent's proxy connections meet the pod at once");
    pair.pod.command("nft add table inet filter");
    let mut early = pair.start("--add 100ms", &[], Stdio::piped());
    let why = early.refused();
    assert!(why.contains("port 8080 is taken by another agent already (table squall-dead"), "{why}");
    wait_until(PATIENCE, || (!pair.pod.ruleset().contains("elements")).then_some(())).expect("the element expires");

    let agent = pair.agent("--add 100ms --lease 60s --name squall-1234abcd");
    let ruleset = pair.pod.ruleset();
    assert!(ruleset.contains("squall-1234abcd") && !ruleset.contains("squall-dead"), "{ruleset}");
    let mut second = pair.start("--add 100ms --name squall-other", &[], Stdio::piped());
    let why = second.refused();
    assert!(why.contains("table squall-1234abcd"), "{why}");
    assert!(pair.connect().ask().expect("it answers") >= Duration::from_millis(100), "the first goes on");
    agent.end();
    assert_eq!(pair.pod.command("nft list tables").trim(), "table inet filter", "what was there before stays");
}

#[test]
fn what_it_may_not_do_is_said_and_nothing_is_touched() {
    if !possible() {
        return;
    }
    let pair = Pair::v4();
    for (without, more) in [
        ("setpriv --bounding-set=-net_admin,-net_raw", "--existing reset"),
        ("setpriv --bounding-set=-net_admin", "--existing reset"),
        ("setpriv --bounding-set=-net_admin", "--existing leave"),
    ] {
        let before: Vec<&str> = without.split(' ').collect();
        let mut agent = pair.start(&format!("--add 100ms {more}"), &before, Stdio::piped());
        let why = agent.refused();
        assert!(why.contains("the agent needs the capability NET_ADMIN"), "{without} {more}: {why}");
    }
    assert_eq!(pair.pod.ruleset().trim(), "");
    // Their twin has what its container is given, and no more.
    let before = ["setpriv", "--bounding-set=-all,+net_admin", "--no-new-privs"];
    let agent = pair.start("--add 100ms --existing reset", &before, Stdio::piped());
    agent.heard("active");
    assert!(pair.connect().ask().expect("it answers") >= Duration::from_millis(100));
    agent.end();
}

/// As the first process of a container: signals end it in good order, and orphans are buried.
#[test]
fn it_does_what_a_first_process_must() {
    if !possible() {
        return;
    }
    let pair = Pair::v4();
    let before = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];
    let mut outer = pair.start("--add 100ms --lease 60s", &before, Stdio::piped());
    outer.heard("active");
    let children = format!("/proc/{0}/task/{0}/children", outer.child.id());
    let first = std::fs::read_to_string(&children).expect("it lives").trim().to_owned();
    // An orphan: its parent ends at once, and it soon after.
    let orphan =
        Command::new("nsenter").args(["--target", &first, "--pid", "sh", "-c", "sleep 0.1 &"]).status().expect("it is installed");
    assert!(orphan.success());
    let zombies = || {
        let children = std::fs::read_to_string(format!("/proc/{first}/task/{first}/children")).expect("it lives");
        children.trim().is_empty().then_some(())
    };
    wait_until(PATIENCE, zombies).expect("orphans are buried");
    let pid = Pid::from_raw(first.parse().expect("a number")).expect("not zero");
    kill_process(pid, Signal::TERM).expect("we are root");
    let reverted = outer.heard("reverted");
    assert_eq!((&reverted["reason"], &reverted["cleared"]), (&"told to end".into(), &true.into()), "{reverted}");
    assert_eq!(pair.pod.ruleset().trim(), "");
    outer.child.wait().expect("our own child can be waited for");
}
