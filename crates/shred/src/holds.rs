//! What is known of the values of a field without reading its column: which bytes occur, how long texts are, between which bounds
//! numbers lie. Queries pass over columns that cannot matter to them.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::{Array, StringArray};

use crate::value::{number_len, push_number};
use crate::{Field, Form, Gap, Kind, Source, Table, Values};

/// Different texts that are listed, at most.
const MAX_TEXTS: usize = 16;
/// Bytes of the texts that are listed, at most.
const MAX_TEXT_BYTES: usize = 256;

/// What the values of a field can be; whatever does not keep to it does not occur in the block.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holds {
    /// Nothing is known beyond the [`Kind`].
    Anything,
    /// Of fields that are kept as text.
    Texts(Texts),
    /// Of integers, and of decimals in units of their scale.
    Numbers {
        /// The least one.
        least: i64,
        /// The greatest one; less than the least if there is none.
        most: i64,
    },
}

/// What is known of texts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Texts {
    /// The bytes that occur.
    pub bytes: ByteSet,
    /// Bytes of the shortest text.
    pub shortest: u32,
    /// Bytes of the longest text; less than those of the shortest if there is none.
    pub longest: u32,
    /// All texts, if they are few.
    pub all: Option<Vec<Arc<str>>>,
}

/// A set of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ByteSet(pub(crate) [u64; 4]);

impl ByteSet {
    /// All bytes.
    pub const ALL: Self = Self([u64::MAX; 4]);

    /// The bytes for which `holds` is true.
    pub fn of(holds: impl Fn(u8) -> bool) -> Self {
        let mut set = Self::default();
        (0..=u8::MAX).filter(|byte| holds(*byte)).for_each(|byte| set.insert(byte));
        set
    }

    /// Adds a byte.
    #[inline]
    pub fn insert(&mut self, byte: u8) {
        self.0[usize::from(byte >> 6)] |= 1 << (byte & 63);
    }

    /// Whether a byte is in the set.
    #[inline]
    pub fn contains(&self, byte: u8) -> bool {
        self.0[usize::from(byte >> 6)] >> (byte & 63) & 1 == 1
    }

    /// The bytes that are in both.
    pub fn and(mut self, other: Self) -> Self {
        self.0.iter_mut().zip(other.0).for_each(|(a, b)| *a &= b);
        self
    }

    fn extend(&mut self, bytes: &[u8]) {
        let mut seen = [false; 256];
        bytes.iter().for_each(|byte| seen[usize::from(*byte)] = true);
        (0..=u8::MAX).filter(|byte| seen[usize::from(*byte)]).for_each(|byte| self.insert(byte));
    }
}

impl Texts {
    fn none() -> Self {
        Self { bytes: ByteSet::default(), shortest: u32::MAX, longest: 0, all: Some(Vec::new()) }
    }

    fn add(&mut self, values: &StringArray) {
        let (offsets, data) = (values.value_offsets(), values.value_data());
        if let (Some(from), Some(to)) = (offsets.first(), offsets.last()) {
            self.bytes.extend(&data[*from as usize..*to as usize]);
        }
        for (row, ends) in offsets.windows(2).enumerate() {
            if values.is_null(row) {
                continue;
            }
            let length = (ends[1] - ends[0]) as u32;
            self.shortest = self.shortest.min(length);
            self.longest = self.longest.max(length);
            if let Some(all) = &mut self.all {
                let text = values.value(row);
                if all.iter().any(|known| **known == *text) {
                    continue;
                }
                let bytes: usize = all.iter().map(|known| known.len()).sum();
                match all.len() < MAX_TEXTS && bytes + text.len() <= MAX_TEXT_BYTES {
                    true => all.push(text.into()),
                    false => self.all = None,
                }
            }
        }
    }
}

impl Holds {
    /// Before there is any value.
    pub(crate) fn nothing(kind: Kind) -> Self {
        match kind {
            Kind::Dictionary | Kind::Text => Self::Texts(Texts::none()),
            Kind::Integer | Kind::Decimal { .. } => Self::Numbers { least: i64::MAX, most: i64::MIN },
            Kind::Hex { .. } => Self::Anything,
        }
    }

