//! The service in process: recorded answers, crash and replay, spans back as they were sent.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on panics")]

mod api;
mod conformance;
mod replay;
mod round_trip;
mod seams;
mod service;
