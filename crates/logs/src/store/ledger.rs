//! What is stored of each source: by this a line that is sent again is known.
//!
//! A source is bytes that only its sender knows; the ledger holds which of them went into rows that are in the ingest log or in
//! blocks. Below the position that the sender will never go back to (`low`) nothing needs to be held, so it stays small: one range
//! for a source whose lines are all stored. It is bounded; what it forgets may be stored twice, never lost.

use bytes::Bytes;
use hashbrown::HashMap;
use model::{TenantId, Timestamp};
use xxhash_rust::xxh3::xxh3_64;

use crate::store::codec::{CodecError, Reader, put_i64, put_str, put_u64};
use crate::store::intervals::Intervals;
use crate::store::origins::{Origins, Piece, read_id};
use crate::store::rows::Rows;

/// The first byte of a checkpoint.
const VERSION: u8 = 1;
/// What a source costs beside its ranges: its place in the table and the first node of its tree.
const SOURCE_BYTES: usize = 320;
/// What a range costs, in a tree whose nodes are half full.
const RANGE_BYTES: usize = 36;
/// What a tenant costs.
const TENANT_BYTES: usize = 512;
/// A source that was not seen for so long is forgotten.
const FORGET_SECONDS: i64 = 7 * 24 * 60 * 60;

/// What is stored, by tenant and source.
#[derive(Debug)]
pub struct Ledger {
    tenants: HashMap<TenantId, HashMap<u128, Known>>,
    /// What was noted since the last [`settle`](Ledger::settle).
    unsettled: Vec<(TenantId, u128, std::ops::Range<u64>)>,
    bytes: usize,
    budget: usize,
    counts: LedgerCounts,
}

/// Figures of a ledger; counters since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LedgerCounts {
    /// Sources held.
    pub sources: usize,
    /// Memory, in bytes.
    pub bytes: usize,
    /// Rows that were stored before, and so not again.
    pub repeated: u64,
    /// Sources forgotten for want of room.
    pub forgotten: u64,
}

#[derive(Debug, Default)]
struct Known {
    low: u64,
    /// Above `low`.
    stored: Intervals,
    /// When it was last sent from, in seconds since the epoch.
    seen: i64,
}

impl Known {
    fn bytes(&self) -> usize {
        SOURCE_BYTES + RANGE_BYTES * self.stored.len()
    }

    fn covers(&self, piece: &Piece) -> bool {
        piece.end <= self.low || self.stored.covers(&(piece.start.max(self.low)..piece.end))
    }

    fn meets(&self, piece: &Piece) -> bool {
        piece.start < self.low || self.stored.meets(&piece.range())
    }

    fn see(&mut self, low: u64, now: i64) {
        if low > self.low {
            self.low = low;
            self.stored.cut_below(low);
        }
        self.seen = self.seen.max(now);
    }

    fn note(&mut self, range: std::ops::Range<u64>, new: impl FnMut(std::ops::Range<u64>)) {
        self.stored.insert(range.start.max(self.low)..range.end.max(self.low), new);
    }
}

impl Ledger {
    /// An empty one that may take `budget` bytes of memory.
    pub fn new(budget: usize) -> Self {
        Self {
            tenants: HashMap::new(),
            unsettled: Vec::new(),
            bytes: 0,
            budget,
            counts: LedgerCounts::default(),
        }
    }

    /// Figures.
    pub fn counts(&self) -> LedgerCounts {
        let sources = self.tenants.values().map(HashMap::len).sum();
        LedgerCounts { sources, bytes: self.bytes, ..self.counts }
    }

    /// Sources forgotten for want of room.
    pub fn forgotten(&self) -> u64 {
        self.counts.forgotten
    }

    /// Takes the rows out that are stored, all of whose bytes that is; notes the others as stored. Says whether it took any out.
    pub fn admit(&mut self, tenant: &TenantId, rows: &mut Rows, now: Timestamp) -> bool {
        if rows.origins.is_empty() {
            return false;
        }
        let now = now.nanos().div_euclid(1_000_000_000);
        self.see(tenant, &rows.origins, now);
        let fresh = {
            let known = self.tenants.get(tenant);
            let is_known =
                |p| known.and_then(|k| k.get(&rows.origins.source(p).id)).is_some_and(|k| k.meets(p));
            !rows.origins.shared && !rows.origins.pieces.iter().any(is_known)
        };
        let mut dropped = false;
        if fresh {
            self.note(tenant, &rows.origins, &rows.origins.pieces, true);
        } else {
            dropped = self.sift(tenant, rows);
        }
        self.bound();
        dropped
    }

