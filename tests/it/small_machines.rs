//! Goal: a request that this machine had no means to send is unsent by that very cause, never the service's failure, and the run says
//! how to come by more. How: the built binary with fewer file descriptors, and with fewer local ports, than a slow service makes it need. What
//! it could know before, it refuses; how slow a service is, it cannot know.

use std::process::{Command, Stdio};
use std::time::Duration;

use crate::command::Squall;
use crate::fake_target::{Dial, FakeTarget, Timing};

/// Of 200 requests in two seconds that are answered after four, none of which could share a connection.
const LOAD: [&str; 6] = ["--rate", "100/s", "--for", "2s", "--workers", "1"];

#[test]
fn requests_without_a_file_descriptor_are_unsent() {
    let squall = Squall::new();
    let target = FakeTarget::start(Dial::good(Timing::After(Duration::from_secs(4))));
    let url = target.url();
    let args: Vec<&str> = ["load", &url].into_iter().chain(LOAD).chain(["--out", "run"]).collect();
    // More than what it needs however fast the service is, and less than this one makes it need.
    let said = squall.start_under(&["prlimit", "--nofile=160:160"], &args).wait(Duration::from_secs(120));
    said.expect(3).saying("file descriptors").saying("ulimit -n");
    only_unsent(&squall, "file descriptors", (20, 150));
}

#[test]
fn requests_without_a_local_port_are_unsent() {
    if !possible() {
        return;
    }
    let squall = Squall::new();
    // Ports are a namespace's own: one with 64 of them, with the service in it, which goes when this does.
    let script = "ip link set lo up && echo '40000 40063' > /proc/sys/net/ipv4/ip_local_port_range || exit 90
        squall=$1; shift
        \"$squall\" workload --listen 127.0.0.1:8080 --service-time 4s --workers 1000 --connections 1000 > workload.log 2>&1 &
        trap \"kill $!\" EXIT
        while kill -0 $! && ! grep -q ':1F90 .* 0A ' /proc/net/tcp; do sleep 0.05; done
        \"$squall\" \"$@\"";
    let args: Vec<&str> = ["load", "http://127.0.0.1:8080/"].into_iter().chain(LOAD).chain(["--out", "run"]).collect();
    let said = squall.start_under(&["unshare", "--net", "sh", "-c", script, "sh"], &args).wait(Duration::from_secs(120));
    said.expect(3).saying("local ports").saying("ip_local_port_range");
    // The look at the target before the run may still hold one.
    only_unsent(&squall, "local ports", (100, 140));
}

/// Of all that came due, so many are unsent, by `cause` alone, and the others were answered.
#[track_caller]
fn only_unsent(squall: &Squall, cause: &str, (least, most): (u64, u64)) {
    let text = std::fs::read_to_string(squall.path("run/run.json")).expect("the run was written down");
    let run: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
    let all = run["load"].as_array().expect("rows").iter().find(|row| row["phase"] == "_all").expect("a row of all");
    let count = |what: &str| all[what].as_u64().unwrap_or_else(|| panic!("{what} in {all}"));
    assert!((least..=most).contains(&count("unsent")), "{all}");
    assert_eq!(count("ok") + count("unsent"), count("intended"), "{all}");
    assert_eq!(all["causes"], serde_json::json!({cause: count("unsent")}), "{all}");
}

/// Whether namespaces may be made here; where the tests need them, they must.
fn possible() -> bool {
    let tried = Command::new("unshare").args(["--net", "ip", "link", "set", "lo", "up"]).stderr(Stdio::null()).status();
    let possible = tried.is_ok_and(|status| status.success());
    let required = std::env::var("SQUALL_TEST_NAMESPACES").is_ok_and(|word| word == "required");
    assert!(possible || !required, "no network namespace can be made, and SQUALL_TEST_NAMESPACES says that one must be");
    if !possible {
        // Said aloud, because a test that did not run must not look like one that passed.
        println!("no network namespace can be made: this test has checked nothing");
    }
    possible
}
