//! Plays Tempo: takes spans over OTLP, answers traces by id, TraceQL and tags over Tempo's HTTP and gRPC APIs.

mod assemble;
mod columns;
mod head;
mod index;
mod keys;
mod pick;
mod prune;
mod record;
mod scan;
mod schema;
mod shred;
mod signal;
mod sorted;
mod source;
mod tree;
mod value;
