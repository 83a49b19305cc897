//! File globs as Promtail writes them: `*` and `?` within one name, `**` over folders, `{a,b}`, `[a-z]`, `[^a-z]`, `\` before
//! a character that stands for itself.
//!
//! Our glob library lacks some of that, so a pattern is rewritten for it, one for each choice of its braces. It matches; folders are
//! walked here, for `**` has to come through links that lead in circles.

use std::collections::{HashSet, VecDeque};
use std::fs::DirEntry;
use std::os::unix::fs::MetadataExt;
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
pub(crate) struct Glob(Vec<Choice>);

/// One choice of its braces.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Choice {
    whole: Pattern,
    steps: Vec<Step>,
}

/// What stands between two slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    /// One name.
    Name(String),
    /// Names that match.
    Names(Pattern),
    /// `**`: this folder, and all below it.
    Below,
}

impl Glob {
    /// Reads a pattern; the error quotes it.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut choices = Vec::new();
        write_out(text, &mut choices).map_err(|problem| format!("'{text}': {problem}"))?;
        let compile = |choice: &String| {
            Choice::new(&rewrite(choice)).map_err(|problem| format!("'{text}': {}", problem.msg))
        };
        choices.iter().map(compile).collect::<Result<_, _>>().map(Self)
    }

    /// The same of whole paths: what does not begin at the root begins in the folder of the process.
    pub(crate) fn absolute(self) -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        let here = Pattern::escape(&here.to_string_lossy());
        let whole = |choice: Choice| {
            let text = choice.whole.as_str();
            let name = text.strip_prefix("./").unwrap_or(text);
            let joined = (!name.starts_with('/')).then(|| Choice::new(&format!("{here}/{name}")).ok());
            joined.flatten().unwrap_or(choice)
        };
        Self(self.0.into_iter().map(whole).collect())
    }

    /// The paths that match now, sorted within each choice.
    pub(crate) fn paths(&self) -> impl Iterator<Item = PathBuf> + '_ {
        self.0.iter().flat_map(Choice::paths)
    }

    /// Folders in which paths that match may appear, as far as they exist: all that a pattern's beginnings match. Below `**` they are not
    /// looked for.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for Choice { whole, steps } in &self.0 {
            let is_deep = |step: &Step| *step == Step::Below;
            let before = steps.iter().position(is_deep).unwrap_or(steps.len().saturating_sub(1));
            for length in (0..=before).rev() {
                let beginning = &steps[..length];
                let mut found = Vec::new();
                walk(start(whole), beginning, &mut found);
                folders.extend(found.into_iter().take(MAX_FOLDERS).filter(|path| path.is_dir()));
                if beginning.iter().all(|step| matches!(step, Step::Name(_))) {
                    break;
                }
            }
        }
        folders.sort();
        folders.dedup();
        folders
    }

    /// Whether a path matches.
    pub(crate) fn matches(&self, path: &Path) -> bool {
        let path = path.to_string_lossy();
        self.0.iter().any(|choice| choice.whole.matches_with(&path, OPTIONS))
    }
}

impl Choice {
    fn new(pattern: &str) -> Result<Self, glob::PatternError> {
        let step = |name: &str| match (name, literal(name)) {
            ("**", _) => Ok(Step::Below),
            (_, Some(name)) => Ok(Step::Name(name)),
            (_, None) => Pattern::new(name).map(Step::Names),
        };
        let steps = pattern.split('/').filter(|name| !name.is_empty()).map(step).collect::<Result<_, _>>()?;
        Ok(Self { whole: Pattern::new(pattern)?, steps })
    }

    fn paths(&self) -> Vec<PathBuf> {
        let mut paths = Vec::new();
        walk(start(&self.whole), &self.steps, &mut paths);
        paths.sort();
        paths.dedup();
        paths
    }
}

/// Where a pattern begins.
fn start(pattern: &Pattern) -> &'static Path {
    Path::new(if pattern.as_str().starts_with('/') { "/" } else { "" })
}

