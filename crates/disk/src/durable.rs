//! The proof that something was written for good.

use std::ops::Deref;

/// A value that describes data on stable storage: an acknowledgement may be given for it.
///
/// It is made only at the end of a finished write, so a function that takes or returns a
/// `Durable` cannot be reached by data that a power cut would lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Durable<T>(T);

impl<T> Durable<T> {
    pub(crate) fn new(value: T) -> Self {
        Self(value)
    }

    /// Describes the same write by another value.
    pub fn map<U>(self, describe: impl FnOnce(T) -> U) -> Durable<U> {
        Durable(describe(self.0))
    }

    /// The value without its proof.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> Deref for Durable<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}
