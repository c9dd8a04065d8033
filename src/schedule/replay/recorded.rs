//! A recording: when something was sent, and what. Bounded in every direction, and whatever is wrong with it is named by its line.

use std::collections::HashMap;

use super::{Replayed, access_log, columns};
use crate::schedule::Call;
use crate::target;

/// Requests in one recording: 32 MB of memory.
const ARRIVALS_MOST: usize = 2_000_000;
/// Different requests in one recording: each is kept as the bytes that are sent, once for every worker.
const CALLS_MOST: usize = 4_096;
/// The longest path, in bytes: servers take no longer ones.
const PATH_MOST: usize = 8 * 1024;
/// Bad lines that are named before the rest is left unread.
const BAD_MOST: usize = 5;
/// What a plan can send.
const METHODS: [&str; 7] = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS"];

/// What a recording holds, in order of time.
#[derive(Debug, PartialEq)]
pub(super) struct Recorded {
    /// Nanoseconds since the first, and an index into `calls`; 0 where there are none.
    pub(super) arrivals: Vec<(i64, u32)>,
    /// The different requests; none where only times are recorded.
    pub(super) calls: Vec<Call>,
}

/// One line of a recording.
pub(super) struct Line {
    /// Nanoseconds since a moment that is the same for all lines.
    pub(super) nanos: i64,
    /// Method and path.
    pub(super) call: Option<(String, String)>,
}

/// What a format makes of a text: lines with their numbers, from 1, or why a line is none.
pub(super) type Lines<'t> = Box<dyn Iterator<Item = (u64, Result<Line, String>)> + 't>;

impl Recorded {
    /// Reads CSV or an access log, whichever the first line is.
    pub(super) fn read(text: &str, what: Replayed) -> Result<Recorded, Vec<String>> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let coarse = text.lines().find(|line| !line.trim().is_empty()).is_some_and(access_log::is_one);
        let lines: Lines<'_> = if coarse { access_log::lines(text) } else { columns::lines(text) };
        let mut recorded = collect(lines, what)?;
        let Some(first) = recorded.arrivals.iter().map(|(nanos, _)| *nanos).min() else {
            return Err(vec!["it records no request".to_owned()]);
        };
        // Stable: what has the same time stays in the order in which it was recorded.
        recorded.arrivals.sort_by_key(|(nanos, _)| *nanos);
        if recorded.arrivals.last().is_some_and(|(last, _)| last.checked_sub(first).is_none()) {
            return Err(vec!["its first and last request lie centuries apart: no run takes so long".to_owned()]);
        }
        recorded.arrivals.iter_mut().for_each(|(nanos, _)| *nanos -= first);
        if coarse {
            spread(&mut recorded.arrivals);
        }
        Ok(recorded)
    }
}

fn collect(lines: Lines<'_>, what: Replayed) -> Result<Recorded, Vec<String>> {
    let mut recorded = Recorded { arrivals: Vec::new(), calls: Vec::new() };
    let mut known: HashMap<(String, String), u32> = HashMap::new();
    let mut bad: Vec<String> = Vec::new();
    for (number, line) in lines {
        let request = line.and_then(|line| {
            let Some(call) = line.call.filter(|_| what == Replayed::All) else { return Ok((line.nanos, 0)) };
            if let Some(index) = known.get(&call) {
                return Ok((line.nanos, *index));
            }
            let (method, path) = &call;
            sendable(method, path)?;
            if recorded.calls.len() == CALLS_MOST {
                return Err(format!(
                    "`{path}` is the {}th different request, and at most {CALLS_MOST} can be replayed: cut what makes each different, such as \
                     its query, or give a method and path in `request`, which replays the times alone",
                    CALLS_MOST + 1
                ));
            }
            let index = recorded.calls.len() as u32;
            recorded.calls.push(Call { method: method.clone(), path: path.clone() });
            known.insert(call, index);
            Ok((line.nanos, index))
        });
        match request {
            Ok(request) if recorded.arrivals.len() < ARRIVALS_MOST => recorded.arrivals.push(request),
            Ok(_) => {
                bad.push(format!("line {number}: more than {ARRIVALS_MOST} requests: replay a part of it"));
                break;
            }
            Err(why) => {
                bad.push(format!("line {number}: {why}"));
                if bad.len() == BAD_MOST {
                    bad.push("the lines after this one are not looked at".to_owned());
                    break;
                }
            }
        }
    }
    if bad.is_empty() { Ok(recorded) } else { Err(bad) }
}

