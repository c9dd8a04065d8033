//! Goal: the invariants of the crate's docs hold, each with its reason in the failure. How: read the sources as text, comments and
//! test modules left out, and look for what must not be there. A rule that cannot fire is worth nothing, so each rule is also
//! shown a line that it must refuse.

use std::fs;
use std::path::{Path, PathBuf};

/// `forbidden` must not occur in files under `places` (all of `src` when empty) outside of `except`.
struct Rule {
    forbidden: &'static [&'static str],
    places: &'static [&'static str],
    except: &'static [&'static str],
    reason: &'static str,
}

const RULES: &[Rule] = &[
    Rule {
        forbidden: &[
            "tokio::",
            "kube::",
            "k8s_openapi",
            "reqwest::",
            "hyper::",
            "hyper_util",
            "crate::cluster",
            "crate::load",
            "crate::observe",
        ],
        places: &["plan/", "grpc/", "timeline.rs", "schedule/", "varying/", "answers/", "verdict/", "report/", "capacity/"],
        except: &[],
        reason: "planning, judging and reporting are pure: no runtime, no cluster, no network",
    },
    Rule {
        forbidden: &["crate::faults", "crate::observe", "crate::cluster", "crate::sandbox"],
        places: &["load/", "protocol/", "schedule/", "varying/", "answers/"],
        except: &[],
        reason: "load meets faults and observation only as events",
    },
    Rule {
        forbidden: &["crate::load", "crate::observe", "crate::protocol"],
        places: &["faults/"],
        except: &[],
        reason: "faults meet load and observation only as events",
    },
    Rule {
        forbidden: &["crate::load", "crate::faults", "crate::protocol", "crate::sandbox"],
        places: &["observe/"],
        except: &[],
        reason: "observation meets load and faults only as events",
    },
    Rule {
        forbidden: &["crate::plan", "crate::cluster", "crate::faults", "crate::timeline", "std::fs", "std::io"],
        places: &["verdict/"],
        except: &[],
        reason: "a verdict sees the recording and its own spec, never the plan, the cluster or the disk",
    },
    Rule {
        forbidden: &["crate::plan", "crate::cluster", "crate::faults", "crate::timeline"],
        places: &["report/"],
        except: &[],
        reason: "a report sees findings and the recording, nothing else",
    },
    Rule {
        forbidden: &[
            "crate::plan",
            "crate::timeline",
            "crate::schedule",
            "crate::load",
            "crate::protocol",
            "crate::faults",
            "crate::observe",
            "crate::cluster",
            "crate::sandbox",
            "crate::verdict",
            "crate::report",
            "std::fs",
        ],
        places: &["metrics/"],
        except: &[],
        reason: "live metrics are derived from the recording, as reports are, and touch nothing else of a run",
    },
    Rule {
        forbidden: &["tokio::", "hyper::", "hyper_util", "reqwest::", "std::net"],
        places: &["metrics/family.rs", "metrics/registry.rs", "metrics/numbers.rs", "metrics/text.rs", "metrics/otlp/json.rs"],
        except: &[],
        reason: "counting and rendering are pure: only an outlet waits and connects",
    },
    Rule {
        forbidden: &["crate::metrics"],
        places: &[],
        except: &["metrics/", "run.rs", "cli/", "catalog.rs"],
        reason: "nothing in a run knows that somebody watches it: metrics read the recording",
    },
    Rule {
        forbidden: &["kube::", "k8s_openapi", "kube_"],
        places: &[],
        except: &["cluster/"],
        reason: "cluster/ is the one adapter to Kubernetes",
    },
    Rule { forbidden: &["serde_yaml"], places: &[], except: &["plan/"], reason: "YAML is read in plan/ only" },
    Rule {
        forbidden: &["crate::run", "crate::cli"],
        places: &[],
        except: &["main.rs", "cli/", "run.rs", "run/"],
        reason: "nothing imports the conductor or the command line",
    },
    Rule {
        forbidden: &["Instant::now", "SystemTime::now", "Timestamp::now", "Zoned::now", "UNIX_EPOCH.elapsed", "clock_gettime"],
        places: &[],
        except: &["time.rs"],
        reason: "only time.rs reads a clock",
    },
    Rule {
        forbidden: &["rand::rng()", "thread_rng", "from_os_rng", "rand::random", "OsRng", "SysRng", "from_entropy"],
        places: &[],
        except: &[],
        reason: "randomness comes only from the run's seed",
    },
    Rule {
        forbidden: &["println!", "print!(", "eprint!(", "eprintln!", "io::stdout()", "io::stderr()", "dbg!"],
        places: &[],
        except: &["main.rs", "cli/", "report/terminal", "report/live", "workload/", "faults/agent/"],
        reason: "data goes to stdout and talk to stderr, and only the command line and the terminal report print",
    },
    Rule {
        forbidden: &["process::exit", "process::abort"],
        places: &[],
        except: &["main.rs"],
        reason: "main is the only place that exits",
    },
    Rule {
        forbidden: &["todo!", "unimplemented!", "FIXME", "TODO"],
        places: &[],
        except: &[],
        reason: "what is not built is not there",
    },
    Rule { forbidden: &[".unwrap()"], places: &[], except: &[], reason: "say why it holds: expect(\"…\"), or return an error" },
    Rule { forbidden: &["unbounded_channel", "mpsc::channel()"], places: &[], except: &[], reason: "every queue has a bound" },
];

