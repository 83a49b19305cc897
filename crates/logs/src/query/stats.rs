//! What a query did, for the `stats` of its answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::query::cost::Cost;
use crate::store::entries::Entries;

/// Counters of a running query.
#[derive(Debug)]
pub struct QueryStats {
    started: Instant,
    /// Lines and their bytes that came out of heads.
    pub head_lines: AtomicU64,
    /// See `head_lines`.
    pub head_bytes: AtomicU64,
    /// Lines and their bytes that came out of blocks. Of lines that were looked at in part, their share of the granule's bytes.
    pub block_lines: AtomicU64,
    /// See `block_lines`.
    pub block_bytes: AtomicU64,
    /// Bytes of metadata out of heads.
    pub head_metadata_bytes: AtomicU64,
    /// Bytes of metadata out of blocks.
    pub block_metadata_bytes: AtomicU64,
    /// Bytes of the pages that were read.
    pub compressed_bytes: AtomicU64,
    /// Those pages.
    pub pages: AtomicU64,
    /// Entries that were there twice.
    pub duplicates: AtomicU64,
    /// Streams that were planned.
    pub streams: AtomicU64,
    /// Granules of those streams in the range.
    pub granules_planned: AtomicU64,
    /// Those of them that can hold what is searched.
    pub granules_kept: AtomicU64,
    /// Needle indexes that were asked.
    pub needle_searches: AtomicU64,
    /// Windows of streams that were planned and read.
    pub chunks_planned: AtomicU64,
    /// See `chunks_planned`.
    pub chunks_read: AtomicU64,
    /// Tasks that were evaluated.
    pub tasks: AtomicU64,
    /// Time spent waiting for memory and processors, by all tasks.
    pub queue_nanos: AtomicU64,
    /// Time spent finding out what to read.
    pub plan_nanos: AtomicU64,
}

impl Default for QueryStats {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            started: Instant::now(),
            head_lines: zero(),
            head_bytes: zero(),
            block_lines: zero(),
            block_bytes: zero(),
            head_metadata_bytes: zero(),
            block_metadata_bytes: zero(),
            compressed_bytes: zero(),
            pages: zero(),
            duplicates: zero(),
            streams: zero(),
            granules_planned: zero(),
            granules_kept: zero(),
            needle_searches: zero(),
            chunks_planned: zero(),
            chunks_read: zero(),
            tasks: zero(),
            queue_nanos: zero(),
            plan_nanos: zero(),
        }
    }
}

impl QueryStats {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts entries of a head that were looked at.
    pub(crate) fn head(&self, entries: &Entries) {
        Self::add(&self.head_lines, entries.len() as u64);
        Self::add(&self.head_bytes, entries.line_bytes() as u64);
        Self::add(&self.head_metadata_bytes, entries.metadata_bytes() as u64);
    }

    /// Counts entries of a block that were looked at, and the bytes of their lines.
    pub(crate) fn block(&self, entries: &Entries, bytes: u64) {
        Self::add(&self.block_lines, entries.len() as u64);
        Self::add(&self.block_bytes, bytes);
        Self::add(&self.block_metadata_bytes, entries.metadata_bytes() as u64);
    }

    /// Counts what is fetched.
    pub(crate) fn fetched(&self, cost: Cost) {
        Self::add(&self.compressed_bytes, cost.compressed);
        Self::add(&self.pages, cost.pages);
    }

    /// Bytes of lines and metadata read so far.
    pub fn bytes(&self) -> u64 {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        of(&self.head_bytes)
            + of(&self.block_bytes)
            + of(&self.head_metadata_bytes)
            + of(&self.block_metadata_bytes)
    }