/// Appends what steps from `at` lead to.
fn walk(at: &Path, steps: &[Step], out: &mut Vec<PathBuf>) {
    let Some((step, rest)) = steps.split_first() else { return out.push(at.to_owned()) };
    match step {
        Step::Name(name) => {
            let next = at.join(name);
            if !rest.is_empty() || next.symlink_metadata().is_ok() {
                walk(&next, rest, out);
            }
        }
        Step::Names(pattern) => {
            for entry in entries(at) {
                let fits = pattern.matches_with(&entry.file_name().to_string_lossy(), OPTIONS);
                if fits && (rest.is_empty() || entry.path().is_dir()) {
                    walk(&entry.path(), rest, out);
                }
            }
        }
        Step::Below => below(at).iter().for_each(|folder| walk(folder, rest, out)),
    }
}

/// A folder and all below it, each once, however many links lead there; links are followed when there is no other way.
fn below(at: &Path) -> Vec<PathBuf> {
    let (mut folders, mut seen) = (Vec::new(), HashSet::new());
    let (mut next, mut links) = (vec![at.to_owned()], VecDeque::new());
    while let Some(folder) = next.pop().or_else(|| links.pop_front()) {
        let here = if folder.as_os_str().is_empty() { Path::new(".") } else { &folder };
        if !here.metadata().is_ok_and(|m| m.is_dir() && seen.insert((m.dev(), m.ino()))) {
            continue;
        }
        for entry in entries(&folder) {
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => next.push(entry.path()),
                Ok(kind) if kind.is_symlink() => links.push_back(entry.path()),
                _ => {}
            }
        }
        folders.push(folder);
    }
    folders
}

/// What is in a folder. What cannot be read may be readable at the next look.
fn entries(folder: &Path) -> impl Iterator<Item = DirEntry> {
    let here = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    here.read_dir().into_iter().flatten().flatten()
}

/// The one name that a pattern stands for, if it is one.
fn literal(pattern: &str) -> Option<String> {
    let mut name = String::new();
    let mut rest = pattern.chars();
    while let Some(c) = rest.next() {
        match c {
            '*' | '?' => return None,
            // An escaped character.
            '[' => {
                name.push(rest.next()?);
                rest.next().filter(|c| *c == ']')?;
            }
            c => name.push(c),
        }
    }
    Some(name)
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
    fn links_that_lead_in_circles_are_passed_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| folder.path().join(path);
        let link = |to: &str, path: &str| std::os::unix::fs::symlink(to, at(path)).unwrap();
        std::fs::create_dir_all(at("in/a/b")).unwrap();
        std::fs::create_dir(at("out")).unwrap();
        for file in ["in/x.log", "in/a/b/y.log", "out/z.log", "in/[1].log"] {
            std::fs::write(at(file), "").unwrap();
        }
        link("..", "in/a/up");
        link(".", "in/self");
        link("b", "in/a/again");
        link("../out", "in/linked");
        link("../../x.log", "in/a/b/file.log");
        let check = |pattern: &str, want: &[&str]| {
            let glob = Glob::parse(&at(pattern).to_string_lossy()).unwrap();
            let paths: Vec<_> = glob.paths().collect();
            assert_eq!(paths, want.iter().map(|path| at(path)).collect::<Vec<_>>(), "{pattern}");
            assert!(paths.iter().all(|path| glob.matches(path)));
        };
        check(
            "in/**/*.log",
            &["in/[1].log", "in/a/b/file.log", "in/a/b/y.log", "in/linked/z.log", "in/x.log"],
        );
        check("in/**/b/**/y.log", &["in/a/b/y.log"]);
        check("in/*/z.log", &["in/linked/z.log"]);
        check(r"in/\[1\].log", &["in/[1].log"]);
        check("in/nothing.log", &[]);
        let folders = |pattern: &str| Glob::parse(&at(pattern).to_string_lossy()).unwrap().folders();
        assert_eq!(folders("in/**/*.log"), [at("in")]);
        assert_eq!(folders("in/a/*/y.log"), [at("in/a"), at("in/a/again"), at("in/a/b"), at("in/a/up")]);
    }

    #[test]
    fn relative_patterns_become_whole() {
        let here = std::env::current_dir().unwrap();
        let glob = |pattern: &str| Glob::parse(pattern).unwrap().absolute();
        for pattern in ["a/*.log", "./a/*.log", "{/x,a}/*.log"] {
            assert!(glob(pattern).matches(&here.join("a/1.log")), "{pattern}");
        }
        assert!(glob("{/x,a}/*.log").matches(Path::new("/x/1.log")));
        assert!(glob("Cargo.*").paths().any(|path| path == here.join("Cargo.toml")));
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
