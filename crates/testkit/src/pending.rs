//! Lists of cases that are known to fail, which may only shrink.
//!
//! A suite over recorded answers grows green case by case. The list file holds the ids of the cases that
//! do not pass yet, one a line; empty lines and lines that begin with `#` do not count. A case that
//! fails without being listed is a regression. A listed case that passes must leave the list, so that it
//! cannot break unnoticed afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

/// At most this many cases of a kind are told one by one.
const SHOWN: usize = 40;

/// Checks the outcome of every case of a suite against the list in `list_file`, which may be missing if
/// nothing is pending.
///
/// # Panics
/// With a report, if a case that is not listed fails, a listed one passes or does not exist, an id occurs
/// twice, the suite is empty, or the list cannot be read.
#[track_caller]
pub fn check(list_file: impl AsRef<Path>, results: impl IntoIterator<Item = (String, Result<(), String>)>) {
    let path = list_file.as_ref();
    let list = match std::fs::read_to_string(path) {
        Ok(list) => list,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => panic!("cannot read the list of pending cases {}: {error}", path.display()),
    };
    match compare(&list, results) {
        Ok(summary) => eprintln!("{}: {summary}", path.display()),
        Err(report) => panic!("{report}\n(the list is {})", path.display()),
    }
}

/// As [`check`], of the text of a list: a summary, or the report of what is wrong.
pub fn compare(
    list: &str,
    results: impl IntoIterator<Item = (String, Result<(), String>)>,
) -> Result<String, String> {
    let pending: BTreeSet<&str> =
        list.lines().map(str::trim_end).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let mut cases: BTreeMap<String, Result<(), String>> = BTreeMap::new();
    let mut twice = Vec::new();
    for (id, result) in results {
        // An id is a line of the list.
        let id = id.replace('\n', "\\n").trim_end().to_owned();
        if let Some(old) = cases.insert(id.clone(), result) {
            // Of two outcomes under one id the failure counts.
            if old.is_err() {
                cases.insert(id.clone(), old);
            }
            twice.push(id);
        }
    }
    if cases.is_empty() {
        return Err("the suite has no case at all".to_owned());
    }
    let listed = |id: &str| pending.contains(id);
    let broken: Vec<(&str, &str)> = cases
        .iter()
        .filter(|(id, _)| !listed(id))
        .filter_map(|(id, result)| result.as_ref().err().map(|why| (id.as_str(), why.as_str())))
        .collect();
    let passing: Vec<&str> =
        cases.iter().filter(|(id, result)| listed(id) && result.is_ok()).map(|(id, _)| id.as_str()).collect();
    let unknown: Vec<&str> = pending.iter().copied().filter(|id| !cases.contains_key(*id)).collect();

    let mut report = String::new();
    section(&mut report, "fail and are not listed as pending", &broken);
    section(
        &mut report,
        "are listed as pending but pass: remove them from the list",
        &without_reason(&passing),
    );
    section(
        &mut report,
        "are listed as pending but do not exist: remove them from the list",
        &without_reason(&unknown),
    );
    let twice: Vec<&str> = twice.iter().map(String::as_str).collect();
    section(&mut report, "have an id that occurs twice", &without_reason(&twice));
    let summary = format!("{} cases, {} pending", cases.len(), pending.len());
    if report.is_empty() { Ok(summary) } else { Err(format!("{summary}\n{report}")) }
}

fn without_reason<'i>(ids: &[&'i str]) -> Vec<(&'i str, &'static str)> {
    ids.iter().map(|id| (*id, "")).collect()
}

fn section(report: &mut String, title: &str, cases: &[(&str, &str)]) {
    if cases.is_empty() {
        return;
    }
    // Writing to a string cannot fail.
    let _ = writeln!(report, "\n{} cases {title}:", cases.len());
    for (id, why) in cases.iter().take(SHOWN) {
        let _ = writeln!(report, "{id}");
        for line in why.lines() {
            let _ = writeln!(report, "    {line}");
        }
    }
    if cases.len() > SHOWN {
        let _ = writeln!(report, "… and {} more", cases.len() - SHOWN);
        let ids: Vec<&str> = cases.iter().map(|(id, _)| *id).collect();
        let _ = writeln!(report, "all of them:\n{}", ids.join("\n"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cases(outcomes: &[(&str, bool)]) -> Vec<(String, Result<(), String>)> {
        let result = |pass: bool| if pass { Ok(()) } else { Err("was 1, not 2".to_owned()) };
        outcomes.iter().map(|&(id, pass)| (id.to_owned(), result(pass))).collect()
    }

    #[test]
    fn lists_may_only_shrink() {
        let check = |list: &str, outcomes: &[(&str, bool)], expect: Result<&str, &[&str]>| match (
            compare(list, cases(outcomes)),
            expect,
        ) {
            (Ok(summary), Ok(expect)) => assert_eq!(summary, expect),
            (Err(report), Err(parts)) => {
                parts.iter().for_each(|part| assert!(report.contains(part), "{part} in {report}"));
            }
            (found, expect) => panic!("{found:?} instead of {expect:?}"),
        };
        check("", &[("a", true)], Ok("1 cases, 0 pending"));
        check("# why\n\nb c\n", &[("a", true), ("b c", false)], Ok("2 cases, 1 pending"));
        check("", &[("a", false)], Err(&["1 cases fail", "a\n    was 1, not 2"]));
        check("a", &[("a", true)], Err(&["1 cases are listed as pending but pass"]));
        check("b", &[("a", true)], Err(&["1 cases are listed as pending but do not exist", "b"]));
        check("", &[("a", true), ("a", true)], Err(&["occurs twice"]));
        check("", &[("a", false), ("a", true)], Err(&["1 cases fail"]));
        check("", &[], Err(&["no case"]));
    }
}
