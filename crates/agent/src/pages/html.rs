//! Small static pages: no scripts, nothing from elsewhere, everything escaped.

use std::fmt::Write as _;

/// A page under construction.
pub(super) struct Page(String);

const STYLE: &str = "body{font:15px/1.45 system-ui,sans-serif;margin:1.5rem auto;max-width:80rem;padding:0 1rem;\
color:#1c1c1c;background:#fff}nav a{margin-right:1.2rem}h2{margin-top:2rem}table{border-collapse:collapse;width:100%}\
th,td{border:1px solid #d0d0d0;padding:.3rem .5rem;text-align:left;vertical-align:top}th{background:#f3f3f3}\
code{font:13px/1.4 ui-monospace,monospace;overflow-wrap:anywhere}.ok{color:#146c2e}.bad{color:#a11212}\
@media(prefers-color-scheme:dark){body{color:#e4e4e4;background:#161616}th{background:#262626}\
th,td{border-color:#444}a{color:#8ab4f8}.ok{color:#6dd58c}.bad{color:#ff8f8f}}";

impl Page {
    /// A page with this title.
    pub(super) fn new(title: &str) -> Self {
        let title = escape(title);
        Self(format!(
            "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title} · Timberline agent</title>\
             <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head><body>\n<nav>\
             <a href=\"targets\">Targets</a><a href=\"service-discovery\">Service discovery</a>\
             <a href=\"config\">Configuration</a><a href=\"metrics\">Metrics</a><a href=\"ready\">Ready</a></nav>\n<h1>{title}</h1>\n"
        ))
    }

    /// A heading.
    pub(super) fn heading(&mut self, text: &str) {
        let _ = writeln!(self.0, "<h2>{}</h2>", escape(text));
    }

    /// A paragraph.
    pub(super) fn text(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p>{}</p>", escape(text));
    }

    /// A paragraph of something that is wrong.
    pub(super) fn problem(&mut self, text: &str) {
        let _ = writeln!(self.0, "<p class=\"bad\">{}</p>", escape(text));
    }

    /// A table; cells hold markup.
    pub(super) fn table(&mut self, head: &[&str], rows: impl IntoIterator<Item = Vec<String>>) {
        let mut rows = rows.into_iter().peekable();
        if rows.peek().is_none() {
            return;
        }
        let head: String = head.iter().map(|cell| format!("<th>{}</th>", escape(cell))).collect();
        let _ = writeln!(self.0, "<table><thead><tr>{head}</tr></thead><tbody>");
        for row in rows {
            let cells: String = row.iter().map(|cell| format!("<td>{cell}</td>")).collect();
            let _ = writeln!(self.0, "<tr>{cells}</tr>");
        }
        self.0 += "</tbody></table>\n";
    }

    /// The whole page.
    pub(super) fn finish(self) -> String {
        self.0 + "</body></html>\n"
    }
}

/// Text as markup.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '"' => out += "&quot;",
            '\'' => out += "&#39;",
            c => out.push(c),
        }
    }
    out
}

/// Labels as markup, one a line.
pub(super) fn labels<'a>(labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> String {
    let pairs = labels.into_iter().map(|(name, value)| {
        format!("<code>{}={}</code>", escape(name), escape(&model::quote(value).to_string()))
    });
    pairs.collect::<Vec<_>>().join("<br>")
}

/// Yes or no as markup.
pub(super) fn state(good: bool, text: &str) -> String {
    format!("<span class=\"{}\">{}</span>", if good { "ok" } else { "bad" }, escape(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_escaped() {
        let mut page = Page::new("<a>");
        page.heading("<b>");
        page.text("\"&'");
        page.problem("<c>");
        let (name, value) = ("n".to_owned(), "<script>\"".to_owned());
        page.table(&["<d>"], [vec![labels([(&name, &value)])]]);
        let text = page.finish();
        for raw in ["<a>", "<b>", "<c>", "<d>", "<script>"] {
            assert!(!text.contains(raw), "{raw}: {text}");
        }
        assert!(text.contains("&quot;&amp;&#39;") && text.contains("n=&quot;&lt;script&gt;"));
        assert!(!text.contains("http"), "nothing from elsewhere");
    }
}
