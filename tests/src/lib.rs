//! End-to-end scenarios over the real binaries.
//!
//! Each file here is one story that users tell: what they run, what they send, what must come back. Services run with the
//! configuration files that we ship in `compose/`, with ports and folders laid over them.

#[cfg(test)]
mod agent;
#[cfg(test)]
mod alerting;
#[cfg(test)]
mod blocks;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod configs;
#[cfg(test)]
mod containers;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod fleet;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod query;
#[cfg(test)]
mod refusal;
#[cfg(test)]
mod service;
#[cfg(test)]
mod thread;
