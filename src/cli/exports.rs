//! The flags of the exporters of live metrics, as their table has them: an exporter is not written here a second time.

use std::collections::BTreeMap;

use clap::{Arg, ArgMatches, Command, FromArgMatches};

use crate::exit::{Exit, Failure};
use crate::metrics::{EXPORTERS, Given, Outlet};

/// The values of the flags that were given; empty where one stood alone.
#[derive(Clone, Default)]
pub struct Exports(BTreeMap<&'static str, String>);

impl Exports {
    /// What was asked for, read but not yet opened.
    pub fn outlets(&self) -> Result<Vec<Box<dyn Outlet>>, Failure> {
        let given = Given { values: self.0.clone(), environment: &|name| std::env::var(name).ok() };
        let wanted = EXPORTERS.iter().filter(|exporter| exporter.flags.first().is_some_and(|flag| self.0.contains_key(flag.name)));
        wanted.map(|exporter| (exporter.read)(&given).map_err(|why| Failure::new(Exit::Usage, why))).collect()
    }
}

impl clap::Args for Exports {
    fn augment_args(mut command: Command) -> Command {
        for exporter in EXPORTERS {
            for flag in exporter.flags {
                let mut arg = Arg::new(flag.name).long(flag.name).value_name(flag.value).help(flag.help);
                if flag.alone {
                    arg = arg.num_args(0..=1).default_missing_value("");
                }
                if let Some(first) = exporter.flags.first().filter(|first| first.name != flag.name) {
                    arg = arg.requires(first.name);
                }
                command = command.arg(arg);
            }
        }
        command
    }

    fn augment_args_for_update(command: Command) -> Command {
        Exports::augment_args(command)
    }
}

impl FromArgMatches for Exports {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Exports, clap::Error> {
        let flags = EXPORTERS.iter().flat_map(|exporter| exporter.flags);
        let given = flags.filter_map(|flag| Some((flag.name, matches.get_one::<String>(flag.name)?.clone())));
        Ok(Exports(given.collect()))
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Exports::from_arg_matches(matches)?;
        Ok(())
    }
}
