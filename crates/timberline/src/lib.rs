//! All four services in one process on a local folder.
