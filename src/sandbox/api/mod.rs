//! The sandbox's API server: the Kubernetes API over the [store](super::store), for any client that speaks it.

pub mod access;
