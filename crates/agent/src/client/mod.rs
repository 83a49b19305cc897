//! Clients: each has a bounded queue and one task that sends batches until the store has them.
//!
//! Who reads encodes lines into the open batch of their tenant; when it is full or old enough it waits for the task, which has one
//! request of each tenant on its way at a time, so that the order of a stream is kept and tenants do not wait for each other.
//! What waits and what is on its way is bounded together.
//!
//! **Clients do not wait for each other either.** Files are the queue, so a client that is away must be able to stay behind in them
//! without holding up the others, in bounded memory: each client has a reader of its own, with its own places in the files, its own
//! pipelines and its own positions (see `crate::outlets`). With one client, the usual case, that is what one would build anyway;
//! with two, files are read twice. What no one can read twice (syslog, GELF, pushes) goes to all clients and waits for all.
//!
//! Promtail drops a batch after `max_retries` tries, ten by default, which is eight minutes of a store being away. Here a batch is
//! sent until the store has it, unless the configuration names `max_retries`. What the store refuses for good (4xx but 429) is
//! counted and dropped: of a refused batch each stream is tried once by itself, so that a bad one does not take others along.

mod batch;
mod credentials;
mod destination;
mod encode;
pub(crate) mod http;
mod queue;
mod sender;
#[cfg(test)]
mod tests;

pub use batch::{Batch, Sealed, SealedStream};
pub(crate) use credentials::{Credentials, Text};
pub use destination::{Answer, Destination, LocalStore, Prepared, Remote};
pub use queue::{Queue, QueueOptions};
pub use sender::Sender;
