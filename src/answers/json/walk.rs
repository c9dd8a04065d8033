//! A JSONPath followed through a value, as the standard has it (RFC 9535). By hand, and not by the crate that has read the path: that one
//! keeps a text for every place that it passes, and a body of a megabyte can be made so that these texts are gigabytes. Here every look is
//! counted.

use std::borrow::Cow;
use std::cmp::Ordering;

use jsonpath_rust::parser::model::{
    Comparable, Comparison, Filter, FilterAtom, FnArg, JpQuery, Literal, Segment, Selector, SingularQuery, SingularQuerySegment,
    Test, TestFunction,
};
use regex::{Regex, RegexBuilder};
use serde_json::{Number, Value};

use crate::answers::Flaw;

/// How many looks one path has: several for each place in a body, as long as that is not all brackets.
const LOOKS_MOST: usize = 2_000_000;
/// How many bytes of a text are a look.
const BYTES_A_LOOK: usize = 64;
/// How many looks it takes to make an expression of a text, which the body may hold.
const EXPRESSION: usize = 20_000;
/// How large such an expression may become, in bytes.
const EXPRESSION_MOST: usize = 64 * 1024;
/// How many times as long as to read a text it may take to match it.
const WAYS: usize = 16;

/// A walk through a body.
pub(super) struct Walk<'v> {
    root: &'v Value,
    /// How many looks are left.
    left: usize,
    /// What `match` and `search` have made of texts: whether all of a text is to match, what it was made of, and what came of it.
    expressions: Vec<(bool, String, Option<Regex>)>,
}

/// A value in a comparison; none is "nothing", which is not null.
type Term<'v> = Option<Cow<'v, Value>>;

