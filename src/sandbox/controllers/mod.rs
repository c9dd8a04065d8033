pub mod autoscaler;
