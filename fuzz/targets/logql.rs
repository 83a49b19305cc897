//! Query texts: parsed or refused; what is parsed prints as text that parses to the same, and evaluates without a panic.
#![no_main]

use arrow_array::{Int64Array, StringArray};
use libfuzzer_sys::fuzz_target;
use logql::{
    Categories, Direction, EntryBatch, Expr, LogParams, LogQuery, Metadata, MetricLimits, MetricParams, MetricQuery,
};
use model::Labels;

const LINES: [&str; 6] = [
    r#"{"level":"error","duration_ms":431,"http":{"code":500,"path":"/a"},"msg":"connection \"refused\""}"#,
    r#"level=warn msg="slow query" dur=1.5s bytes=10KB user="" path=/x"#,
    r#"10.1.2.3 - - [12/Mar/2026] "GET /api/v1/jobs HTTP/1.1" 200 512"#,
    r#"{"_entry":"packed","a":"b"}"#,
    "",
    r#"{"truncated": [1, {"#,
];

fuzz_target!(|text: &str| {
    let Ok(expr) = logql::parse(text) else { return };
    let printed = expr.to_string();
    let again = logql::parse(&printed).unwrap_or_else(|e| panic!("{text:?} prints as {printed:?}: {e}"));
    assert_eq!(again.to_string(), printed, "{text:?}");
    let _ = logql::pretty(&expr);
    let batch = EntryBatch {
        labels: Labels::from_pairs([("app", "a"), ("env", "prod")]),
        timestamps: Int64Array::from_iter_values((1..=LINES.len() as i64).map(|i| i * 1_000_000_000)),
        lines: StringArray::from(LINES.to_vec()).into(),
        metadata: Metadata::empty(),
    };
    match &expr {
        Expr::Log(expr) => {
            let (direction, end) = (Direction::Backward, 100_000_000_000);
            let params = LogParams { start: 0, end, limit: 4, direction, interval: 0 };
            let Ok(mut query) = LogQuery::new(expr, params) else { return };
            if query.push(&batch).is_ok() {
                query.finish(Categories::Separate);
            }
        }
        Expr::Metric(expr) => {
            let params =
                MetricParams { start: 0, end: 10_000_000_000, step: 1_000_000_000, instant: false };
            let limits = MetricLimits { max_series: 100, max_inner_series: 1000, max_points: 100_000 };
            let Ok(mut query) = MetricQuery::new(expr, params, limits) else { return };
            let leaves = query.leaves().len();
            if (0..leaves).all(|leaf| query.push(leaf, &batch).is_ok()) {
                let _ = query.finish();
            }
        }
    }
});
