//! A signal for tests: rows are numbers with a text.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use arrow_array::{Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};
use model::{TenantId, Timestamp};
use parking_lot::Mutex;

use crate::*;

/// It can be told to store no key of a tenant twice.
#[derive(Default)]
pub(crate) struct Kv {
    once: bool,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    stored: BTreeSet<(TenantId, i64)>,
    unsettled: Vec<(TenantId, i64)>,
}

impl Kv {
    pub(crate) fn once() -> Self {
        Self { once: true, ..Self::default() }
    }
}

#[derive(Default)]
pub(crate) struct KvHead(Mutex<Vec<(i64, String)>>);

impl Signal for Kv {
    const NAME: &'static str = "kv";
    type Rows = Vec<(i64, String)>;
    type Head = KvHead;
    type Index = u64;

    fn decode(&self, _: &TenantId, body: &Bytes) -> Result<Self::Rows, DecodeError> {
        let text = std::str::from_utf8(body).map_err(DecodeError::new)?;
        let rows = text.lines().map(|line| {
            let (key, value) = line.split_once(' ').ok_or_else(|| DecodeError::new("no space"))?;
            Ok((key.parse().map_err(DecodeError::new)?, value.to_owned()))
        });
        rows.collect()
    }

    fn admit(&self, tenant: &TenantId, bytes: &mut Bytes, rows: &mut Self::Rows) {
        if !self.once {
            return;
        }
        let mut noted = self.noted.lock();
        let before = rows.len();
        rows.retain(|(key, _)| {
            let new = noted.stored.insert((tenant.clone(), *key));
            if new {
                noted.unsettled.push((tenant.clone(), *key));
            }
            new
        });
        if rows.len() < before {
            *bytes = body(rows);
        }
    }

    fn settle(&self, stored: bool) {
        let mut noted = self.noted.lock();
        for key in std::mem::take(&mut noted.unsettled) {
            if !stored {
                noted.stored.remove(&key);
            }
        }
    }

    fn recall(&self, tenant: &TenantId, body: &Bytes) {
        if let (true, Ok(rows)) = (self.once, self.decode(tenant, body)) {
            self.noted.lock().stored.extend(rows.iter().map(|(key, _)| (tenant.clone(), *key)));
        }
    }

    fn checkpoint(&self) -> Option<Bytes> {
        let noted = self.noted.lock();
        let text: String = noted.stored.iter().map(|(tenant, key)| format!("{tenant} {key}\n")).collect();
        (!text.is_empty()).then(|| text.into())
    }

    fn restore(&self, checkpoint: &Bytes) -> Result<(), DecodeError> {
        for line in std::str::from_utf8(checkpoint).map_err(DecodeError::new)?.lines() {
            let (tenant, key) = line.split_once(' ').ok_or_else(|| DecodeError::new("no space"))?;
            let tenant = TenantId::parse(tenant).map_err(DecodeError::new)?;
            self.noted.lock().stored.insert((tenant, key.parse().map_err(DecodeError::new)?));
        }
        Ok(())
    }

    fn new_head(&self, _: &TenantId) -> KvHead {
        KvHead::default()
    }

    fn decode_index(&self, bytes: &Bytes) -> Result<u64, DecodeError> {
        std::str::from_utf8(bytes)
            .ok()
            .and_then(|t| t.parse().ok())
            .ok_or_else(|| DecodeError::new("no number"))
    }
}

impl Head for KvHead {
    type Rows = Vec<(i64, String)>;

    fn insert(&self, rows: Self::Rows) {
        self.0.lock().extend(rows);
    }

    fn bytes(&self) -> usize {
        self.0.lock().len() * 64
    }

    fn rows(&self) -> u64 {
        self.0.lock().len() as u64
    }

    fn seal(&self) -> Result<Vec<SealedBlock>, SealError> {
        let mut rows = self.0.lock().clone();
        rows.sort();
        // Two blocks of large heads: a flush may make several.
        let half = if rows.len() > 50 { rows.len() / 2 } else { rows.len() };
        Ok(rows.chunks(half.max(1)).map(|rows| sealed(rows.to_vec(), ColumnSettings::default())).collect())
    }
}

/// Keys below stay away.
pub(super) type KeepFrom = i64;

