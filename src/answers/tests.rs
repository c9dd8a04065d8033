//! Goal: what an answer holds is found, what it does not hold is told by its cause, and nothing that a peer sends makes more of it than
//! the bounds allow. How: answers as they are heard, piece by piece, without any connection.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

/// What comes of an answer with these headers and this body: the values that are kept.
fn judged(wanted: &Wanted, headers: &[(&str, &str)], body: &[u8]) -> Result<Vec<String>, Flaw> {
    let (hears, mut heard) = (wanted.hears(), Heard::default());
    headers.iter().for_each(|(name, value)| heard.header(&hears, name.as_bytes(), value.as_bytes()));
    if hears.body() {
        for piece in body.chunks(7) {
            let _ = heard.piece(piece);
        }
    }
    let mut kept = vec![String::new(); wanted.saves.len()];
    wanted.judge(&hears, &mut heard, |place, value| kept[place] = String::from_utf8_lossy(value).into_owned())?;
    Ok(kept)
}

fn header(name: &str, matcher: Matcher) -> Wanted {
    let expect = Expect { headers: vec![(name.to_owned(), matcher)], ..Expect::default() };
    Wanted { expect, ..Wanted::default() }
}

fn body(checks: BodyChecks) -> Wanted {
    Wanted { expect: Expect { body: Some(checks), ..Expect::default() }, ..Wanted::default() }
}

fn json(path: &str, matcher: Matcher) -> Wanted {
    body(BodyChecks { json: vec![(path.parse().expect("a path"), matcher)], ..BodyChecks::default() })
}

fn save(from: SaveFrom) -> Wanted {
    Wanted { saves: vec![Save { name: "v".into(), from }], ..Wanted::default() }
}

fn equals(text: &str) -> Matcher {
    Matcher::Equals(text.to_owned())
}

fn pattern(text: &str) -> Pattern {
    text.parse().expect("an expression")
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(body).expect("memory takes all");
    encoder.finish().expect("memory takes all")
}

#[test]
fn headers_are_looked_at() {
    let sent: &[(&str, &str)] = &[("X-Cache", " hit "), ("Via", "a"), ("via", "b"), ("etag", "")];
    for (name, matcher, holds) in [
        ("x-cache", equals("hit"), true),
        ("x-cache", equals("HIT"), false),
        ("via", equals("b"), true),
        ("x-cache", Matcher::Contains("i".into()), true),
        ("x-cache", Matcher::Regex(pattern("^h.t$")), true),
        ("etag", Matcher::Present(true), true),
        ("etag", Matcher::Present(false), false),
        ("x-none", Matcher::Present(false), true),
        ("x-none", Matcher::Contains(String::new()), false),
    ] {
        let expected = if holds { Ok(Vec::new()) } else { Err(Flaw::Header) };
        assert_eq!(judged(&header(name, matcher.clone()), sent, b""), expected, "{name} {matcher}");
    }
}

#[test]
fn bodies_are_looked_at() {
    let checks = |contains: Option<&str>, regex: Option<&str>| {
        body(BodyChecks { contains: contains.map(ToOwned::to_owned), regex: regex.map(pattern), json: Vec::new() })
    };
    let text = b"order 17 is \xff open";
    assert_eq!(judged(&checks(Some("open"), Some("[0-9]+ is")), &[], text), Ok(Vec::new()));
    assert_eq!(judged(&checks(Some("closed"), None), &[], text), Err(Flaw::Body));
    assert_eq!(judged(&checks(Some(""), Some("^open")), &[], text), Err(Flaw::Body));
}

