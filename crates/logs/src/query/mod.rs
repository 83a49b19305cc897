//! The querier: finds the rows a query needs in heads and blocks and feeds them to the engine.

pub mod catalog;
pub mod metric;
pub mod plan;
pub mod read;
pub mod run;
pub mod stats;
pub mod view;
