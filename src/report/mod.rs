//! Reports: one file per format, all of them rendered from one [`Report`], which is derived from the recording, so that no two can
//! disagree. Pure but for writing files and the terminal; nothing here judges, measures or waits.
//!
//! A format is one file with a `FORMAT` and one row in [`FORMATS`].

mod assertions_csv;
mod attempts;
pub mod capacity;
mod cells;
mod fault;
mod files;
mod json;
mod junit;
pub mod live;
mod load;
mod numbers;
mod scaling;
mod second;
mod summary;
mod summary_csv;
mod terminal;
mod timeseries_csv;
mod words;

pub use attempts::AttemptsRow;
pub use fault::FaultRow;
pub use files::{WriteError, write, write_to};
pub use load::{ALL, LoadRow, Quantiles};
pub use scaling::ScaleStep;
pub use second::SecondRow;
pub use summary::{EvidenceRow, ExitInfo, GapRow, PhaseRow, Place, Report};
pub use terminal::{Detail, print};

/// A way to render a report.
#[derive(Clone, Copy)]
pub struct Format {
    /// What `--format` takes.
    pub name: &'static str,
    /// The file in a run's folder.
    pub file: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// The file's whole content.
    pub render: fn(&Report) -> anyhow::Result<Vec<u8>>,
}

/// Every format, in the order in which they are listed and written.
pub const FORMATS: &[Format] =
    &[terminal::FORMAT, json::FORMAT, summary_csv::FORMAT, timeseries_csv::FORMAT, assertions_csv::FORMAT, junit::FORMAT];

/// The format of this name.
pub fn format(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|format| format.name == name)
}

/// Renders one format.
pub fn render(report: &Report, format: &Format) -> anyhow::Result<Vec<u8>> {
    (format.render)(report)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_format_has_a_name_and_a_file_of_its_own() {
        assert_eq!(FORMATS.iter().map(|f| f.name).collect::<BTreeSet<_>>().len(), FORMATS.len());
        assert_eq!(FORMATS.iter().map(|f| f.file).collect::<BTreeSet<_>>().len(), FORMATS.len());
        for row in FORMATS {
            assert!(row.summary.len() > 10 && !row.summary.ends_with('.'), "{}: {}", row.name, row.summary);
            assert_eq!(format(row.name).map(|f| f.file), Some(row.file));
        }
    }
}
