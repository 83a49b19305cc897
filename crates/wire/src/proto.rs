//! Protobuf's wire format by hand: a cursor over fields and a writer.
//!
//! Generated types cost tens of allocations per span; the hot paths read fields straight from the
//! body instead. See <https://protobuf.dev/programming-guides/encoding/>.

/// Why bytes are not protobuf.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// A field or varint runs over the end.
    #[error("unexpected end of message")]
    Truncated,
    /// A varint has more than 64 bits.
    #[error("varint is longer than 64 bits")]
    Varint,
    /// Field number 0, or one that does not fit 29 bits.
    #[error("invalid field number")]
    FieldNumber,
    /// A wire type that does not exist (6, 7) or is not used by any format here (groups).
    #[error("unsupported wire type {0}")]
    WireType(u8),
    /// A known field has another wire type than its declaration.
    #[error("field {0} has the wrong wire type")]
    Mismatch(u32),
}

/// A field's undecoded value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Value<'a> {
    /// Wire type 0.
    Varint(u64),
    /// Wire type 1.
    Fixed64(u64),
    /// Wire type 2: strings, bytes, messages.
    Len(&'a [u8]),
    /// Wire type 5.
    Fixed32(u32),
}

/// The fields of one message in wire order. After an error it ends.
#[derive(Debug, Clone, Copy)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Reads the fields of `message`.
    pub fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    /// A bare varint, for values that are packed without fields.
    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, ProtoError> {
        if let [byte @ 0..0x80, rest @ ..] = self.rest {
            self.rest = rest;
            return Ok(u64::from(*byte));
        }
        self.long_varint()
    }

    /// Whether all is read.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    fn long_varint(&mut self) -> Result<u64, ProtoError> {
        let mut value = 0;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            if i == 9 && byte > 1 {
                return Err(ProtoError::Varint);
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.rest.len() < 10 { ProtoError::Truncated } else { ProtoError::Varint })
    }

    #[inline]
    fn take(&mut self, n: usize) -> Result<&'a [u8], ProtoError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(ProtoError::Truncated)?;
        self.rest = rest;
        Ok(head)
    }

    #[inline]
    fn field(&mut self) -> Result<(u32, Value<'a>), ProtoError> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).map_err(|_| ProtoError::FieldNumber)?;
        if number == 0 || number >= 1 << 29 {
            return Err(ProtoError::FieldNumber);
        }
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => Value::Fixed64(u64::from_le_bytes(self.array()?)),
            2 => {
                let length = usize::try_from(self.varint()?).map_err(|_| ProtoError::Truncated)?;
                Value::Len(self.take(length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(self.array()?)),
            other => return Err(ProtoError::WireType(other as u8)),
        };
        Ok((number, value))
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], ProtoError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(ProtoError::Truncated)?;
        self.rest = rest;
        Ok(*head)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), ProtoError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}

/// The occurrences of one length-delimited field of a message; ends at the first malformed byte.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Repeated<'a> {
    fields: Fields<'a>,
    number: u32,
}

impl<'a> Repeated<'a> {
    pub(crate) fn new(message: &'a [u8], number: u32) -> Self {
        Self { fields: Fields::new(message), number }
    }
}

impl<'a> Iterator for Repeated<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            match self.fields.next()?.ok()? {
                (number, Value::Len(bytes)) if number == self.number => return Some(bytes),
                _ => {}
            }
        }
    }
}

/// Writes the fields of one message, nested messages included, into one buffer.
#[derive(Debug, Default)]
pub struct Writer {
    out: Vec<u8>,
}

