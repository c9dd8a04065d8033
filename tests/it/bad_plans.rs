//! Goal: broken plans have known diagnostics, every problem at once, in file order, with the way out. How: each
//! `tests/plans/bad/NAME.yaml` is read, and what is said of it equals `NAME.txt` beside it; `BLESS=1` writes those files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use squall::plan::{Colour, Model, Plan, Problems};

/// The environment of every case.
fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("hunter2".into()),
        "HOST" => Some("127.0.0.1:8080".into()),
        "BRACES" => Some("hunter2{{a}}".into()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// Reads a plan as the command line does, from the root of the repository, so that paths in diagnostics are the same everywhere.
fn read(path: &Path) -> Result<Plan, Problems> {
    Plan::read(path, &[], &environment)
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = fs::read_dir("tests/plans/bad")
        .expect("the folder of broken plans")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .collect();
    cases.sort();
    cases
}

#[test]
fn broken_plans_have_known_diagnostics() {
    let bless = std::env::var_os("BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let said = match read(&case) {
            Ok(_) => "no problems\n".to_owned(),
            Err(problems) => problems.render(Colour::Plain),
        };
        assert!(!said.contains("hunter2"), "{}: a secret is shown:\n{said}", case.display());
        let golden = case.with_extension("txt");
        if bless {
            fs::write(&golden, &said).expect("the golden file is written");
        } else if fs::read_to_string(&golden).unwrap_or_default() != said {
            wrong.push(format!("{} says now:\n{said}", case.display()));
        }
    }
    assert!(wrong.is_empty(), "{}\nif that is better than before, run with BLESS=1 and review the difference", wrong.join("\n"));
}

#[test]
fn no_broken_plan_passes() {
    for case in cases() {
        let Err(problems) = read(&case) else { panic!("{} has no problems", case.display()) };
        assert!(!problems.list().is_empty(), "{}", case.display());
        // In file order, and each with a place where it has one.
        let places: Vec<_> = problems.list().iter().map(|problem| problems.place(problem)).collect();
        assert!(places.is_sorted(), "{}: {places:?}", case.display());
    }
}

#[test]
fn whatever_is_cut_off_a_plan_it_ends_in_words_and_never_in_a_panic() {
    for case in cases().into_iter().chain([PathBuf::from("tests/plans/good/shop.yaml")]) {
        let text = fs::read_to_string(&case).expect("the case");
        for cut in (0..text.len()).step_by(7).filter(|cut| text.is_char_boundary(*cut)) {
            if let Err(problems) = Plan::read_text("cut.yaml", &text[..cut], Path::new("tests/plans/good"), &[], &environment) {
                assert!(
                    problems.render(Colour::Plain).ends_with("problems\n") || problems.render(Colour::Plain).ends_with("problem\n")
                );
            }
        }
    }
}

/// Goal: no text makes the reader panic or hang. How: cut, doubled and swapped pieces of every plan that there is, drawn from a
/// fixed seed; a few hundred are enough to have met every seam of the reader when this was written.
#[test]
fn whatever_is_done_to_a_plan_it_ends_in_words_and_never_in_a_panic() {
    let texts: Vec<String> = cases()
        .into_iter()
        .chain([PathBuf::from("tests/plans/good/shop.yaml"), PathBuf::from("plans/quickstart.yaml")])
        .map(|path| fs::read_to_string(path).expect("the plan"))
        .collect();
    let mut state = 42_u64;
    let mut draw = |below: usize| {
        // Knuth's MMIX generator: good enough to choose with.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below.max(1)
    };
    for _ in 0..800 {
        let mut text: Vec<char> = texts[draw(texts.len())].chars().collect();
        for _ in 0..=draw(3) {
            let other: Vec<char> = texts[draw(texts.len())].chars().collect();
            let (from, to) = (draw(other.len()), draw(other.len()));
            let piece = other[from.min(to)..from.max(to).min(from.min(to) + 40)].to_vec();
            let (at, length) = (draw(text.len()), draw(30));
            let end = (at + length).min(text.len());
            text.splice(at..end, piece);
        }
        let text: String = text.into_iter().collect();
        match Plan::read_text("mutant.yaml", &text, Path::new("tests/plans/good"), &[], &environment) {
            Ok(plan) => drop(squall::plan::explain(&plan, &squall::timeline::Timeline::of(&plan, 1))),
            Err(problems) => assert!(!problems.render(Colour::Plain).contains("hunter2")),
        }
    }
}

