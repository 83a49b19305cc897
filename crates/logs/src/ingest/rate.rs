//! Token buckets: how fast a tenant or a stream may send.

use model::Timestamp;

/// Tokens that come back with time.
#[derive(Debug, Clone, Copy, Default)]
pub struct TokenBucket {
    spent: f64,
    at: i64,
}

impl TokenBucket {
    /// Takes `amount` if that leaves no more than `burst` spent, of which `rate` come back per second.
    pub fn take(&mut self, amount: f64, rate: f64, burst: f64, now: Timestamp) -> bool {
        let seconds = now.nanos().saturating_sub(self.at).max(0) as f64 / 1e9;
        let spent = if self.at == 0 { 0.0 } else { (self.spent - seconds * rate).max(0.0) };
        (self.spent, self.at) = (spent, now.nanos());
        let fits = spent + amount <= burst;
        if fits {
            self.spent += amount;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back() {
        let mut bucket = TokenBucket::default();
        let mut take = |amount, second| bucket.take(amount, 10.0, 20.0, Timestamp::from_seconds(second));
        assert_eq!(
            [take(20.0, 1), take(1.0, 1), take(10.0, 2), take(11.0, 3), take(20.0, 9)],
            [true, false, true, false, true]
        );
    }
}
