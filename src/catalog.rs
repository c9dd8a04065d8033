//! All that a plan can name and a run can write, from the tables in which it is registered: what `squall list` prints, after the commands,
//! and what the README's tables hold. Nothing is listed here by hand.

use std::borrow::Cow;

use crate::exit::Exit;
use crate::kinds::{Kind, Row};
use crate::recording::fact::LIMITS;
use crate::sandbox::resource::RESOURCES;
use crate::varying::{Draw, TRACES, VARYING, feed};
use crate::{faults, gotchas, metrics, plan, protocol, report, schedule, verdict};

/// A group of things with a name, one line about each, and what it looks like in a plan.
pub struct Section {
    /// `faults`, `assertions`, ...: also the name of the README's table.
    pub name: &'static str,
    /// What the entries are, for a heading.
    pub title: &'static str,
    pub entries: Vec<Entry>,
}

/// One thing.
pub struct Entry {
    pub name: String,
    pub summary: Cow<'static, str>,
    /// As a plan writes it; empty where that is the name alone.
    pub example: String,
}

/// Every section, in the order in which a plan meets them.
pub fn sections() -> Vec<Section> {
    let kinds = |rows: &[Row]| {
        let entry = |row: &Row| Entry {
            name: row.key.into(),
            summary: row.summary.into(),
            example: format!("{}: {}", row.key, row.example),
        };
        rows.iter().map(entry).collect()
    };
    let arrivals =
        |row: &Row| Entry { name: row.key.into(), summary: row.summary.into(), example: format!("arrivals: {}", row.as_value()) };
    let named = |(name, summary): &(&'static str, &'static str)| Entry {
        name: (*name).into(),
        summary: (*summary).into(),
        example: String::new(),
    };
    let described = |(name, summary, example): &(&'static str, &'static str, &'static str)| Entry {
        name: (*name).into(),
        summary: (*summary).into(),
        example: (*example).into(),
    };
    vec![
        Section {
            name: "arrivals",
            title: "Arrivals (load.arrivals)",
            entries: schedule::Arrivals::ALL.iter().map(arrivals).collect(),
        },
        Section {
            name: "draws",
            title: "Keys that differ from request to request (load.draw)",
            entries: Draw::ALL
                .iter()
                .map(|row| Entry {
                    name: row.key.into(),
                    summary: row.summary.into(),
                    example: format!("draw: {{item: {}}}", row.as_value()),
                })
                .collect(),
        },
        Section {
            name: "feeds",
            title: "Orders of the rows of a feed (feeds.order)",
            entries: feed::ORDERS.iter().map(named).collect(),
        },
        Section {
            name: "varying",
            title: "What differs from request to request (load)",
            entries: VARYING.iter().map(described).collect(),
        },
        Section {
            name: "traces",
            title: "What a request can be found by (load.trace)",
            entries: TRACES
                .iter()
                .map(|(name, _, summary)| Entry {
                    name: (*name).into(),
                    summary: (*summary).into(),
                    example: format!("{{{{{name}}}}}"),
                })
                .collect(),
        },
        Section { name: "protocols", title: "Protocols (load.protocol)", entries: protocol::ALL.iter().map(named).collect() },
        Section {
            name: "transport",
            title: "How requests get there (target, load)",
            entries: plan::TRANSPORT.iter().map(described).collect(),
        },
        Section {
            name: "answers",
            title: "What an answer must be like, and where it leads (load.request)",
            entries: plan::ANSWERS.iter().map(described).collect(),
        },
        Section { name: "flows", title: "Requests in steps (load.flow)", entries: plan::FLOWS.iter().map(described).collect() },
        Section {
            name: "client",
            title: "What clients do on their own account (load.client)",
            entries: plan::CLIENT.iter().map(described).collect(),
        },
        Section {
            name: "jitters",
            title: "What chance does to a backoff (retries.backoff.jitter)",
            entries: plan::JITTERS.iter().map(named).collect(),
        },
        Section { name: "models", title: "What makes requests come (load)", entries: plan::MODELS.iter().map(described).collect() },
        Section {
            name: "generator",
            title: "The generator itself (generator)",
            entries: plan::GENERATOR.iter().map(described).collect(),
        },
        Section { name: "pacing", title: "Pacing (generator.pacing)", entries: plan::PACINGS.iter().map(named).collect() },
        Section { name: "faults", title: "Faults (faults)", entries: kinds(faults::Spec::ALL) },
        Section { name: "assertions", title: "Assertions (assert)", entries: kinds(verdict::Spec::ALL) },
        Section {
            name: "certificate",
            title: "What the generator certifies of itself (certificate in run.json)",
            entries: verdict::CERTIFIED.iter().map(named).collect(),
        },
        Section {
            name: "limits",
            title: "What keeps a request from being sent, and the way out (unsent_by)",
            entries: LIMITS.iter().map(named).collect(),
        },
        Section {
            name: "formats",
            title: "Report formats (squall report RUN --format F)",
            entries: report::FORMATS
                .iter()
                .map(|format| Entry { name: format.name.into(), summary: format.summary.into(), example: format.file.into() })
                .collect(),
        },
        Section {
            name: "exporters",
            title: "Live metrics (squall run, squall load)",
            entries: metrics::EXPORTERS
                .iter()
                .map(|exporter| Entry {
                    name: exporter.name.into(),
                    summary: exporter.summary.into(),
                    example: exporter.example.into(),
                })
                .collect(),
        },
        Section {
            name: "metrics",
            title: "Metrics that they export",
            entries: metrics::FAMILIES
                .iter()
                .map(|family| Entry { name: family.signature(), summary: family.help.into(), example: String::new() })
                .collect(),
        },
        Section {
            name: "sandbox",
            title: "What the sandbox serves (cluster: sandbox, squall sandbox up)",
            entries: RESOURCES
                .iter()
                .map(|resource| Entry { name: resource.qualified(), summary: resource.summary.into(), example: String::new() })
                .collect(),
        },
        Section {
            name: "gotchas",
            title: "What squall doctor looks for",
            entries: gotchas::ALL
                .iter()
                .map(|gotcha| Entry { name: gotcha.name.into(), summary: gotcha.summary.into(), example: String::new() })
                .collect(),
        },
        Section {
            name: "detectors",
            title: "What may explain a check that failed (detected in run.json)",
            entries: verdict::detectors::ALL
                .iter()
                .map(|detector| Entry { name: detector.name.into(), summary: detector.summary.into(), example: String::new() })
                .collect(),
        },
        Section {
            name: "exit-codes",
            title: "Exit codes",
            entries: Exit::ALL
                .iter()
                .map(|exit| Entry { name: exit.code().to_string(), summary: exit.meaning().into(), example: String::new() })
                .collect(),
        },
    ]
}

