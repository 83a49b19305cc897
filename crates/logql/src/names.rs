//! Label names as small numbers, so that rows compare names without comparing text.

use std::sync::Arc;

use hashbrown::HashMap;

/// A label name within one query part. Only valid until [`Names::forget`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct NameId(u32);

/// `__error__`
pub(crate) const ERROR: NameId = NameId(0);
/// `__error_details__`
pub(crate) const ERROR_DETAILS: NameId = NameId(1);
/// `__preserve_error__`
pub(crate) const PRESERVE_ERROR: NameId = NameId(2);

/// Beyond this many names those met in the data are forgotten between two batches.
const MAX_NAMES: usize = 50_000;

/// All names of a query part: those of its text, and those met in the data.
#[derive(Debug, Clone)]
pub(crate) struct Names {
    list: Vec<Name>,
    ids: HashMap<Arc<str>, NameId>,
    /// Raw keys (JSON paths joined by NUL, logfmt keys) to their sanitized name; `None` if nothing is left of it.
    raw: HashMap<Box<[u8]>, Option<NameId>>,
    /// How many names come from the query's text.
    fixed: usize,
}

#[derive(Debug, Clone)]
struct Name {
    text: Arc<str>,
    extracted: Option<NameId>,
}

impl Names {
    pub(crate) fn new() -> Self {
        let mut names = Self { list: Vec::new(), ids: HashMap::new(), raw: HashMap::new(), fixed: 0 };
        for name in ["__error__", "__error_details__", "__preserve_error__"] {
            names.id(name);
        }
        names
    }

    /// Marks the end of the query's own names.
    pub(crate) fn fix(&mut self) {
        self.fixed = self.list.len();
    }

    /// Forgets names met in the data if there are very many of them.
    pub(crate) fn forget(&mut self) {
        if self.list.len() > MAX_NAMES + self.fixed || self.raw.len() > MAX_NAMES {
            self.raw.clear();
            for name in self.list.drain(self.fixed..) {
                self.ids.remove(&name.text);
            }
            self.list.iter_mut().for_each(|name| name.extracted = None);
        }
    }

    pub(crate) fn id(&mut self, name: &str) -> NameId {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = NameId(self.list.len() as u32);
        let text: Arc<str> = name.into();
        self.list.push(Name { text: text.clone(), extracted: None });
        self.ids.insert(text, id);
        id
    }

    /// The name if it has been met.
    pub(crate) fn find(&self, name: &str) -> Option<NameId> {
        self.ids.get(name).copied()
    }

    pub(crate) fn text(&self, id: NameId) -> &Arc<str> {
        &self.list[id.0 as usize].text
    }

    /// `name_extracted`
    pub(crate) fn extracted(&mut self, id: NameId) -> NameId {
        if let Some(extracted) = self.list[id.0 as usize].extracted {
            return extracted;
        }
        let name = format!("{}_extracted", self.text(id));
        let extracted = self.id(&name);
        self.list[id.0 as usize].extracted = Some(extracted);
        extracted
    }

    /// The name made of a raw key: parts (separated by NUL) trimmed and joined with `_`, everything but ASCII letters, digits
    /// and `_` replaced by `_`, and `_` put in front of a digit.
    pub(crate) fn sanitized(&mut self, raw: &[u8]) -> Option<NameId> {
        if let Some(id) = self.raw.get(raw) {
            return *id;
        }
        let mut name = String::with_capacity(raw.len() + 1);
        for part in raw.split(|b| *b == 0) {
            let part = part.trim_ascii();
            if part.is_empty() {
                continue;
            }
            if !name.is_empty() || part[0].is_ascii_digit() {
                name.push('_');
            }
            name.extend(part.iter().map(|b| if b.is_ascii_alphanumeric() { *b as char } else { '_' }));
        }
        let id = (!name.is_empty()).then(|| self.id(&name));
        self.raw.insert(raw.into(), id);
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_keys_become_label_names() {
        let mut names = Names::new();
        let mut check = |raw: &str, want: Option<&str>| {
            let id = names.sanitized(raw.as_bytes());
            assert_eq!(id.map(|id| &**names.text(id)), want, "{raw}");
        };
        check("a\0b-c", Some("a_b_c"));
        check("1num", Some("_1num"));
        check("a\x001", Some("a_1"));
        check(" level ", Some("level"));
        check("é", Some("__"));
        check(" ", None);
    }

    #[test]
    fn data_names_are_forgotten() {
        let mut names = Names::new();
        let app = names.id("app");
        names.fix();
        for i in 0..=MAX_NAMES {
            names.sanitized(format!("k{i}").as_bytes());
        }
        assert!(names.find("k1").is_some());
        names.forget();
        assert_eq!(names.find("k1"), None);
        assert_eq!(names.find("app"), Some(app));
    }
}
