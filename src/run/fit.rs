//! Whether this machine can send what a plan asks for, before anything is set up: what is needed, what there is, and the way out where
//! the one does not hold the other. Refused is only what cannot be; what may get tight is said.

use std::time::Duration;

use super::machine::{Machine, Reuse};
use super::rehearsal::{Rehearsal, Spread, rehearse};
use crate::load;
use crate::plan::{Demand, Need, Plan, Reach};
use crate::timeline::Timeline;

/// Descriptors for everything but the load's connections: files, timers, workers, and what watches the cluster.
const OWN_DESCRIPTORS: f64 = 128.0;
/// How long a closed connection keeps its port (TCP_TIMEWAIT_LEN of the kernel), and where ports are reused.
const TIME_WAIT: Duration = Duration::from_secs(60);
const TIME_WAIT_REUSED: Duration = Duration::from_secs(1);
/// Bytes of an open connection: Squall's own, and the kernel's for an idle socket with small buffers.
const CONNECTION_BYTES: f64 = (8 + 8) as f64 * 1024.0;
const CONNECTION_BYTES_TLS: f64 = (40 + 8) as f64 * 1024.0;
/// Requests per second and worker from which a run measures first whether the machine can do it: half of what a core of today can.
const RATE_TO_MEASURE: f64 = 60_000.0;

/// When to measure what a request costs, which takes about a second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wanted {
    /// Where the rate is so high that it decides.
    Decisive,
    /// In any case: somebody wants to read it.
    Always,
    Never,
}

/// Need and means, side by side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fit {
    /// What is needed and what there is, by label, for a person.
    pub lines: Vec<(&'static str, String)>,
    /// What cannot be, each with the way out.
    pub refusals: Vec<String>,
    /// What is not there if the service is as fast as it is taken to be, each with the way out.
    pub warnings: Vec<String>,
    /// What is not there when every request runs into its timeout, each with the way out.
    pub remarks: Vec<String>,
}

/// Holds the plan against this machine.
pub async fn fit(plan: &Plan, timeline: &Timeline, wanted: Wanted) -> Fit {
    let demand = Demand::of(plan, timeline);
    let workers = load::workers(plan.generator, timeline.traffic.iter().map(|(_, traffic)| traffic));
    let measure = match wanted {
        Wanted::Always => true,
        Wanted::Decisive => demand.rate / workers as f64 > RATE_TO_MEASURE,
        Wanted::Never => false,
    };
    let cost = if measure { Some(rehearse().await.map_err(|error| format!("{error:#}"))) } else { None };
    hold(&demand, workers, &Machine::look(), cost.as_ref())
}

/// Pure: whatever was looked up or measured is given.
fn hold(demand: &Demand, workers: usize, machine: &Machine, cost: Option<&Result<Rehearsal, String>>) -> Fit {
    let mut fit = Fit::default();
    let Demand { in_flight, in_flight_worst, sockets, latency, .. } = *demand;
    fit.line(
        "in flight",
        format!("{in_flight} when each request is answered within {latency}, {in_flight_worst} at worst (Little's law)"),
    );
    fit.line("sockets", format!("{:.0}, {:.0} at worst", sockets.usual, sockets.worst));
    fit.descriptors(demand, machine);
    fit.ports(demand, machine);
    fit.memory(demand, machine);
    fit.line("workers", format!("{workers} on {} cores", machine.cores));
    match cost {
        None => {}
        Some(Err(why)) => fit.line("cpu", format!("not measured: {why}")),
        Some(Ok(cost)) => fit.cpu(demand, workers, machine, cost),
    }
    fit
}

impl Fit {
    fn line(&mut self, label: &'static str, text: String) {
        self.lines.push((label, text));
    }

    /// Refuses where what is needed in any case is not there, warns where what may be needed is not.
    fn weigh(&mut self, demand: &Demand, need: Need, there: u64, words: impl Fn(f64) -> String) {
        let there = there as f64;
        if need.least > there {
            self.refusals.push(words(need.least));
        } else if need.usual > there {
            self.warnings.push(format!("when each request is answered within {}, {}", demand.latency, words(need.usual)));
        } else if need.worst > there {
            self.remarks.push(format!("at worst, {}", words(need.worst)));
        }
    }

