//! The embedded cluster: an API server that speaks Kubernetes, controllers, an autoscaler, pods as processes, service addresses.
//! Nothing here knows that it is not a real cluster's part, and nothing outside talks to it but through its API.

mod address;
pub mod api;
pub mod base64;
pub mod controllers;
pub mod defaults;
mod feed;
pub mod kubeconfig;
mod kubelet;
mod network;
mod objects;
pub mod quantity;
mod recorder;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod store;
