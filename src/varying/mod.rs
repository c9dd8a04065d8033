//! What differs from one request of a load to the next: values that its path, headers and body name as `{{name}}`. Pure functions of
//! the run's seed and the number of the request, so that the shards of a load are independent of one another and a run is repeated by
//! its seed. Nothing here waits, sends, or reads a file.
//!
//! ```text
//! plan:  text ─Template::new─▶ template (text, value 0, text, value 2)        names: what each index stands for
//! run:   number ─Supply::fill─▶ values ─Template::render─▶ bytes of the request, in the connection's own buffer
//! ```

use crate::names::Name;
use crate::recording::fact::Part;
use crate::schedule::random::seed_of_name;

pub mod draw;
pub mod template;
mod values;

pub use draw::Draw;
pub use template::{Form, Names, Template};
pub use values::Values;

use draw::{Chance, Picker, Sampler, Weights};

/// What the requests of one load may name, and where it comes from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Varying {
    /// What the plan uses, in the order of the indexes that templates have for it.
    pub values: Vec<(String, Source)>,
    /// The classes of its requests, where they have any; `{{class}}` is the class of a request.
    pub class: Option<Class>,
}

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
}

impl Source {
    /// What it is, in words.
    pub fn describe(&self) -> String {
        match self {
            Source::Draw(draw) => format!("drawn, {}", draw.describe()),
            Source::Class(class) => class.describe(),
        }
    }

    /// Every text that comes of it, as far as the plan can say; numbers can stand anywhere.
    pub fn texts(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match self {
            Source::Draw(draw) => draw.words(),
            Source::Class(class) => Box::new(class.weights.names().map(Name::as_str)),
        }
    }
}

impl Varying {
    /// The names in the order of their indexes.
    pub fn names(&self) -> Vec<String> {
        self.values.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The classes of its requests; none where they have none.
    pub fn classes(&self) -> Vec<Name> {
        self.class.iter().flat_map(|class| class.weights.names().cloned()).collect()
    }

    /// What is counted apart, in the order of [`Supply::part_of`]: one at least, which is then all of it.
    pub fn parts(&self) -> Vec<Part> {
        match &self.class {
            None => vec![Part::default()],
            Some(class) => class.weights.names().map(|name| Part { class: Some(name.clone()) }).collect(),
        }
    }

    /// All of it, ready to be drawn from. `seed` is the load's own: see [`seed_of`](crate::schedule::seed_of).
    pub fn supply(&self, seed: u64) -> Supply {
        let well = |(name, source): &(String, Source)| match source {
            // Each has a seed of its own: another draw beside it changes nothing of what it draws.
            Source::Draw(draw) => Well::Draw { sampler: draw.sampler(), seed: seed_of_name(seed, name) },
            Source::Class(class) => Well::Class(class.weights.names().map(|name| name.as_str().as_bytes().to_vec()).collect()),
        };
        // One class alone is that of every request, and is not drawn.
        let several = self.class.as_ref().filter(|class| class.weights.names().count() > 1);
        Supply {
            wells: self.values.iter().map(well).collect(),
            class: several.map(|class| (class.weights.picker(), seed_of_name(seed, CLASS))),
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
}

enum Well {
    Draw {
        sampler: Box<dyn Sampler>,
        seed: u64,
    },
    /// The classes, by number.
    Class(Vec<Vec<u8>>),
}

impl Supply {
    /// Whether there is nothing to fill in.
    pub fn is_empty(&self) -> bool {
        self.wells.is_empty()
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
                Well::Class(names) => values.push(|out| out.extend_from_slice(&names[self.part_of(number)])),
            }
        }
    }
}
