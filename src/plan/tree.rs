//! YAML text -> a tree in which every node knows its place. Bounded before it grows: size, nesting, and what aliases would expand
//! to. Duplicate keys, further documents and foreign tags are problems here, so that nothing above can lose them.

use std::collections::HashMap;
use std::ops::Range;

use serde_yaml::granit_parser::{ErrorKind, Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::problem::Problem;

/// Index of a node in its [`Tree`].
pub(super) type Id = u32;

/// What a document may hold.
#[derive(Clone, Copy)]
pub(super) struct Limits {
    pub bytes: usize,
    /// Nodes, with every alias counted as what it stands for: a billion laughs end here.
    pub nodes: u64,
    pub depth: u32,
    pub documents: usize,
}

impl Limits {
    /// A plan of a thousand phases fits a dozen times.
    pub const PLAN: Limits = Limits { bytes: 1 << 20, nodes: 20_000, depth: 32, documents: 1 };
    /// The CRDs of a large operator fit.
    pub const MANIFESTS: Limits = Limits { bytes: 16 << 20, nodes: 1_000_000, depth: 128, documents: 10_000 };
}

/// A node with its place.
pub(super) struct Node {
    /// Bytes of the source; for a block this reaches into the line after its last.
    pub span: Range<usize>,
    pub value: Value,
    /// Nodes below and including this one, aliases expanded.
    weight: u64,
    depth: u32,
}

pub(super) enum Value {
    Scalar(Scalar),
    List(Vec<Id>),
    /// Keys are scalars and differ from one another.
    Map(Vec<(Id, Id)>),
}

/// A leaf, as it was written: what it means depends on who asks.
pub(super) struct Scalar {
    pub text: String,
    /// Neither quoted, nor a block, nor tagged as a string: may mean a number, a boolean, nothing.
    pub plain: bool,
}

/// What a plain scalar means where nothing else says it: YAML 1.2's core schema without octal, hex and the exotic floats,
/// so that `no`, `010`, `0x1F` and `1_000` stay the text that was written.
#[derive(Debug, PartialEq)]
pub(super) enum Meaning {
    Nothing,
    Bool(bool),
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Text,
}

impl Scalar {
    pub fn meaning(&self) -> Meaning {
        if !self.plain {
            return Meaning::Text;
        }
        let text = self.text.as_str();
        match text {
            "" | "~" | "null" | "Null" | "NULL" => return Meaning::Nothing,
            "true" | "True" | "TRUE" => return Meaning::Bool(true),
            "false" | "False" | "FALSE" => return Meaning::Bool(false),
            _ => {}
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        let leading_zero = digits.len() > 1 && digits.starts_with('0') && digits.as_bytes()[1].is_ascii_digit();
        if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') || leading_zero {
            return Meaning::Text;
        }
        if digits.bytes().all(|b| b.is_ascii_digit()) {
            let number = text.strip_prefix('+').unwrap_or(text);
            return match (number.parse(), number.parse()) {
                (Ok(n), _) => Meaning::Unsigned(n),
                (_, Ok(n)) => Meaning::Signed(n),
                _ => Meaning::Float(number.parse().unwrap_or(f64::INFINITY)),
            };
        }
        let float = digits.bytes().all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
        match text.parse::<f64>() {
            Ok(n) if float && n.is_finite() => Meaning::Float(n),
            _ => Meaning::Text,
        }
    }
}

/// The nodes of all documents of one source.
#[derive(Default)]
pub(super) struct Tree {
    nodes: Vec<Node>,
    /// The root of each document.
    pub roots: Vec<Id>,
    /// Scalars under a tag that means nothing here: what they were meant to be is not known.
    pub foreign: Vec<Id>,
}

impl Tree {
    pub fn node(&self, id: Id) -> &Node {
        &self.nodes[id as usize]
    }

    pub fn span(&self, id: Id) -> Range<usize> {
        self.node(id).span.clone()
    }

    pub fn scalar(&self, id: Id) -> Option<&Scalar> {
        match &self.node(id).value {
            Value::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// Every scalar, for a pass that rewrites text.
    pub fn scalars_mut(&mut self) -> impl Iterator<Item = (Id, Range<usize>, &mut Scalar)> {
        self.nodes.iter_mut().enumerate().filter_map(|(id, node)| match &mut node.value {
            Value::Scalar(scalar) => Some((id as Id, node.span.clone(), scalar)),
            _ => None,
        })
    }

    /// The text of a key.
    pub fn key(&self, id: Id) -> &str {
        self.scalar(id).map_or("", |scalar| &scalar.text)
    }

    /// The entries of a map; none for anything else.
    pub fn entries(&self, id: Id) -> &[(Id, Id)] {
        match &self.node(id).value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The items of a list; none for anything else.
    pub fn items(&self, id: Id) -> &[Id] {
        match &self.node(id).value {
            Value::List(items) => items,
            _ => &[],
        }
    }

    /// What stands under `key` in a map.
    pub fn get(&self, map: Id, key: &str) -> Option<Id> {
        self.entries(map).iter().find(|(k, _)| self.key(*k) == key).map(|(_, value)| *value)
    }

    /// Reads every document of `text`. The tree holds what could be read, however many problems there are.
    pub fn read(text: &str, limits: Limits) -> (Tree, Vec<Problem>) {
        let mut reading = Reading {
            text,
            limits,
            tree: Tree::default(),
            problems: Vec::new(),
            open: Vec::new(),
            anchors: HashMap::new(),
            document: 0,
            surplus: None,
        };
        reading.run();
        (reading.tree, reading.problems)
    }
}

/// A collection whose end has not come yet.
struct Open {
    anchor: usize,
    span: Range<usize>,
    children: Vec<Id>,
    map: bool,
}

/// What a tag says of its node.
#[derive(PartialEq)]
enum Meant {
    Text,
    Itself,
    /// A tag of another language.
    Foreign,
}

struct Reading<'t> {
    text: &'t str,
    limits: Limits,
    tree: Tree,
    problems: Vec<Problem>,
    open: Vec<Open>,
    /// Finished anchored nodes; an alias to what is still open would hold itself.
    anchors: HashMap<usize, Id>,
    document: usize,
    /// Where the first document starts that is one too many: wrong if it, or one after it, holds anything.
    surplus: Option<Range<usize>>,
}

/// The reader gave up: what follows would be noise.
struct Stop;

impl Reading<'_> {
    fn run(&mut self) {
        if self.text.len() > self.limits.bytes {
            self.problems.push(Problem::nowhere(format!(
                "the file has {} bytes, more than the {} that are read",
                self.text.len(),
                self.limits.bytes
            )));
            return;
        }
        let options = serde_yaml::granit_parser::options! {
            flow_nesting_limit: self.limits.depth as usize + 8,
            block_nesting_limit: self.limits.depth as usize + 8,
        };
        for step in Parser::new_from_str_with_options(self.text, options) {
            let stop = match step {
                Ok((event, span)) => self.take(event, &span),
                Err(error) => {
                    self.problems.push(self.syntax(&error));
                    Err(Stop)
                }
            };
            if stop.is_err() {
                return;
            }
        }
    }

    fn take(&mut self, event: Event<'_>, span: &Span) -> Result<(), Stop> {
        let range = span.byte_range().unwrap_or(0..0);
        if let Some(start) = &self.surplus {
            return match event {
                // A `---` at the end, with nothing after it: the parser makes a null of that.
                Event::Scalar(text, ScalarStyle::Plain, ..) if text == "~" => Ok(()),
                Event::Scalar(..) | Event::SequenceStart(..) | Event::MappingStart(..) | Event::Alias(..) => {
                    self.problems.push(
                        Problem::at(start.clone(), "a second document starts here")
                            .help("a plan is one document: put each plan into its own file"),
                    );
                    Err(Stop)
                }
                _ => Ok(()),
            };
        }
        match event {
            Event::DocumentStart(..) => {
                self.document += 1;
                if self.document > self.limits.documents {
                    self.surplus = Some(range.start..range.start + self.text[range.start..].find('\n').unwrap_or(0).min(3));
                }
                self.anchors.clear();
            }
            Event::Scalar(text, style, anchor, tag) => {
                let tag = self.tag(tag.as_deref(), span);
                if tag == Some(Meant::Foreign) {
                    self.tree.foreign.push(self.tree.nodes.len() as Id);
                }
                let plain = style == ScalarStyle::Plain && tag != Some(Meant::Text);
                let scalar = Scalar { text: text.into_owned(), plain };
                self.finish(Node { span: range, value: Value::Scalar(scalar), weight: 1, depth: 0 }, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.begin(Open { anchor, span: range, children: Vec::new(), map: false })?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.tag(tag.as_deref(), span);
                self.begin(Open { anchor, span: range, children: Vec::new(), map: true })?;
            }
            Event::SequenceEnd | Event::MappingEnd => {
                let Some(Open { anchor, span: start, children, map }) = self.open.pop() else { return Ok(()) };
                let span = start.start..range.end.max(start.end);
                let value = if map { Value::Map(self.entries(&children)) } else { Value::List(children.clone()) };
                let weight = children.iter().map(|id| self.tree.node(*id).weight).fold(1, u64::saturating_add);
                let depth = 1 + children.iter().map(|id| self.tree.node(*id).depth).max().unwrap_or(0);
                self.finish(Node { span, value, weight, depth }, anchor)?;
            }
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                Some(id) => self.place(*id, range)?,
                None => {
                    self.problems.push(Problem::at(range, "this alias stands inside of what it stands for"));
                    return Err(Stop);
                }
            },
            _ => {}
        }
        Ok(())
    }

    fn begin(&mut self, open: Open) -> Result<(), Stop> {
        if self.open.len() as u32 >= self.limits.depth {
            self.problems.push(Problem::at(open.span, self.too_deep()));
            return Err(Stop);
        }
        self.open.push(open);
        Ok(())
    }

    fn too_deep(&self) -> String {
        format!("nested more than {} levels deep", self.limits.depth)
    }

    fn finish(&mut self, node: Node, anchor: usize) -> Result<(), Stop> {
        let id = self.tree.nodes.len() as Id;
        let span = node.span.clone();
        self.tree.nodes.push(node);
        if anchor != 0 {
            self.anchors.insert(anchor, id);
        }
        self.place(id, span)
    }

    /// Hangs a finished node where the text is at: `span` is the use, which for an alias is not where the node stands.
    fn place(&mut self, id: Id, span: Range<usize>) -> Result<(), Stop> {
        let node = self.tree.node(id);
        if node.weight > self.limits.nodes || self.tree.nodes.len() as u64 > self.limits.nodes {
            let limit = self.limits.nodes;
            self.problems.push(Problem::at(span, format!("more than {limit} values, counting what aliases expand to")));
            return Err(Stop);
        }
        if node.depth + self.open.len() as u32 > self.limits.depth {
            self.problems.push(Problem::at(span, self.too_deep()));
            return Err(Stop);
        }
        match self.open.last_mut() {
            Some(open) => open.children.push(id),
            None => self.tree.roots.push(id),
        }
        Ok(())
    }

    /// Pairs up keys and values, refuses what is no key and what comes twice, and works out `<<`.
    fn entries(&mut self, children: &[Id]) -> Vec<(Id, Id)> {
        let mut entries: Vec<(Id, Id)> = Vec::with_capacity(children.len() / 2);
        let mut first: HashMap<String, Id> = HashMap::new();
        let mut merged = Vec::new();
        for pair in children.chunks_exact(2) {
            let (key, value) = (pair[0], pair[1]);
            let Some(scalar) = self.tree.scalar(key) else {
                self.problems.push(Problem::at(self.tree.span(key), "a key must be plain text, not a list or a map"));
                continue;
            };
            if scalar.plain && scalar.text == "<<" {
                merged.push(value);
                continue;
            }
            let name = scalar.text.clone();
            if let Some(earlier) = first.get(&name) {
                let (line, _) = super::problem::place(self.text, self.tree.span(*earlier).start);
                self.problems.push(
                    Problem::at(self.tree.span(key), format!("`{name}` is given twice"))
                        .label(format!("first given on line {line}")),
                );
                continue;
            }
            first.insert(name, key);
            entries.push((key, value));
        }
        for source in merged {
            let sources = match &self.tree.node(source).value {
                Value::List(items) => items.clone(),
                _ => vec![source],
            };
            for map in sources {
                let Value::Map(inherited) = &self.tree.node(map).value else {
                    self.problems.push(Problem::at(self.tree.span(map), "`<<` takes a map, or a list of maps"));
                    continue;
                };
                for (key, value) in inherited.clone() {
                    // What the map says itself wins over what it inherits, and an earlier source over a later one.
                    let name = self.tree.key(key).to_owned();
                    if let std::collections::hash_map::Entry::Vacant(vacant) = first.entry(name) {
                        vacant.insert(key);
                        entries.push((key, value));
                    }
                }
            }
        }
        entries
    }

    /// What a tag means; one of another language is a problem.
    fn tag(&mut self, tag: Option<&Tag>, span: &Span) -> Option<Meant> {
        let tag = tag?;
        let core = tag.handle() == "tag:yaml.org,2002:";
        Some(match tag.suffix() {
            "str" if core => Meant::Text,
            "map" | "seq" | "int" | "float" | "bool" | "null" if core => Meant::Itself,
            "" if tag.handle() == "!" => Meant::Text,
            suffix => {
                let shown = if core { format!("!!{suffix}") } else { format!("{}{suffix}", tag.handle()) };
                let place = span.tag_span().unwrap_or(*span).byte_range().unwrap_or(0..0);
                self.problems
                    .push(Problem::at(place, format!("the tag `{shown}` means nothing here")).help("write the value without it"));
                Meant::Foreign
            }
        })
    }

    /// A problem of the YAML itself, in words for somebody who does not know its grammar.
    fn syntax(&self, error: &ScanError) -> Problem {
        let text = self.text;
        let byte = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
        let end = text[byte..].chars().next().filter(|c| *c != '\n').map_or(byte, |c| byte + c.len_utf8());
        match error.kind() {
            ErrorKind::RecursionLimitExceeded => return Problem::at(byte..end, self.too_deep()),
            ErrorKind::UnknownAnchor => {
                let word = text[byte..].trim_start_matches('*').split(|c: char| c.is_whitespace() || ",]}".contains(c)).next();
                let word = word.unwrap_or_default();
                return Problem::at(byte..byte + 1 + word.len(), format!("nothing is anchored as `&{word}` above"));
            }
            _ => {}
        }
        let problem = Problem::at(byte..end, format!("this is not YAML: {}", error.info()));
        let indent = &text[text[..byte].rfind('\n').map_or(0, |at| at + 1)..byte];
        if indent.contains('\t') && indent.trim().is_empty() || text[byte..].starts_with('\t') {
            return problem.help("indent with spaces: YAML allows no tabs there");
        }
        match unclosed(&text[..byte]) {
            Some((at, bracket)) => {
                let (line, column) = super::problem::place(text, at);
                problem.help(format!("the `{bracket}` of line {line}, column {column} is still open here"))
            }
            None => problem,
        }
    }
}

/// The innermost bracket that is open at the end of `text`. The scanner reports a missing `}` wherever it first hurts, which may be
/// far below; quotes and comments are told apart well enough for a hint.
fn unclosed(text: &str) -> Option<(usize, char)> {
    let mut open: Vec<(usize, char)> = Vec::new();
    let (mut quote, mut comment, mut before) = (None, false, ' ');
    for (at, c) in text.char_indices() {
        match c {
            '\n' => comment = false,
            _ if comment => {}
            _ if quote == Some(c) && before != '\\' => quote = None,
            _ if quote.is_some() => {}
            '"' | '\'' if " [{,:\t".contains(before) => quote = Some(c),
            '#' if before.is_whitespace() => comment = true,
            '{' | '[' if before != '$' => open.push((at, c)),
            '}' | ']' => {
                open.pop();
            }
            _ => {}
        }
        before = c;
    }
    open.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The messages about `text` as a plan.
    fn problems(text: &str) -> Vec<String> {
        Tree::read(text, Limits::PLAN).1.into_iter().map(|problem| problem.message).collect()
    }

    #[test]
    fn a_document_marker_with_nothing_after_it_starts_no_document() {
        for end in ["", "---", "---\n", "---\n# nothing\n", "...\n", "---\n---\n"] {
            assert_eq!(problems(&format!("plan: p\n{end}")), Vec::<String>::new(), "{end:?}");
        }
        for end in ["---\nplan: q\n", "---\n- q\n", "---\nq\n", "---\n''\n", "---\n---\nq\n"] {
            assert_eq!(problems(&format!("plan: p\n{end}")), ["a second document starts here"], "{end:?}");
        }
    }
}
