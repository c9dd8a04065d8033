//! Rows from a file, one for each request: CSV whose first line names the columns, or JSON Lines, an object a line. The plan names the
//! file; who runs the plan reads it, and who only judges by it does without.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::{Map, Value};

use super::draw::Chance;

/// The largest file that is read, in bytes.
pub const FILE_MOST: u64 = 64 << 20;
/// The most bytes of a cell. Each connection keeps room for the largest request that it sent, and there may be thousands of them.
pub const CELL_MOST: usize = 64 << 10;
/// How many bad lines of a file are told; one that is no feed has thousands.
const TOLD_MOST: usize = 5;

/// The orders by name, with one line about each.
pub const ORDERS: &[(&str, &str)] = &[
    ("sequential", "row after row by the number of the request, and from the first again after the last; the default"),
    ("random", "a row drawn for each request, by the run's seed"),
    ("unique", "each row once; requests beyond the last row are unsent, as `feed used up`"),
];

/// Which row a request takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// Row after row by the number of the request, and from the first again after the last.
    #[default]
    Sequential,
    /// Drawn for each request.
    Random,
    /// Each row once.
    Unique,
}

/// A feed of a plan.
#[derive(Clone)]
pub struct Feed {
    pub name: String,
    /// As the plan names it.
    pub file: String,
    pub order: Order,
    /// What is in it, where it has been read.
    pub table: Option<Table>,
}

/// Two plans are equal when they say the same, whoever has read what they name.
impl PartialEq for Feed {
    fn eq(&self, other: &Feed) -> bool {
        (&self.name, &self.file, self.order) == (&other.name, &other.file, other.order)
    }
}

/// Rows are not for people who print a plan: they may be many, and secret.
impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = self.table.as_ref().map(Table::rows);
        f.debug_struct("Feed").field("name", &self.name).field("order", &self.order).field("rows", &rows).finish_non_exhaustive()
    }
}

/// What is in a file: cells in one piece of memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Table {
    columns: Vec<String>,
    text: String,
    /// Where each cell ends, row by row.
    ends: Vec<usize>,
}

impl Feed {
    /// How many requests it has rows for, where that is bounded and known.
    pub fn lasts(&self) -> Option<u64> {
        self.table.as_ref().filter(|_| self.order == Order::Unique).map(|table| table.rows() as u64)
    }

    /// The cell of the request `number`; `seed` decides which where they are drawn.
    pub(super) fn cell(&self, column: usize, seed: u64, number: u64) -> &str {
        let Some(table) = &self.table else { return "" };
        let rows = table.rows() as u64;
        let row = match self.order {
            Order::Sequential | Order::Unique => number % rows,
            Order::Random => Chance::of(seed, number).below(rows),
        };
        table.cell(row as usize, column)
    }
}

impl Table {
    /// Reads JSON Lines where the file is called so (`.jsonl`, `.ndjson`), else CSV. There is a row at least.
    ///
    /// # Errors
    /// What is wrong with it, line by line.
    pub fn read(file: &str, text: &str) -> Result<Table, Vec<String>> {
        let is = |ending: &str| file.to_ascii_lowercase().ends_with(ending);
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let table = if is(".jsonl") || is(".ndjson") { json_lines(text) } else { csv_rows(text) }?;
        if table.rows() == 0 {
            return Err(vec!["it has no rows: a feed needs one at least, below the names of its columns".to_owned()]);
        }
        Ok(table)
    }

    pub fn columns(&self) -> &[String] {
        &self.columns
    }

    pub fn rows(&self) -> usize {
        self.ends.len().checked_div(self.columns.len()).unwrap_or(0)
    }

    /// The cell of a row and a column, which there are.
    pub fn cell(&self, row: usize, column: usize) -> &str {
        let at = row * self.columns.len() + column;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[start..self.ends[at]]
    }

    fn named(columns: Vec<String>) -> Result<Table, Vec<String>> {
        let twice = columns.iter().enumerate().find(|(n, column)| columns[..*n].contains(column));
        match twice {
            Some((_, column)) => Err(vec![format!("line 1: there are two columns `{column}`")]),
            None => Ok(Table { columns, ..Table::default() }),
        }
    }

