//! What a load sends, and what that needs.

use super::super::assemble::{abreast, default_connections, default_in_flight, most_due};
use super::super::{ASSUMED_LATENCY, Arrivals, Exchange, Levels, Load, Model, Payload, Plan, Request, Rhythm, Talk, Think};
use super::{Page, client, flow};
use crate::grpc::Types;
use crate::kinds::Kind;
use crate::timeline::Timeline;
use crate::units::{Rate, Span, Users};
use crate::varying::Template;

/// How many of a recording's different requests are shown.
const SHOWN_REQUESTS: usize = 5;

pub(super) fn traffic(page: &mut Page, plan: &Plan, timeline: &Timeline, load: &Load) {
    let request = &load.request;
    let target = plan.target.url.trim_end_matches('/');
    let recorded = match &load.model {
        Model::Open { arrivals, .. } => {
            page.title(&format!("load {}: {} arrivals", load.name, arrivals.key()));
            let options = flow(arrivals);
            if options != arrivals.key() {
                page.item(2, "arrivals    ", &options);
            }
            arrivals.requests()
        }
        Model::Closed { .. } => {
            page.title(&format!("load {}: users, who wait for answers", load.name));
            &[]
        }
    };
    if !load.flows.is_empty() {
        flows(page, plan, load);
    } else if let Talk::Grpc(call) = &request.talk {
        page.item(2, "calls       ", &format!("{} at {target}", call.describe()));
        let types = match &call.types {
            Types::File(file) => format!("in {file}"),
            Types::Reflection => "asked of the server before the first call (reflection)".to_owned(),
        };
        page.item(2, "types       ", &types);
    } else if let Talk::WebSocket(exchange) = &request.talk {
        page.item(2, "over        ", &format!("a WebSocket at {target}{}", request.path));
        headers(page, plan, request);
        page.item(2, "sends       ", &sent(exchange));
        for (n, line) in exchange.expect.iter().flat_map(|checks| checks.describe("message")).enumerate() {
            page.item(2, if n == 0 { "waits for   " } else { "            " }, &line);
        }
        if exchange.expect.is_none() {
            page.item(2, "waits for   ", "the next message, whatever it says (default)");
        }
    } else if recorded.is_empty() {
        page.item(2, "sends       ", &format!("{} {target}{}", request.method, request.path));
    } else {
        page.item(2, "sends       ", &format!("{} different requests to {target}", recorded.len()));
        for call in recorded.iter().take(SHOWN_REQUESTS) {
            page.item(2, "            ", &format!("{} {}", call.method, call.path));
        }
        if recorded.len() > SHOWN_REQUESTS {
            page.item(2, "            ", "...");
        }
    }
    if let Model::Open { arrivals, .. } = &load.model
        && let Some(replay) = arrivals.replays()
    {
        let (count, seconds) = replay.extent();
        page.item(2, "recorded    ", &format!("{count} requests over {seconds:.3}s; what comes after the run's end is not sent"));
    }
    if load.flows.is_empty() && !matches!(request.talk, Talk::WebSocket(_)) {
        contents(page, plan, request);
    }
    for (name, source) in &load.varying.values {
        page.item(2, "            ", &format!("{{{{{name}}}}}: {}", source.describe()));
    }
    if load.flows.is_empty() {
        page.item(2, "timeout     ", &format!("{} from the moment when the request is due", request.timeout));
    } else {
        page.text(
            2,
            "One arrival, or one turn of a user, is one run: its steps one after the other on one connection, with cookies of its own. A step \
             that does not end ok ends its run; the steps after it are counted as not due. No step is begun when the load is over.",
        );
    }
    client::client(page, load);
    match &load.model {
        Model::Open { arrivals, rate } => scheduled(page, plan, timeline, load, (arrivals, rate)),
        Model::Closed { users, rhythm } => from_users(page, timeline, load, (users, rhythm)),
    }
}

