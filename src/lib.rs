//! Squall runs a plan against a service: it sends bursts of traffic, breaks things on purpose, watches what the platform does, and
//! says whether the promises held. One binary, one YAML plan, one verdict.
//!
//! # The flow in one sentence
//!
//! A plan, read and laid out in time with a seed, drives load, faults and observation, which meet only in an append-only
//! recording, from which findings, verdict and every report are pure functions.
//!
//! ```text
//! plan.yaml ─read─▶ Plan ─with seed─▶ Timeline ─▶ ┌ load    ┐
//!                                                 ├ faults  ┤─Event─▶ Recording ─judge─▶ [Finding] ─▶ Verdict ─▶ Report ─render─▶ bytes
//!                                                 └ observe ┘        (append-only)       pure, no clock, no I/O
//! ```
//!
//! # Where things are
//!
//! | place | what it holds | it never |
//! |---|---|---|
//! | `main.rs` | arguments in, exit code out | does anything else |
//! | `cli/` | one file per subcommand, one screen each | knows how anything is done |
//! | `run.rs` | the conductor, the only module that knows every stage | judges or prints |
//! | `capacity/` | the search for a highest rate: which is tried next, what the whole comes to | sends or waits |
//! | `catalog.rs` | all that a plan can name, from the tables of kinds | |
//! | `exit.rs` | the exit codes, as a table | |
//! | `time.rs` | the one clock and [`time::Offset`] | |
//! | `units.rs`, `names.rs` | quantities and names as a plan writes them | |
//! | `target.rs` | what a target's URL, a path and a header may be | |
//! | `proxy.rs` | what a proxy's URL may be, and what is shown of it | connects |
//! | `tls.rs` | what a target's TLS rests on: authorities, credentials, a name | connects |
//! | `grpc/` | what a gRPC load rests on: descriptors, methods, messages in the wire format | connects, waits or reads a file |
//! | `gotchas/` | what keeps autoscalers from doing what people expect, one file each, seen on the objects alone | reads a cluster |
//! | `rights.rs` | what is asked of a cluster, as tables, and as the objects that grant it | asks |
//! | `kinds.rs` | the table by which faults, assertions and arrivals are registered | |
//! | `plan/` | YAML to [`plan::Plan`]: reading, diagnostics, checking, schema | waits or connects |
//! | `timeline.rs` | plan and seed to who does what when | waits or connects |
//! | `schedule/` | request n to the moment it is due, one file per arrival process | waits |
//! | `varying/` | what differs from one request to the next: templates, and request n to the values in them | waits or reads a file |
//! | `answers/` | what is looked for in an answer: checks, values that are kept, cookies, where a redirect leads | waits or connects |
//! | `protocol/` | one file per protocol that a request can speak | knows schedules |
//! | `load/` | schedule and protocol to requests: driver, connections, tally, self-check | knows faults or probes |
//! | `faults/` | one file per fault; journal, lease, evidence, healing, agent | knows load or probes |
//! | `observe/` | one file per probe | knows load or faults |
//! | `cluster/` | the one adapter to Kubernetes | lets `kube` out |
//! | `sandbox/` | the embedded cluster: API, controllers, autoscaler, pods, addresses | is called but through its API, once started |
//! | `workload/` | the demo service, each pattern a dial | is needed by anything else |
//! | `recording/` | the vocabulary of facts, the one writer, reading back | judges |
//! | `metrics/` | live metrics, derived from the recording as it is written; one file per exporter | measures, or holds anybody up |
//! | `verdict/` | statistics, one file per assertion kind, the algebra of verdicts; `detectors/`: what is known to cause what failed | sees plan or cluster |
//! | `report/` | one file per format | computes a fact of its own |
//!
//! # Invariants
//!
//! `tests/it/architecture.rs` reads the sources and fails when one of the checkable ones is broken.
//!
//! 1. `plan`, `timeline`, `schedule`, `varying`, `answers`, `verdict`, `report` and `capacity` import no async runtime, no Kubernetes client and no HTTP client.
//! 2. `load`, `faults` and `observe` never import one another; they meet only as events.
//! 3. `verdict` sees the recording and its own spec, never the plan or the cluster; `report` sees findings and summaries.
//! 4. `kube` appears only in `cluster/`, YAML only in `plan/`; nothing imports `run` or `cli` but `main`.
//! 5. Only `time.rs` reads a clock; randomness comes only from the run's seed, and the seed is printed.
//! 6. No concrete fault, protocol, assertion or format is named outside its file and its row.
//! 7. Every queue, pool and retry has a bound, and hitting the bound is an event.
//! 8. Data goes to stdout, talk to stderr; nothing prints but `main`, `cli` and the terminal report (and the processes that are
//!    somebody else's: the demo workload and the fault agent, whose stdout is their pod's log).
//! 9. Every fact in a report is derived from the recording; no two reports can disagree.
//!
//! # Adding a kind
//!
//! A fault, an assertion, a report format or an exporter of metrics is one new file and one row, with its `mod` line, in `faults/mod.rs`,
//! `verdict/mod.rs`, `report/mod.rs` or `metrics/mod.rs`. The table feeds the parser, the schema, `squall list`, the README's tables and the tests of all kinds.
//! `tests/recipe/` holds the smallest of each, and `ci/recipe` adds them to a copy of the tree and builds it.
//!
//! # Glossary
//!
//! - **plan**: a claim and the evidence asked for, in one YAML file.
//! - **phase**: a named stretch of the run; **load**: requests on a schedule; **fault**: something broken on purpose.
//! - **probe**: something that observes; **reading**: a number it saw; **gap**: a stretch in which it was blind.
//! - **outcome**: how one request ended: ok, rejected, failed, timed out, unsent.
//! - **intended start**: when a request was due, whether or not it could be sent then; **lateness**: sent minus due.
//! - **recording**: every fact of a run, in order; **history**: a recording read back.
//! - **detector**: what is known to go wrong, looked for in the recording when a check failed; **gotcha**: the same, seen without load.
//! - **finding**: one check judged, with value, interval, limit and evidence; **verdict**: PASS, FAIL or INCONCLUSIVE.
//! - **capacity**: the highest rate at which an objective holds; it is searched for with probes, each a run of its own.
//! - **certificate**: the generator's own error, and whether its numbers may be used.
//! - **exporter**: a way for live metrics to leave a run; **outlet**: one that was asked for; **tap**: who reads along with the recording.
//! - **lease**: how long a fault lives when nobody renews it; **journal**: how to undo what a run does, written before it does it.

pub mod answers;
pub mod capacity;
pub mod catalog;
pub mod cli;
pub mod cluster;
pub mod exit;
pub mod faults;
pub mod gotchas;
pub mod grpc;
pub mod kinds;
pub mod load;
pub mod metrics;
pub mod names;
pub mod observe;
pub mod plan;
pub mod protocol;
pub mod proxy;
pub mod recording;
pub mod report;
pub mod rights;
pub mod run;
pub mod sandbox;
pub mod schedule;
pub mod target;
pub mod time;
pub mod timeline;
pub mod tls;
pub mod units;
pub mod varying;
pub mod verdict;
pub mod workload;
