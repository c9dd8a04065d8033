//! What differs from one request of a load to the next: values that its path, headers and body name as `{{name}}`. Pure functions of
//! the run's seed and the number of the request, so that the shards of a load are independent of one another and a run is repeated by
//! its seed. Nothing here waits, sends, or reads a file.
//!
//! ```text
//! plan:  text ─Template::new─▶ template (text, value 0, text, value 2)        names: what each index stands for
//! run:   number ─Supply::fill─▶ values ─Template::render─▶ bytes of the request, in the connection's own buffer
//! ```

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Name;
use crate::recording::fact::Part;
use crate::schedule::random::seed_of_name;

pub mod draw;
pub mod feed;
pub mod template;
mod trace;
mod values;

pub use draw::Draw;
pub use feed::Feed;
pub use template::{Form, Names, Template};
pub use trace::TRACES;

/// What a plan can say of what differs from request to request, as it is listed.
pub const VARYING: &[(&str, &str, &str)] = &[
    (
        "load.draw",
        "names for keys that are drawn for each request, used as {{name}} in its path, headers and body",
        "draw: {item: {uniform: {of: 500}}}",
    ),
    (
        "load.class",
        "what a request is worth, sent as x-class and counted apart: one for all of a load, or drawn by weight",
        "class: {weighted: {critical: 30, default: 50, sheddable: 20}}",
    ),
    ("load.trace", "what each request can be found by, in its headers", "trace: [op_id, traceparent]"),
];
pub use values::Values;

use draw::{Chance, Picker, Sampler, Weights};

/// What the requests of one load may name, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Varying {
    /// What the plan uses, in the order of the indexes that templates have for it.
    pub values: Vec<(String, Source)>,
    /// The classes of its requests, where they have any; `{{class}}` is the class of a request.
    pub class: Option<Class>,
    /// What only answers tell, in the order of the indexes that follow those of `values`: what is saved of them, and [`LOCATION`] and
    /// [`COOKIES`] where they are needed.
    pub told: Vec<String>,
}

/// Where a redirect leads. No plan can name it.
pub const LOCATION: &str = "(location)";
/// The cookies that go with a request. No plan can name them.
pub const COOKIES: &str = "(cookies)";

/// What the requests of a load are to whoever serves them: each is of one class.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// With their weights; one alone is that of every request.
    pub weights: Weights<Name>,
    /// The header that tells it.
    pub header: String,
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    Draw(Draw),
    /// The class of the request.
    Class(Class),
    /// A column of a feed.
    Column(Arc<Feed>, Column),
    Trace(Trace),
}

/// Which column it is, where the feed has been read. Its name tells it apart from others of its feed.
#[derive(Clone, Copy, Debug)]
pub struct Column(pub usize);

impl PartialEq for Column {
    fn eq(&self, _: &Column) -> bool {
        true
    }
}

/// What a request carries so that it can be found again: see [`TRACES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trace {
    /// A name of its own, no two the same in a run.
    OpId,
    /// The trace context of W3C.
    Traceparent,
}

impl Trace {
    pub const ALL: [Trace; 2] = [Trace::OpId, Trace::Traceparent];

    /// Its name in a plan, the header that carries it, and a line about it.
    pub fn row(self) -> (&'static str, &'static str, &'static str) {
        TRACES[self as usize]
    }
}

impl Source {
    /// What it is, in words.
    pub fn describe(&self) -> String {
        match self {
            Source::Draw(draw) => format!("drawn, {}", draw.describe()),
            Source::Class(class) => class.describe(),
            Source::Column(feed, column) => match &feed.table {
                Some(table) => {
                    let order = serde_json::to_value(feed.order).ok();
                    let order = order.as_ref().and_then(|order| order.as_str()).unwrap_or_default();
                    format!("column `{}` of {} ({} rows, {order})", table.columns()[column.0], feed.file, table.rows())
                }
                None => format!("a column of {}", feed.file),
            },
            Source::Trace(trace) => trace.row().2.to_owned(),
        }
    }

    /// Every text that comes of it, as far as the plan can say; numbers can stand anywhere.
    pub fn texts(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Source::Draw(draw) => draw.words(),
            Source::Class(class) => Box::new(class.weights.names().map(Name::as_str)),
            Source::Column(feed, column) => {
                let cells = |table| (0..feed::Table::rows(table)).map(|row| table.cell(row, column.0));
                Box::new(feed.table.iter().flat_map(cells))
            }
            Source::Trace(_) => Box::new(std::iter::empty()),
        }
    }
}

impl Varying {
    /// The names in the order of their indexes.
    pub fn names(&self) -> Vec<String> {
        self.values.iter().map(|(name, _)| name.clone()).chain(self.told.iter().cloned()).collect()
    }

    /// The classes of its requests; none where they have none.
    pub fn classes(&self) -> Vec<Name> {
        self.class.iter().flat_map(|class| class.weights.names().cloned()).collect()
    }

    /// The share of its requests that is of this class.
    pub fn share_of(&self, class: &Name) -> f64 {
        let shares = self.class.iter().flat_map(|known| known.weights.shares());
        shares.filter(|(name, _)| *name == class).map(|(_, share)| share).sum()
    }

