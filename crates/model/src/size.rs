//! Sizes in bytes as people write them: `64KB`, `1.5MiB`.