#[test]
fn the_sources_keep_every_rule() {
    let mut broken = Vec::new();
    for (path, text) in sources() {
        for rule in RULES {
            for (number, line) in rule.breaches(&path, &text) {
                broken.push(format!("src/{path}:{number}: `{}`\n    {}", line.trim(), rule.reason));
            }
        }
    }
    assert!(broken.is_empty(), "{} lines break the architecture:\n{}", broken.len(), broken.join("\n"));
}

#[test]
fn every_rule_refuses_what_it_forbids() {
    for rule in RULES {
        let place = rule.places.first().copied().unwrap_or("somewhere.rs");
        let path = if place.ends_with('/') { format!("{place}x.rs") } else { place.to_owned() };
        for forbidden in rule.forbidden {
            assert_eq!(rule.breaches(&path, &format!("let x = {forbidden};")).len(), 1, "{forbidden} in {path}");
            assert!(rule.breaches(&path, &format!("// {forbidden}")).is_empty(), "a comment may name {forbidden}");
        }
    }
}

/// A concrete kind may be named in its own file and in its folder's table, nowhere else.
#[test]
fn concrete_kinds_are_named_in_their_file_and_their_row_only() {
    let mut broken = Vec::new();
    for folder in ["faults", "verdict", "report", "protocol", "schedule", "metrics"] {
        let table = fs::read_to_string(root().join("src").join(folder).join("mod.rs")).expect("every folder of kinds has a table");
        let modules: Vec<&str> = table
            .lines()
            .filter_map(|line| line.trim().strip_prefix("mod ").or_else(|| line.trim().strip_prefix("pub mod ")))
            .filter_map(|line| line.strip_suffix(';'))
            .collect();
        for module in modules
            .iter()
            .filter(|module| ["Spec =>", "FORMAT", "EXPORTER"].iter().any(|row| table.contains(&format!("{module}::{row}"))))
        {
            for (path, text) in sources() {
                let own = path == format!("{folder}/mod.rs") || path.starts_with(&format!("{folder}/{module}"));
                let needle = format!("{folder}::{module}::");
                if !own && code_lines(&text).any(|(_, line)| line.contains(&needle)) {
                    broken.push(format!("src/{path} names {needle}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_top_level_holds_what_the_design_lists() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "plans",
        "reports",
        "benches",
        "ci",
        "tests",
        "README.md",
        "CHANGELOG.md",
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "target",
    ];
    let strangers: Vec<String> = fs::read_dir(root())
        .expect("the repository can be read")
        .map(|entry| entry.expect("an entry can be read").file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with('.') && !allowed.contains(&name.as_str()))
        .collect();
    assert!(strangers.is_empty(), "the top level is exactly the design's list; these are not on it: {strangers:?}");
}

#[test]
fn every_source_file_opens_by_saying_what_it_is() {
    let silent: Vec<String> =
        sources().filter(|(_, text)| !text.starts_with("//!")).map(|(path, _)| format!("src/{path}")).collect();
    assert!(silent.is_empty(), "these files do not open with `//!`: {silent:?}");
}

#[test]
fn no_file_is_a_drawer() {
    let drawers: Vec<String> = sources()
        .map(|(path, _)| path)
        .filter(|path| {
            ["util", "utils", "common", "helpers", "helper", "manager", "misc", "imp"]
                .iter()
                .any(|d| path.split(['/', '.']).any(|part| part == *d))
        })
        .collect();
    assert!(drawers.is_empty(), "if it has no name, it has no home yet: {drawers:?}");
}

#[test]
fn each_dependency_gives_its_reason() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml can be read");
    let mut in_dependencies = false;
    let mut after_comment = false;
    let mut silent = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            in_dependencies = line.contains("dependencies");
        } else if in_dependencies && line.contains(" = ") && !line.starts_with('#') && !line.contains('#') && !after_comment {
            silent.push(line.to_owned());
        }
        after_comment = line.starts_with('#');
    }
    assert!(silent.is_empty(), "dependencies without a reason beside them: {silent:#?}");
}

impl Rule {
    fn breaches<'a>(&self, path: &str, text: &'a str) -> Vec<(usize, &'a str)> {
        let applies = self.places.is_empty() || self.places.iter().any(|place| path.starts_with(place));
        if !applies || self.except.iter().any(|place| path.starts_with(place)) {
            return Vec::new();
        }
        code_lines(text).filter(|(_, line)| self.forbidden.iter().any(|word| names(line, word))).collect()
    }
}

/// Whether `line` holds `word` as a word of its own: `hyper::` is not in `my_hyper::`, and `print!(` is not in `eprint!(`.
fn names(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        !word.starts_with(|c: char| c.is_alphanumeric()) || !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

/// The lines of a file that are code: no comments, no documentation, nothing from `#[cfg(test)]` on.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .map(|(index, line)| (index + 1, line))
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

fn sources() -> impl Iterator<Item = (String, String)> {
    let src = root().join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    files.sort();
    files.into_iter().map(move |file| {
        let text = fs::read_to_string(&file).expect("a source file can be read");
        (file.strip_prefix(&src).expect("it was found under src").to_string_lossy().into_owned(), text)
    })
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("a source folder can be read") {
        let path = entry.expect("an entry can be read").path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|e| e == "rs") {
            files.push(path);
        }
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
