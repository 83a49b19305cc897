//! What stages have taken out of a line for later stages: values by name.

use std::borrow::Cow;
use std::sync::Arc;

use hashbrown::HashMap;
use model::gotime::{Layout, Zone};
use model::{Labels, Timestamp};

/// Values by name. The labels that the stream had at the start stand behind them: they are values too, until a stage sets
/// one of their names.
///
/// Texts lie in one buffer that is used again for the next line, so that a line in its usual course costs no allocation.
#[derive(Debug, Clone, Default)]
pub struct Extracted {
    values: Vec<(Arc<str>, Slot)>,
    texts: String,
    seed: Labels,
    /// Where names stand in `values`, once they are many.
    index: Option<Box<HashMap<Arc<str>, usize>>>,
}

/// So many values are looked through sooner than looked up.
const FEW: usize = 32;

#[derive(Debug, Clone, Copy)]
enum Slot {
    Null,
    Removed,
    Bool(bool),
    Number(f64),
    Text { start: usize, end: usize },
    Time(Timestamp),
}

/// One value.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Extract<'a> {
    /// JSON's null: present, but of no text.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number.
    Number(f64),
    /// A text.
    Text(&'a str),
    /// A time, as RFC 3339 in UTC where text is asked for.
    Time(Timestamp),
}

impl<'a> Extract<'a> {
    /// The value as text, as stages that need one read it: numbers in plain decimal. `None` of null.
    pub fn text(self) -> Option<Cow<'a, str>> {
        Some(match self {
            Self::Null => return None,
            Self::Bool(value) => Cow::Borrowed(if value { "true" } else { "false" }),
            Self::Number(value) => value.to_string().into(),
            Self::Text(text) => text.into(),
            Self::Time(time) => match Layout::named("RFC3339Nano") {
                Some(layout) => layout.write(time, &Zone::utc()).into(),
                None => time.to_string().into(),
            },
        })
    }

    /// The value as a number: texts are read, durations such as `1.5s` in seconds.
    pub fn number(self) -> Option<f64> {
        match self {
            Self::Null | Self::Time(_) => None,
            Self::Bool(value) => Some(f64::from(u8::from(value))),
            Self::Number(value) => Some(value),
            Self::Text(text) => text
                .parse()
                .ok()
                .or_else(|| model::duration::parse_go(text).ok().map(|nanos| nanos as f64 / 1e9)),
        }
    }
}

impl Extracted {
    /// Forgets everything and begins with the labels of a stream.
    pub fn start(&mut self, labels: &Labels) {
        self.values.clear();
        self.index = None;
        self.texts.clear();
        self.seed = labels.clone();
    }

    /// Bytes of all texts that were set.
    pub fn text_bytes(&self) -> usize {
        self.texts.len()
    }

    /// Sets every label as a value.
    pub fn set_labels(&mut self, labels: &Labels) {
        for (name, value) in labels.iter() {
            self.set_by_name(name, Extract::Text(value));
        }
    }

    /// Sets a value.
    pub fn set(&mut self, name: &Arc<str>, value: Extract<'_>) {
        let slot = self.slot(value);
        self.put(name, slot, || name.clone());
    }

    /// Sets a value whose name is known only now.
    pub fn set_by_name(&mut self, name: &str, value: Extract<'_>) {
        let slot = self.slot(value);
        self.put(name, slot, || name.into());
    }

    /// Removes a value.
    pub fn remove(&mut self, name: &Arc<str>) {
        self.put(name, Slot::Removed, || name.clone());
    }

    fn put(&mut self, name: &str, slot: Slot, owned: impl FnOnce() -> Arc<str>) {
        if let Some(at) = self.place(name) {
            self.values[at].1 = slot;
            return;
        }
        self.values.push((owned(), slot));
        if self.values.len() > FEW {
            let index = self.index.get_or_insert_default();
            let new = self.values.iter().enumerate().skip(index.len());
            index.extend(new.map(|(at, (name, _))| (name.clone(), at)));
        }
    }

    fn place(&self, name: &str) -> Option<usize> {
        if let Some(index) = &self.index {
            return index.get(name).copied();
        }
        self.values.iter().position(|(n, _)| std::ptr::eq(&raw const **n, name) || **n == *name)
    }

