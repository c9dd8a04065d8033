//! What differs from one request of a load to the next: which names its texts use, and where each comes from.

use std::sync::Arc;

use super::super::class::WrittenClass;
use super::super::problem::{nearest, proposal};
use super::super::tree::Id;
use super::super::written::{WrittenLoad, WrittenRequest};
use super::feeds::Feeds;
use super::flow;
use super::{Desk, Load, Located, Name};
use crate::target;
use crate::varying::feed::{Feed, Order};
use crate::varying::template::{Part, parts};
use crate::varying::{CLASS, Class, Column, Source, Trace, Varying, template};

/// What the requests of a load have of their own, and the headers that tell of it.
pub(super) fn read(desk: &mut Desk<'_>, load: &Located<WrittenLoad>, feeds: &Feeds) -> (Varying, Vec<(String, String)>) {
    let Located { value: written, at } = load;
    let mut known: Vec<(String, Source)> = Vec::new();
    for (name, draw) in &written.draw.0 {
        if let Some(why) = draw.value.contradiction() {
            desk.wrong(draw.at, why);
        }
        if own_names().any(|own| own == name.value.as_str()) {
            desk.wrong(name.at, format!("`{}` is something that every request has: give the draw another name", name.value));
        }
        known.push((name.value.as_str().to_owned(), Source::Draw(draw.value.clone())));
    }
    let texts: Vec<Written<'_>> = flow::written(written).into_iter().flat_map(|(request, saved)| texts(request, &saved)).collect();
    known.extend(feeds.feeds.iter().flat_map(|feed| columns(feed, &texts)));
    let class = class(desk, written.class.as_ref());
    known.extend(class.iter().map(|class| (CLASS.to_owned(), Source::Class(class.clone()))));
    known.extend(Trace::ALL.map(|trace| (trace.row().0.to_owned(), Source::Trace(trace))));

    let saved = flow::saved(written);
    for name in saved.iter().filter(|name| known.iter().any(|(known, _)| known == name.value.as_str())) {
        desk.wrong(name.at, format!("`{}` is the name of something else in this load", name.value)).help =
            Some("save it under another name".into());
    }
    let mut used = used(desk, *at, &texts, &known, (feeds, &saved));
    let mut told: Vec<(String, String, Id)> = Vec::new();
    for trace in &written.trace {
        let (name, header, _) = trace.value.row();
        if told.iter().any(|(known, ..)| known == header) {
            desk.wrong(trace.at, format!("`{name}` is said twice"));
        }
        told.push((header.to_owned(), format!("{{{{{name}}}}}"), trace.at));
        used.push(name.to_owned());
    }
    if let (Some(class), Some(written)) = (&class, &written.class) {
        // One class alone is the same text in every request.
        let mut names = class.weights.names();
        let value = match (names.next(), names.next()) {
            (Some(one), None) => one.to_string(),
            _ => {
                used.push(CLASS.to_owned());
                format!("{{{{{CLASS}}}}}")
            }
        };
        told.push((class.header.clone(), value, written.at));
    }
    for (header, _, at) in &told {
        let given = texts.iter().find(|text| text.header.is_some_and(|given| given.eq_ignore_ascii_case(header)));
        if given.is_some() {
            desk.wrong(*at, format!("the request has a header `{header}` of its own")).help =
                Some("leave out one of the two".into());
        }
    }
    // In the order of the plan, and without what nothing uses, which would be worked out for nobody.
    known.retain(|(name, _)| used.contains(name));
    // Columns by name: the same plan is the same, whether or not its feeds are at hand.
    known.sort_by_key(|(name, source)| matches!(source, Source::Column(..)).then(|| name.clone()));
    headers(desk, &texts, &known);
    let varying = Varying { values: known, class, told: Vec::new() };
    (varying, told.into_iter().map(|(header, value, _)| (header, value)).collect())
}

/// What every request has a name for.
fn own_names() -> impl Iterator<Item = &'static str> {
    Trace::ALL.into_iter().map(|trace| trace.row().0).chain([CLASS])
}

