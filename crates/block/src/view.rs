//! What a tenant's data is at one moment, and the steps in which it changes.
//!
//! ```text
//! record  ─▶ active slot          insert, by the commit thread
//! active  ─▶ frozen, last         freeze, by the commit thread
//! frozen  ─▶ blocks of a manifest install, when a version that covers them is known
//! ```
//! Each step changes the view under one lock, so a snapshot sees a row in exactly one place.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use model::TenantId;
use parking_lot::{Mutex, RwLock};

use crate::{Head, Manifest, Manifests, Signal, WriterId};

/// A tenant's data at one moment: every acknowledged row is in exactly one of the heads or of the manifest's blocks.
///
/// Rows that are appended later may show up in a head that is part of the snapshot.
pub struct Snapshot<S: Signal> {
    /// The heads being flushed, oldest first, then the one that takes new rows.
    pub heads: Vec<Arc<S::Head>>,
    /// The blocks.
    pub manifest: Arc<Manifest>,
}

impl<S: Signal> Clone for Snapshot<S> {
    fn clone(&self) -> Self {
        Self { heads: self.heads.clone(), manifest: Arc::clone(&self.manifest) }
    }
}

impl<S: Signal> Default for Snapshot<S> {
    fn default() -> Self {
        Self { heads: Vec::new(), manifest: Arc::default() }
    }
}

/// A head and the stretch of the log that its rows came from.
pub(crate) struct Slot<S: Signal> {
    pub(crate) head: Arc<S::Head>,
    /// The position of its first record.
    pub(crate) first: u64,
    /// The position after its last record; set by the commit thread only, and no more once it is frozen.
    end: AtomicU64,
    /// What it counts for in the store's unflushed bytes.
    counted: AtomicUsize,
    pub(crate) born: Instant,
}

impl<S: Signal> Slot<S> {
    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn counted(&self) -> usize {
        self.counted.load(Ordering::Acquire)
    }
}

struct View<S: Signal> {
    active: Option<Arc<Slot<S>>>,
    frozen: Vec<Arc<Slot<S>>>,
    manifest: Arc<Manifest>,
}

/// How the flushes of a tenant go.
#[derive(Debug, Default)]
pub(crate) struct FlushState {
    /// One is under way.
    pub(crate) running: bool,
    /// The next attempt waits until then.
    pub(crate) not_before: Option<Instant>,
    /// Failures since the last success.
    pub(crate) streak: u32,
    /// Failures since the start.
    pub(crate) failures: u64,
    pub(crate) last_error: String,
}

/// One tenant of a store.
pub(crate) struct Tenant<S: Signal> {
    pub(crate) id: TenantId,
    pub(crate) manifests: Manifests,
    pub(crate) flush: Mutex<FlushState>,
    view: RwLock<View<S>>,
}

impl<S: Signal> Tenant<S> {
    pub(crate) fn new(id: &TenantId, manifests: Manifests, manifest: Arc<Manifest>) -> Self {
        let view = View { active: None, frozen: Vec::new(), manifest };
        Self { id: id.clone(), manifests, flush: Mutex::default(), view: RwLock::new(view) }
    }

    pub(crate) fn snapshot(&self) -> Snapshot<S> {
        let view = self.view.read();
        let slots = view.frozen.iter().chain(&view.active);
        Snapshot { heads: slots.map(|s| Arc::clone(&s.head)).collect(), manifest: Arc::clone(&view.manifest) }
    }

    pub(crate) fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(&self.view.read().manifest)
    }

    pub(crate) fn active(&self) -> Option<Arc<Slot<S>>> {
        self.view.read().active.clone()
    }

    pub(crate) fn frozen(&self) -> Vec<Arc<Slot<S>>> {
        self.view.read().frozen.clone()
    }

    pub(crate) fn oldest_frozen(&self) -> Option<Arc<Slot<S>>> {
        self.view.read().frozen.first().cloned()
    }

    /// The position of the oldest record that is in no block.
    pub(crate) fn oldest_position(&self) -> Option<u64> {
        let view = self.view.read();
        view.frozen.first().or(view.active.as_ref()).map(|slot| slot.first)
    }

    /// Puts the rows of one record into the active head. By the commit thread (or the replay before it) only. Returns the
    /// growth in bytes, and the head's size.
    pub(crate) fn insert(
        &self,
        position: u64,
        rows: S::Rows,
        new_head: impl FnOnce() -> S::Head,
    ) -> (usize, usize) {
        let active = self.view.read().active.clone();
        let slot = active.unwrap_or_else(|| {
            let slot = Arc::new(Slot {
                head: Arc::new(new_head()),
                first: position,
                end: AtomicU64::new(position),
                counted: AtomicUsize::new(0),
                born: Instant::now(),
            });
            self.view.write().active = Some(Arc::clone(&slot));
            slot
        });
        slot.end.store(position + 1, Ordering::Release);
        slot.head.insert(rows);
        let size = slot.head.bytes();
        let growth = size.saturating_sub(slot.counted());
        slot.counted.fetch_add(growth, Ordering::AcqRel);
        (growth, size)
    }

    /// Ends the active head: it will be flushed. By the commit thread only, so that no insert is under way.
    pub(crate) fn freeze(&self) -> bool {
        let mut view = self.view.write();
        let Some(slot) = view.active.take() else { return false };
        view.frozen.push(slot);
        true
    }

    /// Makes a manifest version the current one, unless a newer one is. The heads that it covers go in the same step.
    /// Returns the bytes that they counted for.
    pub(crate) fn install(&self, manifest: Arc<Manifest>, writer: &WriterId) -> usize {
        let mut view = self.view.write();
        if manifest.version <= view.manifest.version {
            return 0;
        }
        let covered = manifest.covered_by(writer);
        let mut freed = 0;
        view.frozen.retain(|slot| {
            let stays = slot.end() > covered;
            freed += if stays { 0 } else { slot.counted() };
            stays
        });
        view.manifest = manifest;
        freed
    }
}
