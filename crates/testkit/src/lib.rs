//! For tests: recorded answers, lists of pending cases, real processes and what they cost, a plain HTTP client, a server
//! that takes everything, workloads.
//!
//! Nothing here knows the crates that it tests. What fails, fails with a text that tells a person what to
//! do: most tests only pass it on with `?` or `unwrap`.

pub mod cost;
pub mod http;
pub mod pending;
pub mod port;
pub mod process;
pub mod recorded;
pub mod sink;
pub mod workload;