/// What an exchange over a WebSocket sends.
fn sent(exchange: &Exchange) -> String {
    match &exchange.send {
        None => "nothing: it waits for what the server sends by itself".to_owned(),
        Some(Payload::Binary(bytes)) => format!("a binary message of {} bytes", bytes.len()),
        Some(Payload::Text(text)) => {
            let template = Template::of_body(text.as_bytes(), &[]);
            format!("a message of {} bytes", template.fixed().map_or(text.len(), <[u8]>::len))
        }
    }
}

fn headers(page: &mut Page, plan: &Plan, request: &Request) {
    for (name, value) in &request.headers {
        page.item(2, "            ", &plan.secrets.redact(&format!("{name}: {value}")));
    }
}

/// What goes with a request, and what is wanted of its answer.
fn contents(page: &mut Page, plan: &Plan, request: &Request) {
    headers(page, plan, request);
    if !request.body.is_empty() {
        let body = Template::of_body(&request.body, &[]);
        let length = body.fixed().map_or(request.body.len(), <[u8]>::len);
        page.item(2, "            ", &format!("with a body of {length} bytes"));
    }
    answers(page, request);
}

/// The steps of each flow.
fn flows(page: &mut Page, plan: &Plan, load: &Load) {
    let sum: u32 = load.flows.iter().map(|flow| flow.weight).sum();
    let target = plan.target.url.trim_end_matches('/');
    for (n, flow) in load.flows.iter().enumerate() {
        let share = f64::from(flow.weight) * 100.0 / f64::from(sum.max(1));
        let of = if load.flows.len() == 1 {
            String::new()
        } else {
            format!("flow {} of {}, {share:.3}% of the runs: ", n + 1, load.flows.len())
        };
        let steps: Vec<&str> = flow.steps.iter().map(|step| step.name.as_str()).collect();
        page.item(2, "sends       ", &format!("{of}{}", steps.join(", then ")));
        for step in &flow.steps {
            page.item(2, "step        ", &format!("{}: {} {target}{}", step.name, step.request.method, step.request.path));
            contents(page, plan, &step.request);
            for save in &step.request.wanted.saves {
                page.item(2, "            ", &format!("saves {} as {{{{{}}}}}", save.from, save.name));
            }
            let think =
                if step.think == Think::default() { String::new() } else { format!("{} after the answer before it; ", step.think) };
            let due = if step.name == flow.steps[0].name { "when its run is" } else { "once the step before it has been answered" };
            page.item(2, "            ", &format!("due {due}; {think}timeout {}", step.request.timeout));
        }
    }
}

/// What is wanted of its answers.
fn answers(page: &mut Page, request: &Request) {
    let wanted = &request.wanted;
    for (n, line) in wanted.expect.describe().iter().enumerate() {
        page.item(2, if n == 0 { "expects     " } else { "            " }, line);
    }
    if wanted.redirects > 0 {
        let within = format!("followed, at most {} within its origin; together they are one request", wanted.redirects);
        page.item(2, "redirects   ", &within);
    }
    if wanted.gzip {
        page.item(2, "            ", "the answer may come in gzip, and is counted as it comes");
    }
}

fn from_users(page: &mut Page, timeline: &Timeline, load: &Load, (users, rhythm): (&Levels<Users>, &Rhythm)) {
    let think = match rhythm.think {
        Think::Constant(span) if span == Span::default() => "not at all: the next request follows at once (default)".to_owned(),
        think => format!("{think} after each answer"),
    };
    page.item(2, "think       ", &think);
    if let Some(every) = rhythm.every {
        page.item(2, "every       ", &format!("no more than one request of a user in {every}"));
    }
    streams(page, load);
    let connections = match load.protocol.has_streams() {
        false => match abreast(load.client.as_ref()) {
            1.0 => "one for each user".to_owned(),
            most => format!("at most {most} for each user"),
        },
        true => format!("{}, shared by the users", load.connections),
    };
    page.item(2, "connections ", &format!("{connections}, each replaced {}", load.rotation));
    page.line(2, &format!("{:<16} {:>22}", "phase", "users"));
    for phase in &timeline.phases {
        if let Some(level) = users.get(&phase.name) {
            page.line(2, &format!("{:<16} {:>22}", phase.name.as_str(), level.to_string()));
        }
    }
    page.text(
        2,
        "A closed model: how many requests come depends on how fast they are answered. A service that slows down gets less load, and \
         what users would have sent meanwhile is in no percentile. Write a `rate` where the load must not give way.",
    );
}

