//! Goal: keys come up as often as the plan says, whoever draws them. How: counts against shares worked out by the definition.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::kinds::Kind;

fn draw(text: &str) -> Draw {
    let value: serde_json::Value = serde_json::from_str(text).expect("the test's draw is JSON");
    let (key, spec) = value.as_object().and_then(|map| map.iter().next()).expect("a map of one key");
    Draw::read(key, spec.clone()).expect("a kind of the table").expect("a spec")
}

/// How often each key came up in the requests below `requests`.
fn counts(draw: &Draw, seed: u64, requests: u64) -> BTreeMap<String, u64> {
    let sampler = draw.sampler();
    let mut counts = BTreeMap::new();
    for number in 0..requests {
        let mut out = Vec::new();
        sampler.draw(&mut Chance::of(seed, number), &mut out);
        *counts.entry(String::from_utf8(out).expect("keys are text")).or_default() += 1;
    }
    counts
}

/// Pearson's statistic of the counts against what was expected of each, and how far it may go: five standard deviations of a chi-squared
/// variable above its mean, with some room where there are few degrees of freedom. Seeds are fixed, so that this never fails by chance.
#[track_caller]
fn fits(counts: &BTreeMap<String, u64>, expected: &[(String, f64)], requests: u64) {
    let known: u64 = expected.iter().map(|(key, _)| counts.get(key).copied().unwrap_or_default()).sum();
    assert_eq!(known, requests, "a key came up that cannot: {counts:?}");
    let off = |(key, share): &(String, f64)| {
        let expected = share * requests as f64;
        assert!(expected >= 5.0, "too few requests for the test");
        (counts.get(key).copied().unwrap_or_default() as f64 - expected).powi(2) / expected
    };
    let statistic: f64 = expected.iter().map(off).sum();
    let freedom = expected.len() as f64 - 1.0;
    assert!(statistic <= freedom + 5.0 * (2.0 * freedom).sqrt() + 10.0, "{statistic} at {freedom} degrees of freedom: {counts:?}");
}

/// Goal: what comes up is what the plan says. How: the share of each key, worked out by the definition and not by the sampler.
#[test]
fn keys_come_up_as_often_as_they_should() {
    let uniform: Vec<(String, f64)> = (1..=50).map(|key| (key.to_string(), 1.0 / 50.0)).collect();
    let weighted = vec![("small".to_owned(), 0.9), ("large".to_owned(), 0.1)];
    for seed in [1, 7, u64::MAX] {
        fits(&counts(&draw(r#"{"uniform": {"of": 50}}"#), seed, 50_000), &uniform, 50_000);
        fits(&counts(&draw(r#"{"weighted": {"small": 90, "large": 10}}"#), seed, 50_000), &weighted, 50_000);
        for (of, skew) in [(1u32, 1.0), (2, 1.1), (20, 0.0), (20, 0.5), (20, 1.0), (20, 1.0 + 1e-10), (20, 1.1), (8, 3.0)] {
            let weights: Vec<f64> = (1..=of).map(|key| f64::from(key).powf(-skew)).collect();
            let sum: f64 = weights.iter().sum();
            let expected: Vec<_> = weights.iter().enumerate().map(|(n, weight)| ((n + 1).to_string(), weight / sum)).collect();
            fits(&counts(&draw(&format!(r#"{{"zipf": {{"of": {of}, "skew": {skew}}}}}"#)), seed, 100_000), &expected, 100_000);
        }
    }
}

/// Goal: a key of a crowd too large for a table has its share. How: 2^40 keys of skew 1: the first has one in H(2^40) = 28.3.
#[test]
fn a_zipf_of_a_million_million_keys_needs_no_table() {
    let counts = counts(&draw(r#"{"zipf": {"of": 1099511627776, "skew": 1}}"#), 3, 100_000);
    let first = counts["1"] as f64 / 100_000.0;
    let expected = 1.0 / ((1u64 << 40) as f64).ln_1p().mul_add(1.0, 0.577_215_7);
    assert!((first - expected).abs() < 6.0 * (expected / 100_000.0).sqrt(), "{first} of {expected}");
}

#[test]
fn what_can_never_be_drawn_is_refused_with_the_way_out() {
    for (bad, says) in [
        (r#"{"uniform": {"of": 0}}"#, "at least 1"),
        (r#"{"zipf": {"of": 0, "skew": 1}}"#, "from 1 to"),
        (r#"{"zipf": {"of": 10, "skew": -1}}"#, "from 0"),
        (r#"{"zipf": {"of": 10, "skew": 11}}"#, "to 10"),
        (r#"{"weighted": {"a": 0, "b": 0}}"#, "no word has a weight"),
    ] {
        let why = draw(bad).contradiction().expect(bad);
        assert!(why.contains(says), "{bad}: {why}");
    }
}

#[test]
fn a_draw_prints_as_it_can_be_read_and_says_what_follows() {
    for (text, says) in [
        (r#"{"uniform":{"of":500}}"#, "1 to 500, each as often as any other"),
        (r#"{"zipf":{"of":1000,"skew":1.1}}"#, "1 to 1000, the commonest in 17.94% of the requests"),
        (r#"{"weighted":{"small":90,"large":10}}"#, "small 90.000%, large 10.000%"),
    ] {
        assert_eq!((draw(text).to_string().as_str(), draw(text).describe().as_str()), (text, says));
    }
}

proptest! {
    /// A draw hangs on seed and number alone, never on what was drawn before.
    #[test]
    fn a_draw_is_a_function_of_seed_and_number(seed: u64, numbers in proptest::collection::vec(0..1_000u64, 1..20)) {
        let draw = draw(r#"{"zipf": {"of": 1000, "skew": 0.9}}"#);
        let one = |number: u64| {
            let mut out = Vec::new();
            draw.sampler().draw(&mut Chance::of(seed, number), &mut out);
            out
        };
        let (sampler, mut all) = (draw.sampler(), Vec::new());
        for number in &numbers {
            all.clear();
            sampler.draw(&mut Chance::of(seed, *number), &mut all);
            prop_assert_eq!(&all, &one(*number));
        }
    }

    #[test]
    fn every_zipf_stays_within_its_keys(of in 1..1_000_000_000_000u64, skew in 0.0..10.0f64, seed: u64) {
        let sampler = draw(&format!(r#"{{"zipf": {{"of": {of}, "skew": {skew}}}}}"#)).sampler();
        for number in 0..50 {
            let mut out = Vec::new();
            sampler.draw(&mut Chance::of(seed, number), &mut out);
            let key: u64 = String::from_utf8(out).expect("digits").parse().expect("a number");
            prop_assert!((1..=of).contains(&key));
        }
    }
}
