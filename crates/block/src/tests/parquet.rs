//! Blocks: what is written is read back, and only the pages that are asked for.

use std::ops::Range;
use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::Int64Type;
use blob::Blob;
use blob::sim::SimStore;
use proptest::prelude::*;

use super::kv::*;
use crate::open::OpenBlock;
use crate::store::Shared;
use crate::*;

const ROWS: i64 = 20_000;

fn rows() -> Vec<(i64, String)> {
    // Some nulls: an empty value is one.
    (0..ROWS)
        .map(|n| (n * 10, if n % 7 == 0 { String::new() } else { format!("{n:08} {}", n * 7919 % 1000) }))
        .collect()
}

fn settings() -> ColumnSettings {
    let value = ColumnHint {
        dictionary: Some(false),
        encoding: Some(ColumnEncoding::DeltaLengthByteArray),
        ..ColumnHint::default()
    };
    ColumnSettings {
        row_group_rows: 8_000,
        page_rows: 500,
        sorted_by: vec!["key".into()],
        columns: vec![("value".into(), value)],
        metadata: vec![("signal".into(), "kv".into())],
        ..ColumnSettings::default()
    }
}

async fn open(blob: &Blob, settings: ColumnSettings) -> OpenBlock<Kv> {
    let a = tenant("a");
    let meta = write_block(blob, "kv", &a, sealed(rows(), settings), 0).await.unwrap();
    let shared =
        Arc::new(Shared::new(Kv::default(), StoreOptions::default(), blob.clone(), WriterId::random()));
    OpenBlock::open(shared, &a, &meta).await.unwrap()
}

async fn check(block: &OpenBlock<Kv>, wanted: &RowRanges) {
    let all = rows();
    let expected: Vec<_> = wanted.iter().flatten().map(|row| all[row as usize].clone()).collect();
    // Columns come in the order of the schema.
    let batches = block.read(&["value", "key"], wanted).await.unwrap();
    let mut found = Vec::new();
    for batch in batches {
        let (keys, values) =
            (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_string::<i32>());
        found.extend(
            keys.values().iter().copied().zip(values.iter().map(|v| v.unwrap_or_default().to_owned())),
        );
    }
    assert_eq!(found, expected);
}

#[test]
fn any_rows_are_read_back() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let block = runtime.block_on(open(&Blob::memory(), settings()));
    // Ranges, and rows by themselves: many close to each other, and pages between them that nobody asked for.
    proptest!(ProptestConfig::with_cases(150), |(
        ranges in prop::collection::vec((0u64..ROWS as u64, 0u64..900, 1u64..6), 0..12)
    )| {
        let rows = |(start, count, step): (u64, u64, u64)| {
            let end = (start + count * step).min(ROWS as u64);
            (start..end).step_by(step as usize).map(|row| row..row + 1)
        };
        let wanted: RowRanges = ranges.into_iter().flat_map(rows).collect();
        runtime.block_on(check(&block, &wanted));
    });
    runtime.block_on(check(&block, &block.all_rows()));
    runtime.block_on(check(&block, &RowRanges::none()));
}

#[tokio::test]
async fn statistics_prune_pages() {
    let block = open(&Blob::memory(), settings()).await;
    assert_eq!(block.row_groups(), [0..8_000, 8_000..16_000, 16_000..20_000]);
    let ranges = |rows: RowRanges| rows.iter().map(|r| (r.start, r.end)).collect::<Vec<_>>();
    assert_eq!(ranges(block.prune_i64("key", 9_990, 10_005)), [(500, 1500)]);
    assert_eq!(ranges(block.prune_i64("key", -5, -1)), []);
    assert_eq!(ranges(block.prune_i64("key", i64::MIN, i64::MAX)), [(0, 20_000)]);
    assert_eq!(ranges(block.prune_i64("none", 0, 1)), []);
    assert_eq!(ranges(block.prune_i64("value", 0, 1)), [(0, 20_000)]);
    assert_eq!(ranges(block.prune_bytes("value", b"00007999", b"00008001")), [(7_500, 8_500)]);
    assert!(block.has_column("value") && !block.has_column("none"));
    assert!(matches!(block.read(&["none"], &block.all_rows()).await, Err(BlockError::NoColumn { .. })));
    let footer = block.parquet().file_metadata();
    assert!(footer.key_value_metadata().unwrap().iter().any(|kv| kv.key == "signal"));
    assert!(block.parquet().row_group(0).sorting_columns().is_some());

    let without = ColumnHint { no_statistics: true, ..ColumnHint::default() };
    let block =
        open(&Blob::memory(), ColumnSettings { columns: vec![("key".into(), without)], ..settings() }).await;
    assert_eq!(ranges(block.prune_i64("key", 0, 5)), [(0, 20_000)]);
}