impl Compact for Kv {
    type Keep = KeepFrom;

    fn merge(
        &self,
        blocks: Vec<Arc<OpenBlock<Self>>>,
        keep: Arc<KeepFrom>,
    ) -> BoxStream<'static, Result<SealedBlock, MergeError>> {
        let read = async move {
            let mut rows = Vec::new();
            for block in blocks {
                for batch in block.read(&["key", "value"], &block.all_rows()).await? {
                    let values = batch.column(1).as_string::<i32>().iter();
                    let keys = batch.column(0).as_primitive::<Int64Type>().values().iter();
                    rows.extend(keys.zip(values).map(|(k, v)| (*k, v.unwrap_or_default().to_owned())));
                }
            }
            rows.retain(|r| r.0 >= *keep);
            rows.sort();
            Ok::<_, MergeError>(rows)
        };
        // Two blocks of many rows: a merge may make several.
        let cut = |rows: Vec<(i64, String)>| {
            let half = if rows.len() > 50 { rows.len() / 2 } else { rows.len() };
            let parts: Vec<_> = rows.chunks(half.max(1)).map(<[_]>::to_vec).collect();
            stream::iter(parts).map(|rows| Ok(sealed(rows, ColumnSettings::default())))
        };
        stream::once(read).map_ok(cut).try_flatten().boxed()
    }
}

pub(super) fn sealed(rows: Vec<(i64, String)>, parquet: ColumnSettings) -> SealedBlock {
    let schema = Arc::new(Schema::new(vec![
        Field::new("key", DataType::Int64, false),
        Field::new("value", DataType::Utf8, true),
    ]));
    let summary = BlockSummary {
        min_time: Timestamp(rows.first().map_or(0, |r| r.0)),
        max_time: Timestamp(rows.last().map_or(0, |r| r.0)),
        rows: rows.len() as u64,
        bytes: rows.iter().map(|r| r.1.len() as u64).sum(),
        detail: serde_json::json!({ "keys": rows.len() }),
    };
    let index = Bytes::from(rows.len().to_string());
    let made = Arc::clone(&schema);
    let batches: Vec<_> = rows.chunks(1000).map(<[_]>::to_vec).collect();
    let batches = batches.into_iter().map(move |rows| {
        let keys = Int64Array::from_iter_values(rows.iter().map(|r| r.0));
        let values = StringArray::from_iter(rows.iter().map(|r| (!r.1.is_empty()).then_some(&r.1)));
        Ok(RecordBatch::try_new(Arc::clone(&made), vec![Arc::new(keys), Arc::new(values)])?)
    });
    SealedBlock { schema, batches: BlockEnd { index, summary }.after(batches), parquet }
}

pub(crate) fn body(rows: &[(i64, String)]) -> Bytes {
    rows.iter().map(|(key, value)| format!("{key} {value}\n")).collect::<String>().into()
}

pub(crate) fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

/// Appends one record of rows with the given keys.
pub(super) async fn append(store: &Store<Kv>, tenant: &TenantId, keys: &[i64]) -> Result<(), AppendError> {
    let rows: Vec<_> = keys.iter().map(|k| (*k, format!("value of {k}"))).collect();
    store.append(tenant, body(&rows), rows).await.map(drop)
}

/// The keys that a query sees, sorted, with repetitions.
pub(super) async fn keys(store: &Store<Kv>, tenant: &TenantId) -> Vec<i64> {
    let snapshot = store.snapshot(tenant);
    let mut keys: Vec<i64> =
        snapshot.heads.iter().flat_map(|h| h.0.lock().iter().map(|r| r.0).collect::<Vec<_>>()).collect();
    for meta in &snapshot.manifest.blocks {
        let block = store.open_block(tenant, meta).await.unwrap();
        assert_eq!(*block.index(), meta.summary.rows);
        for batch in block.read(&["key", "value"], &block.all_rows()).await.unwrap() {
            let values = batch.column(1).as_string::<i32>();
            for (key, value) in batch.column(0).as_primitive::<Int64Type>().values().iter().zip(values) {
                assert_eq!(value, Some(format!("value of {key}").as_str()));
                keys.push(*key);
            }
        }
    }
    keys.sort_unstable();
    keys
}