/// The columns of a feed, by the names that texts have for them; of one that is not at hand, as it is for who only judges by the plan,
/// those that are used.
fn columns(feed: &Arc<Feed>, texts: &[Written<'_>]) -> Vec<(String, Source)> {
    if let Some(table) = &feed.table {
        let columns = table.columns().iter().enumerate();
        return columns.map(|(n, column)| (format!("{}.{column}", feed.name), Source::Column(feed.clone(), Column(n)))).collect();
    }
    let mut names: Vec<&str> = Vec::new();
    for part in texts.iter().flat_map(|text| parts(text.text)) {
        if let Part::Reference(name) = part
            && name.split_once('.').is_some_and(|(of, _)| of == feed.name)
            && !names.contains(&name)
        {
            names.push(name);
        }
    }
    names.into_iter().map(|name| (name.to_owned(), Source::Column(feed.clone(), Column(0)))).collect()
}

fn class(desk: &mut Desk<'_>, written: Option<&Located<WrittenClass>>) -> Option<Class> {
    let Located { value: written, at } = written?;
    if let Some(why) = written.contradiction() {
        desk.wrong(*at, why);
        return None;
    }
    if let Err(why) = target::header(&written.0.header, "") {
        desk.wrong(*at, why);
    }
    Some(written.0.clone())
}

/// A feed whose rows are used once is that of one load.
pub(super) fn once(desk: &mut Desk<'_>, feeds: &Feeds, loads: &[(Located<Name>, Load)]) {
    for feed in feeds.feeds.iter().filter(|feed| feed.order == Order::Unique) {
        let uses = |load: &Load| {
            load.varying.values.iter().any(|(_, source)| matches!(source, Source::Column(of, _) if of.name == feed.name))
        };
        let mut users = loads.iter().filter(|(_, load)| uses(load));
        if let (Some((first, _)), Some((second, _))) = (users.next(), users.next()) {
            let message = format!(
                "`{}` takes the rows of `{}`, each of which is used once, as `{}` does",
                second.value, feed.name, first.value
            );
            desk.wrong(second.at, message).help =
                Some("give each load a feed of its own, or use rows again (`order: sequential`)".into());
        }
    }
}

/// A text that may have values in it.
struct Written<'w> {
    text: &'w str,
    at: Id,
    /// The header whose value it is.
    header: Option<&'w str>,
    /// What steps before it in its flow save.
    saved: Vec<&'w str>,
}

