//! Where the rows of a push come from, as far as its sender says so: what the ledger compares with what is stored.
//!
//! Everything that does not need the ledger is found out here, before the push comes to the one thread that appends.

use std::ops::Range;

use hashbrown::HashMap;
use wire::loki::Source;

use crate::store::codec::{CodecError, Reader, put_i64, put_u64};
use crate::store::rows::StreamRows;

/// Bytes of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Piece {
    /// The place of the source in [`Origins::sources`].
    pub source: u32,
    /// The first byte.
    pub start: u64,
    /// After the last byte.
    pub end: u64,
}

impl Piece {
    /// The bytes.
    pub fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// The origins of the rows of a push.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins {
    /// The sources; no id twice.
    pub sources: Vec<Source>,
    /// What all rows together come from: sorted, joined as far as possible.
    pub pieces: Vec<Piece>,
    /// Two rows share bytes.
    pub shared: bool,
}

impl Origins {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Sums up the origins of rows.
    pub fn of(sources: Vec<Source>, streams: &[StreamRows]) -> Self {
        if sources.is_empty() {
            return Self::default();
        }
        let mut pieces: Vec<Piece> = streams.iter().flat_map(|s| s.origins.pieces.iter().copied()).collect();
        pieces.sort_unstable();
        let mut shared = false;
        pieces.dedup_by(|piece, last| {
            let joins = piece.source == last.source && piece.start <= last.end;
            if joins {
                shared |= piece.start < last.end;
                last.end = last.end.max(piece.end);
            }
            joins
        });
        Self { sources, pieces, shared }
    }

    /// The source of a piece.
    pub fn source(&self, piece: &Piece) -> &Source {
        &self.sources[piece.source as usize]
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_u64(out, self.sources.len() as u64);
        for source in &self.sources {
            out.extend_from_slice(&source.id.to_be_bytes());
            put_u64(out, source.low);
        }
        put_u64(out, self.pieces.len() as u64);
        let mut last = 0;
        for piece in &self.pieces {
            put_u64(out, piece.source.into());
            put_i64(out, piece.start.wrapping_sub(last) as i64);
            put_u64(out, piece.end - piece.start);
            last = piece.end;
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let mut origins = Self::default();
        for _ in 0..reader.count()? {
            origins.sources.push(Source { id: read_id(reader)?, low: reader.u64()? });
        }
        let mut last = 0u64;
        for _ in 0..reader.count()? {
            let source = u32::try_from(reader.u64()?).map_err(|_| CodecError::Invalid("source"))?;
            let start = last.wrapping_add(reader.i64()? as u64);
            let end = start.checked_add(reader.u64()?).filter(|end| *end > start);
            last = end.ok_or(CodecError::Invalid("range"))?;
            if source as usize >= origins.sources.len() {
                return Err(CodecError::Invalid("source"));
            }
            origins.pieces.push(Piece { source, start, end: last });
        }
        Ok(origins)
    }
}

pub(crate) fn read_id(reader: &mut Reader<'_>) -> Result<u128, CodecError> {
    Ok(u128::from_be_bytes(*reader.take(16)?.first_chunk().ok_or(CodecError::Truncated)?))
}

/// The origins of the rows of one stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RowOrigins {
    pieces: Vec<Piece>,
    /// Where in `pieces` those of each row end; rows beyond have none.
    ends: Vec<u32>,
}

impl RowOrigins {
    /// Sets where a row comes from. Rows must come in order.
    pub(crate) fn set(&mut self, row: usize, pieces: impl IntoIterator<Item = Piece>) {
        self.ends.resize(row, self.pieces.len() as u32);
        self.pieces.extend(pieces);
        self.ends.push(self.pieces.len() as u32);
    }

    /// Where a row comes from; empty if that is not known.
    pub fn of(&self, row: usize) -> &[Piece] {
        let Some(&end) = self.ends.get(row) else { return &[] };
        let start = if row == 0 { 0 } else { self.ends[row - 1] };
        &self.pieces[start as usize..end as usize]
    }
}

/// The sources of a request, each once.
#[derive(Debug, Default)]
pub struct Sources {
    sources: Vec<Source>,
    /// By the place in the request. Empty when the places are the same.
    places: Vec<u32>,
}

