//! The service as a whole, in this process: recorded answers, crashes, and rows spread over head and blocks.
#![allow(clippy::unwrap_used, reason = "a test that cannot set up must fail")]

mod configs;
mod conformance;
mod crash;
mod deletes;
mod delivery;
mod interface;
mod patterns;
mod rules;
mod running;
mod seams;
mod tail;
mod tenants;