    fn descriptors(&mut self, demand: &Demand, machine: &Machine) {
        let need = demand.sockets.each(|sockets| sockets + OWN_DESCRIPTORS);
        let Need { usual, worst, .. } = need;
        let Some(there) = machine.descriptors else {
            return self.line("descriptors", format!("{usual:.0}, {worst:.0} at worst; there is no limit"));
        };
        self.line("descriptors", format!("{usual:.0}, {worst:.0} at worst; {there} may be open (hard limit of RLIMIT_NOFILE)"));
        self.weigh(demand, need, there, |n| {
            format!(
                "the plan needs {n:.0} file descriptors and this process may have {there}: raise the limit (`ulimit -Hn`, or LimitNOFILE= of \
                 a service), have fewer users, or lower the rate"
            )
        });
    }

    fn ports(&mut self, demand: &Demand, machine: &Machine) {
        let Some(there) = machine.ports else { return };
        let reused = match machine.reuse {
            Reuse::Everybody => true,
            Reuse::Loopback => demand.reach == Reach::Loopback,
            Reuse::Nobody => false,
        };
        let kept = if reused { TIME_WAIT_REUSED } else { TIME_WAIT }.min(demand.length.duration());
        // A connection that is replaced leaves its port behind for a while.
        let need = demand.sockets.with(demand.replaced, |sockets, replaced| (sockets + replaced * kept.as_secs_f64()).ceil());
        let replaced = match demand.replaced.worst {
            0.0 => "connections are kept".to_owned(),
            _ => format!(
                "of connections, {} are replaced each second, {} at worst, and the port of one is free {:.0}s after that",
                few(demand.replaced.usual),
                few(demand.replaced.worst),
                kept.as_secs_f64()
            ),
        };
        self.line(
            "ports",
            format!("{:.0}, {:.0} at worst; {there} to each address that is connected to ({replaced})", need.usual, need.worst),
        );
        let words = |n: f64| {
            format!(
                "the plan needs {n:.0} local ports, and there are {there} to one address: {replaced}; replace connections \
                 less often (`rotate:`), widen net.ipv4.ip_local_port_range, have fewer users, lower the rate, or name a target with more \
                 addresses"
            )
        };
        match demand.reach {
            Reach::Loopback | Reach::Address => self.weigh(demand, need, there, words),
            // How many addresses a name has is known when it is resolved.
            Reach::Name if need.usual > there as f64 => {
                self.warnings.push(format!("if its name has one address, {}", words(need.usual)));
            }
            Reach::Name => {}
        }
    }

    fn memory(&mut self, demand: &Demand, machine: &Machine) {
        let each = if demand.tls { CONNECTION_BYTES_TLS } else { CONNECTION_BYTES };
        let need = demand.sockets.each(|sockets| sockets * each);
        let mib = |bytes: f64| (bytes / f64::from(1 << 20)).ceil();
        let Some(there) = machine.memory else { return };
        self.line(
            "memory",
            format!(
                "{} MiB for connections, {} MiB at worst; {} MiB are available",
                mib(need.usual),
                mib(need.worst),
                mib(there as f64)
            ),
        );
        self.weigh(demand, need, there, |n| {
            format!(
                "the plan's connections need {} MiB and {} MiB are available: give the machine more memory, have fewer users, or lower the \
                 rate",
                mib(n),
                mib(there as f64)
            )
        });
    }