fn scheduled(page: &mut Page, plan: &Plan, timeline: &Timeline, load: &Load, (arrivals, rates): (&Arrivals, &Levels<Rate>)) {
    let patience = load.patience();
    let due = most_due(arrivals, rates, patience);
    streams(page, load);
    let over = if load.protocol.has_streams() { " / streams" } else { "" };
    let abreast = abreast(load.client.as_ref());
    let usual = default_connections(due * abreast, load.protocol, load.streams);
    let hedged = if abreast > 1.0 { format!(" x {abreast} attempts at once") } else { String::new() };
    let how = format!(" (default: highest rate x timeout{hedged}{over}, from {} to 4096)", load.protocol.fewest_connections());
    let connections = format!("at most {}{}", load.connections, if load.connections == usual { &how } else { "" });
    page.item(2, "connections ", &format!("{connections}, each replaced {}", load.rotation));
    let bound = default_in_flight(due);
    page.item(
        2,
        "in flight   ",
        &format!(
            "at most {}{}; what comes on top is not sent, and counts against the generator",
            load.in_flight,
            if load.in_flight == bound { " (default: 1.5 x highest rate x timeout, from 1000 to 100000)" } else { "" },
        ),
    );
    let asserted = plan.claims.iter().filter_map(|claim| claim.spec.latency_limit()).min();
    let latency = asserted.unwrap_or(ASSUMED_LATENCY);
    let what = if load.flows.is_empty() { "requests" } else { "runs" };
    page.line(2, &format!("{:<16} {:>22} {:>10} {:>12} {:>12}", "phase", "rate", what, "in flight", "at worst"));
    for phase in &timeline.phases {
        let rate = rates.get(&phase.name);
        let shown = match rate {
            Some(rate) => rate.to_string(),
            None if arrivals.has_own_rate() => "as recorded".to_owned(),
            None => continue,
        };
        let requests = timeline.requests_in(Some(&load.name), phase.start, phase.end).unwrap_or_default();
        let peak = rate.map_or(0.0, |rate| rate.peak().per_second());
        let busy = |latency: Span| format!("{:.0}", arrivals.most_within(peak, latency.seconds()).ceil());
        let name = phase.name.as_str();
        page.line(2, &format!("{name:<16} {shown:>22} {requests:>10} {:>12} {:>12}", busy(load.lasts(latency)), busy(patience)));
        if let Some(words) = rate.and_then(|rate| arrivals.at_rate(rate.mean())) {
            page.item(4, "", &words);
        }
    }
    let worst = due.ceil();
    if worst * abreast > f64::from(load.connections) * f64::from(load.streams) {
        page.text(
            2,
            &format!(
                "At worst {worst} requests are under way and {} connections may be open: some would wait for one here, which counts as \
                 latency of the service. Raise `connections`, or shorten the timeout, where the service is not to blame for it.",
                load.connections
            ),
        );
    }
    let source = match asserted {
        Some(_) => "the tightest latency that is asserted",
        None => "assumed: no assertion names a latency",
    };
    let each = if load.flows.is_empty() { "" } else { ", for each step, and their pauses" };
    let drawn = if plan.seed.is_none() && arrivals.is_drawn() { " Each seed draws its own arrivals." } else { "" };
    page.text(
        2,
        &format!(
            "In flight by Little's law: highest rate x {} ({source}{each}); at worst: x {patience}, when every request runs into its timeout.{drawn}",
            load.lasts(latency)
        ),
    );
}

fn streams(page: &mut Page, load: &Load) {
    if load.protocol.has_streams() {
        let default = if load.streams == load.protocol.usual_streams() { " (default)" } else { "" };
        let said = format!("HTTP/2, at most {} requests at a time on each connection{default}", load.streams);
        page.item(2, "streams     ", &said);
    }
}
