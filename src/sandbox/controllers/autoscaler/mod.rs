pub mod decide;
pub mod limits;
pub mod replicas;
pub mod spec;
