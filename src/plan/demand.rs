//! What a plan asks of the machine that sends it, at its busiest phase: requests in flight by Little's law, and the sockets that carry
//! them. Pure; whether a machine has that is for others to say.

use std::net::IpAddr;

use super::{ASSUMED_LATENCY, Load, Model, Plan, Target};
use crate::names::Name;
use crate::target::TargetUrl;
use crate::time::Offset;
use crate::timeline::Timeline;
use crate::units::Span;

/// What is needed at once, at the busiest phase.
#[derive(Clone, Debug, PartialEq)]
pub struct Demand {
    /// How soon requests are taken to be answered: the tightest latency that is asserted, and no more than is assumed without one.
    pub latency: Span,
    /// Requests under way when each is answered within [`Demand::latency`].
    pub in_flight: u64,
    /// The same when each runs into its timeout, or into the load's own bound.
    pub in_flight_worst: u64,
    /// Connections that carry them: one for each user of a closed load.
    pub sockets: Need,
    /// Requests per second of all open loads, in the mean of the busiest phase.
    pub rate: f64,
    /// Connections per second that are replaced when as many as [`Demand::sockets`] are open.
    pub replaced: Need,
    /// Whether requests share connections, as streams do.
    pub shared: bool,
    pub reach: Reach,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// From the first phase to the last.
    pub length: Span,
}

/// How much of something is needed.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Need {
    /// However fast the service is: without it, the plan cannot be carried out.
    pub least: f64,
    /// When it answers within [`Demand::latency`].
    pub usual: f64,
    /// When each request runs into its timeout, or into the load's own bound.
    pub worst: f64,
}

impl Need {
    /// The same of something that hangs on it.
    pub fn each(self, of: impl Fn(f64) -> f64) -> Need {
        Need { least: of(self.least), usual: of(self.usual), worst: of(self.worst) }
    }

    /// What hangs on both, each taken with its like.
    pub fn with(self, other: Need, of: impl Fn(f64, f64) -> f64) -> Need {
        Need { least: of(self.least, other.least), usual: of(self.usual, other.usual), worst: of(self.worst, other.worst) }
    }
}

/// What is known of the addresses that connections go to, before a name is resolved.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reach {
    /// One address, of this machine.
    Loopback,
    /// One address, of another.
    Address,
    /// A name, which may stand for many, or many.
    Name,
}

impl Reach {
    fn of(target: &Target) -> Reach {
        let (host, port) = match (&target.proxy, target.url.parse::<TargetUrl>()) {
            (Some(proxy), _) => (proxy.host.clone(), proxy.port),
            (None, Ok(url)) => (url.host, url.port),
            (None, Err(_)) => return Reach::Name,
        };
        let address = match target.resolved(&host, port) {
            Some([one]) => Some(one.ip()),
            Some(_) => return Reach::Name,
            None => host.parse::<IpAddr>().ok(),
        };
        match address {
            Some(address) if address.is_loopback() => Reach::Loopback,
            Some(_) => Reach::Address,
            None if host == "localhost" => Reach::Loopback,
            None => Reach::Name,
        }
    }
}

/// What is asked for in one phase.
#[derive(Clone, Copy, Default)]
struct Asked {
    in_flight: f64,
    in_flight_worst: f64,
    sockets: Need,
    rate: f64,
    replaced: Need,
}

impl Asked {
    fn with(self, other: Asked, of: impl Fn(f64, f64) -> f64) -> Asked {
        Asked {
            in_flight: of(self.in_flight, other.in_flight),
            in_flight_worst: of(self.in_flight_worst, other.in_flight_worst),
            sockets: self.sockets.with(other.sockets, &of),
            rate: of(self.rate, other.rate),
            replaced: self.replaced.with(other.replaced, &of),
        }
    }
}

impl Demand {
    pub fn of(plan: &Plan, timeline: &Timeline) -> Demand {
        let asserted = plan.claims.iter().filter_map(|claim| claim.spec.latency_limit()).min();
        let latency = asserted.map_or(ASSUMED_LATENCY, |limit| limit.min(ASSUMED_LATENCY));
        let mut most = Asked::default();
        for phase in &timeline.phases {
            let asked = |load| of_load(load, &phase.name, latency, rate_in(timeline, load, (phase.start, phase.end)));
            let all = plan.loads.iter().map(asked).fold(Asked::default(), |all, one| all.with(one, |all, one| all + one));
            most = most.with(all, f64::max);
        }
        Demand {
            latency,
            in_flight: most.in_flight.ceil() as u64,
            in_flight_worst: most.in_flight_worst.ceil() as u64,
            sockets: most.sockets,
            rate: most.rate,
            replaced: most.replaced,
            shared: plan.loads.iter().any(|load| load.streams > 1),
            reach: Reach::of(&plan.target),
            tls: plan.target.url.starts_with("https"),
            length: timeline.end.since(Offset::ZERO).into(),
        }
    }
}

