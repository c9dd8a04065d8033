//! `${name}` in a plan: a declared parameter, else an environment variable. What comes from the environment is a secret, so it may
//! stand only where nothing is recorded or shown: in a request's headers and body, in a call's metadata and message, and in the URL of a
//! proxy.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use super::located::LeftOut;
use super::problem::{Problem, nearest};
use super::tree::{Id, Meaning, Scalar, Tree, Value};

/// Where `${NAME}` finds what is not a parameter.
#[derive(Clone, Copy)]
pub(super) enum Environment<'e> {
    /// The variables of a process.
    Variables(&'e dyn Fn(&str) -> Option<String>),
    /// A plan that is judged long after its run: secrets stay `${NAME}`.
    Recorded,
}

/// The values that came from the environment. Prints as their names only.
#[derive(Clone, Default)]
pub struct Secrets(Vec<(String, String)>);

impl Secrets {
    /// `text` with every secret in it replaced by `${NAME}`.
    pub fn redact(&self, text: &str) -> String {
        // Longest first: a secret that contains another must not be left in halves.
        let mut secrets: Vec<&(String, String)> = self.0.iter().collect();
        secrets.sort_by_key(|(_, value)| std::cmp::Reverse(value.len()));
        secrets.iter().fold(text.to_owned(), |text, (name, value)| text.replace(value.as_str(), &format!("${{{name}}}")))
    }

    /// The variables that were read.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(name, _)| name.as_str())
    }
}

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

/// Puts parameters and secrets into every scalar of the plan. A scalar that cannot be filled is a problem, and is left out.
pub(super) fn fill(
    text: &str,
    tree: &mut Tree,
    params: &BTreeMap<String, String>,
    environment: Environment<'_>,
    left_out: &mut LeftOut,
    problems: &mut Vec<Problem>,
) -> Secrets {
    let mut secrets = Secrets::default();
    let Some(root) = tree.roots.first().copied() else { return secrets };
    let places = Places::of(tree, root);
    let missing = |name: &str| {
        let near = nearest(name, params.keys().map(String::as_str)).map(|near| format!("did you mean `${{{near}}}`?"));
        near.unwrap_or_else(|| format!("declare it under `params`, or set the variable {name} in the environment"))
    };
    for (id, span, scalar) in tree.scalars_mut() {
        if !scalar.text.contains("${")
            || (!places.open.contains(&id) && !places.recorded.contains(&id) && !places.defaults.contains(&id))
        {
            continue;
        }
        let mut filled = String::with_capacity(scalar.text.len());
        let mut whole = true;
        for part in parts(&scalar.text) {
            let name = match part {
                Part::Literal(literal) => {
                    filled.push_str(literal);
                    continue;
                }
                Part::Broken => {
                    problems.push(
                        Problem::at(span.clone(), "`${` without a name and a `}` after it")
                            .help("write ${name}, or $${ for a dollar sign and a brace"),
                    );
                    whole = false;
                    continue;
                }
                Part::Reference(name) => name,
            };
            let reference = format!("${{{name}}}");
            let place = text
                .get(span.clone())
                .and_then(|source| source.find(&reference))
                .map_or(span.clone(), |at| span.start + at..span.start + at + reference.len());
            if places.defaults.contains(&id) {
                problems.push(Problem::at(place, "a parameter's default cannot refer to anything").help("write the value itself"));
                whole = false;
            } else if let Some(value) = params.get(name) {
                filled.push_str(value);
            } else {
                let value = match environment {
                    Environment::Variables(read) => read(name),
                    Environment::Recorded => Some(reference.clone()),
                };
                match value {
                    None => {
                        let message = format!("`{reference}` is neither a parameter nor set in the environment");
                        problems.push(Problem::at(place, message).help(missing(name)));
                        whole = false;
                    }
                    Some(_) if places.recorded.contains(&id) => {
                        problems.push(
                            Problem::at(place, format!("`{reference}` comes from the environment, and this value would show it"))
                                .label("only a header, a body, a message or a proxy may be secret")
                                .help(format!("if it is no secret, declare `{name}` under `params` and run with --set {name}=...")),
                        );
                        whole = false;
                    }
                    Some(value) if value.is_empty() => {
                        problems.push(
                            Problem::at(place, format!("the environment variable {name} is empty"))
                                .help("set it to the value that should be sent"),
                        );
                        whole = false;
                    }
                    Some(value) if value.contains("{{") => {
                        problems.push(
                            Problem::at(
                                place,
                                format!("the environment variable {name} holds `{{{{`, which begins a value of a request"),
                            )
                            .help("a secret is sent as it is: give it one without two braces in a row"),
                        );
                        whole = false;
                    }
                    Some(value) => {
                        filled.push_str(&value);
                        if matches!(environment, Environment::Variables(_)) && secrets.0.iter().all(|(known, _)| known != name) {
                            secrets.0.push((name.to_owned(), value));
                        }
                    }
                }
            }
        }
        if whole {
            let value = Scalar { text: filled, plain: true };
            // A flow map takes a reference in quotes only: they are around the reference, not around the number that it stands for.
            scalar.plain |= lone(&scalar.text, params) && value.meaning() != Meaning::Nothing;
            // A secret is text, even one that reads `null` or `123`.
            scalar.plain &= !places.open.contains(&id);
            scalar.text = value.text;
        } else {
            left_out.leave_out(id);
        }
    }
    secrets
}

