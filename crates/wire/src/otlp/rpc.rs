//! Answers of OTLP receivers: export responses and `google.rpc.Status` with `RetryInfo`.

use std::time::Duration;

use bytes::Bytes;

use super::{Format, In, OtlpError};
use crate::proto::{Fields, Value, Writer};

/// gRPC's status codes, as numbered by `google.rpc.Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[allow(missing_docs, reason = "the names are gRPC's")]
pub enum Code {
    Ok = 0,
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

/// A `google.rpc.Status`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Status {
    /// One of [`Code`], as a number: senders may use ones we do not know.
    pub code: i32,
    /// For humans.
    pub message: String,
    /// `google.rpc.RetryInfo`: try again after this long.
    pub retry_after: Option<Duration>,
}

const RETRY_INFO: &str = "type.googleapis.com/google.rpc.RetryInfo";

impl Status {
    /// A status without details.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into(), retry_after: None }
    }

    /// Adds `RetryInfo`.
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.retry_after = Some(delay);
        self
    }

    /// Writes it in the request's own format.
    pub fn encode(&self, format: Format) -> Bytes {
        match format {
            Format::Protobuf => self.to_protobuf(),
            Format::Json => self.to_json(),
        }
    }

    /// Protobuf, as gRPC carries it in `grpc-status-details-bin` and OTLP/HTTP in the body.
    pub fn to_protobuf(&self) -> Bytes {
        let mut out = Writer::default();
        if self.code != 0 {
            out.varint(1, self.code as i64 as u64);
        }
        out.string(2, &self.message);
        if let Some(delay) = self.retry_after {
            out.message(3, |any| {
                any.string(1, RETRY_INFO);
                any.message(2, |info| info.message(1, |duration| write_duration(duration, delay)));
            });
        }
        out.finish().into()
    }

    /// Protobuf's JSON form.
    pub fn to_json(&self) -> Bytes {
        let mut object = serde_json::Map::new();
        object.insert("code".into(), self.code.into());
        object.insert("message".into(), self.message.as_str().into());
        if let Some(delay) = self.retry_after {
            let delay = format!("{}s", delay.as_secs_f64());
            object.insert("details".into(), serde_json::json!([{"@type": RETRY_INFO, "retryDelay": delay}]));
        }
        serde_json::Value::Object(object).to_string().into()
    }

    /// Reads the protobuf form; details that are not `RetryInfo` are ignored.
    pub fn from_protobuf(bytes: &[u8]) -> Result<Self, OtlpError> {
        const AT: In = In("Status");
        let mut status = Self::default();
        for field in Fields::new(bytes) {
            let (number, value) = field.map_err(|e| AT.proto(e))?;
            match number {
                1 => status.code = AT.varint(1, value)? as i32,
                2 => status.message = String::from_utf8_lossy(AT.bytes(2, value)?).into_owned(),
                3 => status.retry_after = retry_info(AT.bytes(3, value)?)?.or(status.retry_after),
                _ => {}
            }
        }
        Ok(status)
    }
}

fn write_duration(out: &mut Writer, delay: Duration) {
    if delay.as_secs() != 0 {
        out.varint(1, delay.as_secs());
    }
    if delay.subsec_nanos() != 0 {
        out.varint(2, u64::from(delay.subsec_nanos()));
    }
}

/// Reads an `Any`; `None` if it holds something else than `RetryInfo`.
fn retry_info(any: &[u8]) -> Result<Option<Duration>, OtlpError> {
    let (mut is_retry_info, mut info): (bool, &[u8]) = (false, &[]);
    for field in Fields::new(any) {
        match field.map_err(|e| In("Any").proto(e))? {
            (1, Value::Len(url)) => is_retry_info = url.ends_with(b"/google.rpc.RetryInfo"),
            (2, Value::Len(value)) => info = value,
            _ => {}
        }
    }
    if !is_retry_info {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0, 0);
    for field in Fields::new(info) {
        let (1, Value::Len(duration)) = field.map_err(|e| In("RetryInfo").proto(e))? else { continue };
        for field in Fields::new(duration) {
            match field.map_err(|e| In("Duration").proto(e))? {
                (1, Value::Varint(v)) => seconds = u64::try_from(v as i64).unwrap_or(0),
                (2, Value::Varint(v)) => nanos = u32::try_from(v as i64).unwrap_or(0),
                _ => {}
            }
        }
    }
    Ok(Some(Duration::from_secs(seconds).saturating_add(Duration::from_nanos(u64::from(nanos)))))
}

/// An `ExportTraceServiceResponse` or `ExportLogsServiceResponse` that says everything was taken.
///
/// The empty `partial_success` is there because the Collector writes it.
pub fn export_response(format: Format) -> Bytes {
    match format {
        Format::Protobuf => Bytes::from_static(b"\n\x00"),
        Format::Json => Bytes::from_static(b"{\"partialSuccess\":{}}"),
    }
}

/// What a receiver says it did not take: `partial_success` of either response.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartialSuccess {
    /// Spans or log records that were refused and must not be sent again.
    pub rejected: i64,
    /// Why; a message with `rejected` 0 is a warning.
    pub message: String,
}

impl PartialSuccess {
    /// Reads it out of an encoded export response.
    pub fn from_response(response: &[u8]) -> Result<Self, OtlpError> {
        const AT: In = In("ExportPartialSuccess");
        let mut found = Self::default();
        for field in Fields::new(response) {
            let (1, Value::Len(partial)) = field.map_err(|e| In("ExportServiceResponse").proto(e))? else {
                continue;
            };
            for field in Fields::new(partial) {
                let (number, value) = field.map_err(|e| AT.proto(e))?;
                match number {
                    1 => found.rejected = AT.varint(1, value)? as i64,
                    2 => found.message = String::from_utf8_lossy(AT.bytes(2, value)?).into_owned(),
                    _ => {}
                }
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_comes_back() {
        let plain = Status::new(Code::InvalidArgument, "no");
        let retry =
            Status::new(Code::ResourceExhausted, "slow down").with_retry_after(Duration::from_millis(5_250));
        for status in [Status::default(), plain.clone(), retry.clone()] {
            assert_eq!(Status::from_protobuf(&status.to_protobuf()), Ok(status));
        }
        assert_eq!(&plain.to_protobuf()[..], b"\x08\x03\x12\x02no");
        assert_eq!(&plain.to_json()[..], br#"{"code":3,"message":"no"}"#);
        let json: serde_json::Value = serde_json::from_slice(&retry.to_json()).unwrap();
        assert_eq!(json["details"][0]["retryDelay"], "5.25s");
    }

    #[test]
    fn partial_success() {
        let mut out = Writer::default();
        out.message(1, |w| {
            w.varint(1, 7);
            w.string(2, "too old");
        });
        let expect = PartialSuccess { rejected: 7, message: "too old".into() };
        assert_eq!(PartialSuccess::from_response(&out.finish()), Ok(expect));
        assert_eq!(
            PartialSuccess::from_response(&export_response(Format::Protobuf)),
            Ok(PartialSuccess::default())
        );
        assert!(PartialSuccess::from_response(&[0xff]).is_err());
    }
}