    /// The `stats` object: all members Loki has, ours filled in.
    pub fn json(&self, returned: u64) -> serde_json::Value {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let seconds = self.started.elapsed().as_secs_f64();
        let metadata = of(&self.head_metadata_bytes) + of(&self.block_metadata_bytes);
        let (bytes, lines) = (self.bytes(), of(&self.head_lines) + of(&self.block_lines));
        let per_second = |n: u64| (n as f64 / seconds.max(1e-9)) as u64;
        let pages = |blocks: bool| if blocks { of(&self.pages) } else { 0 };
        let store = |planned: u64, read: u64, chunk: serde_json::Value| {
            serde_json::json!({
                "totalChunksRef": planned, "totalChunksDownloaded": read, "chunksDownloadTime": 0,
                "queryReferencedStructuredMetadata": metadata > 0, "chunk": chunk, "chunkRefsFetchTime": 0,
                "congestionControlLatency": 0, "pipelineWrapperFilteredLines": 0,
                "dataobj": {"prePredicateDecompressedRows": 0, "prePredicateDecompressedBytes": 0,
                    "prePredicateDecompressedStructuredMetadataBytes": 0, "postPredicateRows": 0,
                    "postPredicateDecompressedBytes": 0, "postPredicateStructuredMetadataBytes": 0, "postFilterRows": 0,
                    "pagesScanned": 0, "pagesDownloaded": pages(planned > 0),
                    "pagesDownloadedBytes": if planned > 0 { of(&self.compressed_bytes) } else { 0 }, "pageBatches": 0,
                    "totalRowsAvailable": 0, "totalPageDownloadTime": 0},
                "queryUsedV2Engine": false,
            })
        };
        let chunk = |head: (u64, u64, u64), block: (u64, u64, u64, u64)| {
            serde_json::json!({
                "headChunkBytes": head.0, "headChunkLines": head.1, "decompressedBytes": block.0, "decompressedLines": block.1,
                "compressedBytes": block.3, "totalDuplicates": of(&self.duplicates), "postFilterLines": returned,
                "headChunkStructuredMetadataBytes": head.2, "decompressedStructuredMetadataBytes": block.2,
            })
        };
        let head = (of(&self.head_bytes), of(&self.head_lines), of(&self.head_metadata_bytes));
        let block = (
            of(&self.block_bytes),
            of(&self.block_lines),
            of(&self.block_metadata_bytes),
            of(&self.compressed_bytes),
        );
        let cache = serde_json::json!({
            "entriesFound": 0, "entriesRequested": 0, "entriesStored": 0, "bytesReceived": 0, "bytesSent": 0, "requests": 0,
            "downloadTime": 0, "queryLengthServed": 0,
        });
        serde_json::json!({
            "summary": {
                "bytesProcessedPerSecond": per_second(bytes), "linesProcessedPerSecond": per_second(lines),
                "totalBytesProcessed": bytes, "totalLinesProcessed": lines, "execTime": seconds,
                "queueTime": of(&self.queue_nanos) as f64 / 1e9,
                "subqueries": 0, "totalEntriesReturned": returned, "splits": 0, "shards": of(&self.tasks),
                "totalPostFilterLines": returned, "totalStructuredMetadataBytesProcessed": metadata,
            },
            "querier": {
                "store": store(of(&self.chunks_planned), of(&self.chunks_read), chunk((0, 0, 0), block)),
            },
            "ingester": {
                "totalReached": 1, "totalChunksMatched": 0, "totalBatches": 0, "totalLinesSent": head.1,
                "store": store(0, 0, chunk(head, (0, 0, 0, 0))),
            },
            "cache": {
                "chunk": cache, "index": cache, "result": cache, "statsResult": cache, "volumeResult": cache,
                "seriesResult": cache, "labelResult": cache, "instantMetricResult": cache,
            },
            "index": {
                "totalChunks": of(&self.granules_planned), "postFilterChunks": of(&self.granules_kept), "shardsDuration": 0,
                "usedBloomFilters": of(&self.needle_searches) > 0, "bloomFilterTime": 0,
                "chunkRefsLookupTime": of(&self.plan_nanos), "totalStreams": of(&self.streams),
            },
        })
    }
}
