//! Random queries over the random data.

use crate::data::{Random, Stream};

/// A piece of some line, so that filters find something, across all borders of its structure.
fn needle(random: &mut Random, streams: &[Stream]) -> String {
    let stream = &streams[random.below(streams.len())];
    let line: Vec<char> = stream.entries[random.below(stream.entries.len())].line.chars().collect();
    if line.is_empty() {
        return "a".to_owned();
    }
    let start = random.below(line.len());
    line[start..(start + 1 + random.below(14)).min(line.len())].iter().collect()
}

fn quoted(text: &str) -> String {
    model::quote(text)
}

/// A regular expression, often one that some line matches: pieces of it, with classes, repetitions and borders in between.
fn regex(random: &mut Random, streams: &[Stream]) -> String {
    let piece = |random: &mut Random| -> String {
        let plain: String = needle(random, streams)
            .chars()
            .flat_map(|c| match c {
                '\\' | '.' | '+' | '*' | '?' | '(' | ')' | '|' | '[' | ']' | '{' | '}' | '^' | '$' => {
                    vec!['\\', c]
                }
                c => vec![c],
            })
            .collect();
        match random.below(4) {
            0 => random
                .pick(&[
                    r"\d+",
                    r"\w+",
                    "[0-9a-f]{2,8}",
                    "(GET|POST)",
                    r"-?\d",
                    "[^\"]*",
                    r"\s",
                    "é",
                    "[a-e]",
                    r"\d{3}",
                    r"v\d",
                    "(error|info|warn)",
                    ".",
                    "ï?",
                    "",
                    r"\.\d\d",
                    "(?i:ERR)",
                    "(?:x|y)?",
                    r"[^\s=]+",
                ])
                .to_owned(),
            1 => format!("({plain}|{})", random.pick(&["a", "error", "1", "", r"\d+", "x.*y"])),
            _ => plain,
        }
    };
    let mut text = random.pick(&["", "", "", "(?i)", "^", "^.", "(?s)", r"\b", "(?m)^"]).to_owned();
    text.push_str(&piece(random));
    for _ in 0..random.below(3) {
        text.push_str(random.pick(&["", "", ".*", ".+?", r"\W", "[^ ]+", ".{0,5}", r"\b", "\".*\"", r"\B"]));
        text.push_str(&piece(random));
    }
    text.push_str(random.pick(&["", "", "", "$", "+$", r"\b", "(?i)E"]));
    text
}

/// A regular expression as a string, if it is one: repeated anchors and the like are none.
fn quoted_regex(random: &mut Random, streams: &[Stream]) -> String {
    let text = regex(random, streams);
    quoted(if model::regex::Regex::new(&text).is_ok() { &text } else { "e" })
}

fn line_filter(random: &mut Random, streams: &[Stream], wide: bool) -> String {
    let text = quoted(&needle(random, streams));
    match random.below(if wide { 18 } else { 4 }) {
        0..=1 => format!("|= {text}"),
        2 => format!("!= {text}"),
        3 => format!("|= {text} or {}", quoted(&needle(random, streams))),
        4 => format!("!= {text} or {}", quoted(&needle(random, streams))),
        5 => "|~ `(error|info)`".to_owned(),
        6 => "|~ `level.{1,4}err`".to_owned(),
        7 => "!~ `v[0-9]`".to_owned(),
        8 => "|~ `(GET|POST) /api/v1/(jobs|tracks)/[0-9]+`".to_owned(),
        9 => "|> `<_>level<_>info<_>`".to_owned(),
        10 => "!> `<_> HTTP<_>`".to_owned(),
        11..=14 => format!("|~ {}", quoted_regex(random, streams)),
        15 => format!("!~ {}", quoted_regex(random, streams)),
        16 => {
            let op = random.pick(&["|~", "!~"]);
            format!("{op} {} or {}", quoted_regex(random, streams), quoted_regex(random, streams))
        }
        _ => "|= ip(`10.0.0.0/24`)".to_owned(),
    }
}

fn parser(random: &mut Random, wide: bool) -> String {
    let plain = ["| json", "| logfmt", "| json a, x=`o.x`", "| logfmt a, m=`msg`"];
    let more = [
        "| json",
        "| logfmt",
        "| json",
        "| logfmt",
        "| json a=`t[0]`, o, w=`[\"we ird\"]`",
        "| json lvl=`level`, a=`a.x`",
        "| logfmt --keep-empty",
        "| logfmt --strict",
        "| logfmt --keep-empty a, level=`level`, none=`zz`",
        "| pattern `<ip> - - <_> \"<method> <_> <_>\" <code> <_>`",
        "| pattern `<ip> - - <_> \"<method> <_> <_>\" <code> <_>` | code=`500`",
        "| pattern `<_>/api/v1/<b> HTTP/1.1\" <a> <_>` | a > 300",
        "| pattern `<_>\"level\":\"<level>\"<_>`",
        "| pattern `level=<level> a=<a> <_>`",
        "| regexp `level\\W+(?P<level>\\w+)`",
        "| unpack",
        "| json | logfmt",
        "| logfmt | json a",
    ];
    (if wide { random.pick(&more) } else { random.pick(&plain) }).to_owned()
}

