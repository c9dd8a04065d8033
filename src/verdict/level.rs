//! The level engine: one number out of a value that changed over time. A reading holds until the next one, as watches report
//! changes; so means and percentiles weigh each value with how long it held.

use super::words::seconds;
use crate::names::ObjectRef;
use crate::recording::History;
use crate::recording::fact::Gap;
use crate::recording::history::same_object;
use crate::time::Offset;

/// A gap this short is closed by the next observation before anything can hide in it.
pub const GAP_SHORT_S: f64 = 2.0;
/// The share of a window that must have been observed.
const COVERAGE_LEAST: f64 = 0.95;

/// A value and how long it held.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Step {
    pub from: Offset,
    pub to: Offset,
    pub value: f64,
    /// The event that said so, where there is one.
    pub n: Option<u64>,
}

impl Step {
    pub fn length_s(&self) -> f64 {
        self.to.since(self.from).as_secs_f64()
    }
}

/// The steps of a series within `[from, to)`: the reading before the window holds into it.
pub fn steps(series: &[(u64, Offset, f64)], from: Offset, to: Offset) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for (n, t, value) in series {
        if *t >= to {
            break;
        }
        let start = (*t).max(from);
        if let Some(last) = steps.last_mut() {
            last.to = start;
            if last.from >= last.to {
                steps.pop();
            }
        }
        steps.push(Step { from: start, to, value: *value, n: Some(*n) });
    }
    steps
}

/// The value below which the series stayed for the share `q` of the time.
pub fn quantile(steps: &[Step], q: f64) -> Option<&Step> {
    first_from_below(steps, |below, total| below >= q * total - ROUNDING_S)
}

/// The least value that held once the share `q` of the time is left out, that of the lowest values.
pub fn least(steps: &[Step], q: f64) -> Option<&Step> {
    first_from_below(steps, |below, total| below > q * total + ROUNDING_S)
}

/// Sums of seconds that should be equal differ by less.
const ROUNDING_S: f64 = 1e-9;

/// The first step, from the lowest value up, at which the seconds up to and with it are `enough` of all; the highest when none is.
fn first_from_below(steps: &[Step], enough: impl Fn(f64, f64) -> bool) -> Option<&Step> {
    let total: f64 = steps.iter().map(Step::length_s).sum();
    let mut sorted: Vec<&Step> = steps.iter().collect();
    sorted.sort_by(|a, b| a.value.total_cmp(&b.value));
    let mut below = 0.0;
    for step in &sorted {
        below += step.length_s();
        if enough(below, total) {
            return Some(step);
        }
    }
    sorted.last().copied()
}

/// The mean, each value weighed with how long it held.
pub fn mean(steps: &[Step]) -> Option<f64> {
    let total: f64 = steps.iter().map(Step::length_s).sum();
    (total > 0.0).then(|| steps.iter().map(|step| step.value * step.length_s()).sum::<f64>() / total)
}

/// How much a counter grew; a fall is a restart from zero.
pub fn increase(steps: &[Step]) -> f64 {
    steps
        .windows(2)
        .map(|pair| {
            let (before, after) = (pair[0].value, pair[1].value);
            if after >= before { after - before } else { after }
        })
        .sum()
}

/// What hides a part of `[from, to)` from somebody who needs to see `objects`, and the events that say so. `None` when enough was
/// seen.
pub fn hidden(history: &History, objects: &[&ObjectRef], from: Offset, to: Offset) -> Option<(String, Vec<u64>)> {
    let gaps = gaps(history, objects, from, to);
    let (_, longest, length) = gaps.iter().max_by(|a, b| a.2.total_cmp(&b.2).then(b.0.cmp(&a.0)))?;
    let blind: f64 = gaps.iter().map(|(_, _, length)| length).sum();
    let window = to.since(from).as_secs_f64();
    if *length <= GAP_SHORT_S && blind <= (1.0 - COVERAGE_LEAST) * window {
        return None;
    }
    let why = format!(
        "{} was blind for {} of {} ({}): what happened then is not known",
        longest.source,
        seconds(blind),
        seconds(window),
        longest.reason
    );
    Some((why, gaps.iter().map(|(n, ..)| *n).collect()))
}

