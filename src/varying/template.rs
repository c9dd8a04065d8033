//! A text with values in it, as `/items/{{item}}`: taken apart once, when the plan is read, and composed for each request into a buffer
//! that is used again. One pass: what a value holds is never looked at for more values.

use super::Values;

/// How a value stands in what is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// In a path or its query: what may not stand there as it is (blanks, line ends, `#`, whatever is not ASCII) is %-encoded. All else
    /// is sent as it is, `/`, `?`, `&` and `%` included, so that a value may be several segments, or be encoded already.
    Path,
    /// In the value of a header, as it is: see [`header_refuses`] for what must not come here.
    Header,
    /// In a body, as it is.
    Body,
}

/// A text, taken apart.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Template {
    pieces: Vec<Piece>,
}

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(Vec<u8>),
    /// The value of that index among [`Values`].
    Value(usize, Form),
}

/// The names that the texts of one load may use, in the order of the indexes that stand for them.
pub type Names = [String];

impl Template {
    /// Takes `text` apart. A reference that is no name of `names` is left out: a checked plan has none.
    pub fn new(text: &str, form: Form, names: &Names) -> Template {
        let mut template = Template::default();
        for part in parts(text) {
            match part {
                Part::Text(text) => template.push_text(text.as_bytes()),
                Part::Reference(name) => {
                    template.pieces.extend(names.iter().position(|known| known == name).map(|index| Piece::Value(index, form)));
                }
                Part::Broken => {}
            }
        }
        template
    }

    /// The value of that index, and nothing beside it.
    pub fn value(index: usize, form: Form) -> Template {
        Template { pieces: vec![Piece::Value(index, form)] }
    }

    /// Takes a body apart; one that is no text has no values in it.
    pub fn of_body(body: &[u8], names: &Names) -> Template {
        match str::from_utf8(body) {
            Ok(text) => Template::new(text, Form::Body, names),
            Err(_) => Template { pieces: vec![Piece::Text(body.to_vec())] },
        }
    }

    /// Adds text to its end.
    pub fn push_text(&mut self, text: &[u8]) {
        match self.pieces.last_mut() {
            Some(Piece::Text(last)) => last.extend_from_slice(text),
            _ if text.is_empty() => {}
            _ => self.pieces.push(Piece::Text(text.to_vec())),
        }
    }

    /// Adds another to its end.
    pub fn push(&mut self, other: Template) {
        for piece in other.pieces {
            match piece {
                Piece::Text(text) => self.push_text(&text),
                value => self.pieces.push(value),
            }
        }
    }

    /// The text, where there is no value in it.
    pub fn fixed(&self) -> Option<&[u8]> {
        match &self.pieces[..] {
            [] => Some(&[]),
            [Piece::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The text between the values.
    pub fn texts(&self) -> impl Iterator<Item = &[u8]> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_slice()),
            Piece::Value(..) => None,
        })
    }

    /// How many bytes [`Template::render`] writes.
    pub fn length(&self, values: &Values) -> usize {
        let length = |piece: &Piece| match piece {
            Piece::Text(text) => text.len(),
            Piece::Value(index, Form::Path) => {
                let value = values.get(*index);
                value.len() + 2 * value.iter().filter(|byte| !stands_in_path(**byte)).count()
            }
            Piece::Value(index, Form::Header | Form::Body) => values.get(*index).len(),
        };
        self.pieces.iter().map(length).sum()
    }

    /// Adds the text with `values` in it to `out`.
    pub fn render(&self, values: &Values, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Value(index, Form::Path) => encode(values.get(*index), out),
                Piece::Value(index, Form::Header | Form::Body) => out.extend_from_slice(values.get(*index)),
            }
        }
    }
}

/// Adds a number to `out`, without a detour over the heap.
pub fn write_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            return out.extend_from_slice(&digits[at..]);
        }
    }
}

fn encode(value: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value {
        if stands_in_path(*byte) {
            out.push(*byte);
        } else {
            out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        }
    }
}

/// As for a path that a plan writes out: visible ASCII, and nothing that begins a fragment.
fn stands_in_path(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Why a value cannot stand in a header (RFC 9110, section 5.5), in words that do not repeat it; `None` where it can. A line end would
/// begin another header, and white space at an end is no part of a header's value.
pub fn header_refuses(value: &[u8]) -> Option<&'static str> {
    if value.iter().any(|byte| *byte != b'\t' && byte.is_ascii_control()) {
        return Some("it holds a control character, such as a line end");
    }
    let blank = |byte: Option<&u8>| byte.is_some_and(|byte| matches!(byte, b' ' | b'\t'));
    (blank(value.first()) || blank(value.last())).then_some("it begins or ends with a blank")
}

