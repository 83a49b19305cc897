//! Range aggregations: functions over the entries of time windows.

mod leaf;
mod piece;
mod state;
mod windows;

pub(crate) use leaf::LeafPlan;
pub(crate) use state::LeafState;
pub(crate) use windows::Windows;