    /// A value.
    pub fn get(&self, name: &str) -> Option<Extract<'_>> {
        match self.place(name) {
            Some(at) => self.view(self.values[at].1),
            None => self.seed.get(name).map(Extract::Text),
        }
    }

    /// A value as text; `None` if it is absent or null.
    pub fn text(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name)?.text()
    }

    /// All values by name, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Extract<'_>)> {
        let seed = self.seed.iter().filter(|(name, _)| self.place(name).is_none());
        let set = self.values.iter().filter_map(|(name, slot)| Some((&**name, self.view(*slot)?)));
        set.chain(seed.map(|(name, value)| (name, Extract::Text(value))))
    }

    fn slot(&mut self, value: Extract<'_>) -> Slot {
        match value {
            Extract::Null => Slot::Null,
            Extract::Bool(value) => Slot::Bool(value),
            Extract::Number(value) => Slot::Number(value),
            Extract::Time(time) => Slot::Time(time),
            Extract::Text(text) => {
                let start = self.texts.len();
                self.texts.push_str(text);
                Slot::Text { start, end: self.texts.len() }
            }
        }
    }

    fn view(&self, slot: Slot) -> Option<Extract<'_>> {
        Some(match slot {
            Slot::Removed => return None,
            Slot::Null => Extract::Null,
            Slot::Bool(value) => Extract::Bool(value),
            Slot::Number(value) => Extract::Number(value),
            Slot::Text { start, end } => Extract::Text(&self.texts[start..end]),
            Slot::Time(time) => Extract::Time(time),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_stand_before_labels() {
        let mut extracted = Extracted::default();
        extracted.start(&Labels::from_pairs([("job", "j"), ("app", "a")]));
        let job: Arc<str> = "job".into();
        assert_eq!(extracted.text("job").as_deref(), Some("j"));
        extracted.set(&job, Extract::Number(1.5));
        assert_eq!(extracted.text("job").as_deref(), Some("1.5"));
        extracted.set_by_name("n", Extract::Null);
        assert_eq!((extracted.get("n"), extracted.text("n")), (Some(Extract::Null), None));
        extracted.remove(&job);
        assert_eq!(extracted.get("job"), None);
        let mut all: Vec<_> = extracted.iter().map(|(name, _)| name).collect();
        all.sort_unstable();
        assert_eq!(all, ["app", "n"]);
    }

    #[test]
    fn many_values_are_found_as_few_are() {
        let mut extracted = Extracted::default();
        for round in 0..2 {
            extracted.start(&Labels::from_pairs([("v7", "seed"), ("job", "j")]));
            for i in 0..200 {
                extracted.set_by_name(&format!("v{i}"), Extract::Number(f64::from(i + round)));
                extracted.set_by_name("v0", Extract::Number(f64::from(i)));
            }
            extracted.remove(&"v5".into());
            let want = |i: i32| Some(Extract::Number(f64::from(i + round)));
            assert_eq!(
                (extracted.get("v7"), extracted.get("v199"), extracted.get("v5")),
                (want(7), want(199), None)
            );
            assert_eq!(
                (extracted.get("v0"), extracted.text("job").as_deref()),
                (Some(Extract::Number(199.0)), Some("j"))
            );
            assert_eq!((extracted.iter().count(), extracted.get("v200")), (200, None));
        }
    }

    #[test]
    fn texts_and_numbers() {
        let check = |value: Extract<'_>, text: Option<&str>, number: Option<f64>| {
            assert_eq!((value.text().as_deref(), value.number()), (text, number), "{value:?}");
        };
        check(Extract::Number(1_793_620_801_123.0), Some("1793620801123"), Some(1_793_620_801_123.0));
        check(Extract::Number(1e21), Some("1000000000000000000000"), Some(1e21));
        check(Extract::Bool(true), Some("true"), Some(1.0));
        check(Extract::Null, None, None);
        check(Extract::Text("1.5s"), Some("1.5s"), Some(1.5));
        check(Extract::Text("12"), Some("12"), Some(12.0));
        check(Extract::Text("x"), Some("x"), None);
        check(Extract::Time(Timestamp(5)), Some("1970-01-01T00:00:00.000000005Z"), None);
    }
}
