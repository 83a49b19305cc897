//! Plays Loki: ingests logs, answers LogQL over Loki's HTTP API.
