//! Plays Promtail: tails container logs and files, runs pipelines, ships to the log store.
