//! A plain blocking HTTP/1.1 client for tests: one connection per request, no TLS, no redirects.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::de::DeserializeOwned;

/// No answer of a test is larger.
const MAX_BODY: u64 = 256 << 20;

/// What a server answered.
#[derive(Debug, Clone)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Names in lower case, in the order of the answer.
    pub headers: Vec<(String, String)>,
    /// The body, as sent.
    pub body: Vec<u8>,
}

impl Response {
    /// The first header of this name (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// The body as text; what is not UTF-8 is replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body decoded from JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).with_context(|| format!("not the JSON expected: {}", self.text()))
    }

    /// The response itself if its status is 2xx.
    pub fn ok(self) -> Result<Self> {
        ensure!((200..300).contains(&self.status), "status {}: {}", self.status, self.text());
        Ok(self)
    }
}

/// A request in the making.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
    timeout: Duration,
}

/// `GET` of an `http://host:port/path?query` URL.
pub fn get(url: impl Into<String>) -> Result<Response> {
    Request::new("GET", url).send()
}

/// `POST` of a body.
pub fn post(url: impl Into<String>, content_type: &str, body: impl Into<Vec<u8>>) -> Result<Response> {
    Request::new("POST", url).header("content-type", content_type).body(body).send()
}

impl Request {
    /// A request without body, with half a minute of patience.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            timeout: Duration::from_secs(30),
        }
    }

    /// Adds a header.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// How long the server may stay silent.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends the request and reads the whole answer, whatever its status.
    pub fn send(self) -> Result<Response> {
        self.exchange().with_context(|| format!("{} {}", self.method, self.url))
    }

    fn exchange(&self) -> Result<Response> {
        let rest = self.url.strip_prefix("http://").context("only http:// is spoken here")?;
        let (host, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let unsafe_text = |text: &str| text.contains(['\r', '\n']);
        let injected = self.headers.iter().any(|(name, value)| unsafe_text(name) || unsafe_text(value));
        ensure!(
            !injected && !path.contains(['\r', '\n', ' ']),
            "line breaks in a header or spaces in the path"
        );
        let address = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        let address = address.to_socket_addrs()?.next().context("the host has no address")?;
        let mut stream = TcpStream::connect_timeout(&address, self.timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(self.timeout))?;
        stream.set_write_timeout(Some(self.timeout))?;

        let mut head = format!("{} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n", self.method);
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        let has_body = !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT");
        if has_body {
            head += &format!("content-length: {}\r\n", self.body.len());
        }
        head += "\r\n";
        stream.write_all(head.as_bytes())?;
        // A server may answer and close before it has read a body that it refuses.
        let written = stream.write_all(&self.body);
        read_response(&mut BufReader::new(stream), self.method == "HEAD").map_err(|error| match written {
            Ok(()) => error,
            Err(write) => error.context(format!("and the body could not be sent: {write}")),
        })
    }
}

fn line(reader: &mut impl BufRead) -> Result<String> {
    let mut line = Vec::new();
    reader.take(64 << 10).read_until(b'\n', &mut line)?;
    ensure!(line.ends_with(b"\n"), "the answer ends within its head");
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

fn read_response(reader: &mut impl BufRead, head_only: bool) -> Result<Response> {
    loop {
        let status_line = line(reader)?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status: u16 = status.with_context(|| format!("not an HTTP status line: {status_line}"))?;
        let mut headers = Vec::new();
        loop {
            let header = line(reader)?;
            if header.is_empty() {
                break;
            }
            let (name, value) = header.split_once(':').with_context(|| format!("not a header: {header}"))?;
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        let mut response = Response { status, headers, body: Vec::new() };
        match status {
            // Provisional: the real answer follows.
            100..200 => continue,
            204 | 304 => return Ok(response),
            _ if head_only => return Ok(response),
            _ => {}
        }
        if response.header("transfer-encoding").is_some_and(|coding| coding.contains("chunked")) {
            response.body = read_chunks(reader)?;
        } else if let Some(length) = response.header("content-length") {
            let length: u64 = length.parse().context("content-length")?;
            ensure!(length <= MAX_BODY, "an answer of {length} bytes");
            reader.take(length).read_to_end(&mut response.body)?;
            ensure!(response.body.len() as u64 == length, "the answer ends within its body");
        } else {
            reader.take(MAX_BODY).read_to_end(&mut response.body)?;
        }
        return Ok(response);
    }
}

fn read_chunks(reader: &mut impl BufRead) -> Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let head = line(reader)?;
        let size = head.split(';').next().unwrap_or_default().trim();
        let size =
            u64::from_str_radix(size, 16).with_context(|| format!("not the size of a chunk: {head}"))?;
        ensure!(
            size <= MAX_BODY && body.len() as u64 + size <= MAX_BODY,
            "an answer beyond {MAX_BODY} bytes"
        );
        if size == 0 {
            // Trailers end with an empty line.
            while !line(reader)?.is_empty() {}
            return Ok(body);
        }
        let start = body.len() as u64;
        reader.take(size).read_to_end(&mut body)?;
        if body.len() as u64 != start + size || !line(reader)?.is_empty() {
            bail!("the answer ends within a chunk");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn served(answer: &'static str, request: Request) -> (Result<Response>, String) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}{}", listener.local_addr().unwrap(), request.url);
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut head = [0; 4096];
            let mut got = Vec::new();
            // The body may come behind the head.
            while !is_whole(&got) {
                let count = stream.read(&mut head).unwrap();
                got.extend_from_slice(&head[..count]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(got).unwrap()
        });
        let response = Request { url, ..request }.send();
        (response, server.join().unwrap())
    }

    /// Whether a request is there, with as much body as its head says.
    fn is_whole(got: &[u8]) -> bool {
        let text = String::from_utf8_lossy(got);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        length.is_none_or(|length| body.len() >= length.parse().unwrap())
    }

    #[test]
    fn bodies_of_all_framings() {
        let check = |answer: &'static str, expect: Option<&str>| {
            let (response, _) = served(answer, Request::new("GET", "/x?y=1"));
            assert_eq!(response.ok().map(|r| r.text()).as_deref(), expect, "{answer}");
        };
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", Some("ab"));
        check("HTTP/1.1 200 OK\r\n\r\nto the end", Some("to the end"));
        check(
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n2;x\r\nbc\r\n0\r\n\r\n",
            Some("abc"),
        );
        check("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", Some(""));
        check("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nab", None);
        check("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nff\r\na", None);
        check("nonsense\r\n\r\n", None);
    }

    #[test]
    fn requests_are_sent_whole() {
        let request = Request::new("POST", "/push").header("x-scope-orgid", "a").body("body!");
        let (response, got) =
            served("HTTP/1.1 429 Too Many\r\nretry-after: 1\r\ncontent-length: 4\r\n\r\nslow", request);
        let response = response.unwrap();
        assert_eq!((response.status, response.header("retry-after")), (429, Some("1")));
        assert_eq!(response.ok().unwrap_err().to_string(), "status 429: slow");
        assert!(got.starts_with("POST /push HTTP/1.1\r\nhost: 127.0.0.1:"), "{got}");
        assert!(got.ends_with("x-scope-orgid: a\r\ncontent-length: 5\r\n\r\nbody!"), "{got}");
        assert!(get("http://127.0.0.1:1/").is_err());
        assert!(get("http://127.0.0.1:1/a b").unwrap_err().chain().any(|e| e.to_string().contains("spaces")));
    }
}
