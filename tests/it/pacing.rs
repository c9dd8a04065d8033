//! How precisely requests leave, and whether what is said of it is true. Method: a real run over loopback, its samples and its lateness.

use squall::plan::Pacing;
use squall::recording::sink::Measure;
use squall::time::Offset;
use squall::verdict::Certificate;

use crate::fake_target::{Dial, FakeTarget, Timing};
use crate::load::Drive;

/// Goal: what is sent together for cheapness' sake is late by it, and the certificate says by how much at most. How: a request every
/// half millisecond with a window of one: two or three leave together, the first of them a whole window late. Nothing else may make
/// them early, so the lower bound holds on any machine.
#[test]
fn a_window_is_told_and_so_is_the_lateness_that_it_makes() {
    let target = FakeTarget::start(Dial::good(Timing::AtOnce));
    let run = |pacing| Drive { pacing, rate: 2_000.0, seconds: 2.0, ..Drive::at(target.url()) }.run();
    let certificate = |ran: &crate::load::Ran| Certificate::over(&ran.history, Offset::ZERO, Offset::from_secs_f64(2.0), None);

    let coarse = run(Pacing::Coarse);
    assert_eq!(coarse.counts.ok, 4_000, "{:?}", coarse.causes);
    assert_eq!(certificate(&coarse).window_us, 1_000);
    assert!(coarse.quantile_ms(Measure::Lateness, 0.6) >= 0.4, "p60 {} ms", coarse.quantile_ms(Measure::Lateness, 0.6));

    let precise = run(Pacing::Precise);
    assert_eq!(precise.counts.ok, 4_000, "{:?}", precise.causes);
    assert_eq!(certificate(&precise).window_us, 0);

    // Every request is counted once where it was due and once where it was sent.
    for ran in [&coarse, &precise] {
        assert_eq!(ran.history.spacing().map(|spacing| spacing.requests).sum::<u64>(), 4_000);
        assert!(
            ran.history.spacing().all(|spacing| spacing.planned.is_sorted() && spacing.sent.is_sorted()),
            "wider windows hold more"
        );
        assert!(certificate(ran).added_dispersion.is_some());
    }
}