impl Sources {
    /// Joins what a request says of one source in several places.
    pub fn new(sent: &[Source]) -> Self {
        if sent.len() < 2 {
            return Self { sources: sent.to_vec(), places: Vec::new() };
        }
        let (mut sources, mut by_id) = (Vec::<Source>::with_capacity(sent.len()), HashMap::new());
        let mut places = Vec::with_capacity(sent.len());
        for source in sent {
            let place = *by_id.entry(source.id).or_insert(sources.len() as u32);
            match sources.get_mut(place as usize) {
                Some(known) => known.low = known.low.max(source.low),
                None => sources.push(*source),
            }
            places.push(place);
        }
        Self { sources, places }
    }

    /// The place of the source that a request has at `index`.
    pub fn place(&self, index: u32) -> Option<u32> {
        match self.places.is_empty() {
            true => ((index as usize) < self.sources.len()).then_some(index),
            false => self.places.get(index as usize).copied(),
        }
    }

    /// How many places the request has.
    pub fn sent(&self) -> usize {
        self.places.len().max(self.sources.len())
    }

    /// The sources.
    pub fn into_inner(self) -> Vec<Source> {
        self.sources
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Labels;
    use proptest::prelude::*;

    fn piece(source: u32, range: Range<u64>) -> Piece {
        Piece { source, start: range.start, end: range.end }
    }

    #[test]
    fn rows_are_summed_up() {
        let mut stream = StreamRows::new(Labels::from_pairs([("a", "b")]));
        for row in 0..5 {
            stream.push(row, "x");
        }
        stream.origins.set(1, [piece(1, 10..20), piece(1, 30..40)]);
        stream.origins.set(3, [piece(1, 20..30)]);
        assert_eq!(stream.origins.of(0), []);
        assert_eq!(stream.origins.of(1), [piece(1, 10..20), piece(1, 30..40)]);
        assert_eq!(stream.origins.of(2), []);
        assert_eq!(stream.origins.of(3), [piece(1, 20..30)]);
        assert_eq!(stream.origins.of(4), []);
        let sources: Vec<_> = (0..2).map(|id| Source { id, low: 0 }).collect();
        let origins = Origins::of(sources.clone(), std::slice::from_ref(&stream));
        assert_eq!((origins.pieces, origins.shared), (vec![piece(1, 10..40)], false));
        stream.origins.set(4, [piece(0, 5..6), piece(1, 39..50)]);
        let origins = Origins::of(sources, &[stream]);
        assert_eq!((origins.pieces, origins.shared), (vec![piece(0, 5..6), piece(1, 10..50)], true));
    }

    #[test]
    fn a_source_named_twice_is_one() {
        let source = |id, low| Source { id, low };
        let sources = Sources::new(&[source(7, 1), source(8, 2), source(7, 3)]);
        let places: Vec<_> = (0..4).map(|index| sources.place(index)).collect();
        assert_eq!(places, [Some(0), Some(1), Some(0), None]);
        assert_eq!(sources.into_inner(), [source(7, 3), source(8, 2)]);
        let one = Sources::new(&[source(7, 1)]);
        assert_eq!((one.place(0), one.place(1)), (Some(0), None));
    }

    proptest! {
        #[test]
        fn come_back(
            sources in proptest::collection::vec(any::<(u128, u64)>(), 1..4),
            pieces in proptest::collection::vec((any::<prop::sample::Index>(), any::<u64>(), any::<u64>()), 0..8),
        ) {
            let sources: Vec<_> = sources.into_iter().map(|(id, low)| Source { id, low }).collect();
            let pieces = pieces.into_iter().filter(|(_, a, b)| a != b);
            let pieces: Vec<_> = pieces
                .map(|(at, a, b)| piece(at.index(sources.len()) as u32, a.min(b)..a.max(b)))
                .collect();
            let origins = Origins { sources, pieces, shared: false };
            let mut out = Vec::new();
            origins.encode(&mut out);
            prop_assert_eq!(Origins::decode(&mut Reader::new(&out)), Ok(origins));
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes: Vec<u8>) {
            let _ = Origins::decode(&mut Reader::new(&bytes));
        }
    }
}
