//! Clients: each has a bounded queue and one task that sends batches until the store has them.

mod batch;
mod destination;
mod queue;
mod sender;

pub use batch::Batch;
pub use destination::{Destination, LocalStore, Remote};
pub use queue::Queue;
pub use sender::Sender;
