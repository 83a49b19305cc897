//! `| regexp "(?P<name>re)"`: named groups become labels.

use model::regex::Regex;

use super::StageError;
use crate::names::{NameId, Names};
use crate::row::{Row, Text};

/// The compiled stage.
#[derive(Debug, Clone)]
pub(crate) struct Regexp {
    regex: Regex,
    groups: Vec<(usize, NameId)>,
}

impl Regexp {
    pub(super) fn compile(pattern: &str, names: &mut Names) -> Result<Self, StageError> {
        let regex = Regex::new(pattern).map_err(|e| StageError::Invalid(e.to_string()))?;
        let mut groups: Vec<(usize, NameId)> = Vec::new();
        for (i, name) in regex.capture_names().iter().enumerate() {
            let Some(name) = name.as_deref().filter(|n| !n.is_empty()) else { continue };
            if !model::is_label_name(name) {
                return Err(StageError::Invalid(format!("invalid extracted label name '{name}'")));
            }
            let id = names.id(name);
            if groups.iter().any(|(_, other)| *other == id) {
                return Err(StageError::Invalid(format!("duplicate extracted label name '{name}'")));
            }
            groups.push((i, id));
        }
        if groups.is_empty() {
            return Err(StageError::Invalid("at least one named capture must be supplied".to_owned()));
        }
        Ok(Self { regex, groups })
    }

    pub(super) fn run(&self, row: &mut Row<'_, '_>, names: &mut Names) {
        if row.is_complete() {
            return;
        }
        row.with_line(|line, row| {
            let Some(captures) = self.regex.captures(line.text) else { return };
            for (group, name) in &self.groups {
                let name = row.parsed_name(*name, names);
                if row.accepts(name) {
                    let value =
                        captures.get(*group).map_or(Text::Batch(""), |(start, end)| line.slice(start, end));
                    row.add(name, value);
                }
            }
        });
    }
}
