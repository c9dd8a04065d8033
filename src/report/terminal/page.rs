//! A page of text that fits the width it was given: wrapped paragraphs and tables without frames. Colour only repeats what the
//! words say.

use anstyle::{AnsiColor, Style};
use tabled::builder::Builder;
use tabled::grid::util::string::get_string_width;
use tabled::settings::object::Columns;
use tabled::settings::peaker::Priority;
use tabled::settings::style::{HorizontalLine, Style as TableStyle};
use tabled::settings::{Alignment, Padding, Width};

use crate::report::words;
use crate::verdict::Verdict;

/// Whether a page may carry colour.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ink {
    Plain,
    Colour,
}

/// Text under way.
pub struct Page {
    width: usize,
    ink: Ink,
    text: String,
}

impl Page {
    pub fn new(width: usize, ink: Ink) -> Page {
        Page { width, ink, text: String::new() }
    }

    pub fn text(self) -> String {
        self.text
    }

    /// An empty line, unless there is one.
    pub fn gap(&mut self) {
        if !self.text.is_empty() && !self.text.ends_with("\n\n") {
            self.text.push('\n');
        }
    }

    /// A line of its own above what follows.
    pub fn heading(&mut self, text: &str) {
        self.gap();
        for line in wrap(text, self.width) {
            self.line(&self.inked(&line, Style::new().bold()));
        }
    }

    /// `label` and then `text`, wrapped, its further lines below the first.
    pub fn labelled(&mut self, label: &str, text: &str) {
        let room = self.width.saturating_sub(get_string_width(label)).max(20);
        let hang = " ".repeat(get_string_width(label));
        for (index, line) in wrap(text, room).iter().enumerate() {
            let start = if index == 0 { label } else { hang.as_str() };
            self.line(&format!("{start}{line}"));
        }
    }

    /// `verdict` and then `text` beside it.
    pub fn verdict(&mut self, verdict: Verdict, text: &str) {
        let word = verdict.to_string();
        let hang = " ".repeat(word.len() + 2);
        for (index, line) in wrap(text, self.width.saturating_sub(hang.len())).iter().enumerate() {
            let start = if index == 0 { format!("{}  ", self.inked(&word, style(verdict))) } else { hang.clone() };
            self.line(&format!("{start}{line}"));
        }
    }

    /// A line that may not be wrapped: a command, a path, a source line.
    pub fn verbatim(&mut self, text: &str) {
        self.line(&words::clean(text));
    }

    /// A warning that must not be missed.
    pub fn alarm(&mut self, text: &str) {
        for line in wrap(text, self.width) {
            self.line(&self.inked(&line, style(Verdict::Fail)));
        }
    }

    /// How wide `column` of a table may be for all of it to fit the page, when no other column is wrapped.
    pub fn room(&self, header: &[&str], rows: &[Vec<String>], column: usize) -> usize {
        let cells = |at: usize| rows.iter().filter_map(move |row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0);
        let others = header.iter().enumerate().filter(|(at, _)| *at != column);
        // A space of padding after every cell, and one between two.
        let taken: usize = others.map(|(at, name)| cells(at).max(width(name)) + 2).sum();
        self.width.saturating_sub(taken + 1)
    }