    fn push(&mut self, cell: &str) {
        self.text.push_str(cell);
        self.ends.push(self.text.len());
    }
}

fn csv_rows(text: &str) -> Result<Table, Vec<String>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| vec![error.to_string()])?;
    let mut table = Table::named(header.iter().map(|name| name.trim().to_owned()).collect())?;
    let mut bad = Vec::new();
    for record in reader.records() {
        match record {
            Ok(record) if record.len() == table.columns.len() => {
                match record.iter().zip(&table.columns).find_map(|(cell, column)| too_long(cell, column)) {
                    None => record.iter().for_each(|cell| table.push(cell)),
                    Some(why) => bad.push(format!("line {}: {why}", line_of(&record))),
                }
            }
            Ok(record) => {
                let line = line_of(&record);
                bad.push(format!("line {line}: {} cells, and the first line names {} columns", record.len(), table.columns.len()));
            }
            Err(error) => bad.push(error.to_string()),
        }
        if bad.len() == TOLD_MOST {
            break;
        }
    }
    if bad.is_empty() { Ok(table) } else { Err(bad) }
}

fn line_of(record: &csv::StringRecord) -> u64 {
    record.position().map_or(0, csv::Position::line)
}

/// Why a cell is too long, in words that do not repeat it.
fn too_long(cell: &str, column: &str) -> Option<String> {
    let bytes = cell.len();
    (bytes > CELL_MOST).then(|| {
        format!("`{column}` has {bytes} bytes: a cell has at most {} KiB; what is larger may be a body, as a file", CELL_MOST >> 10)
    })
}

fn json_lines(text: &str) -> Result<Table, Vec<String>> {
    let mut table = Table::default();
    let mut bad = Vec::new();
    for (n, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        if let Err(why) = json_row(&mut table, line) {
            bad.push(format!("line {}: {why}", n + 1));
            if bad.len() == TOLD_MOST {
                break;
            }
        }
    }
    if bad.is_empty() { Ok(table) } else { Err(bad) }
}

