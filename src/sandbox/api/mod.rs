//! The sandbox's API server: the Kubernetes API over the [store](super::store), for any client that speaks it.

pub mod access;
mod decode;
mod discovery;
mod failure;
mod managed;
mod patch;
mod table;
pub mod tls;
mod validate;
