//! Logs as a signal of the storage engine.

use block::{DecodeError, Head, SealError, SealedBlock, Signal};
use bytes::Bytes;
use model::TenantId;

use crate::store::head::LogsHead;
use crate::store::index::BlockIndex;
use crate::store::record;
use crate::store::rows::Rows;
use crate::store::seal::seal;

/// What the engine must know of logs.
#[derive(Debug, Clone, Copy, Default)]
pub struct LogsSignal;

impl Signal for LogsSignal {
    const NAME: &'static str = "logs";
    type Rows = Rows;
    type Head = LogsHead;
    type Index = BlockIndex;

    fn decode(&self, _tenant: &TenantId, body: &Bytes) -> Result<Rows, DecodeError> {
        record::decode(body).map_err(DecodeError::new)
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
