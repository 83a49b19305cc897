//! What a query did, for the `stats` of its answer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::store::entries::Entries;

/// Counters of a running query.
#[derive(Debug)]
pub struct QueryStats {
    started: Instant,
    /// Lines and their bytes that came out of heads.
    pub head_lines: AtomicU64,
    /// See `head_lines`.
    pub head_bytes: AtomicU64,
    /// Lines and their bytes that came out of blocks.
    pub block_lines: AtomicU64,
    /// See `block_lines`.
    pub block_bytes: AtomicU64,
    /// Bytes of metadata out of heads.
    pub head_metadata_bytes: AtomicU64,
    /// Bytes of metadata out of blocks.
    pub block_metadata_bytes: AtomicU64,
    /// Entries that were there twice.
    pub duplicates: AtomicU64,
    /// Windows of streams that were planned and read.
    pub chunks_planned: AtomicU64,
    /// See `chunks_planned`.
    pub chunks_read: AtomicU64,
    /// Tasks that were evaluated.
    pub tasks: AtomicU64,
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
            duplicates: zero(),
            chunks_planned: zero(),
            chunks_read: zero(),
            tasks: zero(),
        }
    }
}

impl QueryStats {
    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, value: u64) {
        counter.fetch_add(value, Ordering::Relaxed);
    }

    /// Counts entries that were read.
    pub fn read(&self, entries: &Entries, from_head: bool) {
        let (lines, bytes, metadata) = match from_head {
            true => (&self.head_lines, &self.head_bytes, &self.head_metadata_bytes),
            false => (&self.block_lines, &self.block_bytes, &self.block_metadata_bytes),
        };
        Self::add(lines, entries.len() as u64);
        Self::add(bytes, entries.line_bytes() as u64);
        Self::add(metadata, entries.metadata_bytes() as u64);
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
        let store = |planned: u64, read: u64, chunk: serde_json::Value| {
            serde_json::json!({
                "totalChunksRef": planned, "totalChunksDownloaded": read, "chunksDownloadTime": 0,
                "queryReferencedStructuredMetadata": metadata > 0, "chunk": chunk, "chunkRefsFetchTime": 0,
                "congestionControlLatency": 0, "pipelineWrapperFilteredLines": 0,
                "dataobj": {"prePredicateDecompressedRows": 0, "prePredicateDecompressedBytes": 0,
                    "prePredicateDecompressedStructuredMetadataBytes": 0, "postPredicateRows": 0,
                    "postPredicateDecompressedBytes": 0, "postPredicateStructuredMetadataBytes": 0, "postFilterRows": 0,
                    "pagesScanned": 0, "pagesDownloaded": 0, "pagesDownloadedBytes": 0, "pageBatches": 0,
                    "totalRowsAvailable": 0, "totalPageDownloadTime": 0},
                "queryUsedV2Engine": false,
            })
        };
        let chunk = |head: (u64, u64, u64), block: (u64, u64, u64)| {
            serde_json::json!({
                "headChunkBytes": head.0, "headChunkLines": head.1, "decompressedBytes": block.0, "decompressedLines": block.1,
                "compressedBytes": 0, "totalDuplicates": of(&self.duplicates), "postFilterLines": returned,
                "headChunkStructuredMetadataBytes": head.2, "decompressedStructuredMetadataBytes": block.2,
            })
        };
        let none = (0, 0, 0);
        let head = (of(&self.head_bytes), of(&self.head_lines), of(&self.head_metadata_bytes));
        let block = (of(&self.block_bytes), of(&self.block_lines), of(&self.block_metadata_bytes));
        let cache = serde_json::json!({
            "entriesFound": 0, "entriesRequested": 0, "entriesStored": 0, "bytesReceived": 0, "bytesSent": 0, "requests": 0,
            "downloadTime": 0, "queryLengthServed": 0,
        });
        serde_json::json!({
            "summary": {
                "bytesProcessedPerSecond": per_second(bytes), "linesProcessedPerSecond": per_second(lines),
                "totalBytesProcessed": bytes, "totalLinesProcessed": lines, "execTime": seconds, "queueTime": 0.0,
                "subqueries": 0, "totalEntriesReturned": returned, "splits": 0, "shards": of(&self.tasks),
                "totalPostFilterLines": returned, "totalStructuredMetadataBytesProcessed": metadata,
            },
            "querier": {
                "store": store(of(&self.chunks_planned), of(&self.chunks_read), chunk(none, block)),
            },
            "ingester": {
                "totalReached": 1, "totalChunksMatched": 0, "totalBatches": 0, "totalLinesSent": head.1,
                "store": store(0, 0, chunk(head, none)),
            },
            "cache": {
                "chunk": cache, "index": cache, "result": cache, "statsResult": cache, "volumeResult": cache,
                "seriesResult": cache, "labelResult": cache, "instantMetricResult": cache,
            },
            "index": {
                "totalChunks": of(&self.chunks_planned), "postFilterChunks": of(&self.chunks_planned), "shardsDuration": 0,
                "usedBloomFilters": false, "bloomFilterTime": 0, "chunkRefsLookupTime": 0, "totalStreams": 0,
            },
        })
    }
}