impl Writer {
    /// A writer with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { out: Vec::with_capacity(capacity) }
    }

    /// What was written.
    pub fn finish(self) -> Vec<u8> {
        self.out
    }

    /// How many bytes were written so far.
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// A bare varint, for values that are packed without fields.
    pub(crate) fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.out.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.out.push(value as u8);
    }

    fn tag(&mut self, field: u32, wire_type: u8) {
        self.raw_varint(u64::from(field) << 3 | u64::from(wire_type));
    }

    /// A varint field (ints, bool, enum); negative `int32`s must come sign-extended.
    pub fn varint(&mut self, field: u32, value: u64) {
        self.tag(field, 0);
        self.raw_varint(value);
    }

    /// A `fixed64`, `sfixed64` or `double` (by its bits) field.
    pub fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, 1);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A `fixed32` field.
    pub fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, 5);
        self.out.extend_from_slice(&value.to_le_bytes());
    }

    /// A string, bytes or ready-made message field.
    pub fn bytes(&mut self, field: u32, value: &[u8]) {
        self.tag(field, 2);
        self.raw_varint(value.len() as u64);
        self.out.extend_from_slice(value);
    }

    /// A string field, left out when empty as proto3 does.
    pub fn string(&mut self, field: u32, value: &str) {
        if !value.is_empty() {
            self.bytes(field, value.as_bytes());
        }
    }

    /// A nested message, written by `body`.
    pub fn message<R>(&mut self, field: u32, body: impl FnOnce(&mut Self) -> R) -> R {
        self.tag(field, 2);
        // One byte for the length, as most messages are short; longer ones are moved up.
        let start = self.out.len();
        self.out.push(0);
        let result = body(self);
        let length = self.out.len() - start - 1;
        if length < 0x80 {
            self.out[start] = length as u8;
        } else {
            let mut prefix = Self::default();
            prefix.raw_varint(length as u64);
            self.out.splice(start..=start, prefix.out);
        }
        result
    }

    /// A nested message whose length is known to be `length`.
    pub(crate) fn message_of(&mut self, field: u32, length: usize, body: impl FnOnce(&mut Self)) {
        self.tag(field, 2);
        self.raw_varint(length as u64);
        let start = self.out.len();
        body(self);
        debug_assert_eq!(self.out.len() - start, length);
    }

    /// Appends fields that are already encoded.
    pub fn raw(&mut self, fields: &[u8]) {
        self.out.extend_from_slice(fields);
    }
}

/// How many bytes `value` takes as a varint.
pub(crate) fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn written_fields_are_read_back(varint: u64, fixed: u64, short: u32, text: Vec<u8>, number in 1u32..(1 << 29)) {
            let mut writer = Writer::default();
            writer.varint(number, varint);
            writer.fixed64(number, fixed);
            writer.message(number, |w| w.bytes(number, &text));
            writer.fixed32(number, short);
            let bytes = writer.finish();
            let values: Vec<_> = Fields::new(&bytes).map(|f| f.unwrap()).collect();
            prop_assert!(values.iter().all(|(n, _)| *n == number));
            prop_assert_eq!(values[0].1, Value::Varint(varint));
            prop_assert_eq!(values[1].1, Value::Fixed64(fixed));
            let Value::Len(inner) = values[2].1 else { panic!() };
            prop_assert_eq!(Fields::new(inner).next(), Some(Ok((number, Value::Len(&text)))));
            prop_assert_eq!(values[3].1, Value::Fixed32(short));
        }

        #[test]
        fn varint_length(value: u64) {
            let mut writer = Writer::default();
            writer.raw_varint(value);
            prop_assert_eq!(writer.len(), varint_len(value));
        }

        #[test]
        fn any_bytes_end(bytes: Vec<u8>) {
            prop_assert!(Fields::new(&bytes).count() <= bytes.len());
        }
    }

    #[test]
    fn malformed() {
        fn check(bytes: &[u8], expect: ProtoError) {
            let mut fields = Fields::new(bytes);
            assert_eq!(fields.next(), Some(Err(expect)), "{bytes:x?}");
            assert_eq!(fields.next(), None);
        }
        check(&[0x0a], ProtoError::Truncated);
        check(&[0x0a, 0x05, 1], ProtoError::Truncated);
        check(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01], ProtoError::Truncated);
        check(&[0xff; 11], ProtoError::Varint);
        check(&[0xff; 3], ProtoError::Truncated);
        check(&[0x00, 0x00], ProtoError::FieldNumber);
        check(&[0x0b], ProtoError::WireType(3));
        check(&[0x0f], ProtoError::WireType(7));
        check(&[0x09, 1, 2, 3], ProtoError::Truncated);
    }
}