/// A piece of a text, as it is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part<'t> {
    Text(&'t str),
    Reference(&'t str),
    /// `{{` without a name and `}}` after it.
    Broken,
}

/// `a{{b}}c{{{{d` -> text a, reference b, text c, text `{{`, text d. Blanks around a name do not count.
pub fn parts(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(OPEN) {
        parts.push(Part::Text(&rest[..at]));
        let inner = &rest[at + OPEN.len()..];
        if let Some(after) = inner.strip_prefix(OPEN) {
            parts.push(Part::Text(OPEN));
            rest = after;
            continue;
        }
        match inner.split_once("}}").map(|(name, after)| (name.trim(), after)).filter(|(name, _)| is_name(name)) {
            Some((name, after)) => {
                parts.push(Part::Reference(name));
                rest = after;
            }
            None => {
                parts.push(Part::Broken);
                rest = inner;
            }
        }
    }
    parts.push(Part::Text(rest));
    parts.retain(|part| *part != Part::Text(""));
    parts
}

const OPEN: &str = "{{";

/// `text` so that it stands for itself, whatever is in it.
pub fn escaped(text: &str) -> String {
    text.replace(OPEN, "{{{{")
}

/// `text` with a letter in the place of each value: what of it can be checked before there are any.
pub fn sample(text: &str) -> String {
    let shown = |part| match part {
        Part::Text(text) => text,
        Part::Reference(_) | Part::Broken => "x",
    };
    parts(text).into_iter().map(shown).collect()
}

/// `item`, or `accounts.email`.
fn is_name(text: &str) -> bool {
    let word = |word: &str| {
        word.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && word.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
    };
    text.split_once('.').map_or_else(|| word(text), |(feed, column)| word(feed) && word(column))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn names() -> Vec<String> {
        vec!["item".to_owned(), "accounts.email".to_owned()]
    }

    fn values(all: &[&str]) -> Values {
        let mut values = Values::default();
        all.iter().for_each(|value| values.push(|out| out.extend_from_slice(value.as_bytes())));
        values
    }

    fn rendered(text: &str, form: Form, all: &[&str]) -> String {
        let template = Template::new(text, form, &names());
        let (values, mut out) = (values(all), b"before ".to_vec());
        template.render(&values, &mut out);
        assert_eq!(out.len(), 7 + template.length(&values), "the length is known before");
        String::from_utf8(out[7..].to_vec()).expect("the test's values are text")
    }

    #[test]
    fn values_stand_where_their_names_do() {
        let both = ["7", "a@b"];
        assert_eq!(rendered("/items/{{item}}?by={{ accounts.email }}", Form::Path, &both), "/items/7?by=a@b");
        assert_eq!(rendered("{\"a\":{\"b\":{{item}}}}", Form::Body, &both), "{\"a\":{\"b\":7}}");
        assert_eq!(rendered("{{item}}{{item}}", Form::Header, &both), "77");
        assert_eq!(rendered("no value }} here", Form::Body, &both), "no value }} here");
        assert_eq!(rendered("{{{{item}} is {{item}}", Form::Body, &both), "{{item}} is 7");
    }

    /// Goal: a value is a value, whatever is in it: it cannot bring another along.
    #[test]
    fn what_a_value_holds_is_not_read_again() {
        assert_eq!(rendered("{{item}}", Form::Body, &["{{accounts.email}}", "secret"]), "{{accounts.email}}");
    }

    #[test]
    fn what_cannot_stand_in_a_path_is_encoded_and_no_more() {
        assert_eq!(rendered("/{{item}}", Form::Path, &["a b/c?d=%20&e#f\r\nü", ""]), "/a%20b/c?d=%20&e%23f%0D%0A%C3%BC");
        assert_eq!(rendered("{{item}}", Form::Header, &["a b#", ""]), "a b#");
        assert!(header_refuses(b"Bearer a\tb").is_none());
        for bad in ["a\r\nx: y", "a\0", " a", "a\t"] {
            assert!(header_refuses(bad.as_bytes()).is_some(), "{bad:?}");
        }
    }

    #[test]
    fn a_text_without_values_is_itself() {
        assert_eq!(Template::new("/a{{{{b", Form::Path, &[]).fixed(), Some(&b"/a{{b"[..]));
        assert_eq!(Template::default().fixed(), Some(&b""[..]));
        assert_eq!(Template::new("{{item}}", Form::Path, &names()).fixed(), None);
    }

    #[test]
    fn what_is_no_reference_is_told() {
        for broken in ["{{", "{{}}", "{{a b}}", "{{item", "{{a.b.c}}", "{{1st}}", "{{{item}}}"] {
            assert!(parts(broken).contains(&Part::Broken), "{broken}");
        }
        assert_eq!(parts("{{a-b.c_d}}"), [Part::Reference("a-b.c_d")]);
        assert_eq!(sample("/a/{{ item }}?b={{{{"), "/a/x?b={{");
    }

    #[test]
    fn numbers_are_written_as_they_are() {
        for number in [0, 7, 10, 1_234_567_890, u64::MAX] {
            let mut out = b"x".to_vec();
            write_number(number, &mut out);
            assert_eq!(String::from_utf8(out).expect("digits"), format!("x{number}"));
        }
    }

    proptest! {
        #[test]
        fn an_escaped_text_stands_for_itself(text in "[a{} $]{0,40}") {
            let template = Template::new(&escaped(&text), Form::Body, &names());
            let mut out = Vec::new();
            template.render(&Values::default(), &mut out);
            prop_assert_eq!(String::from_utf8(out).expect("text"), text);
        }

        #[test]
        fn a_path_stays_one_path(value in "\\PC{0,40}") {
            let path = rendered("/{{item}}", Form::Path, &[&value, ""]);
            prop_assert!(path.bytes().all(stands_in_path), "{}", path);
        }
    }
}