    /// With the values of a batch, if they are not covered yet.
    pub(crate) fn grown(&self, values: &Values) -> Option<Self> {
        let mut grown = self.clone();
        match (&mut grown, values) {
            (Self::Texts(texts), Values::Text(values)) => texts.add(values),
            (Self::Texts(texts), Values::Dictionary(values)) => {
                values.values().as_string_opt::<i32>().into_iter().for_each(|values| texts.add(values));
            }
            (Self::Numbers { least, most }, Values::Integer(values)) => {
                for value in values.iter().flatten() {
                    (*least, *most) = ((*least).min(value), (*most).max(value));
                }
            }
            _ => return None,
        }
        (grown != *self).then_some(grown)
    }
}

impl Field {
    /// A field of which nothing is known but its name and type.
    pub fn new(name: impl Into<Arc<str>>, kind: Kind) -> Self {
        Self { name: name.into(), kind, holds: Holds::Anything }
    }
}

impl Table {
    /// The field of a gap, unless its values are among the rest.
    pub fn field_of(&self, gap: Gap) -> Option<&Field> {
        match gap.source {
            Source::Field(id) => self.fields.get(id.0 as usize),
            Source::Rest(_) => None,
        }
    }

    /// The only text that the gap has in all lines of the block, if it is known.
    pub fn constant(&self, gap: Gap) -> Option<String> {
        let field = self.field_of(gap)?;
        match &field.holds {
            Holds::Texts(Texts { all: Some(all), .. }) => match &all[..] {
                [only] => Some(only.to_string()),
                _ => None,
            },
            Holds::Numbers { least, most } if least == most => {
                let mut text = String::new();
                push_number(*least, field.kind, gap.form, &mut text);
                Some(text)
            }
            _ => None,
        }
    }

    /// Bytes of the text of a gap, if it is the same in all lines of the block.
    pub fn constant_len(&self, gap: Gap) -> Option<usize> {
        let field = self.field_of(gap)?;
        match (&field.holds, field.kind) {
            (_, Kind::Hex { bytes }) => Some(usize::from(bytes) * 2),
            (Holds::Texts(texts), _) if texts.shortest == texts.longest => Some(texts.longest as usize),
            (Holds::Numbers { least, most }, kind) if least <= most && (*least >= 0) == (*most >= 0) => {
                let length = number_len(*least, kind, gap.form);
                (length == number_len(*most, kind, gap.form)).then_some(length)
            }
            _ => None,
        }
    }
}

impl Form {
    /// Digits after the point.
    pub fn digits(self) -> usize {
        match self {
            Self::Plain => 0,
            Self::Decimals(digits) => usize::from(digits),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shredder::shred_all;

    #[test]
    fn fields_know_their_values() {
        let lines: Vec<String> = (0..40)
            .map(|i| {
                let id = format!("x{:03}", i * 7);
                format!(
                    r#"{{"v":"v1","l":"{}","id":"{id}","n":{},"d":{}.50}}"#,
                    ["a", "bc"][i % 2],
                    100 + i,
                    i
                )
            })
            .collect();
        let shredded = shred_all(&StringArray::from_iter_values(&lines));
        let table = &shredded.table;
        let gaps = &table.shapes[0].gaps;
        let known: Vec<(Option<String>, Option<usize>)> =
            gaps.iter().map(|gap| (table.constant(*gap), table.constant_len(*gap))).collect();
        let want =
            [(Some("v1".to_owned()), Some(2)), (None, None), (None, Some(4)), (None, Some(3)), (None, None)];
        assert_eq!(known, want);
        let Holds::Texts(texts) = &table.fields[1].holds else { panic!() };
        assert_eq!((texts.shortest, texts.longest), (1, 2));
        assert!(texts.bytes.contains(b'c') && !texts.bytes.contains(b'd'));
        assert_eq!(texts.all.as_deref(), Some(&["a".into(), "bc".into()][..]));
        let Holds::Texts(ids) = &table.fields[2].holds else { panic!() };
        assert_eq!(ids.all, None);
        assert_eq!(table.fields[3].holds, Holds::Numbers { least: 100, most: 139 });
    }
}
