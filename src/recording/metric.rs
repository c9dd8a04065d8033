//! The names of readings that observers write and verdicts look for. A name that is not here is a metric as its object exposes it.

/// 1 while the object exists, 0 while a complete watch shows that it does not. Written once the first list of a watch is in, and
/// whenever it changes: without it, "was never there" and "was never looked at" cannot be told apart.
pub const EXISTS: &str = "exists";
/// Of a workload: pods that are ready (`status.readyReplicas`).
pub const READY_REPLICAS: &str = "ready_replicas";
/// Of a workload: pods that there are (`status.replicas`).
pub const REPLICAS: &str = "replicas";
/// Of a workload: pods that are asked for (`spec.replicas`). Of an autoscaler: what it asks for (`status.desiredReplicas`).
pub const DESIRED_REPLICAS: &str = "desired_replicas";
/// Of an autoscaler: the pods that it counts (`status.currentReplicas`).
pub const CURRENT_REPLICAS: &str = "current_replicas";
/// Of a pod: calls to its dependency that were wanted, as a counter.
pub const DEPENDENCY_OPERATIONS: &str = "dependency_operations_total";
/// Of a pod: calls to its dependency that were sent, retries included, as a counter.
pub const DEPENDENCY_ATTEMPTS: &str = "dependency_attempts_total";
