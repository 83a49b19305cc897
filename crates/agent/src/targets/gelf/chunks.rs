//! GELF's chunks: `1e 0f`, eight bytes that name the message, number and count of the chunk, and its share of the message.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

/// Messages of which some chunks are missing.
#[derive(Debug)]
pub(super) struct Chunks {
    max_message: usize,
    /// Chunks hold their sender's address, so that nobody can add to another's message.
    pending: HashMap<(IpAddr, [u8; 8]), Pending>,
    bytes: usize,
    forgotten: u64,
}

#[derive(Debug)]
struct Pending {
    begun: Instant,
    chunks: Vec<Option<Bytes>>,
    missing: usize,
    bytes: usize,
}

/// Why a datagram is no chunk.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ChunkError {
    #[error("a chunk has a header of 12 bytes")]
    Short,
    #[error("chunk {number} of {count}: there are 1 to 128")]
    Number { number: u8, count: u8 },
    #[error("the chunks of one message count {first} and {other}")]
    Count { first: usize, other: u8 },
    #[error("a message of more than {0} bytes")]
    TooLarge(usize),
}

impl Chunks {
    const MAGIC: [u8; 2] = [0x1e, 0x0f];
    /// Most chunks of a message.
    const MAX_CHUNKS: u8 = 128;
    /// How long a message waits for its chunks.
    const PATIENCE: Duration = Duration::from_secs(5);
    /// Most messages that wait.
    const MAX_PENDING: usize = 512;
    /// Most bytes that wait.
    const MAX_BYTES: usize = 8 << 20;

    /// Messages of at most `max_message` bytes.
    pub(super) fn new(max_message: usize) -> Self {
        Self { max_message, pending: HashMap::new(), bytes: 0, forgotten: 0 }
    }

    /// Takes a datagram; the message that is whole with it.
    pub(super) fn push(
        &mut self,
        from: IpAddr,
        datagram: &[u8],
        now: Instant,
    ) -> Result<Option<Bytes>, ChunkError> {
        self.forget_old(now);
        let Some(chunk) = datagram.strip_prefix(&Self::MAGIC) else {
            return Ok(Some(Bytes::copy_from_slice(datagram)));
        };
        let Some((id, rest)) = chunk.split_first_chunk::<8>() else { return Err(ChunkError::Short) };
        let [number, count, data @ ..] = rest else { return Err(ChunkError::Short) };
        let (number, count) = (*number, *count);
        if count == 0 || count > Self::MAX_CHUNKS || number >= count {
            return Err(ChunkError::Number { number, count });
        }
        let key = (from, *id);
        let pending = self.pending.entry(key).or_insert_with(|| Pending {
            begun: now,
            chunks: vec![None; usize::from(count)],
            missing: usize::from(count),
            bytes: 0,
        });
        if pending.chunks.len() != usize::from(count) {
            return Err(ChunkError::Count { first: pending.chunks.len(), other: count });
        }
        let slot = &mut pending.chunks[usize::from(number)];
        if slot.is_some() {
            return Ok(None);
        }
        if pending.bytes + data.len() > self.max_message {
            self.remove(&key);
            return Err(ChunkError::TooLarge(self.max_message));
        }
        *slot = Some(Bytes::copy_from_slice(data));
        pending.missing -= 1;
        pending.bytes += data.len();
        self.bytes += data.len();
        if pending.missing == 0 {
            let whole = self.remove(&key).into_iter().flat_map(|p| p.chunks).flatten();
            let whole = whole.fold(Vec::new(), |mut all, chunk| {
                all.extend_from_slice(&chunk);
                all
            });
            return Ok(Some(whole.into()));
        }
        while self.pending.len() > Self::MAX_PENDING || self.bytes > Self::MAX_BYTES {
            let oldest = self.pending.iter().min_by_key(|(_, p)| p.begun).map(|(key, _)| *key);
            let Some(oldest) = oldest else { break };
            self.remove(&oldest);
            self.forgotten += 1;
        }
        Ok(None)
    }

    /// How many messages were given up since the last call.
    pub(super) fn take_forgotten(&mut self) -> u64 {
        std::mem::take(&mut self.forgotten)
    }