fn sendable(method: &str, path: &str) -> Result<(), String> {
    if !METHODS.contains(&method) {
        return Err(format!("`{method}` is no method that is sent here: one of {}", METHODS.join(", ")));
    }
    if path.len() > PATH_MOST {
        return Err(format!("a path of {} bytes: at most {PATH_MOST}", path.len()));
    }
    target::path(path)
}

/// An access log has whole seconds: the requests of each are spread over it evenly, in their order. Left at once they would be a herd
/// each second, which nobody sent.
fn spread(arrivals: &mut [(i64, u32)]) {
    for second in arrivals.chunk_by_mut(|a, b| a.0 == b.0) {
        let count = second.len() as i64;
        for (n, (nanos, _)) in (0..).zip(second) {
            *nanos += n * 1_000_000_000 / count;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::test_runner::TestCaseError;

    use super::*;

    fn read(text: &str) -> Result<Recorded, Vec<String>> {
        Recorded::read(text, Replayed::All)
    }

    #[track_caller]
    fn reads(text: &str, arrivals: &[(i64, u32)], calls: &[(&str, &str)]) {
        let recorded = read(text).unwrap_or_else(|bad| panic!("{bad:?}"));
        assert_eq!(recorded.arrivals, arrivals);
        let got: Vec<(&str, &str)> = recorded.calls.iter().map(|call| (call.method.as_str(), call.path.as_str())).collect();
        assert_eq!(got, calls);
    }

    #[track_caller]
    fn refuses(text: &str, says: &str) {
        let bad = read(text).expect_err(text);
        assert!(bad[0].contains(says), "{text:?}: {bad:?}");
    }

    const SECOND: i64 = 1_000_000_000;

    #[test]
    fn columns_are_read_with_and_without_a_header() {
        reads("5\n6.5\n", &[(0, 0), (3 * SECOND / 2, 0)], &[]);
        reads("time\n5\n\n# a comment\n6\n", &[(0, 0), (SECOND, 0)], &[]);
        reads("0,GET,/a\n1, POST, /b\n2,GET,/a\n", &[(0, 0), (SECOND, 1), (2 * SECOND, 0)], &[("GET", "/a"), ("POST", "/b")]);
        reads("0,/a\n1,\"/b?c=d,e\"\n", &[(0, 0), (SECOND, 1)], &[("GET", "/a"), ("GET", "/b?c=d,e")]);
        reads("Path,Time\n/a,1\n/b,0\n", &[(0, 1), (SECOND, 0)], &[("GET", "/a"), ("GET", "/b")]);
        reads("\u{feff}time,method,path\r\n1,GET,/a\r\n", &[(0, 0)], &[("GET", "/a")]);
        // To the nanosecond, which a float of seconds since 1970 is not.
        reads("1732593600.000000001\n1732593600.000000003\n", &[(0, 0), (2, 0)], &[]);
        reads("2026-11-26T04:00:00Z\n2026-11-26T05:00:00.25+01:00\n", &[(0, 0), (SECOND / 4, 0)], &[]);
    }

    #[test]
    fn access_logs_are_read_and_their_seconds_spread() {
        let common = "10.0.0.1 - - [10/Oct/2026:13:55:36 -0700] \"GET /a?b=c HTTP/1.1\" 200 23\n\
                      10.0.0.2 - frank [10/Oct/2026:20:55:36 +0000] \"POST /b HTTP/1.1\" 503 -\n\
                      10.0.0.1 - - [10/Oct/2026:13:55:38 -0700] \"GET /a?b=c HTTP/2.0\" 200 23 \"http://x/\" \"a \\\"browser\\\"\"\n";
        reads(common, &[(0, 0), (SECOND / 2, 1), (2 * SECOND, 0)], &[("GET", "/a?b=c"), ("POST", "/b")]);
    }

    /// As Apache and nginx write what a client has sent them.
    #[test]
    fn quotes_in_the_request_of_an_access_log_are_escaped_and_part_of_it() {
        let line = |path: &str| format!("h - - [10/Oct/2026:13:55:36 -0700] \"GET {path} HTTP/1.1\" 200 1 \"-\" \"a\"\n");
        for (written, path) in [
            (r#"/say?"hello\"&b=c"#, None),
            (r#"/say?\"hello\"&b=c"#, Some(r#"/say?"hello"&b=c"#)),
            (r"/say?\x22hello\x22", Some(r#"/say?"hello""#)),
            (r"/back\\slash\\", Some(r"/back\slash\")),
            (r"/caf\xC3\xA9\x20\t", Some("/caf%C3%A9%20%09")),
            (r"/no\escape\x4", Some(r"/no\escape\x4")),
        ] {
            match path {
                Some(path) => reads(&line(written), &[(0, 0)], &[("GET", path)]),
                None => refuses(&format!("{}{}", line("/"), line(written)), "line 2: this is no line of an access log"),
            }
        }
    }

    proptest! {
        /// Goal: no text stops the program, and what is read can be sent. How: whatever there is, and what looks like a recording.
        #[test]
        fn any_text_is_a_recording_or_refused(text in any::<String>()) {
            readable(&text)?;
        }

        #[test]
        fn what_looks_like_csv_is_a_recording_or_refused(lines in proptest::collection::vec(r#"[0-9.\-TZ:]{0,12},?(GET|POST|x)?,?"?/?[ -~]{0,12}"?"#, 0..8)) {
            readable(&lines.join("\n"))?;
            readable(&format!("time,method,path\n{}", lines.join("\r\n")))?;
        }

        #[test]
        fn what_looks_like_an_access_log_is_a_recording_or_refused(requests in proptest::collection::vec(r#"(GET|PUT) /[ -~\\"é]{0,16}( HTTP/1\.1)?"#, 1..8)) {
            let lines = requests.iter().map(|request| format!("h - - [10/Oct/2026:13:55:36 -0700] \"{request}\" 200 1\n"));
            readable(&lines.collect::<String>())?;
        }
    }

    fn readable(text: &str) -> Result<(), TestCaseError> {
        match Recorded::read(text, Replayed::All) {
            Err(problems) => prop_assert!(!problems.is_empty()),
            Ok(recorded) => {
                prop_assert!(recorded.arrivals.windows(2).all(|pair| pair[0].0 <= pair[1].0));
                prop_assert!(recorded.calls.iter().all(|call| crate::target::path(&call.path).is_ok()));
            }
        }
        Ok(())
    }

    #[test]
    fn bad_lines_are_named_with_the_way_out() {
        refuses("", "it records no request");
        refuses("time,method,path\n", "it records no request");
        refuses("0\nabc\n", "line 2: `abc` is no time: write seconds, as in 12.5, or a time stamp, as in 2026-11-26T04:00:00.5Z");
        refuses("0\n-1\n", "line 2: `-1` is no time");
        refuses("0,GET,/a\n1,GET\n", "line 2: 2 columns, and the first line has 3");
        refuses("0,GET,/a,200\n", "line 1: 4 columns: time, method and path are read");
        refuses("time,verb,path\n0,GET,/a\n", "line 1: `verb` is no column here: time, method and path are");
        refuses("time,time\n0,0\n", "line 1: there are two columns `time`");
        refuses("time,method\n0,GET\n", "line 1: a method without a path");
        refuses("0,GET,/a\n\n1,BREW,/b\n", "line 3: `BREW` is no method that is sent here");
        refuses("# a comment\r\ntime\r\n\r\n0\r\n# another\r\nx\r\n", "line 6: `x` is no time");
        refuses("0,GET,a\n", "line 1: `a` is not a path: write /a");
        refuses("0,GET,/a b\n", "%-encoded");
        let log = "h - - [10/Oct/2026:13:55:36 -0700] \"GET /a HTTP/1.1\" 200 1\n";
        refuses(&format!("{log}nonsense\n"), "line 2: this is no line of an access log");
        refuses(
            &format!("{log}h - - [10/Oct/2026] \"GET /a HTTP/1.1\" 200 1\n"),
            "line 2: `10/Oct/2026` is no time of an access log",
        );
        refuses(&format!("{log}h - - [10/Oct/2026:13:55:36 -0700] \"-\" 400 0\n"), "line 2: `-` is no request");
        // Many bad lines are not all named.
        assert_eq!(read(&"x\n".repeat(100)).expect_err("bad").len(), BAD_MOST + 1);
    }

    #[test]
    fn more_different_requests_than_can_be_kept_are_refused_unless_only_times_are_replayed() {
        let text: String = (0..=CALLS_MOST).map(|n| format!("{n},GET,/{n}\n")).collect();
        refuses(&text, &format!("line {}: `/{CALLS_MOST}` is the {}th different request", CALLS_MOST + 1, CALLS_MOST + 1));
        let times = Recorded::read(&text, Replayed::Times).unwrap_or_else(|bad| panic!("{bad:?}"));
        assert_eq!((times.arrivals.len(), times.calls.len()), (CALLS_MOST + 1, 0));
    }
}
