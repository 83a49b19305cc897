//! Free TCP ports for servers under test.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below the range from which the system takes ports for outgoing connections, so that none of them gets
/// in between.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A port of the loopback interface on which nobody listens; never the same twice in one process.
///
/// # Panics
/// If every port is taken.
pub fn free() -> u16 {
    // Each process starts somewhere else.
    let start = std::process::id().wrapping_mul(97);
    for _ in 0..COUNT {
        let offset = start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
        if let Ok(port) = u16::try_from(FIRST + offset)
            && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
        {
            return port;
        }
    }
    panic!("no free port from {FIRST} on");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_free_and_differ() {
        let (one, other) = (free(), free());
        assert_ne!(one, other);
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, one)).unwrap();
    }
}