/// Sections as text for a terminal.
pub fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for section in sections {
        if !text.is_empty() {
            text.push('\n');
        }
        text.push_str(&format!("{}\n", section.title));
        for entry in &section.entries {
            // A name that is longer than its column has a line of its own.
            let gap = if entry.name.len() > 16 { format!("\n  {:<16}", "") } else { String::new() };
            text.push_str(&format!("  {:<16}{gap} {}\n", entry.name, entry.summary));
            if !entry.example.is_empty() {
                text.push_str(&format!("  {:<16}   {}\n", "", entry.example));
            }
        }
    }
    text
}

/// A section as a Markdown table, as it stands in the README between its markers.
pub fn markdown(section: &Section) -> String {
    let with_example = section.entries.iter().any(|entry| !entry.example.is_empty());
    let mut text =
        if with_example { "| name | what it is | as written |\n|---|---|---|\n" } else { "| name | what it is |\n|---|---|\n" }
            .to_owned();
    for entry in &section.entries {
        let cell = |text: &str| text.replace('|', "\\|");
        text.push_str(&format!("| `{}` | {} |", entry.name, cell(&entry.summary)));
        if with_example {
            text.push_str(&format!(" `{}` |", cell(&entry.example)));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_registered_is_listed_with_a_line_about_it() {
        let text = text(&sections());
        for section in sections() {
            assert!(!section.entries.is_empty(), "{} is empty", section.name);
            for entry in &section.entries {
                assert!(text.contains(&entry.name) && text.contains(&*entry.summary), "{}", entry.name);
                assert!(!entry.summary.is_empty() && !entry.summary.ends_with('.'), "{}: {}", entry.name, entry.summary);
                assert!(markdown(&section).contains(&format!("| `{}` |", entry.name)));
            }
        }
    }
}
