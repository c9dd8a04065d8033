//! What is wrong with a plan, for a person: place, source snippet, and the way out. A reader collects every [`Problem`] it can
//! find; [`Problems`] puts them in file order and draws them.

use std::fmt;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet};

/// How many problems are shown; a file that is no plan at all has thousands.
const SHOWN_MOST: usize = 50;
/// Columns that a snippet may take, wherever it is printed: long source lines are cropped around the caret.
const WIDTH: usize = 120;

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Bytes of the source; absent where the problem has no place in the file (it does not exist, a `--set`).
    pub span: Option<Range<usize>>,
    /// One sentence without a full stop.
    pub message: String,
    /// What stands beside the caret; may be empty.
    pub label: String,
    /// What to do, where the message does not say it.
    pub help: Option<String>,
}

impl Problem {
    pub(super) fn at(span: Range<usize>, message: impl Into<String>) -> Problem {
        Problem { span: Some(span), message: message.into(), label: String::new(), help: None }
    }

    pub(super) fn nowhere(message: impl Into<String>) -> Problem {
        Problem { span: None, message: message.into(), label: String::new(), help: None }
    }

    pub(super) fn label(mut self, label: impl Into<String>) -> Problem {
        self.label = label.into();
        self
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Problem {
        self.help = Some(help.into());
        self
    }

    pub(super) fn maybe_help(mut self, help: Option<String>) -> Problem {
        self.help = help.or(self.help);
        self
    }
}

/// All problems of one source, in file order. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    /// As the user named it.
    file: String,
    text: String,
    list: Vec<Problem>,
}

impl std::error::Error for Problems {}

impl Problems {
    pub(super) fn new(file: &str, text: &str, mut list: Vec<Problem>) -> Problems {
        // Stable: of two problems at one place, the one that was found first is the cause.
        list.sort_by_key(|problem| problem.span.as_ref().map_or((0, 0), |span| (span.start + 1, span.end)));
        list.dedup();
        Problems { file: file.to_owned(), text: text.to_owned(), list }
    }

    /// The file, as the user named it.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Every problem, in file order.
    pub fn list(&self) -> &[Problem] {
        &self.list
    }

    /// Line and column of a problem, both counted from 1, the column in characters.
    pub fn place(&self, problem: &Problem) -> Option<(u32, u32)> {
        problem.span.as_ref().map(|span| place(&self.text, span.start))
    }

    /// One line per problem, `file:line:column: message (help)`: for editors and logs.
    pub fn lines(&self) -> Vec<String> {
        let help = |problem: &Problem| problem.help.as_ref().map(|help| format!(" ({help})")).unwrap_or_default();
        self.list
            .iter()
            .map(|problem| match self.place(problem) {
                Some((line, column)) => format!("{}:{line}:{column}: {}{}", self.file, problem.message, help(problem)),
                None => format!("{}: {}{}", self.file, problem.message, help(problem)),
            })
            .collect()
    }

    /// Source snippets with carets, in colour where asked; ends with a line that counts.
    pub fn render(&self, colour: Colour) -> String {
        let renderer = match colour {
            Colour::Plain => Renderer::plain(),
            // Coloured, yet never with terminal hyperlinks: those are for documents, and some terminals print them raw.
            Colour::Ansi => Renderer::styled(),
        }
        .term_width(WIDTH);
        let mut out = String::new();
        for problem in self.list.iter().take(SHOWN_MOST) {
            out.push_str(renderer.render(&self.groups(problem)).trim_end());
            out.push_str("\n\n");
        }
        let count = self.list.len();
        if count > SHOWN_MOST {
            out.push_str(&format!("… and {} more\n", count - SHOWN_MOST));
        }
        out.push_str(&format!("{}: {count} problem{}\n", self.file, if count == 1 { "" } else { "s" }));
        out
    }

    fn groups<'a>(&'a self, problem: &'a Problem) -> Vec<Group<'a>> {
        let title = Level::ERROR.primary_title(&problem.message);
        let Some(span) = &problem.span else {
            let group = Group::with_title(title).element(Level::NOTE.message(format!("in {}", self.file)));
            return vec![match &problem.help {
                Some(help) => group.element(Level::HELP.message(help)),
                None => group,
            }];
        };
        // A caret under a whole block would fill the screen: it stays on the first line.
        let span = first_line(&self.text, span);
        let mark = AnnotationKind::Primary.span(span);
        let mark = if problem.label.is_empty() { mark } else { mark.label(&problem.label) };
        let group = Group::with_title(title).element(Snippet::source(&self.text).path(&self.file).annotation(mark));
        vec![match &problem.help {
            Some(help) => group.element(Level::HELP.message(help)),
            None => group,
        }]
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.render(Colour::Plain).trim_end())
    }
}

/// Whether diagnostics carry colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Colour {
    Plain,
    Ansi,
}

/// Line and column of a byte, from 1.
pub(super) fn place(text: &str, byte: usize) -> (u32, u32) {
    let before = text.get(..byte.min(text.len())).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().map_or(0, |rest| rest.chars().count()) + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// `span` cut at the end of its first line, without trailing blanks; never empty within a line that has text.
fn first_line(text: &str, span: &Range<usize>) -> Range<usize> {
    let start = span.start.min(text.len());
    let end = span.end.clamp(start, text.len());
    let line = text[start..end].split('\n').next().unwrap_or("").trim_end();
    start..start + line.len()
}

/// Whatever of `known` was probably meant by `word`.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Three in ten letters may be wrong, one in a very short word: what clap, cargo and rustc agree on.
    let allowed = (word.chars().count() * 3).div_ceil(10).max(1);
    let plain = |s: &str| s.to_lowercase().replace(['-', ' '], "_");
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&plain(word), &plain(candidate)), candidate))
        .filter(|(distance, _)| *distance <= allowed)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", else what there is, else nothing.
pub(super) fn proposal<'a>(word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> Option<String> {
    if let Some(near) = nearest(word, known.clone()) {
        return Some(format!("did you mean `{near}`?"));
    }
    let mut all: Vec<String> = Vec::new();
    for word in known.into_iter().map(|word| format!("`{word}`")) {
        if !all.contains(&word) {
            all.push(word);
        }
    }
    (!all.is_empty()).then(|| format!("there {} {}", if all.len() == 1 { "is only" } else { "are" }, all.join(", ")))
}
