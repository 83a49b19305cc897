//! The querier: finds the rows a query needs in heads and blocks and feeds them to the engine.
//!
//! ```text
//! view ─▶ plan (streams, granules that can hold the needles) ─▶ windows ─▶ tasks: screen few columns ─▶ the rest of what survives
//!              └─▶ counts, where minutes and granules answer without a row
//! ```
//! Every stage is bounded: what is in memory by the [`gate`], what is read by the query's budget, how long by its timeout.

mod apart;
pub mod catalog;
mod cost;
mod counts;
mod frontier;
pub mod gate;
pub mod metric;
pub mod plan;
mod prune;
pub(crate) mod read;
pub mod run;
mod simplify;
pub mod stats;
mod task;
mod untangle;
pub mod view;
pub mod window;

#[cfg(test)]
mod tests;
