//! The one way to register a kind of thing that a plan can name: a fault, an assertion. A kind is a file with a `Spec` and one
//! row in its folder's table; the table makes the enum, the parser, the schema, `squall list`, the README tables and the
//! conformance tests, so nothing can be registered undocumented or untested.

use schemars::{Schema, SchemaGenerator};

/// One row of a table: what people and tests may know of a kind without naming it.
#[derive(Clone, Copy)]
pub struct Row {
    /// The key that a plan writes: `pod_kill`.
    pub key: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// A complete spec in YAML flow style, as it stands behind the key: `{pods: 1, grace: 0s}`. Tests read it.
    pub example: &'static str,
    /// The JSON Schema of the spec.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

/// A set of kinds, one of which stands under its key in a plan's entry (`{name: x, at: y, pod_kill: {...}}`).
pub trait Kind: Sized {
    /// Every registered kind, in the order of the table.
    const ALL: &'static [Row];

    /// Reads the spec that stands under `key`; `None` when no kind has that key.
    fn read<'de, D: serde::Deserializer<'de>>(key: &str, spec: D) -> Option<Result<Self, D::Error>>;

    /// The key of this one.
    fn key(&self) -> &'static str;
}

/// Makes the enum of a table. The `mod` lines stay outside, where rustfmt sees them.
///
/// ```text
/// kinds! {
///     /// What can be broken.
///     pub enum Spec as dyn Fault {
///         pod_kill::Spec => PodKill "pod_kill": "deletes pods and lets the platform replace them" = "{pods: 1, grace: 0s}",
///     }
/// }
/// ```
macro_rules! kinds {
    ($(#[$doc:meta])* pub enum $enum:ident as dyn $trait:path {
        $($spec:path => $variant:ident $key:literal: $summary:literal = $example:literal),+ $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub enum $enum {
            $(#[serde(rename = $key)] $variant($spec)),+
        }

        impl $crate::kinds::Kind for $enum {
            const ALL: &'static [$crate::kinds::Row] = &[$($crate::kinds::Row {
                key: $key,
                summary: $summary,
                example: $example,
                schema: |generator| generator.subschema_for::<$spec>(),
            }),+];

            fn read<'de, D: serde::Deserializer<'de>>(key: &str, spec: D) -> Option<Result<Self, D::Error>> {
                match key {
                    $($key => Some(serde::Deserialize::deserialize(spec).map($enum::$variant)),)+
                    _ => None,
                }
            }

            fn key(&self) -> &'static str {
                match self { $($enum::$variant(_) => $key),+ }
            }
        }

        impl std::ops::Deref for $enum {
            type Target = dyn $trait;
            fn deref(&self) -> &Self::Target {
                match self { $($enum::$variant(spec) => spec),+ }
            }
        }
    };
}

pub(crate) use kinds;
