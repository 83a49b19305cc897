//! Loki's push protocol: reading it for the server, writing it for clients.
//!
//! `POST /loki/api/v1/push` carries `logproto.PushRequest` as snappy-compressed protobuf or JSON;
//! `POST /api/prom/push` is its old form. Lines of protobuf bodies are not copied: every [`Str`]
//! shares the decompressed body.

mod json;
mod origins;
mod protobuf;
mod rfc3339;

use bytes::Bytes;

use crate::decompress::{DecompressError, Encoding, decompress};
use crate::proto::ProtoError;
use crate::{JsonError, Str};

pub use origins::{
    MAX_RANGES, MAX_SOURCES, OriginError, OriginReader, OriginWriter, Ranges, Source, origins,
};
pub use protobuf::{encode_push, encode_push_protobuf};

/// A push: entries by stream, exactly as sent; nothing is validated beyond the format.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PushRequest {
    /// In the order of the body; the same labels may occur more than once.
    pub streams: Vec<PushStream>,
    /// What the origins of the streams refer to; empty from clients that know nothing of origins.
    pub sources: Vec<Source>,
}

/// Entries of one stream.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PushStream {
    /// The label set as text, `{app="x", env="p"}`; for [`model::Labels::parse`] to check.
    pub labels: String,
    /// In the order of the body.
    pub entries: Vec<PushEntry>,
    /// Where each entry comes from, packed by [`OriginWriter`], read by [`origins()`]; empty when that is not known.
    pub origins: Bytes,
}

/// One log line.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PushEntry {
    /// Nanoseconds since the epoch; times outside what 64 bits hold are moved to their end.
    pub timestamp_ns: i64,
    /// The line; bytes that were not UTF-8 are U+FFFD.
    pub line: Str,
    /// Structured metadata in the order of the body, names as sent.
    pub metadata: Vec<(Str, Str)>,
}

impl PushRequest {
    /// How many entries all streams hold.
    pub fn entries(&self) -> usize {
        self.streams.iter().map(|stream| stream.entries.len()).sum()
    }
}

impl PushEntry {
    /// What an entry weighs against limits: line plus metadata bytes.
    pub fn bytes(&self) -> usize {
        self.line.len() + self.metadata.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>()
    }
}

/// Why a body is not a push.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// `Content-Type` is missing or no media type.
    #[error("mime: {0:?} is no media type: send application/json or application/x-protobuf")]
    ContentType(String),
    /// `Content-Encoding` names something else than gzip, deflate or snappy.
    #[error("Content-Encoding {0:?} not supported")]
    ContentEncoding(String),
    /// The body cannot be decompressed, or passes the limit (which is 413 rather than 400).
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// The bytes are not `logproto.PushRequest`.
    #[error("malformed push request: {0}")]
    Protobuf(#[from] ProtoError),
    /// The origins of entries do not hold together.
    #[error("malformed push request: {0}")]
    Origins(#[from] OriginError),
    /// The text is not JSON or not a push.
    #[error(transparent)]
    Json(#[from] JsonError),
}

impl PushError {
    /// Whether the body is too large (413) rather than bad (400).
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::Decompress(DecompressError::TooLarge { .. }))
    }
}

/// The two JSON forms of a push; protobuf is the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `/loki/api/v1/push`: `{"streams":[{"stream":{…},"values":[["<ns>","<line>",{…}]]}]}`
    V1,
    /// `/api/prom/push`: `{"streams":[{"labels":"{…}","entries":[{"ts":"<RFC 3339>","line":"…"}]}]}`
    Legacy,
}

/// Reads a push as it came over HTTP: `content_type` and `content_encoding` as the headers have them,
/// no more than `max` bytes after decompression.
pub fn read_push(
    body: Bytes,
    content_type: &str,
    content_encoding: &str,
    dialect: Dialect,
    max: usize,
) -> Result<PushRequest, PushError> {
    let is_json = is_json(content_type)?;
    let encoding = match Encoding::parse(content_encoding) {
        // Snappy is what protobuf bodies always have, whether announced or not.
        Some(Encoding::Identity | Encoding::Snappy) => Encoding::Identity,
        Some(encoding @ (Encoding::Gzip | Encoding::Deflate)) => encoding,
        _ => return Err(PushError::ContentEncoding(content_encoding.to_owned())),
    };
    let body = decompress(body, encoding, max)?;
    decode(body, is_json, dialect, max)
}

/// Reads a push whose transport compression (`Content-Encoding`) is already undone; the snappy block
/// around protobuf is not, and may not grow beyond `max` bytes.
pub fn decode_push(
    body: Bytes,
    content_type: &str,
    dialect: Dialect,
    max: usize,
) -> Result<PushRequest, PushError> {
    decode(body, is_json(content_type)?, dialect, max)
}

fn decode(body: Bytes, is_json: bool, dialect: Dialect, max: usize) -> Result<PushRequest, PushError> {
    if is_json {
        return Ok(match dialect {
            Dialect::V1 => json::decode(body)?,
            Dialect::Legacy => json::decode_legacy(body)?,
        });
    }
    protobuf::decode(&decompress(body, Encoding::Snappy, max)?)
}

/// Reads a push in protobuf that is not compressed, as [`encode_push_protobuf`] writes it.
pub fn decode_push_protobuf(body: &Bytes) -> Result<PushRequest, PushError> {
    protobuf::decode(body)
}

/// Whether a `Content-Type` is JSON; everything else that is a media type means protobuf.
fn is_json(content_type: &str) -> Result<bool, PushError> {
    let media = content_type.split(';').next().unwrap_or_default().trim();
    let is_token = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
    };
    // Go's mime.ParseMediaType takes one token or two with a slash between.
    if !media.splitn(2, '/').all(is_token) {
        return Err(PushError::ContentType(content_type.to_owned()));
    }
    Ok(media.eq_ignore_ascii_case("application/json"))
}
