//! OTLP's messages as tables: what the check, the repair and both directions of JSON walk along.

/// A message type.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) name: &'static str,
    pub(super) role: Role,
    /// Sorted by number.
    pub(super) fields: &'static [Field],
}

/// What a message counts as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Plain,
    /// `ResourceSpans`, `ResourceLogs`
    Resources,
    /// `ScopeSpans`, `ScopeLogs`
    Scopes,
    Span,
    LogRecord,
    /// All fields of `AnyValue` are members of one `oneof`: each is emitted even when zero.
    AnyValue,
}

/// A field of a message.
#[derive(Debug)]
pub(super) struct Field {
    pub(super) number: u32,
    /// lowerCamelCase, as JSON has it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
}

/// A field's type.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    String,
    Bytes,
    /// Bytes that are an id of this length or empty: hex in OTLP's JSON.
    Id(usize),
    Bool,
    Uint32,
    Int64,
    Fixed64,
    Fixed32,
    Double,
    /// Names by number, from 0.
    Enum(&'static [&'static str]),
    Message(&'static Message),
    Repeated(&'static Message),
    Strings,
}

impl Message {
    #[inline]
    pub(super) fn field(&self, number: u32) -> Option<&'static Field> {
        match self.fields.get(number as usize - 1) {
            Some(field) if field.number == number => Some(field),
            _ => self.fields.iter().find(|field| field.number == number),
        }
    }

    /// Finds a field by its JSON key, lowerCamelCase or snake_case.
    pub(super) fn field_by_key(&self, key: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == key || is_snake_case_of(key, field.name))
    }
}

fn is_snake_case_of(key: &str, camel: &str) -> bool {
    let mut key = key.bytes();
    camel.bytes().all(|c| {
        if c.is_ascii_uppercase() {
            key.next() == Some(b'_') && key.next() == Some(c.to_ascii_lowercase())
        } else {
            key.next() == Some(c)
        }
    }) && key.next().is_none()
}

const fn field(number: u32, name: &'static str, kind: Kind) -> Field {
    Field { number, name, kind }
}

use Kind::{Bool, Bytes, Double, Enum, Fixed32, Fixed64, Id, Int64, Repeated, String, Strings, Uint32};

pub(super) static TRACES: Message = Message {
    name: "ExportTraceServiceRequest",
    role: Role::Plain,
    fields: &[field(1, "resourceSpans", Repeated(&RESOURCE_SPANS))],
};

pub(super) static RESOURCE_SPANS: Message = Message {
    name: "ResourceSpans",
    role: Role::Resources,
    fields: &[
        field(1, "resource", Kind::Message(&RESOURCE)),
        field(2, "scopeSpans", Repeated(&SCOPE_SPANS)),
        field(3, "schemaUrl", String),
    ],
};

pub(super) static SCOPE_SPANS: Message = Message {
    name: "ScopeSpans",
    role: Role::Scopes,
    fields: &[
        field(1, "scope", Kind::Message(&SCOPE)),
        field(2, "spans", Repeated(&SPAN)),
        field(3, "schemaUrl", String),
    ],
};

pub(super) static SPAN: Message = Message {
    name: "Span",
    role: Role::Span,
    fields: &[
        field(1, "traceId", Id(16)),
        field(2, "spanId", Id(8)),
        field(3, "traceState", String),
        field(4, "parentSpanId", Id(8)),
        field(5, "name", String),
        field(6, "kind", Enum(SPAN_KINDS)),
        field(7, "startTimeUnixNano", Fixed64),
        field(8, "endTimeUnixNano", Fixed64),
        field(9, "attributes", Repeated(&KEY_VALUE)),
        field(10, "droppedAttributesCount", Uint32),
        field(11, "events", Repeated(&EVENT)),
        field(12, "droppedEventsCount", Uint32),
        field(13, "links", Repeated(&LINK)),
        field(14, "droppedLinksCount", Uint32),
        field(15, "status", Kind::Message(&STATUS)),
        field(16, "flags", Fixed32),
    ],
};

const SPAN_KINDS: &[&str] = &[
    "SPAN_KIND_UNSPECIFIED",
    "SPAN_KIND_INTERNAL",
    "SPAN_KIND_SERVER",
    "SPAN_KIND_CLIENT",
    "SPAN_KIND_PRODUCER",
    "SPAN_KIND_CONSUMER",
];

static EVENT: Message = Message {
    name: "Event",
    role: Role::Plain,
    fields: &[
        field(1, "timeUnixNano", Fixed64),
        field(2, "name", String),
        field(3, "attributes", Repeated(&KEY_VALUE)),
        field(4, "droppedAttributesCount", Uint32),
    ],
};

static LINK: Message = Message {
    name: "Link",
    role: Role::Plain,
    fields: &[
        field(1, "traceId", Id(16)),
        field(2, "spanId", Id(8)),
        field(3, "traceState", String),
        field(4, "attributes", Repeated(&KEY_VALUE)),
        field(5, "droppedAttributesCount", Uint32),
        field(6, "flags", Fixed32),
    ],
};

static STATUS: Message = Message {
    name: "Status",
    role: Role::Plain,
    fields: &[
        field(2, "message", String),
        field(3, "code", Enum(&["STATUS_CODE_UNSET", "STATUS_CODE_OK", "STATUS_CODE_ERROR"])),
    ],
};

pub(super) static LOGS: Message = Message {
    name: "ExportLogsServiceRequest",
    role: Role::Plain,
    fields: &[field(1, "resourceLogs", Repeated(&RESOURCE_LOGS))],
};

