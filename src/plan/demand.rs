//! What a plan asks of the machine that sends it, at its busiest phase: requests in flight by Little's law, and the sockets that carry
//! them. Pure; whether a machine has that is for others to say.

use std::net::IpAddr;

use super::{ASSUMED_LATENCY, Load, Model, Plan, Target};
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
    pub sockets: u64,
    pub sockets_worst: u64,
    /// Requests per second of all open loads, in the mean of the busiest phase.
    pub rate: f64,
    /// Connections per second that are replaced when as many as [`Demand::sockets`] are open. Those of users by count are not in it: how
    /// fast users are depends on the service.
    pub replaced: f64,
    /// The same with [`Demand::sockets_worst`].
    pub replaced_worst: f64,
    pub reach: Reach,
    /// Whether connections are encrypted.
    pub tls: bool,
    /// From the first phase to the last.
    pub length: Span,
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

/// What one load needs in one phase.
#[derive(Clone, Copy, Default)]
struct Need {
    in_flight: f64,
    in_flight_worst: f64,
    sockets: f64,
    sockets_worst: f64,
    rate: f64,
    replaced: f64,
    replaced_worst: f64,
}

impl Demand {
    pub fn of(plan: &Plan, timeline: &Timeline) -> Demand {
        let asserted = plan.claims.iter().filter_map(|claim| claim.spec.latency_limit()).min();
        let latency = asserted.map_or(ASSUMED_LATENCY, |limit| limit.min(ASSUMED_LATENCY));
        let mut most = Need::default();
        for phase in &timeline.phases {
            let mut sum = Need::default();
            for load in &plan.loads {
                let rate = rate_in(timeline, load, (phase.start, phase.end));
                let need = of_load(load, &phase.name, latency, rate);
                sum.in_flight += need.in_flight;
                sum.in_flight_worst += need.in_flight_worst;
                sum.sockets += need.sockets;
                sum.sockets_worst += need.sockets_worst;
                sum.rate += need.rate;
                sum.replaced += need.replaced;
                sum.replaced_worst += need.replaced_worst;
            }
            most.in_flight = most.in_flight.max(sum.in_flight);
            most.in_flight_worst = most.in_flight_worst.max(sum.in_flight_worst);
            most.sockets = most.sockets.max(sum.sockets);
            most.sockets_worst = most.sockets_worst.max(sum.sockets_worst);
            most.rate = most.rate.max(sum.rate);
            most.replaced = most.replaced.max(sum.replaced);
            most.replaced_worst = most.replaced_worst.max(sum.replaced_worst);
        }
        Demand {
            latency,
            in_flight: most.in_flight.ceil() as u64,
            in_flight_worst: most.in_flight_worst.ceil() as u64,
            sockets: most.sockets as u64,
            sockets_worst: most.sockets_worst as u64,
            rate: most.rate,
            replaced: most.replaced,
            replaced_worst: most.replaced_worst,
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

fn of_load(load: &Load, phase: &crate::names::Name, latency: Span, rate: f64) -> Need {
    let streams = f64::from(load.streams.max(1));
    let by_age = |sockets: f64| load.rotation.age.map_or(0.0, |age| sockets / age.seconds());
    let by_count = load.rotation.requests.map_or(0.0, |requests| rate / f64::from(requests));
    match &load.model {
        Model::Closed { users, .. } => {
            let users = users.get(phase).map_or(0.0, |level| f64::from(level.peak().count()));
            // Connections are opened for the users that come, and shared where they have streams.
            let sockets = if load.streams > 1 { f64::from(load.connections).min(users) } else { users };
            let replaced = by_age(sockets);
            Need {
                in_flight: users,
                in_flight_worst: users,
                sockets,
                sockets_worst: sockets,
                rate: 0.0,
                replaced,
                replaced_worst: replaced,
            }
        }
        Model::Open { .. } if rate == 0.0 => Need::default(),
        Model::Open { arrivals, .. } => {
            let level = if arrivals.has_own_rate() { 0.0 } else { rate };
            let within = |span: Span| arrivals.most_within(level, span.seconds()).min(f64::from(load.in_flight));
            let (usual, worst) = (within(latency.min(load.request.timeout)), within(load.request.timeout));
            let sockets = |under_way: f64| (under_way / streams).ceil().min(f64::from(load.connections));
            let (few, many) = (sockets(usual), sockets(worst));
            Need {
                in_flight: usual,
                in_flight_worst: worst,
                sockets: few,
                sockets_worst: many,
                rate,
                // Whatever comes first replaces it: no more often than both together.
                replaced: by_age(few).max(by_count),
                replaced_worst: by_age(many) + by_count,
            }
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
        assert_eq!((need.sockets, need.sockets_worst), (40, 800));
        assert_eq!((need.rate, need.reach, need.tls, need.length), (400.0, Reach::Address, false, Span::from_secs(30)));
        let asserted = demand("http://10.0.0.1/", load, "assert: [{name: s, slo: {p95: 50ms}}]\n");
        assert_eq!(asserted.in_flight, 20, "within the 50ms that are promised");
        let loose = demand("http://10.0.0.1/", load, "assert: [{name: s, slo: {p95: 2s}}]\n");
        assert_eq!(loose.in_flight, 40, "a limit is not what a service takes");
    }

    #[test]
    fn users_have_a_connection_each_and_streams_share_them() {
        let need = demand("http://localhost:1/", "- {name: x, users: {a: 10, b: 10 -> 3000}, request: {get: /}}\n", "");
        assert_eq!((need.sockets, need.in_flight, need.rate), (3000, 3000, 0.0));
        assert_eq!(need.reach, Reach::Loopback);
        let need = demand("https://shop.example/", "- {name: x, rate: 10000/s, protocol: http2, request: {get: /}}\n", "");
        assert_eq!((need.in_flight, need.sockets, need.sockets_worst), (1000, 10, 500));
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
        assert_eq!((usual.sockets, usual.replaced, usual.replaced_worst), (100, 25.0, 250.0));
        let both = with("{age: 4s, requests: 10}");
        assert_eq!((both.replaced, both.replaced_worst), (100.0, 350.0));
        assert_eq!(with("never").replaced_worst, 0.0);
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
