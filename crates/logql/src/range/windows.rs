//! The windows of a range aggregation, cut into pieces that none of their borders crosses.
//!
//! Window `k` covers `(t_k − range − offset, t_k − offset]` with `t_k = start + k·step`. All borders together cut time into pieces;
//! every entry belongs to one piece and every window is a run of pieces, so entries are added up once, whatever the overlap.

/// The evaluation instants and their windows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Windows {
    /// First instant, nanoseconds.
    pub(crate) start: i64,
    /// Distance of instants, nanoseconds, positive.
    pub(crate) step: i64,
    /// How many instants there are.
    pub(crate) count: usize,
    range: i64,
    /// Left border of the first window.
    base: i64,
}

impl Windows {
    pub(crate) fn new(start: i64, step: i64, count: usize, range: i64, offset: i64) -> Self {
        // A single window needs no cuts.
        let step = if count == 1 { range.max(1) } else { step.max(1) };
        Self { start, step, count, range, base: start.saturating_sub(range).saturating_sub(offset) }
    }

    /// All entries that matter are later than the first and not later than the second of these.
    pub(crate) fn span(&self) -> (i64, i64) {
        let steps = self.step.saturating_mul(self.count.saturating_sub(1) as i64);
        (self.base, self.base.saturating_add(self.range).saturating_add(steps))
    }

    /// The piece of an instant, if a window covers it.
    pub(crate) fn piece(&self, time: i64) -> Option<u64> {
        let (base, last) = self.span();
        if time <= base || time > last {
            return None;
        }
        let distance = time - base;
        let whole = (distance - 1) / self.step;
        match self.range % self.step {
            0 => Some(whole as u64),
            rest if distance - whole * self.step <= rest => Some(2 * whole as u64),
            // Behind the end of a window that is shorter than the step: between the windows.
            _ if self.range < self.step => None,
            _ => Some(2 * whole as u64 + 1),
        }
    }

    /// The last instant that belongs to the same piece as `time`, which must belong to one.
    pub(crate) fn piece_end(&self, time: i64) -> i64 {
        let (base, last) = self.span();
        let whole = (time - base - 1) / self.step;
        let start = base + whole * self.step;
        let rest = self.range % self.step;
        let length = if rest != 0 && time - start <= rest { rest } else { self.step };
        start.saturating_add(length).min(last)
    }

    /// A number that grows with time and is the same for two instants exactly if no border of a window lies between them.
    pub(crate) fn region(&self, time: i64) -> u64 {
        let (base, last) = self.span();
        if time <= base {
            return 0;
        }
        if time > last {
            return u64::MAX;
        }
        let distance = time - base;
        let whole = (distance - 1) / self.step;
        let rest = self.range % self.step;
        let second = rest != 0 && distance - whole * self.step > rest;
        1 + 2 * whole as u64 + u64::from(second)
    }

    /// The pieces of window `k`: first and one after the last.
    pub(crate) fn pieces(&self, k: usize) -> (u64, u64) {
        let (k, whole) = (k as u64, (self.range / self.step) as u64);
        if self.range % self.step == 0 { (k, k + whole) } else { (2 * k, 2 * (k + whole) + 1) }
    }

    pub(crate) fn range_seconds(&self) -> f64 {
        self.range as f64 / 1e9
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn left_open_right_closed() {
        let windows = Windows::new(70, 60, 1, 60, 0);
        assert_eq!(windows.piece(10), None);
        assert_eq!(windows.piece(11), Some(0));
        assert_eq!(windows.piece(70), Some(0));
        assert_eq!(windows.piece(71), None);
    }

    proptest! {
        #[test]
        fn pieces_agree_with_borders(
            start in 0_i64..50, step in 1_i64..20, count in 1_usize..8, range in 1_i64..60, offset in -9_i64..10, time in -100_i64..300,
        ) {
            let windows = Windows::new(start, step, count, range, offset);
            let piece = windows.piece(time);
            if piece.is_some() {
                let end = windows.piece_end(time);
                prop_assert!(end >= time && windows.piece(end) == piece && windows.piece(end + 1) != piece);
            }
            for k in 0..count {
                let t = start + k as i64 * step - offset;
                let inside = time > t - range && time <= t;
                let (from, to) = windows.pieces(k);
                prop_assert_eq!(piece.is_some_and(|p| p >= from && p < to), inside, "window {}", k);
                if windows.region(time) == windows.region(time + 1) {
                    let next = time + 1 > t - range && time < t;
                    prop_assert_eq!(next, inside, "window {}", k);
                }
            }
        }
    }
}