static RESOURCE_LOGS: Message = Message {
    name: "ResourceLogs",
    role: Role::Resources,
    fields: &[
        field(1, "resource", Kind::Message(&RESOURCE)),
        field(2, "scopeLogs", Repeated(&SCOPE_LOGS)),
        field(3, "schemaUrl", String),
    ],
};

static SCOPE_LOGS: Message = Message {
    name: "ScopeLogs",
    role: Role::Scopes,
    fields: &[
        field(1, "scope", Kind::Message(&SCOPE)),
        field(2, "logRecords", Repeated(&LOG_RECORD)),
        field(3, "schemaUrl", String),
    ],
};

static LOG_RECORD: Message = Message {
    name: "LogRecord",
    role: Role::LogRecord,
    fields: &[
        field(1, "timeUnixNano", Fixed64),
        field(2, "severityNumber", Enum(SEVERITY_NUMBERS)),
        field(3, "severityText", String),
        field(5, "body", Kind::Message(&ANY_VALUE)),
        field(6, "attributes", Repeated(&KEY_VALUE)),
        field(7, "droppedAttributesCount", Uint32),
        field(8, "flags", Fixed32),
        field(9, "traceId", Id(16)),
        field(10, "spanId", Id(8)),
        field(11, "observedTimeUnixNano", Fixed64),
        field(12, "eventName", String),
    ],
};

const SEVERITY_NUMBERS: &[&str] = &[
    "SEVERITY_NUMBER_UNSPECIFIED",
    "SEVERITY_NUMBER_TRACE",
    "SEVERITY_NUMBER_TRACE2",
    "SEVERITY_NUMBER_TRACE3",
    "SEVERITY_NUMBER_TRACE4",
    "SEVERITY_NUMBER_DEBUG",
    "SEVERITY_NUMBER_DEBUG2",
    "SEVERITY_NUMBER_DEBUG3",
    "SEVERITY_NUMBER_DEBUG4",
    "SEVERITY_NUMBER_INFO",
    "SEVERITY_NUMBER_INFO2",
    "SEVERITY_NUMBER_INFO3",
    "SEVERITY_NUMBER_INFO4",
    "SEVERITY_NUMBER_WARN",
    "SEVERITY_NUMBER_WARN2",
    "SEVERITY_NUMBER_WARN3",
    "SEVERITY_NUMBER_WARN4",
    "SEVERITY_NUMBER_ERROR",
    "SEVERITY_NUMBER_ERROR2",
    "SEVERITY_NUMBER_ERROR3",
    "SEVERITY_NUMBER_ERROR4",
    "SEVERITY_NUMBER_FATAL",
    "SEVERITY_NUMBER_FATAL2",
    "SEVERITY_NUMBER_FATAL3",
    "SEVERITY_NUMBER_FATAL4",
];

static RESOURCE: Message = Message {
    name: "Resource",
    role: Role::Plain,
    fields: &[
        field(1, "attributes", Repeated(&KEY_VALUE)),
        field(2, "droppedAttributesCount", Uint32),
        field(3, "entityRefs", Repeated(&ENTITY_REF)),
    ],
};

static ENTITY_REF: Message = Message {
    name: "EntityRef",
    role: Role::Plain,
    fields: &[
        field(1, "schemaUrl", String),
        field(2, "type", String),
        field(3, "idKeys", Strings),
        field(4, "descriptionKeys", Strings),
    ],
};

static SCOPE: Message = Message {
    name: "InstrumentationScope",
    role: Role::Plain,
    fields: &[
        field(1, "name", String),
        field(2, "version", String),
        field(3, "attributes", Repeated(&KEY_VALUE)),
        field(4, "droppedAttributesCount", Uint32),
    ],
};

static KEY_VALUE: Message = Message {
    name: "KeyValue",
    role: Role::Plain,
    fields: &[field(1, "key", String), field(2, "value", Kind::Message(&ANY_VALUE))],
};

pub(super) static ANY_VALUE: Message = Message {
    name: "AnyValue",
    role: Role::AnyValue,
    fields: &[
        field(1, "stringValue", String),
        field(2, "boolValue", Bool),
        field(3, "intValue", Int64),
        field(4, "doubleValue", Double),
        field(5, "arrayValue", Kind::Message(&ARRAY_VALUE)),
        field(6, "kvlistValue", Kind::Message(&KEY_VALUE_LIST)),
        field(7, "bytesValue", Bytes),
    ],
};

static ARRAY_VALUE: Message =
    Message { name: "ArrayValue", role: Role::Plain, fields: &[field(1, "values", Repeated(&ANY_VALUE))] };

static KEY_VALUE_LIST: Message =
    Message { name: "KeyValueList", role: Role::Plain, fields: &[field(1, "values", Repeated(&KEY_VALUE))] };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_both_cases() {
        for key in ["startTimeUnixNano", "start_time_unix_nano"] {
            assert_eq!(SPAN.field_by_key(key).map(|f| f.number), Some(7), "{key}");
        }
        for key in
            ["start_timeUnixNano", "starttimeunixnano", "start_time_unix_nan", "start_time_unix_nano_", ""]
        {
            assert!(SPAN.field_by_key(key).is_none(), "{key}");
        }
        assert_eq!(LOG_RECORD.field(11).map(|f| f.name), Some("observedTimeUnixNano"));
        assert!(LOG_RECORD.field(4).is_none());
    }
}
