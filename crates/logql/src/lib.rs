//! LogQL: text to syntax tree to checked plan to evaluation over batches. Pure.