    /// [`admit`](Self::admit) row by row.
    fn sift(&mut self, tenant: &TenantId, rows: &mut Rows) -> bool {
        let origins = std::mem::take(&mut rows.origins);
        let before = rows.len();
        for stream in &mut rows.streams {
            let mut keep = Vec::with_capacity(stream.len());
            for row in 0..stream.len() {
                let pieces = stream.origins.of(row);
                let repeated = !pieces.is_empty() && pieces.iter().all(|p| self.covers(tenant, &origins, p));
                if !repeated {
                    self.note(tenant, &origins, pieces, true);
                }
                keep.push(!repeated);
            }
            if keep.contains(&false) {
                stream.retain(&keep);
            }
        }
        let dropped = before - rows.len();
        rows.streams.retain(|stream| !stream.is_empty());
        rows.origins = Origins::of(origins.sources, &rows.streams);
        self.counts.repeated += dropped as u64;
        dropped > 0
    }

    /// Ends the admissions so far: if the rows were not stored, they are not noted any more.
    pub fn settle(&mut self, stored: bool) {
        for (tenant, id, range) in self.unsettled.drain(..) {
            let known = self.tenants.get_mut(&tenant).and_then(|sources| sources.get_mut(&id));
            if let (false, Some(known)) = (stored, known) {
                self.bytes -= known.bytes();
                known.stored.remove(range);
                self.bytes += known.bytes();
            }
        }
    }

    /// Notes what a record of the ingest log says.
    pub fn recall(&mut self, tenant: &TenantId, origins: &Origins, now: Timestamp) {
        self.see(tenant, origins, now.nanos().div_euclid(1_000_000_000));
        self.note(tenant, origins, &origins.pieces, false);
        self.bound();
    }

    /// Knows the sources from here on.
    fn see(&mut self, tenant: &TenantId, origins: &Origins, now: i64) {
        if !self.tenants.contains_key(tenant) {
            self.tenants.insert(tenant.clone(), HashMap::new());
            self.bytes += TENANT_BYTES;
        }
        let Some(sources) = self.tenants.get_mut(tenant) else { return };
        for source in &origins.sources {
            let known = sources.entry(source.id).or_insert_with(|| {
                let known = Known::default();
                self.bytes += known.bytes();
                known
            });
            self.bytes -= known.bytes();
            known.see(source.low, now);
            self.bytes += known.bytes();
        }
    }

    fn covers(&self, tenant: &TenantId, origins: &Origins, piece: &Piece) -> bool {
        let known = self.tenants.get(tenant).and_then(|sources| sources.get(&origins.source(piece).id));
        known.is_some_and(|known| known.covers(piece))
    }

    fn note(&mut self, tenant: &TenantId, origins: &Origins, pieces: &[Piece], unsettled: bool) {
        let Some(sources) = self.tenants.get_mut(tenant) else { return };
        for pieces in pieces.chunk_by(|a, b| a.source == b.source) {
            let id = origins.source(&pieces[0]).id;
            let Some(known) = sources.get_mut(&id) else { continue };
            self.bytes -= known.bytes();
            for piece in pieces {
                known.note(piece.range(), |new| {
                    if unsettled {
                        self.unsettled.push((tenant.clone(), id, new));
                    }
                });
            }
            self.bytes += known.bytes();
        }
    }

    /// Over the budget, the sources that were not seen for longest go, some at once.
    fn bound(&mut self) {
        if self.bytes <= self.budget {
            return;
        }
        let all = self.tenants.values().flat_map(|sources| sources.values());
        let mut sizes: Vec<(i64, usize)> = all.map(|known| (known.seen, known.bytes())).collect();
        sizes.sort_unstable();
        let (mut left, mut oldest) = (self.bytes, i64::MIN);
        let mut at_oldest = 0;
        for (seen, bytes) in sizes {
            if left <= self.budget / 8 * 7 {
                break;
            }
            left = left.saturating_sub(bytes);
            at_oldest = if seen == oldest { at_oldest + 1 } else { 1 };
            oldest = seen;
        }
        // Of those last seen in the same second only as many as are needed.
        let forgotten = self.forget(|known| {
            known.seen < oldest
                || known.seen == oldest && {
                    let goes = at_oldest > 0;
                    at_oldest -= usize::from(goes);
                    goes
                }
        });
        self.counts.forgotten += forgotten;
    }

