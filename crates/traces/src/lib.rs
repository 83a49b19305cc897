//! Plays Tempo: ingests spans, answers TraceQL over Tempo's HTTP API.
