//! What the parts of a request's way cost by themselves, so that a part that has become dear is found: drawing when it is due, making what
//! differs in it, adding up how it went; and, off that way, reading a plan and judging a recording. What a whole request costs is counted
//! by `ci/instructions` and measured by `ci/bench`.
//!
//! ```text
//! cargo bench --bench parts [-- FILTER]
//! ```

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use squall::names::Name;
use squall::plan::Plan;
use squall::recording::timings::{self, Timings};
use squall::run;
use squall::schedule::{Arrivals, RatePiece, Schedule, seed_of};
use squall::time::Offset;
use squall::varying::{Form, Template, Values};

const SEED: u64 = 1;
const BATCH: u64 = 10_000;

/// Drawing when requests are due.
fn arrivals(c: &mut Criterion) {
    let mut group = c.benchmark_group("arrivals");
    group.throughput(Throughput::Elements(BATCH));
    for process in ["constant", "poisson"] {
        let arrivals: Arrivals = process.parse().expect("an arrival process");
        let end = Offset::from_secs_f64(1.0);
        let piece = RatePiece { phase: main_name(), start: Offset::ZERO, end, from: BATCH as f64, to: BATCH as f64 };
        let schedule = Schedule::new(arrivals, &[piece], seed_of(SEED, &main_name()));
        group.bench_function(process, |b| {
            b.iter(|| schedule.arrivals().map(|arrival| arrival.due.nanos()).fold(0, i64::wrapping_add))
        });
    }
    group.finish();
}

/// Drawing a key and a size, and writing them into a path: what is done for each request that differs.
fn values(c: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("plan.yaml");
    let text = "plan: parts\nclaim: c\ntarget: {url: \"http://127.0.0.1:1/\"}\nphases: [{name: main, for: 1s}]\nload:\n\
                - name: main\n  rate: 1/s\n  draw: {key: {zipf: {of: 100000, skew: 1.1}}, size: {weighted: {small: 90, large: 10}}}\n  \
                request: {get: \"/items/{{key}}?size={{size}}\"}\n";
    std::fs::write(&file, text).expect("the plan is written");
    let plan = Plan::read(&file, &[], &|_| None).unwrap_or_else(|problems| panic!("{problems}"));
    let load = &plan.loads[0];
    let supply = load.varying.supply(&load.name, seed_of(SEED, &load.name));
    let path = Template::new(&load.request.path, Form::Path, &load.varying.names());
    let (mut values, mut out, mut number) = (Values::default(), Vec::new(), 0);
    c.bench_function("values", |b| {
        b.iter(|| {
            supply.fill(number, &mut values);
            number += 1;
            out.clear();
            path.render(&values, &mut out);
            black_box(out.len())
        });
    });
}

/// Adding up the latencies of a second.
fn tally(c: &mut Criterion) {
    let mut histogram = timings::histogram();
    let mut group = c.benchmark_group("tally");
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("histogram", |b| {
        b.iter(|| {
            let mut measured = Timings::default();
            (0..BATCH).for_each(|n| measured.record((200 + n * 7 % 5_000) as u32));
            histogram.reset();
            measured.fill(&mut histogram);
            histogram.len()
        });
    });
    group.finish();
}

/// From a plan's text to the plan, and from a recording to its verdict.
fn whole(c: &mut Criterion) {
    let quickstart = Path::new("plans/quickstart.yaml");
    c.bench_function("read a plan", |b| {
        b.iter(|| Plan::read(quickstart, &[], &|_| None).unwrap_or_else(|problems| panic!("{problems}")));
    });
    let recording = Path::new("tests/recordings/healthy");
    c.bench_function("judge a recording", |b| {
        b.iter_batched(
            || (),
            |()| run::judge(recording, None, &[]).map(|judged| judged.findings.len()).ok(),
            BatchSize::PerIteration,
        );
    });
}

fn main_name() -> Name {
    "main".parse().expect("a name")
}

criterion_group! {
    name = parts;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = arrivals, values, tally, whole
}
criterion_main!(parts);
