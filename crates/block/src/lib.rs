//! Parquet blocks, the manifest that names them, the ingest log before them, and the snapshot that queries read.
