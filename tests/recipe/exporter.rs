//! Gives the numbers to nobody: the smallest exporter there is, and the shape of every other. `ci/recipe` puts it into the tree and
//! builds it.

use futures::FutureExt;
use futures::future::BoxFuture;

use super::{Desk, Exporter, Flag, Given, Outlet};
use crate::exit::Failure;

pub const EXPORTER: Exporter = Exporter {
    name: "noop",
    summary: "given to nobody, for a recipe",
    example: "--noop anything",
    flags: &[Flag { name: "noop", value: "ANYTHING", help: "Give live metrics to nobody", alone: false }],
    read,
};

struct Nobody(String);

fn read(given: &Given) -> Result<Box<dyn Outlet>, String> {
    Ok(Box::new(Nobody(given.values.get("noop").cloned().unwrap_or_default())))
}

impl Outlet for Nobody {
    fn open(&mut self, desk: Desk) -> BoxFuture<'_, Result<String, Failure>> {
        let families = desk.numbers.snapshot().families.len();
        async move { Ok(format!("{families} families of metrics are given to nobody called {}", self.0)) }.boxed()
    }

    fn close(&mut self) -> BoxFuture<'_, Option<String>> {
        async { None }.boxed()
    }
}
