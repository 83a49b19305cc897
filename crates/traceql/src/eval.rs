//! Evaluation over batches: expressions to selections, spansets and pipelines per trace.

pub(crate) mod array;
pub(crate) mod bits;
pub(crate) mod column;
pub(crate) mod compiled;
pub(crate) mod filter;
pub(crate) mod pipeline;
pub(crate) mod scalar;
pub(crate) mod tree;
pub(crate) mod view;