#[tokio::test]
async fn only_the_asked_pages_are_fetched() {
    let bucket = SimStore::new();
    let block = open(&bucket.blob(), settings()).await;
    let before = (bucket.requests(), bucket.bytes_read());
    check(&block, &(10_100..10_200).collect_ranges()).await;
    let (requests, bytes) = (bucket.requests() - before.0, bucket.bytes_read() - before.1);
    assert_eq!(requests, 1);
    assert!(bytes * 10 < block.meta().size, "{bytes} of {}", block.meta().size);
}

/// A block larger than a part goes up in parts.
#[tokio::test(flavor = "multi_thread")]
async fn large_blocks_are_uploaded_in_parts() {
    let dir = tempfile::tempdir().unwrap();
    let blob = Blob::local(dir.path()).unwrap();
    let a = tenant("a");
    let mut dice = disk::sim::Dice::new(1);
    let noise: Vec<_> = (0..40_000)
        .map(|n| (n, (0..50).map(|_| format!("{:016x}", dice.below(u64::MAX))).collect::<String>()))
        .collect();
    let meta =
        write_block(&blob, "kv", &a, sealed(noise.clone(), ColumnSettings::default()), 0).await.unwrap();
    assert!(meta.size > 2 * (8 << 20), "{}", meta.size);
    let shared =
        Arc::new(Shared::new(Kv::default(), StoreOptions::default(), blob.clone(), WriterId::random()));
    let block: OpenBlock<Kv> = OpenBlock::open(shared, &a, &meta).await.unwrap();
    let batches = block.read(&["value"], &block.all_rows()).await.unwrap();
    let found: Vec<_> = batches
        .iter()
        .flat_map(|b| b.column(0).as_string::<i32>().iter().map(|v| v.unwrap().to_owned()))
        .collect();
    assert!(found.iter().eq(noise.iter().map(|r| &r.1)));
}

/// A failure in the middle of the rows leaves no block behind.
#[tokio::test]
async fn rows_that_fail_make_no_block() {
    let (a, blob) = (tenant("a"), Blob::memory());
    let mut block = sealed(rows(), settings());
    let failure = std::iter::once_with(|| Err(SealError::Other("no more".into())));
    let end = block.batches.end().unwrap();
    block.batches = end.after(sealed(rows(), settings()).batches.take(3).chain(failure));
    assert!(matches!(write_block(&blob, "kv", &a, block, 0).await, Err(WriteError::Seal(_))));
    assert_eq!(blob.list("kv").await.unwrap(), []);
}

#[tokio::test]
async fn damaged_blocks_are_errors() {
    let (a, blob) = (tenant("a"), Blob::memory());
    let meta = write_block(&blob, "kv", &a, sealed(rows(), settings()), 0).await.unwrap();
    let shared =
        Arc::new(Shared::new(Kv::default(), StoreOptions::default(), blob.clone(), WriterId::random()));
    let layout = crate::layout::Layout::new("kv", &a);
    let good = blob.get(&layout.data(meta.id)).await.unwrap().unwrap();
    let open = || OpenBlock::open(Arc::clone(&shared), &a, &meta);
    blob.put(&layout.index(meta.id), "many!".into()).await.unwrap();
    assert!(matches!(open().await, Err(BlockError::Index { .. })));
    blob.put(&layout.index(meta.id), "20000".into()).await.unwrap();
    let mut bad = good.to_vec();
    let last = bad.len() - 20;
    bad[last..].fill(0xff);
    blob.put(&layout.data(meta.id), bad.into()).await.unwrap();
    assert!(matches!(open().await, Err(BlockError::Parquet { .. })));
    blob.delete(&layout.data(meta.id)).await.unwrap();
    assert!(matches!(open().await, Err(BlockError::Blob(_))));
}

trait CollectRanges {
    fn collect_ranges(self) -> RowRanges;
}

impl CollectRanges for Range<u64> {
    fn collect_ranges(self) -> RowRanges {
        std::iter::once(self).collect()
    }
}