    fn forget(&mut self, mut goes: impl FnMut(&Known) -> bool) -> u64 {
        let mut forgotten = 0;
        self.tenants.retain(|_, sources| {
            sources.retain(|_, known| {
                let goes = goes(known);
                if goes {
                    self.bytes -= known.bytes();
                    forgotten += 1;
                }
                !goes
            });
            if sources.is_empty() {
                self.bytes -= TENANT_BYTES;
            }
            !sources.is_empty()
        });
        forgotten
    }

    /// All that must be remembered, as bytes; `None` if there is nothing. Forgets what was not seen for a week.
    ///
    /// Layout, all numbers varints (`i` = zigzag): version; tenants; per tenant: id; sources; per source: id (16 bytes), low, seen
    /// (`i`, seconds); ranges; per range: start minus the end of the one before (low at first), length; at the end XXH3-64 of all
    /// before, little-endian.
    pub fn checkpoint(&mut self, now: Timestamp) -> Option<Bytes> {
        let oldest = now.nanos().div_euclid(1_000_000_000) - FORGET_SECONDS;
        self.forget(|known| known.seen < oldest);
        if self.tenants.is_empty() {
            return None;
        }
        let mut out = vec![VERSION];
        put_u64(&mut out, self.tenants.len() as u64);
        for (tenant, sources) in &self.tenants {
            put_str(&mut out, tenant.as_str());
            put_u64(&mut out, sources.len() as u64);
            for (id, known) in sources {
                out.extend_from_slice(&id.to_be_bytes());
                put_u64(&mut out, known.low);
                put_i64(&mut out, known.seen);
                put_u64(&mut out, known.stored.len() as u64);
                let mut last = known.low;
                for range in known.stored.iter() {
                    put_u64(&mut out, range.start - last);
                    put_u64(&mut out, range.end - range.start);
                    last = range.end;
                }
            }
        }
        out.extend_from_slice(&xxh3_64(&out).to_le_bytes());
        Some(out.into())
    }

    /// Adds what a checkpoint says. After an error nothing has changed.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), CodecError> {
        let (body, sum) = checkpoint.split_last_chunk().ok_or(CodecError::Truncated)?;
        if xxh3_64(body) != u64::from_le_bytes(*sum) {
            return Err(CodecError::Invalid("checksum"));
        }
        let mut reader = Reader::new(body);
        match reader.byte()? {
            VERSION => {}
            other => return Err(CodecError::Version(other)),
        }
        let mut tenants = Vec::new();
        for _ in 0..reader.count()? {
            let tenant = TenantId::parse(reader.str()?).map_err(|_| CodecError::Invalid("tenant"))?;
            let sources =
                (0..reader.count()?).map(|_| read_source(&mut reader)).collect::<Result<Vec<_>, _>>()?;
            tenants.push((tenant, sources));
        }
        if reader.remaining() > 0 {
            return Err(CodecError::Invalid("bytes after the end"));
        }
        for (tenant, sources) in tenants {
            let own = self.tenants.entry(tenant).or_insert_with(|| {
                self.bytes += TENANT_BYTES;
                HashMap::new()
            });
            for (id, known) in sources {
                self.bytes += known.bytes();
                if let Some(before) = own.insert(id, known) {
                    self.bytes -= before.bytes();
                }
            }
        }
        self.bound();
        Ok(())
    }
}

fn read_source(reader: &mut Reader<'_>) -> Result<(u128, Known), CodecError> {
    let id = read_id(reader)?;
    let mut known = Known { low: reader.u64()?, seen: reader.i64()?, ..Known::default() };
    let mut last = known.low;
    for _ in 0..reader.count()? {
        let start = last.checked_add(reader.u64()?);
        let end = start.and_then(|start| start.checked_add(reader.u64().ok()?));
        let (Some(start), Some(end)) = (start, end) else { return Err(CodecError::Invalid("range")) };
        known.stored.insert(start..end, |_| {});
        last = end;
    }
    Ok((id, known))
}

#[cfg(test)]
mod lives;
#[cfg(test)]
mod tests;
