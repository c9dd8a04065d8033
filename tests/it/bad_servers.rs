//! Servers that misbehave in every way that a peer can, beyond those of `load.rs`. Method: a real load against a fake target with its
//! dial set to one badness. Every request must end, as the right outcome and for the right cause, and nothing may be left behind: a
//! hang is a test that does not end, a crash a run that is broken, and what leaks is counted in a process of its own.

use std::path::Path;
use std::time::Duration;

use squall::recording::Outcome;
use squall::recording::sink::Measure;

use crate::command::wait_until;
use crate::fake_target::{Dial, FakeTarget, Then, Timing};
use crate::load::{Case, Drive, check};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

/// A server that says this and goes on like that: its requests fail for this cause.
fn fails(reply: &str, then: Then, cause: &'static str) -> Case {
    (Dial::says(reply, then), Outcome::Failed, Some(cause))
}

#[test]
fn a_status_line_of_nonsense_is_garbage() {
    let garbage = |line: &str| fails(&format!("{line}\r\nContent-Length: 0\r\n\r\n"), Then::Keep, "garbage");
    check(vec![
        garbage("HTTP/1.1 2x0 OK"),
        garbage("HTTP/1.1 20 OK"),
        garbage("HTTP/1.1 -200 OK"),
        garbage("HTTP/1.1 000 Nothing"),
        garbage("HTTP/1.1 099 Less"),
        garbage("HTTP/9.9 200 OK"),
        garbage("HTTP/1.1200 OK"),
        garbage("ICY 200 OK"),
        garbage("200 OK"),
        garbage("GET / HTTP/1.1"),
        // A number that nobody gave a meaning is still an answer.
        fails("HTTP/1.1 999 Whatever\r\nContent-Length: 0\r\n\r\n", Then::Keep, "status 999"),
    ]);
}

#[test]
fn a_header_of_nonsense_is_garbage() {
    let garbage = |line: &str| fails(&format!("HTTP/1.1 200 OK\r\n{line}\r\n\r\n"), Then::Keep, "garbage");
    check(vec![
        garbage("no colon"),
        garbage(": no name"),
        garbage("nul: a\0b"),
        garbage("Content-Length: five"),
        garbage("Content-Length: -5"),
        garbage("Content-Length:"),
        garbage("Content-Length: 18446744073709551616"),
        garbage("Content-Length: 5\r\nContent-Length: 6"),
    ]);
}

#[test]
fn a_head_without_end_is_too_large() {
    check(vec![
        fails("HTTP/1.1 200 OK\r\nx: ", Then::Repeat(b"y".repeat(1000)), "head too large"),
        fails("HTTP/1.1 200 ", Then::Repeat(b"O".repeat(1000)), "head too large"),
        fails("", Then::Repeat(b"\r\n".repeat(500)), "head too large"),
        fails("HTTP/1.1 200 OK\r\n", Then::Repeat(b"a: b\r\n".repeat(100)), "head too large"),
        // Nor may those be without end that come before it.
        fails("", Then::Repeat(b"HTTP/1.1 100 Continue\r\n\r\n".repeat(40)), "head too large"),
        fails("", Then::Repeat(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(40)), "head too large"),
    ]);
}

#[test]
fn chunks_of_nonsense_are_garbage_and_endless_ones_too_large() {
    let says = |chunks: &str, then: Then, cause: &'static str| fails(&format!("{CHUNKED}{chunks}"), then, cause);
    check(vec![
        says("5\r\nhelloworld\r\n0\r\n\r\n", Then::Keep, "garbage"),
        says("5\nhello\n0\n\n", Then::Keep, "garbage"),
        says("\r\n\r\n", Then::Keep, "garbage"),
        says("-5\r\nhello\r\n0\r\n\r\n", Then::Keep, "garbage"),
        says("0x5\r\nhello\r\n0\r\n\r\n", Then::Keep, "garbage"),
        says("10000000000000005\r\nhello\r\n0\r\n\r\n", Then::Keep, "garbage"),
        says("fffffffff\r\n", Then::Keep, "body too large"),
        says("", Then::Repeat(b"0".repeat(1000)), "head too large"),
        says("5;", Then::Repeat(b"x".repeat(1000)), "head too large"),
        says("5\r\nhello\r\n0\r\n", Then::Repeat(b"x: y\r\n".repeat(100)), "head too large"),
    ]);
}

