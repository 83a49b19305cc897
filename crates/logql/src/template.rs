//! Templates of `line_format` and `label_format`: Go's text/template over the labels of a row.

use std::collections::BTreeMap;

use gotemplate::{Args, Data, Fault, Function, Value};

use crate::names::{NameId, Names};
use crate::row::Row;
use crate::stages::parse_bytes;

/// A parsed template.
#[derive(Debug, Clone)]
pub(crate) struct Template(gotemplate::Template);

impl Template {
    /// Parses a template; unknown functions are errors. `name` appears in error texts.
    pub(crate) fn parse(source: &str, name: &'static str) -> Result<Self, String> {
        gotemplate::Template::parse::<RowData<'_, '_, '_>>(source, name).map(Self)
    }

    /// Whether the template uses `__line__`.
    pub(crate) fn reads_line(&self) -> bool {
        self.0.calls("__line__")
    }

    /// Adds the labels that the template looks at; false if it may look at any.
    pub(crate) fn labels_read(&self, names: &mut Names, out: &mut Vec<NameId>) -> bool {
        let Some(labels) = self.0.fields() else { return false };
        out.extend(labels.iter().map(|label| names.id(label)));
        true
    }

    /// Appends the template's text for the row.
    pub(crate) fn render(&self, row: &Row<'_, '_>, names: &Names, out: &mut String) -> Result<(), String> {
        self.0.render(&RowData { row, names }, out)
    }
}

/// A row's labels, read where they lie; missing ones print as nothing.
struct RowData<'r, 'v, 'b> {
    row: &'r Row<'v, 'b>,
    names: &'r Names,
}

impl Data for RowData<'_, '_, '_> {
    const FUNCTIONS: &'static [Function] = &[("__line__", 0, 0), ("__timestamp__", 0, 0), ("bytes", 1, 1)];

    fn field(&self, name: &str) -> Value<'_> {
        Value::text(self.names.find(name).and_then(|id| self.row.get(id)).unwrap_or_default())
    }

    fn fields(&self) -> BTreeMap<String, Value<'_>> {
        self.row.labels().map(|(id, value)| (self.names.text(id).to_string(), Value::text(value))).collect()
    }

    fn is_empty(&self) -> bool {
        self.row.labels().next().is_none()
    }

    fn call<'r>(&'r self, name: &str, args: &[Value<'r>]) -> Result<Value<'r>, Fault> {
        Ok(match name {
            "__line__" => Value::text(self.row.line()),
            "__timestamp__" => Value::Time(self.row.timestamp),
            _ => Value::Float(parse_bytes(Args(args).text(0)?).map_err(Fault::Call)? as f64),
        })
    }
}

#[cfg(test)]
mod tests {
    use arrow_array::{Int64Array, StringArray};
    use model::Labels;

    use super::*;
    use crate::batch::{EntryBatch, Metadata};
    use crate::needs::MetadataNeeds;
    use crate::row::{BatchView, Wanted};

    fn render(template: &str, labels: &[(&str, &str)], line: &str) -> Result<String, String> {
        let batch = EntryBatch {
            labels: Labels::from_pairs(labels.iter().copied()),
            timestamps: Int64Array::from(vec![1_700_000_000_123_456_789]),
            lines: StringArray::from(vec![line]).into(),
            metadata: Metadata::empty(),
        };
        let mut names = Names::new();
        let view = BatchView::new(&batch, &mut names, &MetadataNeeds::All);
        let mut row = Row::new(&view, &Wanted::All);
        row.load(0, &mut names);
        let mut out = String::new();
        Template::parse(template, "line")?.render(&row, &names, &mut out).map(|()| out)
    }

    fn check(template: &str, want: &str) {
        let labels = [("a", "x y"), ("n", "4"), ("f", "2.5"), ("empty_", "0")];
        let line = r#"{"k":[1,2.5,"t"],"m":{"z":null}}"#;
        assert_eq!(render(template, &labels, line).as_deref(), Ok(want), "{template}");
    }

