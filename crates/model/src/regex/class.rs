//! Character classes as Go knows them: Perl and POSIX groups are ASCII, `\p{…}` is Unicode.

use regex_syntax::hir::{Class, ClassUnicode, ClassUnicodeRange, Hir, HirKind};

/// Ranges of a class in the making, in any order and overlapping; made canonical once at its end,
/// because keeping them so after each addition costs quadratic time.
#[derive(Default)]
pub(super) struct ClassBuilder(Vec<ClassUnicodeRange>);

impl ClassBuilder {
    /// Adds all code points of `low..=high`. Surrogates never occur in a text and are left out.
    pub(super) fn push(&mut self, low: u32, high: u32) {
        for (low, high) in [(low, high.min(0xD7FF)), (low.max(0xE000), high)] {
            if let (Some(low), Some(high)) = (char::from_u32(low), char::from_u32(high))
                && low <= high
            {
                self.0.push(ClassUnicodeRange::new(low, high));
            }
        }
    }

    /// Adds the range and everything that differs from it only in case.
    pub(super) fn push_folded(&mut self, low: u32, high: u32) {
        let mut range = Self::default();
        range.push(low, high);
        self.extend(&folded(range.finish()));
    }

    /// Adds a whole class.
    pub(super) fn extend(&mut self, class: &ClassUnicode) {
        self.0.extend_from_slice(class.ranges());
    }

    /// The number of ranges so far: what the class costs.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The canonical class.
    pub(super) fn finish(self) -> ClassUnicode {
        ClassUnicode::new(self.0)
    }
}

/// A class together with everything that differs from its characters only in case.
pub(super) fn folded(mut class: ClassUnicode) -> ClassUnicode {
    class.case_fold_simple();
    class
}

/// The class of everything else.
pub(super) fn negated(mut class: ClassUnicode) -> ClassUnicode {
    class.negate();
    class
}

fn of(ranges: &[(char, char)]) -> ClassUnicode {
    ClassUnicode::new(ranges.iter().map(|&(low, high)| ClassUnicodeRange::new(low, high)))
}

/// The class of `\d`, `\S` and so on by its letter, and whether it is the negated one.
pub(super) fn perl(letter: char) -> Option<(ClassUnicode, bool)> {
    let class = match letter.to_ascii_lowercase() {
        'd' => of(&[('0', '9')]),
        // Unlike Perl's and Rust's, RE2's \s has no vertical tab.
        's' => of(&[('\t', '\n'), ('\x0c', '\r'), (' ', ' ')]),
        'w' => of(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        _ => return None,
    };
    Some((class, letter.is_ascii_uppercase()))
}

/// The class of a POSIX name such as `alpha` in `[[:alpha:]]`.
pub(super) fn posix(name: &str) -> Option<ClassUnicode> {
    Some(match name {
        "alnum" => of(&[('0', '9'), ('A', 'Z'), ('a', 'z')]),
        "alpha" => of(&[('A', 'Z'), ('a', 'z')]),
        "ascii" => of(&[('\0', '\x7f')]),
        "blank" => of(&[('\t', '\t'), (' ', ' ')]),
        "cntrl" => of(&[('\0', '\x1f'), ('\x7f', '\x7f')]),
        "digit" => of(&[('0', '9')]),
        "graph" => of(&[('!', '~')]),
        "lower" => of(&[('a', 'z')]),
        "print" => of(&[(' ', '~')]),
        "punct" => of(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]),
        "space" => of(&[('\t', '\r'), (' ', ' ')]),
        "upper" => of(&[('A', 'Z')]),
        "word" => of(&[('0', '9'), ('A', 'Z'), ('_', '_'), ('a', 'z')]),
        "xdigit" => of(&[('0', '9'), ('A', 'F'), ('a', 'f')]),
        _ => return None,
    })
}

/// The class of a Unicode name as in `\p{Greek}` or `\p{Lu}`: a general category, by its short or long
/// name, or a script by its long name; case, spaces, `_` and `-` do not matter.
pub(super) fn unicode(name: &str) -> Option<ClassUnicode> {
    // Scripts have four letter aliases that Go does not know; these few are their own alias.
    const SHORT_SCRIPTS: [&str; 9] = ["ahom", "cham", "lisu", "modi", "newa", "thai", "toto", "kawi", "yezi"];
    if !name.bytes().all(|b| b.is_ascii_alphabetic() || matches!(b, b'_' | b'-' | b' ')) {
        return None;
    }
    let name: String =
        name.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
    match name.as_str() {
        "any" => return Some(of(&[('\0', char::MAX)])),
        "ascii" => return Some(of(&[('\0', '\x7f')])),
        "assigned" => return table("gc=Cn").map(negated),
        // All surrogates: none can stand in a text.
        "cs" | "surrogate" => return Some(ClassUnicode::empty()),
        // Rust's tables would skip this prefix, which Go does not.
        "" | "unknown" => return None,
        prefixed if prefixed.starts_with("is") => return None,
        _ => {}
    }
    table(&format!("gc={name}")).or_else(|| {
        let alias = name.len() == 4 && !SHORT_SCRIPTS.contains(&name.as_str());
        if alias { None } else { table(&format!("sc={name}")) }
    })
}

fn table(query: &str) -> Option<ClassUnicode> {
    match regex_syntax::parse(&format!(r"\p{{{query}}}")).map(Hir::into_kind) {
        Ok(HirKind::Class(Class::Unicode(class))) => Some(class),
        // A category of a single character comes back as that character.
        Ok(HirKind::Literal(literal)) => {
            let mut chars = std::str::from_utf8(&literal.0).ok()?.chars();
            chars.next().map(|c| of(&[(c, c)]))
        }
        _ => None,
    }
}