fn condition(random: &mut Random, wide: bool) -> String {
    let plain = [
        "level=`error`",
        "a > 5",
        "a <= 2.5",
        "b=`x`",
        "b!=`y`",
        "msg=~`.*completed|v.`",
        "app_extracted=`x`",
        "a=5",
        "level_extracted=`error`",
        "trace=`m1`",
        "o_x < 10",
        "missing=``",
        "missing!=``",
        "rare=`m2`",
        "x > 0",
        "m!=``",
        "trace_extracted!=``",
        "a != 3",
    ];
    let more = [
        "level=~`e.*`",
        "dur > 1s",
        "dur < 10KB",
        "b=ip(`10.0.0.0/16`)",
        "__error__=``",
        "__error__!=``",
        "level!~`error|warn`",
        "a=``",
        "o=~`.+`",
        "trace=~`m[12]`",
        "b_extracted!=``",
        "a_b > 1",
        "o_y=`x`",
        "code=`500`",
        "a >= -3",
        "lvl=`info`",
        "__error__=`JSONParserErr`",
        "b=`10.0.1.7`",
        "a=`5`",
        "a!=`-0.5`",
        "b=~`[0-9a-f]{16}`",
    ];
    let one = |random: &mut Random| {
        if wide && random.chance(50) { random.pick(&more).to_owned() } else { random.pick(&plain).to_owned() }
    };
    match random.below(6) {
        0 => format!("{} or {}", one(random), one(random)),
        1 => format!("{} and {}", one(random), one(random)),
        2 if wide => format!("({} or {}), {}", one(random), one(random), one(random)),
        _ => one(random),
    }
}

fn rewrite(random: &mut Random) -> String {
    random
        .pick(&[
            "| line_format `{{.level}} {{.a}}`",
            "| label_format lvl=level",
            "| label_format a=`{{.b}}x`, app=b",
            "| drop level",
            "| drop b, a=`5`",
            "| keep level, a",
            "| decolorize",
            "| drop __error__",
            "| drop __error__, __error_details__",
        ])
        .to_owned()
}

fn pipeline(random: &mut Random, streams: &[Stream], wide: bool) -> String {
    let mut stages = vec![random.pick(&["{app=~`.+`}", "{app=~`s.`}", "{app=`s0`}"]).to_owned()];
    for _ in 0..random.below(3) {
        stages.push(line_filter(random, streams, wide));
    }
    for _ in 0..random.below(3) {
        stages.push(parser(random, wide));
        if !wide {
            break;
        }
    }
    for _ in 0..random.below(3) {
        stages.push(format!("| {}", condition(random, wide)));
    }
    if wide && random.chance(25) {
        stages.push(rewrite(random));
        // Behind `drop level` the text `!= "x"` would be part of it.
        let filter = line_filter(random, streams, wide);
        if filter.starts_with('|') {
            stages.push(filter);
        }
        if random.chance(50) {
            stages.push(format!("| {}", condition(random, wide)));
        }
    }
    stages.join(" ")
}

/// A log query. The narrow ones are those that the plain evaluator knows.
pub(crate) fn log(random: &mut Random, streams: &[Stream], wide: bool) -> String {
    pipeline(random, streams, wide)
}

/// A metric query.
pub(crate) fn metric(random: &mut Random, streams: &[Stream], wide: bool) -> String {
    let log = pipeline(random, streams, wide);
    let range = random.pick(&["[5s]", "[7s]", "[20s]", "[1s]"]);
    let by = random.pick(&[
        "by (level)",
        "by (app)",
        "by (app, level)",
        "by (level_extracted, b)",
        "by ()",
        "by (trace)",
        "by (a)",
    ]);
    let unwrap = random.pick(&["| unwrap a", "| unwrap o_x", "| unwrap x", "| unwrap a | __error__=``"]);
    if !wide {
        return match random.below(5) {
            0 => format!("sum {by} (count_over_time({log} {range}))"),
            1 => format!("sum {by} (bytes_over_time({log} {range}))"),
            2 => format!("max_over_time({log} {unwrap} {range}) {by}"),
            3 => format!("sum {by} (sum_over_time({log} {unwrap} {range}))"),
            _ => format!("count_over_time({log} {range})"),
        };
    }
    let conversion = random.pick(&[
        "| unwrap duration(dur)",
        "| unwrap bytes(dur)",
        "| unwrap a | b=`x` or a > 2",
        unwrap,
    ]);
    match random.below(12) {
        0 => format!("sum {by} (rate({log} {range}))"),
        1 => format!("sum(count_over_time({log} {range}))"),
        2 => format!("sum {by} (bytes_rate({log} {range}))"),
        3 => format!("quantile_over_time(0.9, {log} {unwrap} {range}) {by}"),
        4 => format!("avg_over_time({log} {conversion} {range}) {by}"),
        5 => format!("stddev_over_time({log} {unwrap} {range}) {by}"),
        6 => format!("first_over_time({log} {unwrap} {range}) {by}"),
        7 => format!("rate_counter({log} {unwrap} {range})"),
        8 => format!("sum without (trace) (rate({log} {conversion} {range}))"),
        9 => format!("absent_over_time({log} {range})"),
        10 => format!("topk(2, sum {by} (count_over_time({log} {range})))"),
        _ => {
            format!("count_over_time({log} {range}) / ignoring (x) count_over_time({log} {range} offset 1s)")
        }
    }
}