#[test]
fn json_is_looked_into() {
    let said = br#"{"order": {"id": 17, "open": true, "by": null}, "items": [{"id": "a"}, {"id": "b"}],
        "large": 9007199254740993, "near": 9007199254740992, "larger": 18446744073709551615, "whole": 7.0}"#;
    for (path, matcher, holds) in [
        ("$.order.id", equals("17"), true),
        ("$.order.id", equals("17.0"), true),
        ("$.order.id", equals("18"), false),
        ("$.large", equals("9007199254740993"), true),
        ("$.large", equals("9007199254740992"), false),
        ("$.larger", equals("18446744073709551615"), true),
        ("$.larger", equals("18446744073709551614"), false),
        ("$.whole", equals("7"), true),
        ("$.items[?$.large == $.near]", Matcher::Present(true), false),
        ("$.items[?$.large > $.near]", Matcher::Present(true), true),
        ("$.order.open", equals("true"), true),
        ("$.order.by", equals("null"), true),
        ("$.items[*].id", equals("b"), true),
        ("$.items[0].id", equals("b"), false),
        ("$.items[?(@.id == 'b')].id", equals("b"), true),
        ("$..id", equals("17"), true),
        ("$.order", Matcher::Contains("open".into()), true),
        ("$.none", Matcher::Present(false), true),
        ("$.none", equals(""), false),
    ] {
        let expected = if holds { Ok(Vec::new()) } else { Err(Flaw::Body) };
        assert_eq!(judged(&json(path, matcher.clone()), &[], said), expected, "{path} {matcher}");
    }
    for bad in [&b""[..], b"{", b"<html>", b"\xff", "[".repeat(100_000).as_bytes()] {
        assert_eq!(judged(&json("$.a", equals("b")), &[], bad), Err(Flaw::NotJson));
    }
}

#[test]
fn what_is_kept_is_the_first_that_is_found() {
    let said = br#"{"tokens": [null, "t1", "t2"], "n": 1.50, "o": {"a": 1}, "csrf": "<input name=c value=abc>"}"#;
    let found = |from| judged(&save(from), &[("X-Id", "7"), ("x-id", "8")], said).map(|kept| kept[0].clone());
    let path = |text: &str| SaveFrom::Json(text.parse().expect("a path"));
    assert_eq!(found(path("$.tokens[*]")).as_deref(), Ok("t1"));
    assert_eq!(found(path("$.n")).as_deref(), Ok("1.5"));
    assert_eq!(found(path("$.o")).as_deref(), Ok("{\"a\":1}"));
    assert_eq!(found(path("$.tokens[0]")), Err(Flaw::NothingToSave), "null is nothing");
    assert_eq!(found(path("$.none")), Err(Flaw::NothingToSave));
    assert_eq!(found(SaveFrom::Header("x-id".into())).as_deref(), Ok("7"));
    assert_eq!(found(SaveFrom::Header("x-none".into())), Err(Flaw::NothingToSave));
    assert_eq!(found(SaveFrom::Regex(pattern("value=([a-z]+)"))).as_deref(), Ok("abc"));
    assert_eq!(found(SaveFrom::Regex(pattern("value=[a-z]+"))).as_deref(), Ok("value=abc"));
    assert_eq!(found(SaveFrom::Regex(pattern("value=([0-9]+)"))), Err(Flaw::NothingToSave));
    let long = format!("\"{}\"", "x".repeat(SAVED_MOST + 1));
    assert_eq!(judged(&save(path("$")), &[], long.as_bytes()), Err(Flaw::Unsendable));
}