impl<'v> Walk<'v> {
    pub(super) fn through(root: &'v Value) -> Walk<'v> {
        Walk::with(root, LOOKS_MOST)
    }

    fn with(root: &'v Value, looks: usize) -> Walk<'v> {
        Walk { root, left: looks, expressions: Vec::new() }
    }

    /// Everything that a path finds, in the order of the standard.
    pub(super) fn find(&mut self, query: &JpQuery) -> Result<Vec<&'v Value>, Flaw> {
        self.follow(&query.segments, self.root)
    }

    /// A value as a text: a string is what it says, and all else is as JSON writes it.
    pub(super) fn text(&mut self, value: &'v Value) -> Result<Cow<'v, str>, Flaw> {
        let text = match value {
            Value::String(text) => Cow::Borrowed(text.as_str()),
            other => Cow::Owned(other.to_string()),
        };
        self.read(&text)?;
        Ok(text)
    }

    fn look(&mut self, times: usize) -> Result<(), Flaw> {
        self.left = self.left.checked_sub(times).ok_or(Flaw::TooBroad)?;
        Ok(())
    }

    fn read(&mut self, text: &str) -> Result<(), Flaw> {
        self.look(1 + text.len() / BYTES_A_LOOK)
    }

    fn follow(&mut self, segments: &[Segment], from: &'v Value) -> Result<Vec<&'v Value>, Flaw> {
        let mut here = vec![from];
        for segment in segments {
            here = self.step(segment, here)?;
        }
        Ok(here)
    }

    fn step(&mut self, segment: &Segment, from: Vec<&'v Value>) -> Result<Vec<&'v Value>, Flaw> {
        let selectors = match segment {
            Segment::Descendant(segment) => {
                let mut all = Vec::new();
                for node in from {
                    self.descend(node, &mut all)?;
                }
                return self.step(segment, all);
            }
            Segment::Selector(selector) => std::slice::from_ref(selector),
            Segment::Selectors(selectors) => selectors,
        };
        let mut found = Vec::new();
        for node in from {
            for selector in selectors {
                self.select(selector, node, &mut found)?;
            }
        }
        Ok(found)
    }

    /// A value and all below it in which something can be found. It is read no deeper than its reader goes, so that this ends.
    fn descend(&mut self, node: &'v Value, into: &mut Vec<&'v Value>) -> Result<(), Flaw> {
        self.look(1)?;
        if matches!(node, Value::Array(_) | Value::Object(_)) {
            into.push(node);
            for child in children(node) {
                self.descend(child, into)?;
            }
        }
        Ok(())
    }

    fn select(&mut self, selector: &Selector, node: &'v Value, into: &mut Vec<&'v Value>) -> Result<(), Flaw> {
        self.look(1)?;
        match selector {
            Selector::Name(name) => into.extend(node.as_object().and_then(|object| object.get(name))),
            Selector::Index(index) => into.extend(node.as_array().and_then(|array| at(array, *index))),
            Selector::Wildcard => {
                for child in children(node) {
                    self.look(1)?;
                    into.push(child);
                }
            }
            Selector::Slice(start, end, step) => {
                for child in node.as_array().into_iter().flat_map(|array| slice(array, *start, *end, step.unwrap_or(1))) {
                    self.look(1)?;
                    into.push(child);
                }
            }
            Selector::Filter(filter) => {
                for child in children(node) {
                    self.look(1)?;
                    if self.holds(filter, child)? {
                        into.push(child);
                    }
                }
            }
        }
        Ok(())
    }

    fn holds(&mut self, filter: &Filter, node: &'v Value) -> Result<bool, Flaw> {
        let (filters, decides) = match filter {
            Filter::Or(filters) => (filters, true),
            Filter::And(filters) => (filters, false),
            Filter::Atom(FilterAtom::Filter { expr, not }) => return Ok(self.holds(expr, node)? != *not),
            Filter::Atom(FilterAtom::Test { expr, not }) => return Ok(self.passes(expr, node)? != *not),
            Filter::Atom(FilterAtom::Comparison(comparison)) => return self.compares(comparison, node),
        };
        for filter in filters {
            if self.holds(filter, node)? == decides {
                return Ok(decides);
            }
        }
        Ok(!decides)
    }

    fn passes(&mut self, test: &Test, node: &'v Value) -> Result<bool, Flaw> {
        match test {
            Test::RelQuery(_) | Test::AbsQuery(_) => Ok(!self.nodes(test, node)?.is_empty()),
            Test::Function(function) => match &**function {
                TestFunction::Match(text, expression) => self.is_like((text, expression), true, node),
                TestFunction::Search(text, expression) => self.is_like((text, expression), false, node),
                // A number is no test.
                TestFunction::Length(_) | TestFunction::Count(_) | TestFunction::Value(_) | TestFunction::Custom(..) => Ok(false),
            },
        }
    }

    /// What a path within a filter finds.
    fn nodes(&mut self, test: &Test, node: &'v Value) -> Result<Vec<&'v Value>, Flaw> {
        match test {
            Test::RelQuery(segments) => self.follow(segments, node),
            Test::AbsQuery(query) => self.follow(&query.segments, self.root),
            Test::Function(_) => Ok(Vec::new()),
        }
    }

    fn compares(&mut self, comparison: &Comparison, node: &'v Value) -> Result<bool, Flaw> {
        let (left, right) = comparison.vals();
        let (left, right) = (self.term(left, node)?, self.term(right, node)?);
        let is = |order: Ordering, ordered: Option<Ordering>| ordered == Some(order);
        Ok(match comparison {
            Comparison::Eq(..) => self.same(&left, &right)?,
            Comparison::Ne(..) => !self.same(&left, &right)?,
            Comparison::Lt(..) => is(Ordering::Less, self.order(&left, &right)?),
            Comparison::Gt(..) => is(Ordering::Greater, self.order(&left, &right)?),
            Comparison::Lte(..) => is(Ordering::Less, self.order(&left, &right)?) || self.same(&left, &right)?,
            Comparison::Gte(..) => is(Ordering::Greater, self.order(&left, &right)?) || self.same(&left, &right)?,
        })
    }

    fn term(&mut self, comparable: &Comparable, node: &'v Value) -> Result<Term<'v>, Flaw> {
        let (segments, mut here) = match comparable {
            Comparable::Literal(literal) => return Ok(Some(Cow::Owned(value(literal)))),
            Comparable::Function(function) => return self.result(function, node),
            Comparable::SingularQuery(SingularQuery::Current(segments)) => (segments, Some(node)),
            Comparable::SingularQuery(SingularQuery::Root(segments)) => (segments, Some(self.root)),
        };
        for segment in segments {
            self.look(1)?;
            here = here.and_then(|here| match segment {
                SingularQuerySegment::Name(name) => here.as_object()?.get(name),
                SingularQuerySegment::Index(index) => at(here.as_array()?, *index),
            });
        }
        Ok(here.map(Cow::Borrowed))
    }

    /// What a function comes to that is no test.
    fn result(&mut self, function: &TestFunction, node: &'v Value) -> Result<Term<'v>, Flaw> {
        let number = |n: usize| Some(Cow::Owned(Value::from(n)));
        match function {
            TestFunction::Length(of) => match self.argument(of, node)?.as_deref() {
                Some(Value::String(text)) => {
                    self.read(text)?;
                    Ok(number(text.chars().count()))
                }
                Some(Value::Array(array)) => Ok(number(array.len())),
                Some(Value::Object(object)) => Ok(number(object.len())),
                _ => Ok(None),
            },
            TestFunction::Count(FnArg::Test(test)) => Ok(number(self.nodes(test, node)?.len())),
            TestFunction::Value(of) => self.argument(of, node),
            TestFunction::Count(_) | TestFunction::Match(..) | TestFunction::Search(..) | TestFunction::Custom(..) => Ok(None),
        }
    }

    /// The one value that an argument stands for.
    fn argument(&mut self, argument: &FnArg, node: &'v Value) -> Result<Term<'v>, Flaw> {
        match argument {
            FnArg::Literal(literal) => Ok(Some(Cow::Owned(value(literal)))),
            FnArg::Test(test) => match &**test {
                Test::Function(function) => self.result(function, node),
                path => match self.nodes(path, node)?[..] {
                    [one] => Ok(Some(Cow::Borrowed(one))),
                    _ => Ok(None),
                },
            },
            FnArg::Filter(_) => Ok(None),
        }
    }

    /// Whether a text is like an expression, the whole of it or something in it.
    fn is_like(&mut self, (text, expression): (&FnArg, &FnArg), whole: bool, node: &'v Value) -> Result<bool, Flaw> {
        let (text, expression) = (self.argument(text, node)?, self.argument(expression, node)?);
        let (Some(Value::String(text)), Some(Value::String(expression))) = (text.as_deref(), expression.as_deref()) else {
            return Ok(false);
        };
        self.read(text)?;
        self.read(expression)?;
        let is_it = |known: &(bool, String, Option<Regex>)| known.0 == whole && known.1 == *expression;
        let known = match self.expressions.iter().position(is_it) {
            Some(known) => known,
            None => {
                self.look(EXPRESSION)?;
                self.expressions.push((whole, expression.clone(), regex(expression, whole)));
                self.expressions.len() - 1
            }
        };
        // Where a body brings the expression, each byte may be looked at in many ways.
        self.look(text.len().div_ceil(BYTES_A_LOOK) * WAYS)?;
        Ok(self.expressions[known].2.as_ref().is_some_and(|regex| regex.is_match(text)))
    }

    fn same(&mut self, left: &Term<'_>, right: &Term<'_>) -> Result<bool, Flaw> {
        match (left.as_deref(), right.as_deref()) {
            (Some(left), Some(right)) => self.equal(left, right),
            (None, None) => Ok(true),
            _ => Ok(false),
        }
    }

    fn equal(&mut self, left: &Value, right: &Value) -> Result<bool, Flaw> {
        self.look(1)?;
        match (left, right) {
            (Value::Number(left), Value::Number(right)) => Ok(numbers(left, right) == Some(Ordering::Equal)),
            (Value::String(left), Value::String(right)) => {
                self.read(left)?;
                Ok(left == right)
            }
            (Value::Array(left), Value::Array(right)) if left.len() == right.len() => {
                for (left, right) in left.iter().zip(right) {
                    if !self.equal(left, right)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            (Value::Object(left), Value::Object(right)) if left.len() == right.len() => {
                for (name, left) in left {
                    self.read(name)?;
                    match right.get(name) {
                        Some(right) if self.equal(left, right)? => {}
                        _ => return Ok(false),
                    }
                }
                Ok(true)
            }
            (Value::Bool(left), Value::Bool(right)) => Ok(left == right),
            (Value::Null, Value::Null) => Ok(true),
            _ => Ok(false),
        }
    }

    /// Numbers and texts have an order, and nothing else.
    fn order(&mut self, left: &Term<'_>, right: &Term<'_>) -> Result<Option<Ordering>, Flaw> {
        match (left.as_deref(), right.as_deref()) {
            (Some(Value::Number(left)), Some(Value::Number(right))) => Ok(numbers(left, right)),
            (Some(Value::String(left)), Some(Value::String(right))) => {
                self.read(left)?;
                Ok(Some(left.cmp(right)))
            }
            _ => Ok(None),
        }
    }
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    let (array, object) = (node.as_array(), node.as_object());
    array.into_iter().flatten().chain(object.into_iter().flat_map(|object| object.values()))
}

/// From the end where it is negative.
fn at(array: &[Value], index: i64) -> Option<&Value> {
    let index = if index < 0 { i64::try_from(array.len()).ok()?.checked_add(index)? } else { index };
    array.get(usize::try_from(index).ok()?)
}

/// The bounds of RFC 9535, section 2.3.4.2.2.
fn slice(array: &[Value], start: Option<i64>, end: Option<i64>, step: i64) -> impl Iterator<Item = &Value> {
    let len = array.len() as i64;
    let from_front = |index: i64| if index >= 0 { index } else { len + index };
    let (first, last) = match step {
        0 => (0, 0),
        1.. => (from_front(start.unwrap_or(0)).clamp(0, len), from_front(end.unwrap_or(len)).clamp(0, len)),
        ..0 => (from_front(start.unwrap_or(len - 1)).clamp(-1, len - 1), from_front(end.unwrap_or(-len - 1)).clamp(-1, len - 1)),
    };
    let within = move |index: &i64| if step > 0 { *index < last } else { *index > last };
    let indices = std::iter::successors(Some(first), move |index| index.checked_add(step)).take_while(within);
    indices.filter_map(|index| array.get(usize::try_from(index).ok()?))
}

fn value(literal: &Literal) -> Value {
    match literal {
        Literal::Int(number) => Value::from(*number),
        Literal::Float(number) => Value::from(*number),
        Literal::String(text) => Value::from(text.as_str()),
        Literal::Bool(bool) => Value::from(*bool),
        Literal::Null => Value::Null,
    }
}

/// Whole numbers are compared as such: not all of them have a floating-point number of their own.
pub(super) fn numbers(left: &Number, right: &Number) -> Option<Ordering> {
    match (whole(left), whole(right)) {
        (Some(left), Some(right)) => Some(left.cmp(&right)),
        _ => left.as_f64()?.partial_cmp(&right.as_f64()?),
    }
}

/// Where it was written as a whole number, and fits into 64 bits.
fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// An expression of RFC 9485 in the words of the crate: a dot in it stands for no end of a line.
fn regex(expression: &str, whole: bool) -> Option<Regex> {
    let mut text = String::with_capacity(expression.len());
    let (mut in_class, mut escaped) = (false, false);
    for char in expression.chars() {
        match char {
            '.' if !in_class && !escaped => text.push_str("[^\\n\\r]"),
            other => text.push(other),
        }
        in_class = if escaped { in_class } else { char == '[' || (in_class && char != ']') };
        escaped = char == '\\' && !escaped;
    }
    let text = if whole { format!("^(?:{text})$") } else { text };
    RegexBuilder::new(&text).size_limit(EXPRESSION_MOST).build().ok()
}

/// The first function in a path that is none of the standard's.
pub(super) fn unknown_function(segments: &[Segment]) -> Option<&str> {
    segments.iter().find_map(|segment| match segment {
        Segment::Descendant(segment) => unknown_function(std::slice::from_ref(segment)),
        Segment::Selector(selector) => unknown_in_selector(selector),
        Segment::Selectors(selectors) => selectors.iter().find_map(unknown_in_selector),
    })
}

fn unknown_in_selector(selector: &Selector) -> Option<&str> {
    match selector {
        Selector::Filter(filter) => unknown_in_filter(filter),
        Selector::Name(_) | Selector::Wildcard | Selector::Index(_) | Selector::Slice(..) => None,
    }
}

fn unknown_in_filter(filter: &Filter) -> Option<&str> {
    match filter {
        Filter::Or(filters) | Filter::And(filters) => filters.iter().find_map(unknown_in_filter),
        Filter::Atom(FilterAtom::Filter { expr, .. }) => unknown_in_filter(expr),
        Filter::Atom(FilterAtom::Test { expr, .. }) => unknown_in_test(expr),
        Filter::Atom(FilterAtom::Comparison(comparison)) => {
            let (left, right) = comparison.vals();
            [left, right].into_iter().find_map(|side| match side {
                Comparable::Function(function) => unknown_in_function(function),
                Comparable::Literal(_) | Comparable::SingularQuery(_) => None,
            })
        }
    }
}

fn unknown_in_test(test: &Test) -> Option<&str> {
    match test {
        Test::RelQuery(segments) => unknown_function(segments),
        Test::AbsQuery(query) => unknown_function(&query.segments),
        Test::Function(function) => unknown_in_function(function),
    }
}

fn unknown_in_function(function: &TestFunction) -> Option<&str> {
    match function {
        TestFunction::Custom(name, _) => Some(name),
        TestFunction::Length(of) => unknown_in_argument(of),
        TestFunction::Value(of) | TestFunction::Count(of) => unknown_in_argument(of),
        TestFunction::Search(text, expression) | TestFunction::Match(text, expression) => {
            unknown_in_argument(text).or_else(|| unknown_in_argument(expression))
        }
    }
}

fn unknown_in_argument(argument: &FnArg) -> Option<&str> {
    match argument {
        FnArg::Test(test) => unknown_in_test(test),
        FnArg::Filter(filter) => unknown_in_filter(filter),
        FnArg::Literal(_) => None,
    }
}

#[cfg(test)]
mod tests;
