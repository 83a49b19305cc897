//! A server that takes whatever is posted to it and keeps nothing, for tests and benchmarks of what sends; and one that never
//! answers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context, Result, ensure};

/// A listener of the loopback interface; dropping it ends its threads and connections.
#[derive(Debug)]
pub struct Sink {
    url: String,
    shared: Arc<Shared>,
    listener: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    silent: bool,
    stop: AtomicBool,
    requests: AtomicU64,
    bytes: AtomicU64,
    connections: Mutex<Vec<(TcpStream, JoinHandle<()>)>>,
}

impl Sink {
    /// Answers every request with 204 as soon as its body has come.
    pub fn start() -> Result<Self> {
        Self::listen(Shared::default())
    }

    /// Accepts connections, reads, and never answers.
    pub fn silent() -> Result<Self> {
        Self::listen(Shared { silent: true, ..Shared::default() })
    }

    fn listen(shared: Shared) -> Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let url = format!("http://{}/loki/api/v1/push", socket.local_addr()?);
        let shared = Arc::new(shared);
        let listener = {
            let shared = shared.clone();
            std::thread::spawn(move || shared.accept(&socket))
        };
        Ok(Self { url, shared, listener: Some(listener) })
    }

    /// Where to push, in Loki's words; any path is taken.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Requests that were read whole.
    pub fn requests(&self) -> u64 {
        self.shared.requests.load(Ordering::Relaxed)
    }

    /// Bytes of their bodies.
    pub fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        // Wakes the listener, which then stops.
        let address = self.url.trim_start_matches("http://").split('/').next().unwrap_or_default();
        let _ = TcpStream::connect(address);
        let joined = self.listener.take().map(JoinHandle::join);
        let connections = std::mem::take(&mut *self.shared.connections());
        for (stream, thread) in connections {
            // It may be closed already.
            let _ = stream.shutdown(Shutdown::Both);
            let _ = thread.join();
        }
        if joined.is_some_and(|joined| joined.is_err()) {
            eprintln!("the listener of {} has panicked", self.url);
        }
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, Vec<(TcpStream, JoinHandle<()>)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn accept(self: Arc<Self>, socket: &TcpListener) {
        for stream in socket.incoming() {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let Ok(stream) = stream else { continue };
            let Ok(second) = stream.try_clone() else { continue };
            let shared = self.clone();
            // How a connection ends is the client's to tell.
            let thread = std::thread::spawn(move || drop(shared.serve(stream)));
            let mut connections = self.connections();
            connections.retain(|(_, thread)| !thread.is_finished());
            connections.push((second, thread));
        }
    }

    fn serve(&self, stream: TcpStream) -> Result<()> {
        stream.set_nodelay(true)?;
        let mut answers = stream.try_clone()?;
        let mut reader = BufReader::with_capacity(64 << 10, stream);
        while let Some(length) = head(&mut reader)? {
            let read = std::io::copy(&mut (&mut reader).take(length), &mut std::io::sink())?;
            ensure!(read == length, "the request ends within its body");
            self.bytes.fetch_add(length, Ordering::Relaxed);
            self.requests.fetch_add(1, Ordering::Relaxed);
            if !self.silent {
                answers.write_all(b"HTTP/1.1 204 No Content\r\n\r\n")?;
            }
        }
        Ok(())
    }
}

/// Reads the head of a request; the length of its body, or `None` where the connection ends.
fn head(reader: &mut impl BufRead) -> Result<Option<u64>> {
    let (mut length, mut is_first) = (0, true);
    loop {
        let mut line = String::new();
        reader.take(64 << 10).read_line(&mut line)?;
        let line = line.trim_end();
        match (line.is_empty(), is_first) {
            (true, true) => return Ok(None),
            (true, false) => return Ok(Some(length)),
            (false, _) => is_first = false,
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("content-length")
        {
            length = value.trim().parse().with_context(|| line.to_owned())?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::http::{self, Request};

    #[test]
    fn takes_everything() {
        let sink = Sink::start().unwrap();
        for body in ["one", "and another"] {
            assert_eq!(http::post(sink.url(), "text/plain", body).unwrap().status, 204);
        }
        assert_eq!((sink.requests(), sink.bytes()), (2, 14));
    }

    #[test]
    fn never_answers() {
        let sink = Sink::silent().unwrap();
        let request = Request::new("POST", sink.url()).body("x").timeout(Duration::from_millis(100));
        assert!(request.send().is_err());
        assert_eq!(sink.requests(), 1);
    }
}
