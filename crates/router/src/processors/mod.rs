//! Processors: each stands in one pipeline, between what comes in and what goes out.

pub mod batch;
pub mod memory_limiter;
pub mod resource;
pub mod tail_sampling;