    fn forget_old(&mut self, now: Instant) {
        let (mut bytes, before) = (0, self.pending.len());
        self.pending.retain(|_, pending| {
            let stays = now.saturating_duration_since(pending.begun) < Self::PATIENCE;
            bytes += if stays { pending.bytes } else { 0 };
            stays
        });
        self.bytes = bytes;
        self.forgotten += (before - self.pending.len()) as u64;
    }

    fn remove(&mut self, key: &(IpAddr, [u8; 8])) -> Option<Pending> {
        let pending = self.pending.remove(key)?;
        self.bytes -= pending.bytes;
        Some(pending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOST: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn chunk(id: u8, number: u8, count: u8, data: &[u8]) -> Vec<u8> {
        [&Chunks::MAGIC[..], &[id; 8], &[number, count], data].concat()
    }

    #[test]
    fn messages_are_put_together_in_any_order() {
        let mut chunks = Chunks::new(100);
        let now = Instant::now();
        let mut push = |datagram: &[u8]| chunks.push(HOST, datagram, now).unwrap();
        assert_eq!(push(b"{}").as_deref(), Some(&b"{}"[..]));
        assert_eq!(push(&chunk(1, 2, 3, b"c")), None);
        assert_eq!(push(&chunk(2, 0, 2, b"x")), None);
        assert_eq!(push(&chunk(1, 0, 3, b"a")), None);
        assert_eq!(push(&chunk(1, 0, 3, b"again")), None);
        assert_eq!(push(&chunk(1, 1, 3, b"b")).as_deref(), Some(&b"abc"[..]));
        assert_eq!(push(&chunk(2, 1, 2, b"y")).as_deref(), Some(&b"xy"[..]));
        assert_eq!((chunks.bytes, chunks.pending.len(), chunks.take_forgotten()), (0, 0, 0));
    }

    #[test]
    fn what_is_no_chunk() {
        let check = |datagram: &[u8], want: ChunkError| {
            let mut chunks = Chunks::new(4);
            chunks.push(HOST, &chunk(9, 0, 2, b"1234"), Instant::now()).unwrap();
            assert_eq!(chunks.push(HOST, datagram, Instant::now()), Err(want));
        };
        check(&Chunks::MAGIC, ChunkError::Short);
        check(&chunk(1, 0, 1, b"")[..11], ChunkError::Short);
        check(&chunk(1, 0, 0, b""), ChunkError::Number { number: 0, count: 0 });
        check(&chunk(1, 5, 5, b""), ChunkError::Number { number: 5, count: 5 });
        check(&chunk(1, 0, 129, b""), ChunkError::Number { number: 0, count: 129 });
        check(&chunk(9, 0, 3, b""), ChunkError::Count { first: 2, other: 3 });
        check(&chunk(9, 1, 2, b"5"), ChunkError::TooLarge(4));
    }

    #[test]
    fn what_never_completes_is_forgotten() {
        let mut chunks = Chunks::new(1 << 20);
        let now = Instant::now();
        for n in 0..2000_u16 {
            let mut datagram = chunk(0, 0, 2, &[0; 1000]);
            datagram[2..4].copy_from_slice(&n.to_be_bytes());
            chunks.push(HOST, &datagram, now + Duration::from_micros(n.into())).unwrap();
            assert!(chunks.pending.len() <= Chunks::MAX_PENDING && chunks.bytes <= Chunks::MAX_BYTES);
        }
        assert_eq!(chunks.take_forgotten(), 2000 - Chunks::MAX_PENDING as u64);
        chunks.push(HOST, b"{}", now + Duration::from_secs(10)).unwrap();
        assert_eq!((chunks.pending.len(), chunks.bytes), (0, 0));
        assert_eq!(chunks.take_forgotten(), Chunks::MAX_PENDING as u64);
    }

    proptest! {
        #[test]
        fn no_datagrams_panic(datagrams in proptest::collection::vec(proptest::collection::vec(0_u8..4, 0..20), 0..40)) {
            let mut chunks = Chunks::new(16);
            for datagram in datagrams {
                let datagram = [&Chunks::MAGIC[..], &datagram].concat();
                let _ = chunks.push(HOST, &datagram, Instant::now());
                prop_assert_eq!(chunks.bytes, chunks.pending.values().map(|p| p.bytes).sum::<usize>());
            }
        }
    }
}