#[test]
fn who_hangs_up_is_named_for_where() {
    let closes = |reply: &str, cause: &'static str| fails(reply, Then::Close, cause);
    check(vec![
        closes("H", "closed mid-head"),
        closes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r", "closed mid-head"),
        closes("HTTP/1.1 100 Continue\r\n\r\n", "closed before an answer"),
        closes("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 2", "closed mid-head"),
        closes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", "closed mid-body"),
        closes("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no", "closed mid-body"),
        closes(CHUNKED, "closed mid-body"),
        closes(&format!("{CHUNKED}5"), "closed mid-body"),
        closes(&format!("{CHUNKED}5\r\nhello"), "closed mid-body"),
        closes(&format!("{CHUNKED}5\r\nhello\r\n0\r\n"), "closed mid-body"),
        closes(&format!("{CHUNKED}5\r\nhello\r\n0\r\nx: y\r\n"), "closed mid-body"),
        // What is no answer is none, also when it ends before its line does.
        closes("SSH-2.0-OpenSSH_9.9", "garbage"),
    ]);
}

#[test]
fn a_reset_is_a_reset_wherever_it_comes() {
    let resets = |reply: &str| fails(reply, Then::Reset, "reset");
    check(vec![
        resets("HTTP/1.1 200 OK\r\nContent-"),
        resets("HTTP/1.1 100 Continue\r\n\r\n"),
        resets("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc"),
        resets(&format!("{CHUNKED}5\r\nhel")),
        // An answer that ends with its connection has not ended when that is reset.
        resets("HTTP/1.1 200 OK\r\n\r\nhalf of"),
    ]);

    // A whole answer is one, whatever comes after it; the next request, which is due long after that, has a connection of its own.
    let target = FakeTarget::start(Dial::says(OK, Then::Reset));
    let ran = Drive { rate: 4.0, connections: 1, ..Drive::at(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().connections), (2, 2), "{:?}", ran.causes);

    // Before it has read anything, in the middle of a request, and in the middle of a body that no socket's buffers can hold.
    let body: &'static str = "x".repeat(16 << 20).leak();
    for (after, body) in [(0, ""), (10, ""), (100_000, body)] {
        let target = FakeTarget::start_resetting(after);
        let method = if body.is_empty() { "GET" } else { "POST" };
        let ran = Drive { method, body, rate: 20.0, ..Drive::at(target.url()) }.run();
        assert_eq!(ran.cause("reset"), 10, "after {after} bytes: {:?}", ran.causes);
    }
}

#[test]
fn who_takes_no_request_times_out_unless_it_says_why() {
    let body: &'static str = "x".repeat(16 << 20).leak();
    let post = |target: &FakeTarget| {
        Drive { method: "POST", body, rate: 4.0, timeout: Duration::from_secs(1), ..Drive::at(target.url()) }.run()
    };
    let ran = post(&FakeTarget::start_ignoring(""));
    assert_eq!((ran.counts.timed_out, ran.cause("no answer in time")), (2, 2), "{:?}", ran.causes);
    assert!((1..2 * (16 << 20)).contains(&ran.counts.bytes_out), "a part of it was sent: {:?}", ran.counts);

    let ran = post(&FakeTarget::start_ignoring("HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n"));
    assert_eq!((ran.counts.failed, ran.cause("status 413")), (2, 2), "{:?}", ran.causes);
}

/// It is the timeout that ends what goes on for longer, counted from the intended start, and no sooner.
#[test]
fn what_takes_too_long_times_out() {
    // A byte now and then: an answer that would be whole long after anybody waits for it.
    let dial = Dial { drip: Some(Duration::from_millis(100)), ..Dial::says(OK, Then::Keep) };
    let target = FakeTarget::start(dial);
    let ran = Drive { timeout: Duration::from_millis(1000), ..Drive::at(target.url()) }.run();
    assert_eq!((ran.counts.timed_out, ran.cause("answer unfinished in time")), (25, 25), "{:?}", ran.causes);
    assert!(ran.histogram(Measure::Response).min() >= 999_000);

    // Faster than it can be read, so that there is always more at hand. Whether it is the clock or the limit of what is read that ends
    // it hangs on the machine; two requests, since such a server keeps a processor to itself.
    let target = FakeTarget::start(Dial::says(CHUNKED, Then::Repeat(b"5\r\nhello\r\n".repeat(40))));
    let ran = Drive { rate: 4.0, timeout: Duration::from_secs(1), ..Drive::at(target.url()) }.run();
    assert_eq!(ran.cause("answer unfinished in time") + ran.cause("body too large"), 2, "{:?}", ran.causes);
}

#[test]
fn an_answer_is_read_however_it_trickles_in() {
    let trickles =
        |reply: &str, then: Then| (Dial { drip: Some(Duration::from_millis(1)), ..Dial::says(reply, then) }, Outcome::Ok, None);
    check(vec![
        trickles(OK, Then::Keep),
        trickles(&format!("{CHUNKED}2\r\nok\r\n0\r\n\r\n"), Then::Keep),
        trickles("HTTP/1.1 200 OK\r\n\r\nok", Then::Close),
        trickles(&format!("HTTP/1.1 100 Continue\r\n\r\n{OK}"), Then::Keep),
    ]);
    check(vec![(
        Dial { drip: Some(Duration::from_millis(1)), ..Dial::says("SSH-2.0\r\n", Then::Keep) },
        Outcome::Failed,
        Some("garbage"),
    )]);
}