/// The gaps that hide any of `objects` in `[from, to)`: event, gap, and how many seconds of it lie there.
pub fn gaps<'a>(history: &'a History, objects: &[&ObjectRef], from: Offset, to: Offset) -> Vec<(u64, &'a Gap, f64)> {
    history
        .gaps(from, to)
        .into_iter()
        .filter(|(_, gap)| objects.iter().any(|object| concerns(gap, object)))
        .map(|(n, gap)| (n, gap, gap.to.min(to).since(gap.from.max(from)).as_secs_f64()))
        .collect()
}

/// Whether a gap hides `object`: a source is the watch of a kind in a namespace (`watch deployments in shop`), or whoever reads from a
/// pod (`scrape shop/checkout-abc`), or from those of a workload (`scrape of pods in shop, shop/deployment/checkout`).
fn concerns(gap: &Gap, object: &ObjectRef) -> bool {
    let words: Vec<&str> = gap.source.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let is = |namespace: &str, kind: &str, name: &str| {
        let seen = ObjectRef { namespace: namespace.to_owned(), kind: kind.to_lowercase(), name: name.to_owned() };
        same_object(&seen, object)
    };
    match words[..] {
        ["watch", kind, "in", namespace] => is(namespace, kind, &object.name),
        ["scrape", "of", "pods", "in", namespace, workload] => {
            let of = workload.rsplit('/').next().unwrap_or_default();
            let is_its = object.name.strip_prefix(of).is_some_and(|rest| rest.starts_with('-'));
            is_its && is(namespace, "pods", &object.name)
        }
        [.., place] => match place.split('/').collect::<Vec<_>>()[..] {
            [namespace, pod] => is(namespace, "pods", pod),
            [namespace, kind, name] => is(namespace, kind, name),
            _ => false,
        },
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: f64) -> Offset {
        Offset::from_secs_f64(s)
    }

    fn gap(source: &str) -> Gap {
        Gap { source: source.into(), from: at(0.0), to: at(1.0), reason: "x".into() }
    }

    #[test]
    fn a_reading_holds_until_the_next_and_from_before_the_window() {
        let series = [(1, at(-5.0), 2.0), (2, at(4.0), 6.0), (3, at(9.0), 1.0), (4, at(20.0), 99.0)];
        let steps = steps(&series, at(0.0), at(10.0));
        assert_eq!(steps.iter().map(|s| (s.value, s.length_s())).collect::<Vec<_>>(), [(2.0, 4.0), (6.0, 5.0), (1.0, 1.0)]);
        assert_eq!(mean(&steps), Some(3.9));
        assert_eq!(quantile(&steps, 0.5).unwrap().value, 2.0);
        assert_eq!(quantile(&steps, 0.95).unwrap().value, 6.0);
        assert_eq!(increase(&steps), 5.0);
        assert_eq!([0.0, 0.09, 0.1, 0.49, 0.5].map(|q| least(&steps, q).unwrap().value), [1.0, 1.0, 2.0, 2.0, 6.0]);
    }

    #[test]
    fn a_gap_hides_what_its_source_would_have_shown() {
        let deployment: ObjectRef = "shop/deployment/checkout".parse().unwrap();
        let hpa: ObjectRef = "shop/hpa/checkout".parse().unwrap();
        let pod: ObjectRef = "shop/pod/checkout-abc".parse().unwrap();
        for (source, hides) in [
            ("watch deployments in shop", [true, false, false]),
            ("watch deployments in bank", [false, false, false]),
            ("watch horizontalpodautoscalers in shop", [false, true, false]),
            ("watch pods in shop", [false, false, true]),
            ("scrape shop/checkout-abc", [false, false, true]),
            ("watch shop/hpa/checkout", [false, true, false]),
            ("scrape of pods in shop, shop/deployment/checkout", [false, false, true]),
            ("scrape of pods in shop, shop/deployment/check", [false, false, false]),
            ("watch endpointslices in shop", [false, false, false]),
            ("load", [false, false, false]),
        ] {
            let found = [&deployment, &hpa, &pod].map(|object| concerns(&gap(source), object));
            assert_eq!(found, hides, "{source}");
        }
        // Whatever something is called, a gap is about what its source looks at.
        let namesake: ObjectRef = "shop/deployment/shop".parse().unwrap();
        for (source, hides) in [
            ("watch endpointslices in shop", false),
            ("watch statefulsets in shop", false),
            ("watch horizontalpodautoscalers in shop", false),
            ("scrape shop/shop", false),
            ("watch deployments in shop", true),
        ] {
            assert_eq!(concerns(&gap(source), &namesake), hides, "{source}");
        }
    }
}