/// Adds a row; the first one names the columns.
fn json_row(table: &mut Table, line: &str) -> Result<(), String> {
    // What the parser says repeats what it found, and rows may be secret.
    let row: Map<String, Value> = serde_json::from_str(line).map_err(|error| match error.classify() {
        Category::Data => "it is no JSON object, as in {\"id\": 1, \"name\": \"ann\"}".to_owned(),
        _ => format!("it is no JSON object: it ends, or is no JSON any more, at column {}", error.column()),
    })?;
    if table.columns.is_empty() {
        table.columns = row.keys().cloned().collect();
    }
    if let Some(stranger) = row.keys().find(|key| !table.columns.contains(key)) {
        return Err(format!("`{stranger}` is no column of the first row"));
    }
    let mut cells = Vec::new();
    for column in &table.columns {
        cells.push(match row.get(column) {
            Some(Value::String(text)) => text.clone(),
            Some(value @ (Value::Number(_) | Value::Bool(_))) => value.to_string(),
            Some(_) => return Err(format!("`{column}` is neither text nor a number nor true or false")),
            None => return Err(format!("it has no `{column}`, as the first row has")),
        });
        if let Some(why) = cells.last().and_then(|cell| too_long(cell, column)) {
            return Err(why);
        }
    }
    cells.iter().for_each(|cell| table.push(cell));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn feed(order: Order) -> Feed {
        let table = Table::read("a.csv", "id,name\n1,ann\n2,\"b, ob\"\n3,\n").expect("a feed");
        Feed { name: "a".to_owned(), file: "a.csv".to_owned(), order, table: Some(table) }
    }

    #[test]
    fn rows_are_taken_in_their_order() {
        let taken = |order, numbers: std::ops::Range<u64>| {
            let feed = feed(order);
            numbers.map(|number| format!("{}{}", feed.cell(0, 7, number), feed.cell(1, 7, number))).collect::<Vec<_>>()
        };
        assert_eq!(taken(Order::Sequential, 0..5), ["1ann", "2b, ob", "3", "1ann", "2b, ob"]);
        assert_eq!(taken(Order::Unique, 0..3), ["1ann", "2b, ob", "3"]);
        let random = taken(Order::Random, 0..300);
        for row in ["1ann", "2b, ob", "3"] {
            let count = random.iter().filter(|taken| *taken == row).count();
            assert!((60..140).contains(&count), "a third of 300, five standard deviations of 8: {count}");
        }
        assert_eq!((feed(Order::Unique).lasts(), feed(Order::Random).lasts()), (Some(3), None));
    }

    #[test]
    fn json_lines_are_the_same_rows() {
        let text = "{\"id\":1,\"name\":\"ann\"}\n\n{\"name\":\"b, ob\",\"id\":2.5}\n{\"id\":true,\"name\":\"\"}\n";
        let table = Table::read("x/A.JSONL", text).expect("a feed");
        assert_eq!((table.columns(), table.rows()), (&["id".to_owned(), "name".to_owned()][..], 3));
        assert_eq!((table.cell(0, 1), table.cell(1, 0), table.cell(1, 1), table.cell(2, 0)), ("ann", "2.5", "b, ob", "true"));
    }

    #[test]
    fn what_is_no_feed_is_told_line_by_line() {
        let (fits, long) = ("x".repeat(CELL_MOST), "x".repeat(CELL_MOST + 1));
        let long_cell = format!("id,name\n1,a\n2,{long}\n");
        let long_value = format!("{{\"a\":\"{long}\"}}\n");
        assert!(Table::read("a.csv", &format!("id,name\n1,{fits}\n")).is_ok());
        for (file, text, says) in [
            ("a.csv", long_cell.as_str(), "line 3: `name` has 65537 bytes: a cell has at most 64 KiB"),
            ("a.jsonl", &long_value, "line 1: `a` has 65537 bytes"),
            ("a.csv", "", "no rows"),
            ("a.csv", "id,name\n", "no rows"),
            ("a.csv", "id,id\n1,2\n", "two columns `id`"),
            ("a.csv", "id,name\n1,a\n2\n", "line 3: 1 cells, and the first line names 2 columns"),
            ("a.jsonl", "\n", "no rows"),
            ("a.jsonl", "{}\n", "no rows"),
            ("a.jsonl", "[1]\n", "line 1: it is no JSON object"),
            ("a.jsonl", "\"hunter2\"\n", "line 1: it is no JSON object"),
            (
                "a.jsonl",
                "{\"a\":1}\n{\"a\":hunter2}\n",
                "line 2: it is no JSON object: it ends, or is no JSON any more, at column 6",
            ),
            ("a.jsonl", "{\"a\":\"hunter2\n", "line 1: it is no JSON object: it ends"),
            ("a.jsonl", "{\"a\":[\"hunter2\"]}\n", "line 1: `a` is neither"),
            ("a.jsonl", "{\"a\":1}\n{\"b\":1}\n", "line 2: `b` is no column of the first row"),
            ("a.jsonl", "{\"a\":1,\"b\":2}\n{\"b\":1}\n", "line 2: it has no `a`"),
            ("a.jsonl", "{\"a\":null}\n", "line 1: `a` is neither"),
        ] {
            let bad = Table::read(file, text).expect_err(text);
            assert!(bad[0].contains(says) && bad[0].len() < 200 && !bad[0].contains("hunter2"), "{text:?}: {bad:?}");
        }
        let many = "a,b\n".to_owned() + &"1\n".repeat(100);
        assert_eq!(Table::read("a.csv", &many).expect_err("ragged").len(), TOLD_MOST);
    }

    proptest! {
        #[test]
        fn no_file_panics_and_every_cell_of_one_that_is_read_is_there(text in "[a-b,\"\\n{}:1 ]{0,80}", lines: bool) {
            let file = if lines { "a.jsonl" } else { "a.csv" };
            if let Ok(table) = Table::read(file, &text) {
                for row in 0..table.rows() {
                    (0..table.columns().len()).for_each(|column| _ = table.cell(row, column));
                }
            }
        }
    }
}