    /// A table. `right` names the columns of numbers. Columns that do not fit are wrapped, the widest first.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>, right: &[usize]) {
        let mut builder = Builder::default();
        builder.push_record(header.iter().map(|cell| (*cell).to_owned()));
        for row in rows {
            builder.push_record(row.iter().map(|cell| cell.lines().map(words::clean).collect::<Vec<_>>().join("\n")));
        }
        let mut table = builder.build();
        let rule = HorizontalLine::new('-').intersection(' ');
        table.with(TableStyle::empty().vertical(' ').horizontals([(1, rule)])).with(Padding::new(0, 1, 0, 0));
        for column in right {
            table.modify(Columns::new(*column..*column + 1), Alignment::right());
        }
        table.with(Width::wrap(self.width).priority(Priority::max(true)).keep_words(true));
        for line in table.to_string().lines() {
            let line = line.trim_end();
            let painted = [Verdict::Inconclusive, Verdict::Pass, Verdict::Fail].into_iter().find_map(|verdict| {
                let word = verdict.to_string();
                let rest = line.strip_prefix(&word)?;
                (rest.is_empty() || rest.starts_with(' ')).then(|| format!("{}{rest}", self.inked(&word, style(verdict))))
            });
            self.line(&painted.unwrap_or_else(|| line.to_owned()));
        }
    }

    fn line(&mut self, text: &str) {
        self.text.push_str(text.trim_end());
        self.text.push('\n');
    }

    fn inked(&self, text: &str, style: Style) -> String {
        match self.ink {
            Ink::Plain => text.to_owned(),
            Ink::Colour => format!("{style}{text}{style:#}"),
        }
    }
}

fn style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Pass => AnsiColor::Green,
        Verdict::Inconclusive => AnsiColor::Yellow,
        Verdict::Fail => AnsiColor::Red,
    };
    Style::new().bold().fg_color(Some(colour.into()))
}

/// Columns of the widest line of a cell.
pub fn width(cell: &str) -> usize {
    cell.lines().map(get_string_width).max().unwrap_or(0)
}

/// `text` in lines of at most `width` columns, broken between words where that is possible. Never empty.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in words::clean(text).split_whitespace() {
        let mut word = word;
        let mut wide = get_string_width(word);
        if used > 0 && used + 1 + wide > width {
            lines.push(String::new());
            used = 0;
        }
        while used == 0 && wide > width {
            let cut = cut_at(word, width);
            if let Some(line) = lines.last_mut() {
                line.push_str(&word[..cut]);
            }
            lines.push(String::new());
            word = &word[cut..];
            wide = get_string_width(word);
        }
        if let Some(line) = lines.last_mut() {
            if used > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += wide;
        }
    }
    if lines.len() > 1 && lines.last().is_some_and(String::is_empty) {
        lines.pop();
    }
    lines
}

/// How many bytes of `word` fit into `width` columns; at least one character's.
fn cut_at(word: &str, width: usize) -> usize {
    let mut used = 0;
    for (at, c) in word.char_indices() {
        used += get_string_width(c.encode_utf8(&mut [0; 4]));
        if used > width && at > 0 {
            return at;
        }
    }
    word.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_wider_than_the_page_whatever_the_words() {
        for text in ["", "a", "one two three", "averyveryverylongwordwithoutaspace and more", "日本語の長い文章です", "x  y\n\tz"]
        {
            for width in [1, 2, 5, 12, 80] {
                let lines = wrap(text, width);
                let fits = |line: &String| get_string_width(line) <= width.max(2);
                assert!(lines.iter().all(fits), "{text:?} in {width}: {lines:?}");
                let squeezed = |s: String| s.chars().filter(|c| !c.is_whitespace()).collect::<String>();
                assert_eq!(squeezed(lines.concat()), squeezed(text.to_owned()), "nothing is lost of {text:?} in {width}");
            }
        }
    }

    #[test]
    fn a_table_fits_the_page_and_colour_changes_no_letter() {
        let rows = || {
            vec![
                vec![
                    "FAIL".to_owned(),
                    "a-very-long-name-that-a-person-chose.and_its_check".to_owned(),
                    "x".repeat(60),
                    "1".to_owned(),
                ],
                vec!["PASS".to_owned(), "b".to_owned(), "multiple words that can be wrapped nicely".to_owned(), "22".to_owned()],
            ]
        };
        let page = |ink| {
            let mut page = Page::new(60, ink);
            page.table(&["verdict", "check", "text", "n"], rows(), &[3]);
            page.text()
        };
        let plain = page(Ink::Plain);
        assert!(plain.lines().all(|line| get_string_width(line) <= 60), "{plain}");
        assert_eq!(anstream::adapter::strip_str(&page(Ink::Colour)).to_string(), plain);
        assert!(page(Ink::Colour).contains("\u{1b}["));
    }
}
