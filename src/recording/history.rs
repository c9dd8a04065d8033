//! A recording read back.

/// A recording read back.
pub struct History;
