//! Tail sampling: spans wait until their trace can be judged whole, then policies keep or drop it.
//!
//! A pure state machine. Whoever drives it passes the time in and takes released spans out;
//! see [`Sampler`]. What a policy must know of a trace is gathered while spans arrive (one bit
//! per condition, and a few sums), so that a decision never looks at spans again and the order
//! in which spans came cannot change it.

mod assemble;
mod condition;
mod config;
mod decided;
mod limit;
mod policy;
#[cfg(test)]
mod recorded;
mod sampler;
mod split;

pub use assemble::assemble;
pub use condition::Conditions;
pub use config::{PolicyConfig, TailSamplingConfig};
pub use policy::{Decision, Policies};
pub use sampler::{Full, Group, Origin, Release, Sampler, SamplerStats};
pub use split::{Piece, split};
