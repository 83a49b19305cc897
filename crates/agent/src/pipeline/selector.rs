//! Selectors of the `match` stage: LogQL's `{label="value"}` with line filters behind it.

use std::str::Chars;

use memchr::memmem;
use model::regex::Regex;
use model::{Labels, MatchOp, Matcher, is_label_name};

/// A compiled selector.
#[derive(Debug, Clone)]
pub(super) struct Selector {
    matchers: Vec<Matcher>,
    filters: Vec<Filter>,
}

/// The line passes if one of the tests holds, or none if it is negative.
#[derive(Debug, Clone)]
struct Filter {
    negative: bool,
    tests: Vec<Test>,
}

#[derive(Debug, Clone)]
enum Test {
    Contains(Box<memmem::Finder<'static>>),
    Regex(Regex),
}

impl Selector {
    /// Reads `{a="b", c!="d", e=~"f", g!~"h"} |= "text" != "text" |~ "regex" !~ "regex"`; several texts of one filter stand
    /// between `or`. The error says where and what is wrong. Unlike in a query, matchers may all match the empty text.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parser = Parser { text, at: 0 };
        parser.selector().map_err(|problem| {
            format!("'{text}', column {}: {problem}", text[..parser.at].chars().count() + 1)
        })
    }

    /// Whether an entry is meant.
    pub(super) fn matches(&self, labels: &Labels, line: &str) -> bool {
        self.matchers.iter().all(|matcher| matcher.matches_labels(labels))
            && self.filters.iter().all(|filter| filter.passes(line))
    }
}

impl Filter {
    fn passes(&self, line: &str) -> bool {
        let holds = self.tests.iter().any(|test| match test {
            Test::Contains(finder) => finder.find(line.as_bytes()).is_some(),
            Test::Regex(regex) => regex.is_match(line),
        });
        holds != self.negative
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn selector(&mut self) -> Result<Selector, String> {
        self.expect("{")?;
        let mut matchers = Vec::new();
        while !self.skip("}") {
            if !matchers.is_empty() {
                self.expect(",")?;
                if self.skip("}") {
                    break;
                }
            }
            matchers.push(self.matcher()?);
        }
        let mut filters = Vec::new();
        while !self.rest().is_empty() {
            filters.push(self.filter()?);
        }
        Ok(Selector { matchers, filters })
    }

    fn matcher(&mut self) -> Result<Matcher, String> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = &rest[..end];
        if !is_label_name(name) {
            return Err("expected the name of a label".to_owned());
        }
        self.at += end;
        let ops = [
            ("=~", MatchOp::Regex),
            ("!~", MatchOp::NotRegex),
            ("!=", MatchOp::NotEqual),
            ("=", MatchOp::Equal),
        ];
        let op = ops.into_iter().find(|(text, _)| self.skip(text)).ok_or("expected =, !=, =~ or !~")?.1;
        let value = self.string()?;
        Matcher::new(name, op, value).map_err(|e| e.to_string())
    }

    fn filter(&mut self) -> Result<Filter, String> {
        let ops =
            [("|=", (false, false)), ("!=", (true, false)), ("|~", (false, true)), ("!~", (true, true))];
        let (_, (negative, is_regex)) = ops
            .into_iter()
            .find(|(text, _)| self.skip(text))
            .ok_or("expected a line filter: |=, !=, |~ or !~; other stages of LogQL have no place here")?;
        let mut tests = Vec::new();
        loop {
            let text = self.string()?;
            tests.push(if is_regex {
                Test::Regex(Regex::new(&text).map_err(|e| e.to_string())?)
            } else {
                Test::Contains(Box::new(memmem::Finder::new(&text).into_owned()))
            });
            if !self.skip("or") {
                return Ok(Filter { negative, tests });
            }
        }
    }

    /// A text in double quotes with Go's escapes, or as it is between back quotes.
    fn string(&mut self) -> Result<String, String> {
        let rest = self.rest();
        if let Some(inside) = rest.strip_prefix('`') {
            let end = inside.find('`').ok_or("expected a closing `")?;
            self.at += end + 2;
            return Ok(inside[..end].to_owned());
        }
        let mut chars = rest.strip_prefix('"').ok_or("expected a text in quotes")?.chars();
        let mut value = String::new();
        loop {
            match chars.next().ok_or("expected a closing \"")? {
                '"' => break,
                '\\' => value.push(escaped(&mut chars).ok_or("unknown escape in a text")?),
                c => value.push(c),
            }
        }
        self.at = self.text.len() - chars.as_str().len();
        Ok(value)
    }

    /// What is left, without white space and comments before it.
    fn rest(&mut self) -> &'a str {
        loop {
            let rest = self.text[self.at..].trim_start();
            let comment = if rest.starts_with('#') { rest.find('\n').unwrap_or(rest.len()) } else { 0 };
            self.at = self.text.len() - rest.len() + comment;
            if comment == 0 {
                return rest;
            }
        }
    }

    fn skip(&mut self, token: &str) -> bool {
        let found = self.rest().starts_with(token);
        self.at += if found { token.len() } else { 0 };
        found
    }

    fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.skip(token) { Ok(()) } else { Err(format!("expected {token}")) }
    }
}

/// The character that an escape stands for; the backslash has been taken.
fn escaped(chars: &mut Chars<'_>) -> Option<char> {
    let first = chars.next()?;
    let code = |chars: &mut Chars<'_>, digits: usize| {
        let (code, rest) = chars.as_str().split_at_checked(digits)?;
        *chars = rest.chars();
        char::from_u32(u32::from_str_radix(code, 16).ok()?)
    };
    Some(match first {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        'x' => return code(chars, 2),
        'u' => return code(chars, 4),
        'U' => return code(chars, 8),
        c @ ('\\' | '"' | '\'') => c,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selects() {
        let labels = Labels::from_pairs([("app", "api"), ("env", "prod")]);
        let check = |selector: &str, line: &str, want: bool| {
            assert_eq!(Selector::parse(selector).unwrap().matches(&labels, line), want, "{selector}");
        };
        check(r#"{app="api"}"#, "", true);
        check(r#"{app="api", env!="prod"}"#, "", false);
        check(r#"{app=~"a.*", env!~"p",}"#, "", true);
        check(r#"{none=""}"#, "", true);
        check(r#"{none!="x"} |= "a" != "b""#, "a c", true);
        check(r#"{app="api"} |= "a" != "b""#, "a b", false);
        check(r#"{app="api"} |= "x" or "y" |~ `^\w+$`"#, "my", true);
        check(r#"{app="\u0061pi"} |~ "\\d""#, "1", true);
        check("{app=\"api\"} # a comment\n|= \"x\"", "x", true);
        check("{} |= \"x\"", "x", true);
        check("{}", "", true);
    }

    #[test]
    fn faults() {
        let check = |selector: &str, want: &str| {
            let problem = Selector::parse(selector).unwrap_err();
            assert!(problem.ends_with(want), "{problem}");
        };
        check("app", "column 1: expected {");
        check("{,}", "column 2: expected the name of a label");
        check("{a}", "column 3: expected =, !=, =~ or !~");
        check("{a=b}", "column 4: expected a text in quotes");
        check("{a=\"b}", "expected a closing \"");
        check("{a=\"\\xé\"}", "unknown escape in a text");
        check("{a=\"b\" c=\"d\"}", "column 8: expected ,");
        check("{a=~\"(\"}", "missing closing ): `(`");
        check("{a=\"b\"} | json", "other stages of LogQL have no place here");
    }
}