/// Requests per second of an open load in the mean of a phase: a ramp is measured by its higher end.
fn rate_in(timeline: &Timeline, load: &Load, (from, to): (Offset, Offset)) -> f64 {
    let seconds = to.since(from).as_secs_f64();
    match &load.model {
        Model::Open { arrivals, .. } if arrivals.has_own_rate() => {
            timeline.requests_in(Some(&load.name), from, to).unwrap_or_default() as f64 / seconds.max(1e-9)
        }
        Model::Open { rate, .. } => {
            let phase = timeline.phases.iter().find(|phase| phase.start == from);
            phase.and_then(|phase| rate.get(&phase.name)).map_or(0.0, |rate| rate.peak().per_second())
        }
        Model::Closed { .. } => 0.0,
    }
}

fn of_load(load: &Load, phase: &Name, latency: Span, rate: f64) -> Asked {
    let streams = f64::from(load.streams.max(1));
    let age = load.rotation.age.map_or(f64::INFINITY, |age| age.seconds());
    // Attempts on their way at once at worst: each needs a connection, and over HTTP/1.1 giving one up closes its own.
    let abreast = load.client.as_ref().map_or(1.0, |client| f64::from(client.abreast()));
    let given_up = if load.streams > 1 { 0.0 } else { rate * (abreast - 1.0) };
    match &load.model {
        Model::Closed { users, rhythm } => {
            let users = users.get(phase).map_or(0.0, |level| f64::from(level.peak().count()));
            // Connections are opened for the users that come, and shared where they have streams.
            let sockets = match load.streams {
                0 | 1 => Need { least: users, usual: users, worst: users * abreast },
                _ => {
                    let most = users.min(f64::from(load.connections));
                    let worst = (users * abreast).min(f64::from(load.connections));
                    Need { least: (users / streams).ceil(), usual: most, worst }
                }
            };
            // One is replaced when a request on it has ended: by age or by count, and no more often than its users send.
            // Within the run of a flow, one request follows the other.
            let between = rhythm.mean().seconds();
            let pause = between / load.requests_most() as f64;
            let gap = |answered: f64| (pause + answered) * sockets.usual / users.max(1.0);
            let by_count = |answered: f64| load.rotation.requests.map_or(f64::INFINITY, |n| f64::from(n) * gap(answered));
            let after = |answered: f64| age.min(by_count(answered)).max(gap(answered));
            let timeout = load.patience().seconds();
            // Give or take a quarter, and a request may be under way.
            let slowest = age.min(by_count(timeout)) * 1.25 + between + timeout;
            let replaced = Need {
                least: sockets.least / slowest,
                usual: sockets.usual / after(latency.seconds()),
                worst: sockets.worst / after(0.0).max(1e-3),
            };
            Asked { in_flight: users, in_flight_worst: users, sockets, rate: 0.0, replaced }
        }
        Model::Open { .. } if rate == 0.0 => Asked::default(),
        Model::Open { arrivals, .. } => {
            let level = if arrivals.has_own_rate() { 0.0 } else { rate };
            let within = |span: Span| arrivals.most_within(level, span.seconds()).min(f64::from(load.in_flight));
            let (usual, worst) = (within(load.lasts(latency)), within(load.patience()));
            let sockets = Need { least: 1.0, usual, worst: worst * abreast }
                .each(|under_way| (under_way / streams).ceil().min(f64::from(load.connections)));
            // A run of a flow is several requests; one that fails at once is one.
            let requests = rate * load.requests_each();
            let by_count = |rate: f64| load.rotation.requests.map_or(0.0, |requests| rate / f64::from(requests));
            // Whatever comes first replaces it: no more often than both together, no less often than one of them.
            let replaced = Need {
                least: by_count(rate) / 1.25,
                usual: (sockets.usual / age).max(by_count(requests)),
                worst: sockets.worst / age + by_count(requests) + given_up,
            };
            Asked { in_flight: usual, in_flight_worst: worst, sockets, rate: requests, replaced }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn demand(url: &str, load: &str, rest: &str) -> Demand {
        let text = format!(
            "plan: p\nclaim: c\ntarget: {{url: {url}}}\nphases: [{{name: a, for: 10s}}, {{name: b, for: 20s}}]\nload:\n{load}{rest}"
        );
        let plan = Plan::read_recorded(&text, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
        Demand::of(&plan, &Timeline::of(&plan, 1))
    }

    #[test]
    fn littles_law_says_how_many_are_in_flight_and_the_busiest_phase_counts() {
        let load = "- {name: x, rate: {a: 100/s, b: 100/s -> 400/s}, request: {get: /, timeout: 2s}}\n\
                    - {name: y, rate: {a: 50/s}, request: {get: /, timeout: 2s}}\n";
        let need = demand("http://10.0.0.1/", load, "");
        assert_eq!((need.in_flight, need.in_flight_worst), (40, 800), "400/s of b alone: 100ms is assumed");
        assert_eq!(
            need.sockets,
            Need { least: 2.0, usual: 40.0, worst: 800.0 },
            "a fast service needs no more than one for each load"
        );
        assert_eq!((need.rate, need.reach, need.tls, need.length), (400.0, Reach::Address, false, Span::from_secs(30)));
        let asserted = demand("http://10.0.0.1/", load, "assert: [{name: s, slo: {p95: 50ms}}]\n");
        assert_eq!(asserted.in_flight, 20, "within the 50ms that are promised");
        let loose = demand("http://10.0.0.1/", load, "assert: [{name: s, slo: {p95: 2s}}]\n");
        assert_eq!(loose.in_flight, 40, "a limit is not what a service takes");
    }

    #[test]
    fn users_have_a_connection_each_and_streams_share_them() {
        let need = demand("http://localhost:1/", "- {name: x, users: {a: 10, b: 10 -> 3000}, request: {get: /}}\n", "");
        assert_eq!((need.sockets.least, need.in_flight, need.rate), (3000.0, 3000, 0.0));
        assert_eq!(need.reach, Reach::Loopback);
        let need = demand("https://shop.example/", "- {name: x, rate: 10000/s, protocol: http2, request: {get: /}}\n", "");
        assert_eq!((need.in_flight, need.sockets), (1000, Need { least: 1.0, usual: 10.0, worst: 500.0 }));
        assert_eq!((need.reach, need.tls), (Reach::Name, true));
    }

    #[test]
    fn connections_that_have_had_their_day_are_counted() {
        let with = |rotate: &str| {
            demand(
                "http://10.0.0.1/",
                &format!("- {{name: x, rate: 1000/s, rotate: {rotate}, request: {{get: /, timeout: 1s}}}}\n"),
                "",
            )
        };
        let usual = with("{age: 4s}");
        assert_eq!(usual.replaced, Need { least: 0.0, usual: 25.0, worst: 250.0 });
        let both = with("{age: 4s, requests: 10}");
        assert_eq!(both.replaced, Need { least: 80.0, usual: 100.0, worst: 350.0 });
        assert_eq!(with("never").replaced, Need::default());
    }

    #[test]
    fn users_who_think_replace_no_more_than_they_send() {
        let with = |think: &str, rotate: &str| {
            let load = format!("- {{name: x, users: 300, think: {think}, rotate: {rotate}, request: {{get: /, timeout: 10s}}}}\n");
            demand("http://10.0.0.1/", &load, "").replaced
        };
        let busy = with("0s", "{age: 5s}");
        assert_eq!((busy.usual, busy.worst), (60.0, 60.0));
        assert!(
            (busy.least - 300.0 / 16.25).abs() < 1e-9,
            "a quarter later, and after a request that takes its whole timeout: {busy:?}"
        );
        let slow = with("60s", "{age: 5s}");
        assert!(slow.usual < 5.0 && slow.worst <= 5.0 && slow.least > 3.0, "{slow:?}");
        let each = with("2s", "{requests: 1}");
        assert!((each.worst - 150.0).abs() < 1e-9 && each.usual < 150.0 && each.least > 0.0, "{each:?}");
        assert_eq!(with("1s", "never"), Need::default());
    }

    #[test]
    fn hedges_need_connections_of_their_own_at_worst() {
        let with = |load: &str| {
            let load = format!(
                "- {{name: x, {load}, rotate: never, client: {{hedge: {{after: 50ms}}}}, request: {{get: /, timeout: 1s}}}}\n"
            );
            let need = demand("http://10.0.0.1/", &load, "");
            (need.in_flight_worst, need.sockets.usual, need.sockets.worst)
        };
        assert_eq!(with("rate: 1000/s"), (1000, 100.0, 2000.0));
        assert_eq!(with("users: 30"), (30, 30.0, 60.0));
        assert_eq!(with("users: 300, protocol: http2"), (300, 8.0, 8.0));
    }

    #[test]
    fn where_connections_go_is_what_is_reached() {
        let reach = |target: &str| {
            let text = format!(
                "plan: p\nclaim: c\ntarget: {target}\nphases: [{{name: a, for: 1s}}]\n\
                 load: [{{name: x, rate: 1/s, request: {{get: /}}}}]\n"
            );
            let plan = Plan::read_recorded(&text, &BTreeMap::new()).unwrap_or_else(|problems| panic!("{problems}"));
            Demand::of(&plan, &Timeline::of(&plan, 1)).reach
        };
        assert_eq!(reach("{url: http://shop.example/, proxy: http://127.0.0.1:3128}"), Reach::Loopback);
        assert_eq!(reach("{url: http://127.0.0.1/, proxy: http://proxy.example:3128}"), Reach::Name);
        assert_eq!(reach("{url: http://shop.example/, resolve: {\"shop.example:80\": [10.0.0.1]}}"), Reach::Address);
        assert_eq!(reach("{url: http://shop.example/, resolve: {\"shop.example:80\": [10.0.0.1, 10.0.0.2]}}"), Reach::Name);
    }

    #[test]
    fn a_herd_is_in_flight_at_once() {
        let load = "- {name: x, rate: 100/s, arrivals: {herd: {of: 500}}, request: {get: /}}\n";
        assert!(demand("http://10.0.0.1/", load, "").in_flight >= 500);
    }
}
