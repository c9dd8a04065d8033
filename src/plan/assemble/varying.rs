//! What differs from one request of a load to the next: which names its texts use, and where each comes from.

use super::super::problem::proposal;
use super::super::tree::Id;
use super::super::written::WrittenRequest;
use super::{Desk, Located, Name, Pairs};
use crate::varying::template::{Part, parts};
use crate::varying::{Draw, Source, Varying, template};

/// What the load at `load` draws and its request uses.
pub(super) fn read(
    desk: &mut Desk<'_>,
    load: Id,
    draws: Pairs<Located<Name>, Located<Draw>>,
    request: Option<&Located<WrittenRequest>>,
) -> Varying {
    let mut known: Vec<(String, Source)> = Vec::new();
    for (name, draw) in draws.0 {
        if let Some(why) = draw.value.contradiction() {
            desk.wrong(draw.at, why);
        }
        known.push((name.value.as_str().to_owned(), Source::Draw(draw.value)));
    }
    let texts = request.map(|request| texts(&request.value)).unwrap_or_default();
    let used = used(desk, load, &texts, &known);
    // In the order of the plan, and without what nothing uses, which would be drawn for nobody.
    known.retain(|(name, _)| used.contains(name));
    headers(desk, &texts, &known);
    Varying { values: known, class: None }
}

/// A text that may have values in it.
struct Written<'w> {
    text: &'w str,
    at: Id,
    /// The header whose value it is.
    header: Option<&'w str>,
}

/// The texts of a request that may have values in them.
fn texts(request: &WrittenRequest) -> Vec<Written<'_>> {
    let paths = request.methods().into_iter().map(|(_, path)| Written { text: &path.value, at: path.at, header: None });
    let headers =
        request.headers.0.iter().map(|(name, value)| Written { text: &value.value.0, at: value.at, header: Some(&name.value) });
    let body = request.body.iter().map(|body| Written { text: &body.value.0, at: body.at, header: None });
    paths.chain(headers).chain(body).collect()
}

/// The names that are used; those that nothing has are reported.
fn used(desk: &mut Desk<'_>, load: Id, texts: &[Written<'_>], known: &[(String, Source)]) -> Vec<String> {
    let mut used: Vec<String> = Vec::new();
    for Written { text, at, .. } in texts {
        for part in parts(text) {
            match part {
                Part::Text(_) => {}
                Part::Broken => {
                    desk.wrong(*at, "`{{` without a name and `}}` after it").help =
                        Some("write {{name}}, or {{{{ for two braces".into());
                }
                Part::Reference(name) if known.iter().any(|(known, _)| known == name) => used.push(name.to_owned()),
                // A draw that could not be read has been reported.
                Part::Reference(_) if desk.is_left_out(load, &["draw"]) || left_out_below(desk, load, "draw") => {}
                Part::Reference(name) => {
                    let help = proposal(name, known.iter().map(|(name, _)| name.as_str()));
                    let help = help.unwrap_or_else(|| {
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
    for Written { text, at, header } in texts {
        let Some(header) = header else { continue };
        for part in parts(text) {
            let Part::Reference(name) = part else { continue };
            let Some((_, source)) = known.iter().find(|(known, _)| known == name) else { continue };
            if let Some(why) = source.texts().find_map(|text| template::header_refuses(text.as_bytes())) {
                desk.wrong(*at, format!("`{{{{{name}}}}}` cannot stand in the header `{header}`: {why}"));
            }
        }
    }
}