    /// What is counted apart, in the order of [`Supply::part_of`]: one at least, which is then all of it.
    pub fn parts(&self) -> Vec<Part> {
        match &self.class {
            None => vec![Part::default()],
            Some(class) => class.weights.names().map(|name| Part { class: Some(name.clone()), step: None }).collect(),
        }
    }

    /// The feeds that its requests take rows of; one may come several times.
    pub fn feeds(&self) -> impl Iterator<Item = &Feed> {
        self.values.iter().filter_map(|(_, source)| match source {
            Source::Column(feed, _) => Some(&**feed),
            _ => None,
        })
    }

    /// How many requests it has values for, where that is bounded and known: as many as the shortest of the feeds has rows whose rows are
    /// used once, and which feed that is.
    pub fn lasts(&self) -> Option<(&Feed, u64)> {
        let feeds = self.feeds().filter_map(|feed| Some((feed, feed.lasts()?)));
        feeds.min_by_key(|(_, rows)| *rows)
    }

    /// All of it, ready to be drawn from. `seed` is that of `load`: see [`seed_of`](crate::schedule::seed_of).
    pub fn supply(&self, load: &Name, seed: u64) -> Supply {
        let well = |(name, source): &(String, Source)| match source {
            // Each has a seed of its own: another draw beside it changes nothing of what it draws.
            Source::Draw(draw) => Well::Draw { sampler: draw.sampler(), seed: seed_of_name(seed, name) },
            Source::Class(class) => Well::Class(class.weights.names().map(|name| name.as_str().as_bytes().to_vec()).collect()),
            // One row for all of its columns.
            Source::Column(feed, column) => {
                Well::Column { feed: feed.clone(), column: column.0, seed: seed_of_name(seed, &feed.name) }
            }
            Source::Trace(Trace::OpId) => Well::OpId(format!("{load}-{seed:016x}-").into_bytes()),
            Source::Trace(Trace::Traceparent) => Well::Traceparent { seed: seed_of_name(seed, Trace::Traceparent.row().0) },
        };
        // One class alone is that of every request, and is not drawn.
        let several = self.class.as_ref().filter(|class| class.weights.names().count() > 1);
        Supply {
            wells: self.values.iter().map(well).collect(),
            class: several.map(|class| (class.weights.picker(), seed_of_name(seed, CLASS))),
            lasts: self.lasts().map_or(u64::MAX, |(_, rows)| rows),
            told: self.told.len(),
        }
    }
}

/// The name of the class of a request, in its texts; and what its seed hangs on.
pub const CLASS: &str = "class";

impl Class {
    /// In words, with the share of each.
    fn describe(&self) -> String {
        let share = |(name, share): (&Name, f64)| format!("{name} {:.3}%", share * 100.0);
        self.weights.shares().map(share).collect::<Vec<_>>().join(", ")
    }
}

/// The values of a load's requests, by the number of the request.
pub struct Supply {
    wells: Vec<Well>,
    /// How its class is drawn, where there are several.
    class: Option<(Picker, u64)>,
    /// How many requests it has values for.
    lasts: u64,
    /// How many values answers tell.
    told: usize,
}

enum Well {
    Draw {
        sampler: Box<dyn Sampler>,
        seed: u64,
    },
    /// The classes, by number.
    Class(Vec<Vec<u8>>),
    Column {
        feed: Arc<Feed>,
        column: usize,
        seed: u64,
    },
    /// All of it but the number.
    OpId(Vec<u8>),
    Traceparent {
        seed: u64,
    },
}

impl Supply {
    /// Whether there is nothing to fill in.
    pub fn is_empty(&self) -> bool {
        self.wells.is_empty() && self.told == 0
    }

    /// Whether a feed whose rows are used once has none left for the request `number`.
    pub fn is_used_up(&self, number: u64) -> bool {
        number >= self.lasts
    }

    /// Which of [`Varying::parts`] the request `number` is of.
    pub fn part_of(&self, number: u64) -> usize {
        self.class.as_ref().map_or(0, |(picker, seed)| picker.pick(&mut Chance::of(*seed, number)))
    }

    /// Puts the values of the request `number` into `values`.
    pub fn fill(&self, number: u64, values: &mut Values) {
        values.clear();
        for well in &self.wells {
            match well {
                Well::Draw { sampler, seed } => values.push(|out| sampler.draw(&mut Chance::of(*seed, number), out)),
                Well::Column { feed, column, seed } => {
                    values.push(|out| out.extend_from_slice(feed.cell(*column, *seed, number).as_bytes()));
                }
                Well::OpId(prefix) => values.push(|out| trace::op_id(prefix, number, out)),
                Well::Traceparent { seed } => values.push(|out| trace::traceparent(*seed, number, out)),
                Well::Class(names) => values.push(|out| out.extend_from_slice(&names[self.part_of(number)])),
            }
        }
        // There until an answer tells more.
        (0..self.told).for_each(|_| values.push(|_| ()));
    }
}
