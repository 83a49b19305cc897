//! Stores are killed at random moments, under load, while they start and while they make blocks: what was acknowledged is
//! there, once.
//!
//! The seed of a run is printed; `TIMBERLINE_SEED` repeats its choices (the moments depend on the machine as well), and
//! `TIMBERLINE_CRASH_ROUNDS` asks for more kills.

mod logs;
mod traces;

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::service::Service;

/// Clients that push at the same time.
const CLIENTS: u64 = 3;
/// Kills from one look at what is new to the next.
const ROUNDS_PER_CHECK: u64 = 25;

/// A store under test. Rows are numbers.
trait Store: Sync {
    /// Rows that are asked for together.
    const WINDOW: u64;

    /// The process on a folder.
    fn service(&self, folder: &Path) -> Result<Service>;

    /// Sends rows; `Ok` is their acknowledgement.
    fn push(&self, rows: Range<u64>) -> Result<()>;

    /// Asks for blocks.
    fn flush(&self) -> Result<()>;

    /// How many blocks there are.
    fn blocks(&self) -> Result<f64>;

    /// The rows of a window, each as often as it is there.
    fn rows(&self, window: u64) -> Result<Vec<u64>>;
}

/// What clients have done.
#[derive(Default)]
struct Ledger {
    next: u64,
    acknowledged: BTreeSet<u64>,
}

fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A number from the environment.
pub(crate) fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn story<S: Store>(name: &str, store: &S) -> Result<()> {
    let seed = setting("TIMBERLINE_SEED").unwrap_or_else(rand::random);
    let rounds = setting("TIMBERLINE_CRASH_ROUNDS").unwrap_or(100);
    eprintln!("{name}: TIMBERLINE_SEED={seed}");
    let folder = tempfile::tempdir()?;
    let mut service = store.service(folder.path())?;
    let (ledger, stop) = (Mutex::new(Ledger::default()), AtomicBool::new(false));
    let begun = Instant::now();
    let killed = std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            let random = StdRng::seed_from_u64(seed.wrapping_add(1 + client));
            let (ledger, stop) = (&ledger, &stop);
            scope.spawn(move || push(store, ledger, stop, random));
        }
        let killed = kill(store, &mut service, &ledger, StdRng::seed_from_u64(seed), rounds);
        stop.store(true, Ordering::Relaxed);
        killed
    });
    killed.map_err(|error| error.context(format!("{name}: TIMBERLINE_SEED={seed}")))?;

    service.start()?;
    check(store, &ledger, 0)?;
    // All in blocks, none in the log.
    service.stop()?;
    service.start()?;
    check(store, &ledger, 0)?;
    let (acknowledged, blocks) = (lock(&ledger).acknowledged.len(), store.blocks()?);
    eprintln!("{name}: {rounds} kills, {acknowledged} rows, {blocks} blocks, {:?}", begun.elapsed());
    // Else the kills hit nothing.
    ensure!(acknowledged as u64 > 10 * rounds, "only {acknowledged} rows in {rounds} rounds");
    ensure!(blocks as u64 > rounds / 20, "only {blocks} blocks in {rounds} rounds");
    service.stop()
}

/// Starts and kills, again and again.
fn kill<S: Store>(
    store: &S,
    service: &mut Service,
    ledger: &Mutex<Ledger>,
    mut random: StdRng,
    rounds: u64,
) -> Result<()> {
    let mut checked = 0;
    for round in 1..=rounds {
        service.launch()?;
        // One in five dies while it reads its log, or soon after.
        if random.random_bool(0.8) {
            service.wait()?;
        }
        let moment = Duration::from_micros(random.random_range(5_000..150_000));
        let flush = random.random_bool(0.5);
        let into_flush = Duration::from_micros(random.random_range(0..80_000));
        std::thread::scope(|scope| {
            std::thread::sleep(moment);
            if flush {
                // Whether it succeeds is not the question.
                scope.spawn(|| store.flush());
                std::thread::sleep(into_flush);
            }
            service.kill()
        })?;
        if round % ROUNDS_PER_CHECK == 0 {
            service.start()?;
            checked = check(store, ledger, checked)?;
            service.kill()?;
        }
    }
    Ok(())
}

/// Pushes rows that nobody else pushes, until told to stop. What was not acknowledged is pushed again, or given up.
fn push<S: Store>(store: &S, ledger: &Mutex<Ledger>, stop: &AtomicBool, mut random: StdRng) {
    while !stop.load(Ordering::Relaxed) {
        let rows = {
            let mut ledger = lock(ledger);
            let first = ledger.next;
            ledger.next += random.random_range(1..=20);
            first..ledger.next
        };
        loop {
            if store.push(rows.clone()).is_ok() {
                lock(ledger).acknowledged.extend(rows);
                break;
            }
            if stop.load(Ordering::Relaxed) || random.random_bool(0.05) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// From a window on, every acknowledged row is there once, and others at most once. Clients may go on meanwhile. Returns the
/// window where the next look may begin.
fn check<S: Store>(store: &S, ledger: &Mutex<Ledger>, first: u64) -> Result<u64> {
    let (acknowledged, next) = {
        let ledger = lock(ledger);
        (ledger.acknowledged.range(first * S::WINDOW..).copied().collect::<BTreeSet<_>>(), ledger.next)
    };
    for window in first..next.div_ceil(S::WINDOW) {
        let rows = window * S::WINDOW..(window + 1) * S::WINDOW;
        let mut found = BTreeSet::new();
        let twice: Vec<u64> = store.rows(window)?.into_iter().filter(|row| !found.insert(*row)).collect();
        ensure!(twice.is_empty(), "there more than once: {twice:?}");
        let missing: Vec<_> = acknowledged.range(rows.clone()).filter(|row| !found.contains(row)).collect();
        ensure!(missing.is_empty(), "acknowledged and lost: {missing:?} of {rows:?}");
        let foreign: Vec<_> = found.iter().filter(|row| !rows.contains(row)).collect();
        ensure!(foreign.is_empty(), "never sent: {foreign:?}");
    }
    // Of the last one, clients may still push rows.
    Ok((next / S::WINDOW).saturating_sub(1))
}