#[test]
fn gzip_is_taken_off_and_does_not_explode() {
    let wanted = json("$.a", equals("b"));
    let said = gzip(br#"{"a": "b"}"#);
    for coding in ["gzip", "x-gzip", "GZIP", "identity, gzip"] {
        assert_eq!(judged(&wanted, &[("Content-Encoding", coding)], &said), Ok(Vec::new()), "{coding}");
    }
    assert_eq!(judged(&wanted, &[], &said), Err(Flaw::NotJson), "nobody said that it is gzip");
    assert_eq!(judged(&wanted, &[("content-encoding", "gzip")], b"{\"a\": \"b\"}"), Err(Flaw::NotGzip));
    assert_eq!(judged(&wanted, &[("content-encoding", "gzip")], &said[..said.len() - 3]), Err(Flaw::NotGzip));
    assert_eq!(judged(&wanted, &[("content-encoding", "br")], &said), Err(Flaw::Coding));
    assert_eq!(judged(&wanted, &[("content-encoding", "gzip, gzip")], &said), Err(Flaw::Coding));
    // A few kilobytes that stand for a hundred megabytes.
    let bomb = gzip(&vec![b' '; 100 << 20]);
    assert!(bomb.len() < BODY_MOST);
    assert_eq!(judged(&wanted, &[("content-encoding", "gzip")], &bomb), Err(Flaw::TooLong));
    assert_eq!(judged(&wanted, &[], &vec![b' '; BODY_MOST + 1]), Err(Flaw::TooLong));
}

#[test]
fn nothing_is_heard_of_what_nobody_wants() {
    assert!(Wanted::default().hears().nothing());
    let statuses = Expect { statuses: vec![Statuses::Class(2)], ..Expect::default() };
    assert!(Wanted { expect: statuses, ..Wanted::default() }.hears().nothing());
    assert!(!header("etag", Matcher::Present(true)).hears().body());
    assert!(json("$", Matcher::Present(true)).hears().body());
}

#[test]
fn paths_and_expressions_are_refused_with_a_way_out() {
    let error = "items[".parse::<JsonPath>().expect_err("no path");
    assert!(error.contains("`items[` is not a JSONPath") && error.contains("$.order.id"), "{error}");
    assert!(format!("${}", ".a".repeat(400)).parse::<JsonPath>().is_err());
    for unknown in
        ["$[?odd(@.a)]", "$[?!(@.b && odd())]", "$[?length(odd(@.a)) == 1]", "$..[1, ?@[?odd(@)]]", "$[?@.a == 1 || odd($)]"]
    {
        let error = unknown.parse::<JsonPath>().expect_err(unknown);
        assert!(error.contains("no function is called `odd`") || error.contains("is not a JSONPath"), "{unknown}: {error}");
    }
    let error = "(a".parse::<Pattern>().expect_err("no expression");
    assert_eq!(error, "`(a` is not a regular expression: unclosed group");
}

proptest! {
    /// Whatever comes, with or without being said to be gzip, there is an end to it and a cause.
    #[test]
    fn no_answer_is_too_much(
        body in prop_oneof![any::<Vec<u8>>(), any::<Vec<u8>>().prop_map(|body| gzip(&body)), jsonlike().prop_map(String::into_bytes)],
        coding in prop_oneof![Just("gzip"), Just("identity"), Just("br"), "[a-z, ]{0,12}".prop_map(|text| &*text.leak())],
        path in path(),
    ) {
        if let Ok(path) = path.parse::<JsonPath>() {
            let wanted = Wanted {
                saves: vec![
                    Save { name: "a".into(), from: SaveFrom::Json(path) },
                    Save { name: "b".into(), from: SaveFrom::Regex(pattern("(a+)+b")) },
                ],
                ..Wanted::default()
            };
            let _ = judged(&wanted, &[("content-encoding", coding)], &body);
        }
    }

    /// Any text is a path or is refused, and never more than that.
    #[test]
    fn no_path_panics(text in prop_oneof![any::<String>(), path()]) {
        if let Ok(path) = text.parse::<JsonPath>() {
            prop_assert_eq!(path.to_string(), text);
            let _ = judged(&save(SaveFrom::Json(path)), &[], br#"{"a": [1, {"b": "c"}], "b": null}"#);
        }
    }
}

fn jsonlike() -> impl Strategy<Value = String> {
    "[\\[{]{0,4}(\"[ab]\"[:,]?(1|null|\"[a-c]{0,3}\"|[\\[{])?[,}\\]]?){0,6}[\\]}]{0,6}"
}

fn path() -> impl Strategy<Value = String> {
    "\\$((\\.|\\.\\.)[ab*]|\\[('[ab]'|\\*|-?[0-9]{1,3}|[0-9]?:[0-9]?:-?[0-9]?|\\?\\(@\\.a ?[=<>!]{1,2} ?[0-9]\\)|\\?@\\.b|\\?match\\(@\\.a, '[a-c(]{0,3}'\\))\\]){0,4}"
}
