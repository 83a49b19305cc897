//! systemd's journal export format, as `journalctl --output=export` writes it: entries of `FIELD=text` lines, or of a field's name,
//! the length of its value in eight bytes and the value; an empty line after each.

use std::collections::BTreeMap;

/// Fields of an entry; of a field that is there more than once, the last.
pub(super) type Fields = BTreeMap<String, String>;

/// Cuts a stream into entries.
#[derive(Debug, Default)]
pub(super) struct Export {
    bytes: Vec<u8>,
    fields: Fields,
    /// Bytes of `fields`.
    size: usize,
    /// What is left of a value that was too long.
    skip: u64,
    /// The rest of the line belongs to a value that was too long.
    skip_line: bool,
}

impl Export {
    /// Longest value that is kept; a longer one is left out. The journal itself cuts fields at 768 KiB unless told otherwise.
    pub(super) const MAX_VALUE: usize = 4 << 20;
    /// Most bytes of an entry; fields beyond it are left out.
    const MAX_ENTRY: usize = 8 << 20;
    /// Longest name.
    const MAX_NAME: usize = 64;

    /// Adds what was read.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next entry that is complete.
    pub(super) fn next(&mut self) -> Option<Fields> {
        let mut at = 0;
        let entry = loop {
            match self.field(at) {
                Step::More => break None,
                Step::To(next) => at = next,
                Step::Entry(next) => {
                    at = next;
                    self.size = 0;
                    if !self.fields.is_empty() {
                        break Some(std::mem::take(&mut self.fields));
                    }
                }
            }
        };
        self.bytes.drain(..at);
        entry
    }

    /// Takes the field, or the end of an entry, at an offset.
    fn field(&mut self, at: usize) -> Step {
        let bytes = &self.bytes[at..];
        if self.skip > 0 {
            let now = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
            self.skip -= now as u64;
            return if now == 0 { Step::More } else { Step::To(at + now) };
        }
        let Some(end) = memchr::memchr(b'\n', bytes) else {
            if bytes.len() <= Self::MAX_VALUE + Self::MAX_NAME {
                return Step::More;
            }
            self.skip_line = true;
            return Step::To(at + bytes.len());
        };
        if std::mem::take(&mut self.skip_line) {
            return Step::To(at + end + 1);
        }
        let line = &bytes[..end];
        if line.is_empty() {
            return Step::Entry(at + 1);
        }
        if let Some(equals) = memchr::memchr(b'=', line) {
            let (name, value) = (text(&line[..equals]), text(&line[equals + 1..]));
            self.set(name, value);
            return Step::To(at + end + 1);
        }
        // A binary value; its length does not count the line end after it.
        let Some((length, rest)) = bytes[end + 1..].split_first_chunk::<8>() else { return Step::More };
        let length = u64::from_le_bytes(*length);
        let value_at = at + end + 1 + 8;
        match usize::try_from(length) {
            Ok(length) if length <= Self::MAX_VALUE => match rest.get(..=length) {
                Some(value) => {
                    let (name, value) = (text(line), text(&value[..length]));
                    self.set(name, value);
                    Step::To(value_at + length + 1)
                }
                None => Step::More,
            },
            _ => {
                self.skip = length.saturating_add(1);
                Step::To(value_at)
            }
        }
    }

    fn set(&mut self, name: String, value: String) {
        let fits = value.len() <= Self::MAX_VALUE && self.size + name.len() + value.len() <= Self::MAX_ENTRY;
        if fits {
            self.size += name.len() + value.len();
            self.fields.insert(name, value);
        }
    }
}

enum Step {
    /// There is not enough yet.
    More,
    /// Go on from this offset.
    To(usize),
    /// An entry ends before this offset.
    Entry(usize),
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entries(bytes: &[u8], piece: usize) -> Vec<Fields> {
        let (mut export, mut all) = (Export::default(), Vec::new());
        for piece in bytes.chunks(piece) {
            export.push(piece);
            while let Some(entry) = export.next() {
                all.push(entry);
            }
        }
        all
    }

    fn binary(name: &str, value: &[u8]) -> Vec<u8> {
        [name.as_bytes(), b"\n", &(value.len() as u64).to_le_bytes(), value, b"\n"].concat()
    }

    #[test]
    fn text_and_binary_fields() {
        let stream = [
            b"__CURSOR=c1\nMESSAGE=a=b\nX=\n".to_vec(),
            binary("MULTI", b"one\n\ntwo"),
            binary("BAD", b"\xff"),
            b"\n\n\nMESSAGE=second\nMESSAGE=twice\n\nMESSAGE=not complete\n".to_vec(),
        ]
        .concat();
        let want = [
            vec![
                ("BAD", "\u{fffd}"),
                ("MESSAGE", "a=b"),
                ("MULTI", "one\n\ntwo"),
                ("X", ""),
                ("__CURSOR", "c1"),
            ],
            vec![("MESSAGE", "twice")],
        ];
        for piece in [1, 3, 1000] {
            let entries = entries(&stream, piece);
            let shown: Vec<Vec<_>> =
                entries.iter().map(|e| e.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()).collect();
            assert_eq!(shown, want, "pieces of {piece}");
        }
    }

    #[test]
    fn values_that_are_too_long_are_left_out() {
        let long = vec![b'x'; Export::MAX_VALUE + 1];
        let lying = [b"LYING\n".to_vec(), u64::MAX.to_le_bytes().to_vec()].concat();
        let stream = [
            binary("LONG", &long),
            b"A=1\n".to_vec(),
            [b"TEXT=", &long[..], &long[..100], b"\n"].concat(),
            b"B=2\n\n".to_vec(),
            lying,
            b"C=3\n\n".to_vec(),
        ]
        .concat();
        let entries = entries(&stream, 64 << 10);
        assert_eq!(entries.len(), 1);
        assert_eq!(entries[0].keys().collect::<Vec<_>>(), ["A", "B"]);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(pieces in proptest::collection::vec(proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'='), Just(0), any::<u8>()], 0..40), 0..10)) {
            let mut export = Export::default();
            for piece in pieces {
                export.push(&piece);
                while export.next().is_some() {}
            }
        }

        #[test]
        fn what_is_written_is_read(fields in proptest::collection::btree_map("[A-Z_]{1,8}", "[^\u{0}]{0,30}", 1..6), piece in 1_usize..50) {
            let mut stream = Vec::new();
            for (name, value) in &fields {
                match value.contains('\n') {
                    true => stream.extend(binary(name, value.as_bytes())),
                    false => stream.extend(format!("{name}={value}\n").into_bytes()),
                }
            }
            stream.push(b'\n');
            prop_assert_eq!(entries(&stream, piece), vec![fields]);
        }
    }
}