/// The texts of a request that may have values in them.
fn texts<'w>(request: &'w WrittenRequest, saved: &[&'w Located<Name>]) -> Vec<Written<'w>> {
    let saved: Vec<&str> = saved.iter().map(|name| name.value.as_str()).collect();
    let written = |text, at, header| Written { text, at, header, saved: saved.clone() };
    let paths = request.methods().into_iter().map(|(_, path)| path).chain(&request.websocket);
    let paths = paths.map(|path| written(path.value.as_str(), path.at, None));
    let headers = request.headers.0.iter().chain(&request.metadata.0);
    let headers = headers.map(|(name, value)| written(value.value.0.as_str(), value.at, Some(name.value.as_str())));
    let body = request.body.iter().chain(&request.send).filter_map(|body| Some(written(body.value.text()?, body.at, None)));
    let message = request.message.iter().flat_map(|message| message.value.0.texts(message.at));
    let message = message.map(|(text, at)| written(text, at, None));
    paths.chain(headers).chain(body).chain(message).collect()
}

/// The names that are used; those that nothing has are reported.
fn used(
    desk: &mut Desk<'_>,
    load: Id,
    texts: &[Written<'_>],
    known: &[(String, Source)],
    (feeds, saved): (&Feeds, &[&Located<Name>]),
) -> Vec<String> {
    let mut used: Vec<String> = Vec::new();
    for Written { text, at, saved: before, .. } in texts {
        for part in parts(text) {
            match part {
                Part::Text(_) => {}
                Part::Broken => {
                    desk.wrong(*at, "`{{` without a name and `}}` after it").help =
                        Some("write {{name}}, or {{{{ for two braces".into());
                }
                Part::Reference(name) if known.iter().any(|(known, _)| known == name) => used.push(name.to_owned()),
                Part::Reference(name) if before.contains(&name) => {}
                Part::Reference(name) if saved.iter().any(|saved| saved.value.as_str() == name) => {
                    desk.wrong(*at, format!("no step before this one in its flow saves `{{{{{name}}}}}`")).help =
                        Some("what an answer says can be used in the steps that come after it".into());
                }
                // What could not be read has been reported.
                Part::Reference(_)
                    if desk.is_left_out(load, &["draw", "class"])
                        || ["draw", "flow", "flows"].into_iter().any(|key| left_out_below(desk, load, key)) => {}
                Part::Reference(name) if name.contains('.') && !feeds.whole => {}
                Part::Reference(name) => {
                    let declared = known.iter().filter(|(_, source)| !matches!(source, Source::Trace(_)));
                    let near = nearest(name, known.iter().map(|(name, _)| name.as_str()).chain(before.iter().copied()));
                    let near = near.map(|near| format!("did you mean `{near}`?"));
                    let help = near.or_else(|| proposal(name, declared.map(|(name, _)| name.as_str()))).unwrap_or_else(|| {
                        format!("draw it, as in `draw: {{{name}: {{uniform: {{of: 500}}}}}}`, or write {{{{{{{{ for two braces")
                    });
                    desk.wrong(*at, format!("there is no `{{{{{name}}}}}`")).help = Some(help);
                }
            }
        }
    }
    used
}

/// Whether something below a key of the load was left out, which has been reported.
fn left_out_below(desk: &Desk<'_>, load: Id, key: &str) -> bool {
    desk.tree.get(load, key).is_some_and(|value| !desk.left_out.nothing_below(&desk.tree, value))
}

/// What stands in a header can be sent there.
fn headers(desk: &mut Desk<'_>, texts: &[Written<'_>], known: &[(String, Source)]) {
    for Written { text, at, header, .. } in texts {
        let Some(header) = header else { continue };
        for part in parts(text) {
            let Part::Reference(name) = part else { continue };
            let Some((_, source)) = known.iter().find(|(known, _)| known == name) else { continue };
            let refused = |(n, text): (usize, &str)| template::header_refuses(text.as_bytes()).map(|why| (n, why));
            if let Some((n, why)) = source.texts().enumerate().find_map(refused) {
                let row = if matches!(source, Source::Column(..)) { format!("in row {}, ", n + 1) } else { String::new() };
                desk.wrong(*at, format!("`{{{{{name}}}}}` cannot stand in the header `{header}`: {row}{why}"));
            }
        }
        // White space around what a plan writes is left out; what values leave there is not.
        let all = parts(text.trim());
        let at_start = bared(all.iter().copied(), known, |text| text.starts_with([' ', '\t']));
        let at_end = bared(all.iter().rev().copied(), known, |text| text.ends_with([' ', '\t']));
        for (name, n) in at_start.into_iter().chain(at_end) {
            let is_column = known.iter().any(|(known, source)| known == name && matches!(source, Source::Column(..)));
            let row = if is_column { format!("in row {}, ", n + 1) } else { String::new() };
            let message = format!(
                "`{{{{{name}}}}}` cannot stand in the header `{header}`: {row}it is empty, and leaves a blank at an end of the header's value"
            );
            desk.wrong(*at, message).help = Some("give it a value there".into());
        }
    }
}

/// The value, of `parts` from an end of a text on, that is empty somewhere and leaves a blank at that end; and which of its texts is.
fn bared<'t>(
    parts: impl Iterator<Item = Part<'t>>,
    known: &[(String, Source)],
    is_blank: impl Fn(&str) -> bool,
) -> Option<(&'t str, usize)> {
    let mut empty = None;
    for part in parts {
        match part {
            Part::Text(text) => return empty.filter(|_| is_blank(text)),
            Part::Reference(name) => {
                let (_, source) = known.iter().find(|(known, _)| known == name)?;
                empty = Some((name, source.texts().position(str::is_empty)?));
            }
            Part::Broken => return None,
        }
    }
    None
}
