//! Points in time by Go's reference layouts (`Mon Jan _2 15:04:05 2006`).
