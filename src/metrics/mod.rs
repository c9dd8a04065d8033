//! Live metrics: the numbers of a run while it goes on, for the dashboards that people have. They are derived from the recording as it is
//! written, off the way of the requests; an exporter hands out copies. None is on unless asked for, and none can fail a run: who takes
//! no numbers gets a warning on stderr and the recording has them all the same.
//!
//! ```text
//! recording's writer ─event, interval─▶ Numbers ─copy─▶ Outlet: who asks (a page), who is told (a push)
//! ```
//!
//! An exporter is one file with an `EXPORTER` and one row in [`EXPORTERS`].

use std::collections::BTreeMap;

use futures::future::{BoxFuture, join_all};
use tokio::sync::mpsc;

use crate::exit::{Exit, Failure};
use crate::recording::tap::Tap;

mod family;
mod numbers;
mod otlp;
mod prometheus;
mod registry;
mod text;

pub use family::{BOUNDS, FAMILIES, Family, Kind, Unit};
pub use numbers::{Numbers, Run, Snapshot};
pub use registry::{Labels, Spread, Value};
pub use text::{Format, render};

/// Every exporter, in the order in which they are listed.
pub const EXPORTERS: &[Exporter] = &[prometheus::EXPORTER, otlp::EXPORTER];

/// Warnings that wait until they are told; what comes on top is not: the first of each outlet are those that help.
const WARNINGS: usize = 8;

/// A way to export the numbers.
pub struct Exporter {
    pub name: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// On a command line.
    pub example: &'static str,
    /// The flags of the command line; the first turns it on.
    pub flags: &'static [Flag],
    /// Reads what was given.
    pub read: fn(&Given) -> Result<Box<dyn Outlet>, String>,
}

/// A flag of an exporter.
pub struct Flag {
    /// Without its dashes.
    pub name: &'static str,
    pub value: &'static str,
    pub help: &'static str,
    /// Whether it may stand without a value.
    pub alone: bool,
}

/// What was given to an exporter.
pub struct Given<'a> {
    /// By flag; empty where one stood alone.
    pub values: BTreeMap<&'static str, String>,
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

/// Where numbers go out.
pub trait Outlet: Send {
    /// Takes what it needs, before anything is sent to the target, and gives the numbers out from then on. Says where, in words.
    fn open(&mut self, desk: Desk) -> BoxFuture<'_, Result<String, Failure>>;

    /// The last numbers stand: gives them out and ends, within a time of its own that has a bound. What went wrong, in words.
    fn close(&mut self) -> BoxFuture<'_, Option<String>>;
}

/// What an outlet works with.
#[derive(Clone)]
pub struct Desk {
    pub numbers: Numbers,
    warnings: mpsc::Sender<String>,
}

impl Desk {
    /// A desk, and where its warnings come out.
    pub fn new() -> (Desk, mpsc::Receiver<String>) {
        let (warnings, told) = mpsc::channel(WARNINGS);
        (Desk { numbers: Numbers::new(), warnings }, told)
    }

    /// Tells whoever runs this that something does not work, without waiting for it.
    pub fn warn(&self, words: String) {
        // An error means that enough was said already.
        let _ = self.warnings.try_send(words);
    }
}

/// The outlets of a run. Dropping it closes them without the last numbers.
pub struct Exporting {
    desk: Desk,
    warnings: mpsc::Receiver<String>,
    outlets: Vec<Box<dyn Outlet>>,
}

impl Exporting {
    /// Opens every outlet, and says where it is through `tell`.
    ///
    /// # Errors
    /// When one of them cannot have what it needs.
    pub async fn open(outlets: Vec<Box<dyn Outlet>>, mut tell: impl FnMut(&str)) -> Result<Exporting, Failure> {
        let (desk, warnings) = Desk::new();
        let mut exporting = Exporting { desk, warnings, outlets };
        for outlet in &mut exporting.outlets {
            tell(&outlet.open(exporting.desk.clone()).await?);
        }
        Ok(exporting)
    }

    /// Who counts; nobody where nobody asked for numbers.
    pub fn tap(&self) -> Option<Box<dyn Tap>> {
        (!self.outlets.is_empty()).then(|| self.desk.numbers.tap())
    }

    /// The next thing that does not work, in words.
    pub async fn warning(&mut self) -> String {
        // The desk holds a sender, so this waits until there is one.
        self.warnings.recv().await.unwrap_or_default()
    }

    /// Gives out the last numbers, everywhere at once, and ends. What did not work, in words.
    pub async fn close(&mut self) -> Vec<String> {
        let last = join_all(self.outlets.iter_mut().map(|outlet| outlet.close())).await;
        let earlier = std::iter::from_fn(|| self.warnings.try_recv().ok());
        let said = earlier.collect::<Vec<_>>().into_iter().chain(last.into_iter().flatten()).collect();
        self.outlets.clear();
        said
    }
}

/// What cannot be had on this machine.
fn unavailable(why: String) -> Failure {
    Failure::new(Exit::Environment, why)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_exporter_has_a_name_and_flags_of_its_own() {
        let flags: Vec<&Flag> = EXPORTERS.iter().flat_map(|exporter| exporter.flags).collect();
        assert_eq!(flags.iter().map(|flag| flag.name).collect::<BTreeSet<_>>().len(), flags.len());
        assert_eq!(EXPORTERS.iter().map(|exporter| exporter.name).collect::<BTreeSet<_>>().len(), EXPORTERS.len());
        for exporter in EXPORTERS {
            let first = exporter.flags.first().expect("a flag turns it on");
            assert!(exporter.example.contains(&format!("--{}", first.name)), "{}", exporter.example);
            assert!(!exporter.summary.ends_with('.') && exporter.flags.iter().all(|flag| !flag.help.ends_with('.')));
        }
    }
}
