//! Requests put together from undecoded pieces.
//!
//! Traces and logs have the same outline: groups of one resource, in them groups of one scope, in
//! them spans or log records. So one writer serves both.

use bytes::Bytes;

use crate::proto::{Writer, varint_len};

/// A `ResourceSpans` or `ResourceLogs` to be written. `B` is any kind of byte slice.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResourceGroup<B> {
    /// The encoded `Resource`; it is written even when empty, as readers expect it.
    pub resource: B,
    /// `schema_url`, empty if none.
    pub schema_url: B,
    /// The scopes in order.
    pub scopes: Vec<ScopeGroup<B>>,
}

/// A `ScopeSpans` or `ScopeLogs` to be written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScopeGroup<B> {
    /// The encoded `InstrumentationScope`; it is written even when empty, as readers expect it.
    pub scope: B,
    /// `schema_url`, empty if none.
    pub schema_url: B,
    /// The encoded spans or log records in order.
    pub items: Vec<B>,
}

impl<B: AsRef<[u8]>> ResourceGroup<B> {
    fn len(&self) -> usize {
        let scopes: usize = self.scopes.iter().map(|scope| field_len(scope.len())).sum();
        field_len(self.resource.as_ref().len()) + scopes + optional_len(&self.schema_url)
    }

    fn write(&self, out: &mut Writer) {
        out.bytes(1, self.resource.as_ref());
        for scope in &self.scopes {
            out.message_of(2, scope.len(), |out| scope.write(out));
        }
        write_optional(out, &self.schema_url);
    }
}

impl<B: AsRef<[u8]>> ScopeGroup<B> {
    fn len(&self) -> usize {
        let items: usize = self.items.iter().map(|item| field_len(item.as_ref().len())).sum();
        field_len(self.scope.as_ref().len()) + items + optional_len(&self.schema_url)
    }

    fn write(&self, out: &mut Writer) {
        out.bytes(1, self.scope.as_ref());
        for item in &self.items {
            out.bytes(2, item.as_ref());
        }
        write_optional(out, &self.schema_url);
    }
}

/// Length of a length-delimited field with a number below 16.
fn field_len(payload: usize) -> usize {
    1 + varint_len(payload as u64) + payload
}

fn optional_len(bytes: &impl AsRef<[u8]>) -> usize {
    match bytes.as_ref().len() {
        0 => 0,
        n => field_len(n),
    }
}

fn write_optional(out: &mut Writer, schema_url: &impl AsRef<[u8]>) {
    let bytes = schema_url.as_ref();
    if !bytes.is_empty() {
        out.bytes(3, bytes);
    }
}

/// How many bytes [`request`] will give, for batching by size.
pub fn request_len<B: AsRef<[u8]>>(groups: &[ResourceGroup<B>]) -> usize {
    groups.iter().map(|group| field_len(group.len())).sum()
}

/// Writes an `ExportTraceServiceRequest` or `ExportLogsServiceRequest`.
pub fn request<B: AsRef<[u8]>>(groups: &[ResourceGroup<B>]) -> Bytes {
    let mut out = Writer::with_capacity(request_len(groups));
    for group in groups {
        out.message_of(1, group.len(), |out| group.write(out));
    }
    out.finish().into()
}

/// Joins requests into one: by protobuf's rules that is just one after the other.
pub fn concat(requests: &[Bytes]) -> Bytes {
    match requests {
        [one] => one.clone(),
        many => many.concat().into(),
    }
}