/// A length that is too short: the answer is what it says, and what comes after it is not taken for the next one, whether it comes at
/// once or later, when nobody has asked for anything.
#[test]
fn what_nobody_asked_for_is_no_answer() {
    check(vec![
        (Dial::says("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay, and more", Then::Keep), Outcome::Ok, None),
        (Dial::says(&format!("{CHUNKED}0\r\n\r\n5\r\nhello\r\n"), Then::Keep), Outcome::Ok, None),
        (Dial::says("HTTP/1.1 204 No Content\r\n\r\nbut a body", Then::Keep), Outcome::Ok, None),
    ]);

    // Later, but long before the next request, which is due in a quarter of a second: it goes over a connection of its own.
    let target = FakeTarget::start(Dial::says(OK, Then::Repeat(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n".to_vec())));
    let ran = Drive { rate: 4.0, connections: 1, ..Drive::at(target.url()) }.run();
    assert_eq!((ran.counts.ok, target.seen().connections), (2, 2), "{:?}", ran.causes);
}

/// Goal: whatever was done to it, nothing is left of a load: no descriptor, no thread, no memory. How: the loads run in a process of their
/// own (this test again, as `a_load_to_be_mistreated`), where nobody else opens anything, against each badness in turn.
#[test]
fn nothing_is_left_of_a_mistreated_load() {
    let good = FakeTarget::start(Dial::good(Timing::AtOnce));
    let bad = [
        FakeTarget::start_ignoring(""),
        FakeTarget::start_resetting(0),
        FakeTarget::start_deaf(),
        FakeTarget::start(Dial::good(Timing::Never)),
        FakeTarget::start(Dial::says("HTTP/1.1 200 OK\r\nx: ", Then::Repeat(b"y".repeat(1000)))),
        FakeTarget::start(Dial::says("HTTP/1.1 200 OK\r\n\r\n", Then::Repeat(b"y".repeat(1000)))),
        FakeTarget::start(Dial::says(CHUNKED, Then::Repeat(b"5\r\nhello\r\n".repeat(40)))),
        FakeTarget::start(Dial::says("\0\x01\x02", Then::Keep)),
    ];
    let urls: Vec<String> = std::iter::once(&good).chain(&bad).map(FakeTarget::url).collect();
    let child = std::process::Command::new(std::env::current_exe().expect("this test has a path"))
        .args(["bad_servers::a_load_to_be_mistreated", "--exact", "--nocapture"])
        .env("SQUALL_TEST_MISTREAT", urls.join(" "))
        .output()
        .expect("the child runs");
    assert!(child.status.success(), "{}{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
}

/// The other half of the test above; alone it has nothing to do.
#[test]
fn a_load_to_be_mistreated() {
    let Ok(urls) = std::env::var("SQUALL_TEST_MISTREAT") else { return };
    let drive = |url: &str| Drive { rate: 10.0, timeout: Duration::from_millis(300), ..Drive::at(url) }.run();
    let (good, bad) = urls.split_once(' ').expect("one good server and some bad ones");
    // What a process keeps after its first load is no leak.
    assert_eq!(drive(good).counts.intended, 5);
    let before = Held::look();
    for url in bad.split(' ') {
        let ran = drive(url);
        assert_eq!((ran.counts.intended, ran.counts.ok), (5, 0), "{url}: {:?}", ran.causes);
    }
    let left = || (Held::look().counts() == before.counts()).then_some(());
    wait_until(Duration::from_secs(10), left).unwrap_or_else(|| panic!("held {before:?}, now {:?}", Held::look()));
    // What the endless ones send is not kept.
    let grown = Held::look().most_kib.saturating_sub(before.most_kib);
    assert!(grown <= 32 * 1024, "{grown} KiB more than after the first load");
}

/// What this process holds.
#[derive(Debug)]
struct Held {
    descriptors: usize,
    threads: usize,
    /// The most memory that it ever held.
    most_kib: u64,
}

impl Held {
    fn look() -> Held {
        let entries = |path: &str| std::fs::read_dir(Path::new(path)).expect("proc is there").count();
        let status = std::fs::read_to_string("/proc/self/status").expect("proc is there");
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel counts memory");
        let most_kib = most.trim().trim_end_matches(" kB").parse().expect("a number");
        Held { descriptors: entries("/proc/self/fd"), threads: entries("/proc/self/task"), most_kib }
    }

    fn counts(&self) -> (usize, usize) {
        (self.descriptors, self.threads)
    }
}
