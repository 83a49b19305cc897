//! Templates of `line_format` and `label_format`.

use crate::names::{NameId, Names};
use crate::row::Row;

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    text: String,
}

impl Template {
    pub(crate) fn parse(text: &str, _name: &'static str) -> Result<Self, String> {
        Ok(Self { text: text.to_owned() })
    }

    pub(crate) fn reads_line(&self) -> bool {
        true
    }

    /// Adds the labels that the template looks at; false if it may look at any.
    pub(crate) fn labels_read(&self, _names: &mut Names, _out: &mut Vec<NameId>) -> bool {
        false
    }

    pub(crate) fn render(&self, _row: &Row<'_, '_>, _names: &mut Names, out: &mut String) -> Result<(), String> {
        out.push_str(&self.text);
        Ok(())
    }
}
