//! Logs as a signal of the storage engine.

use std::sync::atomic::{AtomicI64, Ordering};

use block::{DecodeError, Head, SealError, SealedBlock, Signal};
use bytes::Bytes;
use model::{TenantId, Timestamp};
use parking_lot::Mutex;

use crate::store::head::LogsHead;
use crate::store::index::BlockIndex;
use crate::store::ledger::{Ledger, LedgerCounts};
use crate::store::record;
use crate::store::rows::Rows;
use crate::store::seal::seal;

/// Memory for what is stored of each source.
const LEDGER_BYTES: usize = 64 << 20;
/// Between two warnings that something was forgotten.
const WARN_SECONDS: i64 = 60;

/// What the engine must know of logs, and what is stored of each source.
#[derive(Debug)]
pub struct LogsSignal {
    /// Changed by the commit thread, or the replay before it, alone.
    ledger: Mutex<Ledger>,
    warned: AtomicI64,
}

impl Default for LogsSignal {
    fn default() -> Self {
        Self { ledger: Mutex::new(Ledger::new(LEDGER_BYTES)), warned: AtomicI64::new(i64::MIN) }
    }
}

impl LogsSignal {
    /// Figures of what is held of sources.
    pub fn ledger_counts(&self) -> LedgerCounts {
        self.ledger.lock().counts()
    }

    /// Says so, at most once a minute, if sources had to be forgotten.
    fn warn_of(&self, before: u64, after: u64, now: Timestamp) {
        let second = now.nanos() / 1_000_000_000;
        if after > before && second >= self.warned.load(Ordering::Relaxed).saturating_add(WARN_SECONDS) {
            self.warned.store(second, Ordering::Relaxed);
            tracing::warn!(
                forgotten = after - before,
                limit = LEDGER_BYTES,
                "too many sources of lines to remember: what they send again may be stored twice"
            );
        }
    }
}

impl Signal for LogsSignal {
    const NAME: &'static str = "logs";
    type Rows = Rows;
    type Head = LogsHead;
    type Index = BlockIndex;

    fn decode(&self, _tenant: &TenantId, body: &Bytes) -> Result<Rows, DecodeError> {
        record::decode(body).map_err(DecodeError::new)
    }

    fn admit(&self, tenant: &TenantId, body: &mut Bytes, rows: &mut Rows) {
        if rows.origins.is_empty() {
            return;
        }
        let now = Timestamp::now();
        let mut ledger = self.ledger.lock();
        let before = ledger.forgotten();
        if ledger.admit(tenant, rows, now) {
            *body = record::encode(rows);
        }
        self.warn_of(before, ledger.forgotten(), now);
    }

    fn settle(&self, stored: bool) {
        self.ledger.lock().settle(stored);
    }

    fn recall(&self, tenant: &TenantId, body: &Bytes) {
        // What cannot be read is counted and reported when its rows are decoded.
        if let Ok(Some(origins)) = record::origins(body) {
            let now = Timestamp::now();
            let mut ledger = self.ledger.lock();
            let before = ledger.forgotten();
            ledger.recall(tenant, &origins, now);
            self.warn_of(before, ledger.forgotten(), now);
        }
    }

    fn checkpoint(&self) -> Option<Bytes> {
        self.ledger.lock().checkpoint(Timestamp::now())
    }

    fn restore(&self, checkpoint: &Bytes) -> Result<(), DecodeError> {
        self.ledger.lock().restore(checkpoint).map_err(DecodeError::new)
    }

    fn new_head(&self, _tenant: &TenantId) -> LogsHead {
        LogsHead::default()
    }

    fn decode_index(&self, bytes: &Bytes) -> Result<BlockIndex, DecodeError> {
        BlockIndex::decode(bytes).map_err(DecodeError::new)
    }
}

impl Head for LogsHead {
    type Rows = Rows;

    fn insert(&self, rows: Rows) {
        self.insert(rows);
    }

    fn bytes(&self) -> usize {
        self.bytes()
    }

    fn rows(&self) -> u64 {
        self.rows()
    }

    fn seal(&self) -> Result<Vec<SealedBlock>, SealError> {
        seal(self)
    }
}