#[test]
fn a_file_that_is_no_plan_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path
    };
    file("burst.yaml", b"plan: burst\n");
    let huge = file("huge.yaml", &vec![b' '; (1 << 20) + 1]);
    let binary = file("binary.yaml", b"plan: x\n\xff\xfe");
    for (path, says) in [
        (folder.path().join("brust.yaml"), "there is no such file (did you mean `"),
        (folder.path().to_owned(), "it is a directory"),
        (huge, "larger than 1048576 bytes"),
        (binary, "not UTF-8 text: line 2"),
    ] {
        let problems = read(&path).expect_err("no plan");
        let lines = problems.lines();
        assert!(lines.len() == 1 && lines[0].contains(says), "{lines:?}");
    }
}

#[test]
fn hostile_files_are_refused_at_once() {
    // A hundred thousand brackets, and as many keys: parsers of other tools take half a minute.
    let begun = std::time::Instant::now();
    for text in ["[".repeat(200_000), "a: ".repeat(100_000), format!("plan: {}", "- ".repeat(100_000)), "? ".repeat(100_000)] {
        Plan::read_text("hostile.yaml", &text, Path::new("."), &[], &environment).expect_err("no plan");
    }
    let keys: String = (0..60_000).map(|n| format!("k{n}: 1\n")).collect();
    Plan::read_text("hostile.yaml", &keys, Path::new("."), &[], &environment).expect_err("no plan");
    assert!(begun.elapsed().as_secs() < 5, "{:?}", begun.elapsed());
}

#[test]
fn an_unknown_parameter_is_answered_with_the_one_that_was_meant() {
    let text = "plan: p\nclaim: c\nparams: {rate: 50/s}\ntarget: {url: http://127.0.0.1/}\nphases: [{name: a, for: 10s}]\nload: [{name: l, rate: \"${rate}\", request: {get: /}}]\n";
    let read = |sets: &[(&str, &str)]| {
        let sets: Vec<(String, String)> = sets.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
        Plan::read_text("p.yaml", text, Path::new("."), &sets, &environment)
    };
    let plan = read(&[("rate", "80/s")]).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(plan.params["rate"], "80/s");
    let Model::Open { rate, .. } = &plan.loads[0].model else { panic!("a rate makes an open model") };
    assert_eq!(rate.values().next().expect("one rate").to_string(), "80/s");
    assert!(plan.source.contains("${rate}"), "the source stays as it was written");
    assert_eq!(
        read(&[("rte", "80/s")]).expect_err("unknown").lines(),
        ["p.yaml: --set rte: the plan has no parameter `rte` (did you mean `rate`?)"]
    );
    assert_eq!(read(&[("rate", "80")]).expect_err("no unit").list().len(), 1);
}

#[test]
fn a_parameter_is_a_number_in_a_flow_map_too() {
    let text = "plan: p\nclaim: c\nseed: \"${seed}\"\nparams: {n: 5, seed: 7, key: 1, empty: \"\"}\ntarget: {url: http://127.0.0.1/}\n\
                phases: [{name: a, for: 10s}]\n\
                load: [{name: l, rate: 50/s, connections: \"${n}\", request: {get: /, headers: {x-key: \"${key}\", x: \"${empty}\"}}}]\n";
    let read = |text: &str| Plan::read_text("p.yaml", text, Path::new("."), &[], &environment);
    let plan = read(text).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!((plan.loads[0].connections, plan.seed), (5, Some(7)));
    let headers = [("x-key", "1"), ("x", "")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(plan.loads[0].request.headers, headers, "what is text stays text");
    // Nothing is no number, and words around a parameter make text of it.
    for (wrong, says) in [("${empty}", "found the text ``"), ("1${n}", "found the text `15`")] {
        let problems = read(&text.replace("\"${n}\"", &format!("\"{wrong}\""))).expect_err("no number");
        assert!(problems.list()[0].message.contains(says), "{problems}");
    }
}

#[test]
fn secrets_show_nowhere() {
    let text = "plan: p\nclaim: c\ntarget: {url: http://127.0.0.1/}\nphases: [{name: a, for: 10s}]\nload: [{name: l, rate: 50/s, request: {post: /, headers: {authorization: \"Bearer ${SECRET}\"}, body: \"${SECRET}\"}}]\n";
    let plan = Plan::read_text("p.yaml", text, Path::new("."), &[], &environment).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(plan.loads[0].request.headers[0].1, "Bearer hunter2");
    assert_eq!(plan.loads[0].request.body, b"hunter2");
    assert!(!format!("{plan:?}").contains("hunter2"));
    let again = Plan::read_recorded(&plan.source, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
    assert_eq!(again.loads[0].request.headers[0].1, "Bearer ${SECRET}");
}
