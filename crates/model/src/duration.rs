//! Durations as Go and Prometheus write them.
