//! File globs as Promtail writes them: `*` and `?` within one name, `**` over folders, `{a,b}`, `[a-z]`, `[^a-z]`, `\` before
//! a character that stands for itself.
//!
//! Our glob library lacks some of that, so a pattern is rewritten for it, one for each choice of its braces.

use std::path::{Path, PathBuf};

use glob::{MatchOptions, Pattern};

/// What all of a pattern's braces together may come to.
const MAX_CHOICES: usize = 1000;

/// Most folders that are watched for one pattern.
const MAX_FOLDERS: usize = 10_000;

/// A name's characters do not reach into the next folder.
const OPTIONS: MatchOptions = MatchOptions {
    case_sensitive: true,
    require_literal_separator: true,
    require_literal_leading_dot: false,
};

/// A pattern for paths.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Glob(Vec<Pattern>);

impl Glob {
    /// Reads a pattern; the error quotes it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut choices = Vec::new();
        write_out(text, &mut choices).map_err(|problem| format!("'{text}': {problem}"))?;
        let compile = |choice: &String| {
            Pattern::new(&rewrite(choice)).map_err(|problem| format!("'{text}': {}", problem.msg))
        };
        choices.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The paths that match now, sorted within each choice.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        // What cannot be read may be readable at the next look.
        self.0.iter().filter_map(|p| glob::glob_with(p.as_str(), OPTIONS).ok()).flatten().flatten()
    }

    /// Folders in which paths that match may appear, as far as they exist: all that a pattern's beginnings match. Below `**` they are not
    /// looked for.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for pattern in &self.0 {
            let path = Path::new(pattern.as_str());
            let beginnings = path.ancestors().skip(1).filter(|p| !p.as_os_str().is_empty());
            let is_fixed = |p: &Path| !p.to_string_lossy().contains(['*', '?', '[']);
            for beginning in beginnings.filter(|p| !p.to_string_lossy().contains("**")) {
                if is_fixed(beginning) {
                    folders.push(beginning.to_owned());
                    break;
                }
                let found = glob::glob_with(&beginning.to_string_lossy(), OPTIONS).ok();
                folders
                    .extend(found.into_iter().flatten().flatten().take(MAX_FOLDERS).filter(|p| p.is_dir()));
            }
        }
        folders.sort();
        folders.dedup();
        folders
    }

    /// Whether a path matches.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        self.0.iter().any(|pattern| pattern.matches_path_with(path, OPTIONS))
    }
}

/// Appends every choice of the braces of `pattern`.
fn write_out(pattern: &str, out: &mut Vec<String>) -> Result<(), String> {
    let Some((open, commas, close)) = braces(pattern)? else {
        if out.len() >= MAX_CHOICES {
            return Err(format!("its braces come to more than {MAX_CHOICES} patterns"));
        }
        out.push(pattern.to_owned());
        return Ok(());
    };
    let mut begin = open + 1;
    for end in commas.into_iter().chain([close]) {
        let (before, choice, after) = (&pattern[..open], &pattern[begin..end], &pattern[close + 1..]);
        write_out(&format!("{before}{choice}{after}"), out)?;
        begin = end + 1;
    }
    Ok(())
}

/// Where the first braces open, their own commas, and where they close.
fn braces(pattern: &str) -> Result<Option<(usize, Vec<usize>, usize)>, String> {
    let (mut open, mut commas, mut depth) = (None, Vec::new(), 0_u32);
    let (mut escaped, mut in_class) = (false, false);
    for (at, byte) in pattern.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b']' => in_class = false,
            _ if in_class => {}
            b'[' => in_class = true,
            b'{' => {
                depth += 1;
                open.get_or_insert(at);
            }
            b',' if depth == 1 => commas.push(at),
            b'}' if depth > 0 => {
                depth -= 1;
                if let (0, Some(open)) = (depth, open) {
                    return Ok(Some((open, commas, at)));
                }
            }
            _ => {}
        }
    }
    if depth > 0 { Err("a brace is not closed".to_owned()) } else { Ok(None) }
}

/// One choice in our library's syntax.
fn rewrite(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 4);
    let mut rest = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.push_str(&Pattern::escape(&rest.next().unwrap_or('\\').to_string())),
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if rest.peek() == Some(&'^') {
                    rest.next();
                    out.push('!');
                }
            }
            ']' => {
                in_class = false;
                out.push(']');
            }
            '*' if !in_class => {
                let mut stars = 1;
                while rest.next_if_eq(&'*').is_some() {
                    stars += 1;
                }
                let alone = (out.is_empty() || out.ends_with('/')) && matches!(rest.peek(), None | Some('/'));
                match (stars, alone) {
                    (1, _) | (_, false) => out.push('*'),
                    // At the end it means files at any depth, for which our library wants a name too.
                    (_, true) if rest.peek().is_none() => out.push_str("**/*"),
                    (_, true) => out.push_str("**"),
                }
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let glob = Glob::parse(pattern).unwrap();
        for path in matching {
            assert!(glob.matches(Path::new(path)), "{pattern} should match {path}: {glob:?}");
        }
        for path in others {
            assert!(!glob.matches(Path::new(path)), "{pattern} should not match {path}: {glob:?}");
        }
    }

    #[test]
    fn what_matches() {
        check("/l/*.log", &["/l/a.log", "/l/.log"], &["/l/a.txt", "/l/x/a.log", "/a.log"]);
        check("/l/**/*.log", &["/l/a.log", "/l/x/y/a.log"], &["/m/a.log", "/l/a.txt"]);
        check("/l/**", &["/l/a", "/l/x/y"], &["/m/a"]);
        check("/l/a**b", &["/l/a1b", "/l/ab"], &["/l/a/b"]);
        check("/l/{a,b{1,2}}.log", &["/l/a.log", "/l/b1.log", "/l/b2.log"], &["/l/b.log", "/l/b3.log"]);
        check("/l/{a/b,c}", &["/l/a/b", "/l/c"], &["/l/a"]);
        check("/l/[^a-c].log", &["/l/d.log"], &["/l/b.log"]);
        check(r"/l/\*\{", &["/l/*{"], &["/l/a{"]);
        check("/l/?.log", &["/l/é.log"], &["/l/ab.log"]);
        check("/l/[{]x,y", &["/l/{x,y"], &["/l/x"]);
    }

    #[test]
    fn mistakes_are_quoted() {
        for pattern in ["/l/{a,b", "/l/[a"] {
            assert!(Glob::parse(pattern).unwrap_err().contains(pattern));
        }
        let wide = format!("/l/{}", "{a,b}".repeat(12));
        assert!(Glob::parse(&wide).unwrap_err().contains("1000"));
    }

    proptest! {
        #[test]
        fn no_pattern_panics(pattern in r"[a\[\]{},*?/\\^!é-]{0,24}", path in "[a/é]{0,12}") {
            if let Ok(glob) = Glob::parse(&pattern) {
                glob.matches(Path::new(&path));
            }
        }
    }
}
