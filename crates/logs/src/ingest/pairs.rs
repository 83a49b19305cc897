//! A reusable list of names and values: the structured metadata of the entry at hand, without an allocation per entry.

use std::borrow::Cow;

use crate::ingest::names::{NameError, sanitise};

/// Names and values in one buffer.
#[derive(Debug, Clone, Default)]
pub struct Pairs {
    text: String,
    /// Start of the name, of the value, end of the value.
    places: Vec<(usize, usize, usize)>,
}

impl Pairs {
    /// Empties the list; its memory is kept.
    pub fn clear(&mut self) {
        self.text.clear();
        self.places.clear();
    }

    /// Adds a pair whose name is clean already.
    pub fn add(&mut self, name: &str, value: &str) {
        let start = self.text.len();
        self.text.push_str(name);
        let middle = self.text.len();
        self.text.push_str(value);
        self.places.push((start, middle, self.text.len()));
    }

    /// Adds a pair as sent: the name is made clean, bytes of the value that were no UTF-8 become spaces.
    pub fn add_raw(&mut self, name: &str, value: &str) -> Result<(), NameError> {
        let name = sanitise(name)?;
        match !value.is_ascii() && value.contains('\u{fffd}') {
            true => self.add(&name, &value.replace('\u{fffd}', " ")),
            false => self.add(&name, value),
        }
        Ok(())
    }

    /// Adds a pair whose value is written by `value`.
    pub fn add_with(&mut self, name: Cow<'_, str>, value: impl FnOnce(&mut String)) {
        let start = self.text.len();
        self.text.push_str(&name);
        let middle = self.text.len();
        value(&mut self.text);
        self.places.push((start, middle, self.text.len()));
    }

    /// Adds all of another list.
    pub fn extend(&mut self, other: &Self) {
        let shift = self.text.len();
        self.text.push_str(&other.text);
        self.places.extend(other.places.iter().map(|&(a, b, c)| (a + shift, b + shift, c + shift)));
    }

    /// The pairs in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.places.iter().map(|&(a, b, c)| (&self.text[a..b], &self.text[b..c]))
    }

    /// The last value of a name.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found =
            self.places.iter().rev().find(|&&(a, b, _)| b - a == name.len() && &self.text[a..b] == name)?;
        Some(&self.text[found.1..found.2])
    }

    /// How many pairs there are.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Bytes of all names and values.
    pub fn bytes(&self) -> usize {
        self.text.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_come_back() {
        let mut pairs = Pairs::default();
        pairs.add_raw("a.b", "x\u{fffd}y").unwrap();
        let mut other = Pairs::default();
        other.add("c", "1");
        other.add_with("c".into(), |out| out.push('2'));
        pairs.extend(&other);
        assert_eq!(pairs.iter().collect::<Vec<_>>(), [("a_b", "x y"), ("c", "1"), ("c", "2")]);
        assert_eq!((pairs.get("c"), pairs.get("d"), pairs.bytes()), (Some("2"), None, 10));
    }
}