    fn cpu(&mut self, demand: &Demand, workers: usize, machine: &Machine, cost: &Rehearsal) {
        let Rehearsal { together, apart } = cost;
        self.line(
            "cpu",
            format!(
                "a request costs a worker {} of CPU where it is never idle, {} where each has a wake-up of its own (measured just now: GET \
                 over HTTP/1.1 without TLS to this process itself, three slices of 150ms each; the range is this machine's noise)",
                shown(*together),
                shown(*apart)
            ),
        );
        if demand.rate == 0.0 {
            return;
        }
        let each = demand.rate / workers as f64;
        let share = |cost: Duration| each * cost.as_secs_f64();
        let (low, high) = (share(together.least), share(apart.most.max(together.most)));
        self.line(
            "",
            format!("at {each:.0}/s a worker uses from {:.1}% to {:.1}% of its core, as pacing goes", low * 100.0, high * 100.0),
        );
        let way_out = match machine.cores > workers {
            true => format!("let more of its {} cores send (`generator: {{workers: {}}}`)", machine.cores, machine.cores),
            false => "send from a machine with more cores".to_owned(),
        };
        // Not even the cheapest slice, with nothing but sending to do; where many share a connection, that is no least.
        if low > 1.0 && !demand.shared {
            self.refusals.push(format!(
                "{each:.0}/s for each of {workers} workers takes {:.0}% of a core at the very least, by what requests cost here now: \
                 {way_out}, or lower the rate",
                low * 100.0
            ));
        } else if share(together.most) > 0.8 {
            self.warnings.push(format!(
                "{each:.0}/s for each of {workers} workers may take more of its core than the certificate allows (80%): {way_out}, or \
                 lower the rate"
            ));
        }
    }
}

