//! `--probe URL`: a health check for containers that hold no shell and no `curl`.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

/// Longest time for connecting, and for each part of the answer.
const PATIENCE: Duration = Duration::from_secs(3);

/// Asks `http://host:port/path` once; anything but a 2xx answer is a problem.
pub(crate) fn ask(url: &str) -> Result<(), String> {
    let usage = || format!("--probe {url}: write http://host:port/path");
    let rest = url.strip_prefix("http://").ok_or_else(usage)?;
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let problem = |error: std::io::Error| format!("{url}: {error}");
    let address = authority.to_socket_addrs().map_err(problem)?.next().ok_or_else(usage)?;
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE).map_err(problem)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(problem)?;
    let request = format!("GET /{path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(problem)?;
    let mut head = Vec::new();
    stream.take(4096).read_to_end(&mut head).map_err(problem)?;
    let head = String::from_utf8_lossy(&head);
    match head.split_whitespace().nth(1) {
        Some(status) if status.len() == 3 && status.starts_with('2') => Ok(()),
        _ => Err(format!("{url}: {}", head.lines().next().unwrap_or("no answer"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn answer(status: &'static str) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/ready", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut more = [0; 64];
                let got = stream.read(&mut more).unwrap();
                assert!(got > 0, "the request ends before its headers do");
                request.extend_from_slice(&more[..got]);
            }
            assert!(request.starts_with(b"GET /ready HTTP/1.1\r\n"));
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").unwrap();
        });
        let result = ask(&url);
        server.join().unwrap();
        result
    }

    #[test]
    fn success_is_any_200() {
        assert_eq!(answer("204 No Content"), Ok(()));
        assert!(answer("503 Service Unavailable").unwrap_err().contains("503"));
        assert!(ask("https://x/").is_err());
    }
}
