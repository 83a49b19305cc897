//! The service in process: recorded answers, crash and replay, spans back as they were sent.

mod api;
mod conformance;
mod replay;
mod round_trip;
mod service;