    #[test]
    fn language() {
        check("a{{.a}}b{{.absent}}c", "ax ybc");
        check("{{if .a}}1{{else}}2{{end}}{{if .absent}}1{{else if .n}}3{{end}}", "13");
        check("{{with .a}}<{{.}}>{{end}}", "<x y>");
        check("{{range $i, $c := (fromJson __line__).k}}{{$i}}={{$c}};{{end}}", "0=1;1=2.5;2=t;");
        check("{{range $k, $v := .}}{{$k}},{{end}}", "a,empty_,f,n,");
        check("{{$x := .n}}{{$x = add $x 1}}{{$x}}", "5");
        check(
            "{{eq .n \"4\"}} {{ne .n \"4\"}} {{and 1 0}} {{or 0 2}} {{not .a}} {{lt 1 2}}",
            "true false 0 2 false true",
        );
        check(
            "{{len .a}} {{index . \"n\"}} {{slice .a 2}} {{printf \"%q %5d|%-4s|%05.1f\" .a 42 .n 2.25}}",
            "3 4 y \"x y\"    42|4   |002.2",
        );
        check("{{ .a | ToUpper | printf \"%s!\" }}", "X Y!");
        check("{{ 1500000.0 }} {{ 1.5 }} {{ 100000.0 }}", "1.5e+06 1.5 100000");
        check("{{define \"t\"}}[{{.}}]{{end}}{{template \"t\" .a}}", "[x y]");
        check("a {{- .n -}} b", "a4b");
        check("{{range 3}}{{.}}{{if eq . 1}}{{break}}{{end}}{{end}}", "01");
        check("{{.}}", "map[a:x y empty_:0 f:2.5 n:4]");
    }

    #[test]
    fn functions() {
        check("{{Replace .a \" \" \"-\" -1}} {{.a | replace \" \" \"_\"}}", "x-y x_y");
        check("{{trunc 1 .a}}|{{trunc -1 .a}}|{{substr 0 1 .a}}|{{substr -1 2 .a}}", "x|y|x|x ");
        check(
            "{{add 1 2 .n}} {{sub 5 1}} {{mul 2 3}} {{div 7 2}} {{mod 7 2}} {{max 1 .n}} {{min 1 .n}}",
            "7 4 6 3 1 4 1",
        );
        check(
            "{{addf 0.1 0.2}} {{mulf .f 2}} {{divf 1 3}} {{round 1.2345 2}} {{int .f}} {{float64 .n}}",
            "0.3 5 0.3333333333333333 1.23 2 4",
        );
        check("{{ceil 1.2}} {{floor 1.8}} {{maxf 1.5 2}} {{minf 1.5 2}} {{subf 1 0.9}}", "2 1 2 1.5 0.1");
        check("{{bytes \"2KB\"}} {{duration \"1m30s\"}} {{duration_seconds \"2s\"}}", "2000 90 2");
        check(
            "{{__timestamp__ | unixEpoch}} {{__timestamp__ | unixEpochMillis}} {{__timestamp__ | unixEpochNanos}}",
            "1700000000 1700000000123 1700000000123456789",
        );
        check("{{unixToTime \"1700000000\" | date \"2006-01-02\"}}", "2023-11-14");
        check("{{default \"d\" .absent}} {{default \"d\" .n}}", "d 4");
        check(
            "{{b64enc .a}} {{\"eCB5\" | b64dec}} {{urlencode .a}} {{urldecode \"x+y%21\"}}",
            "eCB5 x y x+y x y!",
        );
        check("{{alignLeft 5 .a}}|{{alignRight 2 .a}}|{{alignRight 5 .a}}|", "x y  | y|  x y|");
        check(
            "{{regexReplaceAll \"(x) (y)\" .a \"$2${1}\"}} {{regexReplaceAllLiteral \"x\" .a \"$1\"}} {{count \"[xy]\" .a}}",
            "yx $1 y 2",
        );
        check(
            "{{title \"ab cd\"}} {{trim \" a \"}} {{trimAll \"-\" \"-a-\"}} {{trimPrefix \"a\" \"ab\"}} {{TrimSuffix \"ab\" \"b\"}}",
            "Ab Cd a a b a",
        );
        check(
            "{{contains \"x\" .a}} {{hasPrefix \"y\" .a}} {{hasSuffix \"y\" .a}} {{repeat 2 .n}} {{indent 2 .n}}",
            "true false true 44   4",
        );
    }

    #[test]
    fn faults() {
        let fault = |template: &str| render(template, &[("size", "oops")], "").unwrap_err();
        assert_eq!(
            fault("{{ .size | bytes }}"),
            "template: line:1:11: executing \"line\" at <bytes>: error calling bytes: strconv.ParseFloat: parsing \"\": invalid syntax"
        );
        assert!(fault("{{ div 1 0 }}").contains("error calling div"));
        assert!(fault("{{ nosuch .x }}").contains("function \"nosuch\" not defined"));
        assert!(fault("{{.x").contains("unclosed action"));
        assert!(fault("{{range 100000000}}{{end}}").contains("too many"));
        assert!(fault("{{repeat 1000000000 \"x\"}}").contains("too long"));
    }
}
