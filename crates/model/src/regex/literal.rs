//! What can be told of every match without matching: the text it must contain, the few texts it can be.
//!
//! Searches use this to skip lines, blocks and index entries before an engine looks at them.

use regex_syntax::hir::{Class, Hir, HirKind, Literal};

/// The longest text that every match contains, if one is easily seen.
pub(super) fn required(hir: &Hir) -> Option<String> {
    let mut finder = Finder::default();
    finder.walk(hir);
    finder.end_run();
    finder.longest.filter(|text| !text.is_empty())
}

/// Joins adjacent literals, also across the borders of groups, and keeps the longest.
#[derive(Default)]
struct Finder {
    run: Vec<u8>,
    longest: Option<String>,
}

impl Finder {
    fn end_run(&mut self) {
        let run = std::mem::take(&mut self.run);
        // The parser makes literals of whole characters only.
        if let Ok(text) = String::from_utf8(run)
            && text.len() > self.longest.as_ref().map_or(0, String::len)
        {
            self.longest = Some(text);
        }
    }

    fn walk(&mut self, hir: &Hir) {
        match hir.kind() {
            HirKind::Literal(Literal(bytes)) => self.run.extend_from_slice(bytes),
            HirKind::Concat(parts) => parts.iter().for_each(|part| self.walk(part)),
            HirKind::Capture(capture) => self.walk(&capture.sub),
            // An assertion takes no room, so the texts around it still touch.
            HirKind::Empty | HirKind::Look(_) => {}
            HirKind::Repetition(repetition) if repetition.min > 0 => {
                // The first pass continues what stands before. What follows the last one starts anew,
                // for the sake of one visit per node.
                self.walk(&repetition.sub);
                self.end_run();
            }
            HirKind::Class(_) | HirKind::Repetition(_) | HirKind::Alternation(_) => self.end_run(),
        }
    }
}

/// All texts that the whole expression can be, if it is nothing but at most `limit` of them:
/// `foo|ba[rz]` is `foo`, `bar`, `baz`. Assertions make it `None`.
pub(super) fn alternatives(hir: &Hir, limit: usize) -> Option<Vec<String>> {
    let all = expand(hir, limit)?;
    all.into_iter().map(|bytes| String::from_utf8(bytes).ok()).collect()
}

fn expand(hir: &Hir, limit: usize) -> Option<Vec<Vec<u8>>> {
    match hir.kind() {
        HirKind::Empty => Some(vec![Vec::new()]),
        HirKind::Literal(Literal(bytes)) => Some(vec![bytes.to_vec()]),
        HirKind::Capture(capture) => expand(&capture.sub, limit),
        HirKind::Class(Class::Unicode(class)) => {
            let mut all = Vec::new();
            for range in class.iter() {
                if all.len() + range.len() > limit {
                    return None;
                }
                all.extend((range.start()..=range.end()).map(|c| c.to_string().into_bytes()));
            }
            Some(all)
        }
        HirKind::Alternation(branches) => {
            let mut all = Vec::new();
            for branch in branches {
                all.extend(expand(branch, limit - all.len().min(limit))?);
                if all.len() > limit {
                    return None;
                }
            }
            Some(all)
        }
        HirKind::Concat(parts) => {
            let mut all = vec![Vec::new()];
            for part in parts {
                let tails = expand(part, limit)?;
                if all.len() * tails.len() > limit {
                    return None;
                }
                all = all
                    .iter()
                    .flat_map(|head: &Vec<u8>| tails.iter().map(|tail| [head.as_slice(), tail].concat()))
                    .collect();
            }
            Some(all)
        }
        HirKind::Repetition(repetition) if (repetition.min, repetition.max) == (0, Some(1)) => {
            let mut all = expand(&repetition.sub, limit.checked_sub(1)?)?;
            all.push(Vec::new());
            Some(all)
        }
        HirKind::Class(_) | HirKind::Look(_) | HirKind::Repetition(_) => None,
    }
}