/// How many per second: with a digit after the point where there are few.
fn few(rate: f64) -> String {
    if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// `8.1us`, or `8.1us to 9.0us`.
fn shown(Spread { least, most }: Spread) -> String {
    let micros = |time: Duration| format!("{:.1}us", time.as_secs_f64() * 1e6);
    match (micros(least), micros(most)) {
        (least, most) if least == most => least,
        (least, most) => format!("{least} to {most}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::units::Span;

    fn machine() -> Machine {
        Machine { cores: 2, descriptors: Some(20_000), ports: Some(28_232), reuse: Reuse::Loopback, memory: Some(8 << 30) }
    }

    fn demand(sockets: u64, sockets_worst: u64) -> Demand {
        Demand {
            latency: Span::from_millis(100),
            in_flight: sockets,
            in_flight_worst: sockets_worst,
            sockets: Need { least: sockets as f64, usual: sockets as f64, worst: sockets_worst as f64 },
            rate: 1000.0,
            replaced: Need { least: sockets as f64 / 5.0, usual: sockets as f64 / 5.0, worst: sockets_worst as f64 / 5.0 },
            shared: false,
            reach: Reach::Address,
            tls: false,
            length: Span::from_secs(600),
        }
    }

    fn cost(together: u64, apart: u64) -> Result<Rehearsal, String> {
        let spread = |us: u64| Spread { least: Duration::from_micros(us), most: Duration::from_micros(us + 2) };
        Ok(Rehearsal { together: spread(together), apart: spread(apart) })
    }

    #[track_caller]
    fn refuses(fit: &Fit, says: &[&str]) {
        let [refusal] = &fit.refusals[..] else { panic!("one refusal: {fit:?}") };
        says.iter().for_each(|word| assert!(refusal.contains(word), "{refusal}"));
    }

    #[test]
    fn what_fits_is_said_and_nothing_else() {
        let fit = hold(&demand(100, 1_000), 1, &machine(), Some(&cost(8, 30)));
        assert_eq!([&fit.refusals, &fit.warnings, &fit.remarks].map(Vec::len), [0; 3]);
        let text: Vec<String> = fit.lines.iter().map(|(label, text)| format!("{label}: {text}")).collect();
        let text = text.join("\n");
        for says in [
            "in flight: 100 when each request is answered within 100ms, 1000 at worst",
            "descriptors: 228, 1128 at worst; 20000 may be open",
            "ports: 1300, 13000 at worst; 28232 to each address that is connected to (of connections, 20 are replaced each second, 200 at worst, and",
            "memory: 2 MiB for connections, 16 MiB at worst; 8192 MiB",
            "workers: 1 on 2 cores",
            "8.0us to 10.0us of CPU where it is never idle, 30.0us to 32.0us",
            "at 1000/s a worker uses from 0.8% to 3.2% of its core",
        ] {
            assert!(text.contains(says), "{says} is not in\n{text}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_way_out_and_what_may_get_tight_is_said() {
        let loopback = |sockets, worst| Demand { reach: Reach::Loopback, ..demand(sockets, worst) };
        let few = Machine { descriptors: Some(1024), ..machine() };
        refuses(&hold(&loopback(1_000, 1_000), 1, &few, None), &["1128 file descriptors", "may have 1024", "ulimit -Hn"]);
        let tight = hold(&loopback(500, 1_000), 1, &few, None);
        assert!(tight.refusals.is_empty() && tight.warnings.is_empty(), "{tight:?}");
        assert!(tight.remarks[0].contains("at worst, the plan needs 1128"), "{tight:?}");
        let none = Machine { descriptors: None, ..machine() };
        assert!(hold(&loopback(20_000, 20_000), 1, &none, None).refusals.is_empty());
        let small = Machine { memory: Some(64 << 20), ..machine() };
        refuses(&hold(&loopback(5_000, 5_000), 1, &small, None), &["need 79 MiB and 64 MiB"]);
    }

    /// Goal: how fast a service answers is not known before, so that nothing that hangs on it is refused. How: more than there is, were it
    /// to answer within what is asserted.
    #[test]
    fn what_hangs_on_the_service_is_said_and_not_refused() {
        let slow = Demand { sockets: Need { least: 1.0, usual: 2_500.0, worst: 9_000.0 }, ..demand(0, 0) };
        let few = Machine { descriptors: Some(1024), ..machine() };
        let fit = hold(&slow, 1, &few, None);
        assert_eq!(fit.refusals, [""; 0]);
        assert!(fit.warnings[0].starts_with("when each request is answered within 100ms, the plan needs 2628 file"), "{fit:?}");
    }

    /// Connections grow old and leave their ports behind for a minute, on loopback for a second.
    #[test]
    fn ports_count_for_as_long_as_the_kernel_keeps_them() {
        let whole = demand(3_000, 3_000);
        refuses(&hold(&whole, 1, &machine(), None), &["needs 39000 local ports", "28232", "ip_local_port_range"]);
        let kept = Demand { replaced: Need::default(), ..whole.clone() };
        assert!(hold(&kept, 1, &machine(), None).refusals.is_empty(), "no more than are open");
        let short = Demand { length: Span::from_secs(10), ..whole.clone() };
        assert!(hold(&short, 1, &machine(), None).refusals.is_empty(), "9000 by the end of it");
        let near = Demand { reach: Reach::Loopback, ..whole.clone() };
        assert!(hold(&near, 1, &machine(), None).refusals.is_empty(), "3600");
        let reused = Machine { reuse: Reuse::Everybody, ..machine() };
        assert!(hold(&whole, 1, &reused, None).refusals.is_empty());
        let name = hold(&Demand { reach: Reach::Name, ..whole }, 1, &machine(), None);
        assert!(name.refusals.is_empty() && name.warnings[0].starts_with("if its name has one address, "), "{name:?}");
    }

    #[test]
    fn a_rate_that_no_core_holds_is_refused_by_its_cheapest_slice_only() {
        let fast = |rate| Demand { rate, ..demand(100, 100) };
        refuses(&hold(&fast(200_000.0), 1, &machine(), Some(&cost(8, 30))), &["160% of a core", "workers: 2"]);
        refuses(&hold(&fast(400_000.0), 2, &machine(), Some(&cost(8, 30))), &["more cores"]);
        let tight = hold(&fast(110_000.0), 1, &machine(), Some(&cost(8, 30)));
        assert!(tight.refusals.is_empty() && tight.warnings[0].contains("80%"), "{tight:?}");
        let streams = hold(&Demand { shared: true, ..fast(200_000.0) }, 1, &machine(), Some(&cost(8, 30)));
        assert!(streams.refusals.is_empty() && streams.warnings[0].contains("80%"), "{streams:?}");
        let unknown = hold(&fast(1e6), 1, &machine(), Some(&Err("no loopback".to_owned())));
        assert!(unknown.refusals.is_empty(), "what was not measured refuses nothing");
    }

    /// Goal: what is measured is a cost, whatever machine it is. How: bounds that only a broken measurement leaves.
    #[tokio::test]
    async fn a_request_costs_something() {
        let cost = rehearse().await.expect("there is a loopback");
        for spread in [cost.together, cost.apart] {
            assert!(
                spread.least > Duration::ZERO && spread.least <= spread.most && spread.most < Duration::from_secs(1),
                "{cost:?}"
            );
        }
    }
}
