//! Object store access: conditional put, ranged get, cache.