/// `text` as a recording of it would be read: with the parameters in it, and `variable` of each name that is none of them.
pub(super) fn recorded(text: &str, params: &BTreeMap<String, String>, variable: impl Fn(&str) -> String) -> String {
    let said = |part| match part {
        Part::Literal(literal) => literal.to_owned(),
        Part::Reference(name) => params.get(name).cloned().unwrap_or_else(|| variable(name)),
        Part::Broken => "${".to_owned(),
    };
    parts(text).into_iter().map(said).collect()
}

/// Whether a text is one parameter and nothing else.
fn lone(text: &str, params: &BTreeMap<String, String>) -> bool {
    text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}')).is_some_and(|name| params.contains_key(name))
}

enum Part<'t> {
    Literal(&'t str),
    Reference(&'t str),
    Broken,
}

/// `a${b}c$${d` -> literal a, reference b, literal c, literal `${`, literal d.
fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        if rest[..at].ends_with('$') {
            parts.push(Part::Literal(&rest[..at - 1]));
            parts.push(Part::Literal(&rest[at..at + 2]));
            rest = &rest[at + 2..];
            continue;
        }
        parts.push(Part::Literal(&rest[..at]));
        let inner = &rest[at + 2..];
        let name = inner.find('}').map(|end| &inner[..end]).filter(|name| {
            name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
        });
        match name {
            Some(name) => {
                parts.push(Part::Reference(name));
                rest = &inner[name.len() + 1..];
            }
            None => {
                parts.push(Part::Broken);
                rest = inner;
            }
        }
    }
    parts.push(Part::Literal(rest));
    parts
}

/// Which scalars stand where. One that stands in two places by an alias is in both sets, and the stricter rule holds.
struct Places {
    /// Values of headers and metadata, bodies, messages, and the target's proxy, where they are text: never recorded, and no
    /// diagnostic can repeat them.
    open: HashSet<Id>,
    /// Everything else.
    recorded: HashSet<Id>,
    /// Below `params`.
    defaults: HashSet<Id>,
}

impl Places {
    fn of(tree: &Tree, root: Id) -> Places {
        let mut places = Places { open: HashSet::new(), recorded: HashSet::new(), defaults: HashSet::new() };
        for (key, value) in tree.entries(root) {
            match tree.key(*key) {
                "params" => below(tree, *value, &mut places.defaults),
                "target" => {
                    for (key, value) in tree.entries(*value) {
                        match tree.key(*key) {
                            "proxy" => places.sent(tree, *value),
                            _ => below(tree, *value, &mut places.recorded),
                        }
                    }
                }
                "load" => {
                    for load in tree.items(*value) {
                        places.load(tree, *load);
                    }
                }
                _ => below(tree, *value, &mut places.recorded),
            }
        }
        places
    }

    fn load(&mut self, tree: &Tree, load: Id) {
        for (key, value) in tree.entries(load) {
            match tree.key(*key) {
                "request" => self.request(tree, *value),
                "flow" => self.steps(tree, *value),
                "flows" => {
                    for (key, value) in tree.items(*value).iter().flat_map(|flow| tree.entries(*flow)) {
                        match tree.key(*key) {
                            "steps" => self.steps(tree, *value),
                            _ => below(tree, *value, &mut self.recorded),
                        }
                    }
                }
                _ => below(tree, *value, &mut self.recorded),
            }
        }
    }

    fn steps(&mut self, tree: &Tree, steps: Id) {
        match &tree.node(steps).value {
            Value::List(steps) => steps.iter().for_each(|step| self.request(tree, *step)),
            _ => below(tree, steps, &mut self.recorded),
        }
    }

    fn request(&mut self, tree: &Tree, request: Id) {
        for (key, value) in tree.entries(request) {
            match tree.key(*key) {
                "headers" | "metadata" if tree.scalar(*value).is_none() => {
                    tree.entries(*value).iter().for_each(|(_, value)| self.sent(tree, *value))
                }
                "body" | "send" => self.sent(tree, *value),
                "message" => below(tree, *value, &mut self.open),
                _ => below(tree, *value, &mut self.recorded),
            }
        }
    }

    /// The value of a header, a body, or a proxy with its credentials: text that is sent. Anything else there is a mistake, and will be shown.
    fn sent(&mut self, tree: &Tree, value: Id) {
        match tree.node(value).value {
            Value::Scalar(_) => {
                self.open.insert(value);
            }
            _ => below(tree, value, &mut self.recorded),
        }
    }
}

/// Every scalar value below a node; keys are names, and nothing is put into them.
fn below(tree: &Tree, id: Id, into: &mut HashSet<Id>) {
    match &tree.node(id).value {
        Value::Scalar(_) => {
            into.insert(id);
        }
        Value::List(items) => items.iter().for_each(|item| below(tree, *item, into)),
        Value::Map(entries) => entries.iter().for_each(|(_, value)| below(tree, *value, into)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_redacted_longest_first_and_never_printed() {
        let secrets = Secrets(vec![("A".into(), "abc".into()), ("B".into(), "abcdef".into())]);
        assert_eq!(secrets.redact("Bearer abcdef, abc"), "Bearer ${B}, ${A}");
        assert_eq!(format!("{secrets:?}"), r#"{"A", "B"}"#);
    }

    #[test]
    fn a_doubled_dollar_is_a_dollar() {
        let text: String = parts("a$${b}c")
            .iter()
            .map(|part| match part {
                Part::Literal(literal) => *literal,
                Part::Reference(_) | Part::Broken => "!",
            })
            .collect();
        assert_eq!(text, "a${b}c");
    }
}
