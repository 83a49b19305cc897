//! Range aggregations: functions over the entries of time windows.

mod leaf;
mod piece;
mod windows;

pub(crate) use leaf::{LeafPlan, LeafState};
pub(crate) use windows::Windows;
