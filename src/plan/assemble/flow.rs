//! The flows of a load: their steps, what each saves for those after it, and how often each is taken.

use super::super::step::{WrittenFlow, WrittenStep};
use super::super::tree::Id;
use super::super::written::{WrittenLoad, WrittenRequest};
use super::super::{Arrivals, Flow, Protocol, Step};
use super::wanted::header_name;
use super::{Desk, Located, load, unique};
use crate::answers::{Save, SaveFrom};
use crate::names::Name;
use crate::schedule::Think;

/// The most steps of all flows of a load: each is counted apart.
const STEPS_MOST: usize = 64;
/// The most that a flow may weigh.
const WEIGHT_MOST: u32 = 1_000_000;

/// The flows of a load, taken out of what is written; `None` where it speaks of none.
pub(super) fn flows(desk: &mut Desk<'_>, load: &mut Located<WrittenLoad>) -> Option<Vec<Flow>> {
    let Located { value: written, at } = load;
    let protocol = written.protocol;
    let given = [
        ("request", written.request.as_ref().map(|request| request.at)),
        ("flow", written.flow.as_ref().map(|flow| flow.at)),
        ("flows", written.flows.as_ref().map(|flows| flows.at)),
    ];
    let given: Vec<(&str, Id)> = given.into_iter().filter_map(|(key, at)| Some((key, at?))).collect();
    if let [(first, _), (second, place), ..] = given[..] {
        desk.wrong(place, format!("`{second}` does not go with `{first}`")).help =
            Some("a load sends one request, or the steps of one `flow`, or of several `flows`".into());
    }
    let place = written.flow.as_ref().map(|flow| flow.at).or(written.flows.as_ref().map(|flows| flows.at))?;
    let protocol = match protocol {
        Protocol::Grpc => {
            desk.wrong(place, "the steps of a flow speak HTTP, and this load gRPC").help = Some(
                "say `protocol: http2`, or call one method as in `request: {grpc: shop.Checkout/Pay, reflection: true}`".into(),
            );
            Protocol::Http2
        }
        Protocol::WebSocket => {
            desk.wrong(place, "the steps of a flow speak HTTP, and this load speaks over a WebSocket").help =
                Some("leave out `protocol`, or say one exchange, as in `request: {websocket: /live, send: ping}`".into());
            Protocol::Http1
        }
        protocol => protocol,
    };
    let one = written.flow.take().map(|steps| WrittenFlow { weight: None, steps });
    let several = written.flows.take();
    if let Some(flows) = several.as_ref().filter(|flows| flows.value.is_empty()) {
        desk.wrong(flows.at, "there is no flow in it").help =
            Some("write one at least, as in [{steps: [{name: browse, get: /}]}]".into());
    }
    let all: Vec<WrittenFlow> = one.into_iter().chain(several.into_iter().flat_map(|flows| flows.value)).collect();
    let mut names: Vec<Located<Name>> = Vec::new();
    let flows: Vec<Flow> = all.into_iter().map(|written| flow(desk, written, protocol, &mut names)).collect();
    unique(desk, "step", names.iter());
    if names.len() > STEPS_MOST {
        desk.wrong(*at, format!("{} steps: at most {STEPS_MOST} in all flows of a load", names.len()));
    }
    Some(flows.into_iter().filter(|flow| !flow.steps.is_empty()).collect())
}

fn flow(desk: &mut Desk<'_>, written: WrittenFlow, protocol: Protocol, names: &mut Vec<Located<Name>>) -> Flow {
    let WrittenFlow { weight, steps } = written;
    if let Some(weight) = weight.as_ref().filter(|weight| weight.value == 0 || weight.value > WEIGHT_MOST) {
        let message = format!("a weight of {}: it must be from 1 to {WEIGHT_MOST}", weight.value);
        desk.wrong(weight.at, message).help = Some("leave out a flow that is never taken".into());
    }
    // Steps that could not be read have been reported.
    if steps.value.is_empty() && desk.tree.items(steps.at).is_empty() {
        desk.wrong(steps.at, "the flow has no step").help = Some("write one at least, as in [{name: login, post: /login}]".into());
    }
    let steps = steps.value.into_iter().enumerate().map(|(n, written)| {
        names.push(written.value.own.name.clone());
        step(desk, written, n == 0, protocol)
    });
    Flow { weight: weight.map_or(1, |weight| weight.value), steps: steps.collect() }
}

fn step(desk: &mut Desk<'_>, written: Located<WrittenStep>, first: bool, protocol: Protocol) -> Step {
    let Located { value: WrittenStep { own, request }, at } = written;
    if let Some(think) = own.think.as_ref().filter(|_| first) {
        desk.wrong(think.at, "the first step is due when its flow is: nothing comes before it").help =
            Some("pause before a later step; users pause between runs by the load's own `think`".into());
    }
    let think = own.think.filter(|_| !first).map_or_else(Think::default, |think| think.value.0);
    let heads = request.methods().iter().any(|(method, _)| *method == "HEAD");
    let mut saves = Vec::new();
    for (name, save) in own.save.0 {
        if let Some(header) = save.value.header() {
            header_name(desk, header);
        }
        match save.value.from() {
            Ok(SaveFrom::Json(_) | SaveFrom::Regex(_)) if heads => {
                desk.wrong(save.at, "the answer to a HEAD has no body").help = Some("ask with `get`, or save a header".into());
            }
            Ok(from) => saves.push(Save { name: name.value.as_str().to_owned(), from }),
            // Of what was left out of it nothing more is to be said.
            Err(_) if !desk.left_out.nothing_below(&desk.tree, save.at) => {}
            Err(why) => drop(desk.wrong(save.at, why)),
        }
    }
    let mut request = load::request(desk, Some(Located { value: request, at }), at, Some(&Arrivals::default()), protocol);
    request.wanted.saves = saves;
    request.wanted.cookies = true;
    Step { name: own.name.value, think, request }
}

/// The requests of a load as they are written, in their order, each with what steps before it in its flow save.
pub(super) fn written(load: &WrittenLoad) -> Vec<(&WrittenRequest, Vec<&Located<Name>>)> {
    let mut all: Vec<_> = load.request.iter().map(|request| (&request.value, Vec::new())).collect();
    let one = load.flow.iter().map(|steps| &steps.value);
    let several = load.flows.iter().flat_map(|flows| &flows.value).map(|flow| &flow.steps.value);
    for steps in one.chain(several) {
        let mut saved: Vec<&Located<Name>> = Vec::new();
        for step in steps {
            all.push((&step.value.request, saved.clone()));
            saved.extend(step.value.own.save.0.iter().map(|(name, _)| name));
        }
    }
    all
}

/// Every name under which some step saves something.
pub(super) fn saved(load: &WrittenLoad) -> Vec<&Located<Name>> {
    let one = load.flow.iter().map(|steps| &steps.value);
    let several = load.flows.iter().flat_map(|flows| &flows.value).map(|flow| &flow.steps.value);
    one.chain(several).flatten().flat_map(|step| step.value.own.save.0.iter().map(|(name, _)| name)).collect()
}
