//! `-inspect`: what every stage changes, as Promtail prints it.

use std::fmt::Write as _;
use std::io::Write as _;

use crate::pipeline::{Change, Field, Outcome, Seen, Watch};

/// Prints what stages do to standard output.
pub(crate) struct Inspector;

impl Watch for Inspector {
    fn saw(&self, seen: Seen) {
        // Whoever reads it may have gone.
        let _ = std::io::stdout().lock().write_all(text(&seen).as_bytes());
    }
}

fn text(seen: &Seen) -> String {
    let mut text = format!("[inspect: {} stage]: ", seen.stage);
    match seen.outcome {
        Outcome::Dropped => text += "\nthe entry ends here",
        Outcome::Kept => text += "\nthe entry waits here, or has ended in a stage within",
        Outcome::Passed if seen.changes.is_empty() => text += "none",
        Outcome::Passed => seen.changes.iter().for_each(|change| write(&mut text, change)),
    }
    text + "\n"
}

fn write(text: &mut String, Change { field, before, after }: &Change) {
    let path = match field {
        Field::Line => ".Entry.Entry.Line".to_owned(),
        Field::Timestamp => ".Entry.Entry.Timestamp".to_owned(),
        Field::Label(name) => format!(".Entry.Labels[{name:?}]"),
        Field::Metadata(name) => format!(".Entry.Entry.StructuredMetadata[{name:?}]"),
        Field::Extracted(name) => format!(".Extracted[{name:?}]"),
    };
    let _ = write!(text, "\n{{stages.Entry}}{path}:");
    for (sign, value) in [('-', before), ('+', after)] {
        if let Some(value) = value {
            let _ = write!(text, "\n\t{sign}: {value}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_printed_as_promtail_does() {
        let check = |outcome, changes: &[(Field, Option<&str>, Option<&str>)], want: &str| {
            let changes = changes.iter().map(|(field, before, after)| Change {
                field: field.clone(),
                before: before.map(str::to_owned),
                after: after.map(str::to_owned),
            });
            let (stage, path) = ("json".to_owned(), String::new());
            assert_eq!(text(&Seen { stage, path, outcome, changes: changes.collect() }), want);
        };
        check(Outcome::Passed, &[], "[inspect: json stage]: none\n");
        check(
            Outcome::Passed,
            &[(Field::Line, Some("a"), Some("b")), (Field::Extracted("level".into()), None, Some("INFO"))],
            "[inspect: json stage]: \n{stages.Entry}.Entry.Entry.Line:\n\t-: a\n\t+: b\n{stages.Entry}.Extracted[\"level\"]:\n\t+: INFO\n",
        );
        check(Outcome::Dropped, &[], "[inspect: json stage]: \nthe entry ends here\n");
    }
}
