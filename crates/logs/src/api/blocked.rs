//! Queries that a tenant's limits refuse by their text.

use logql::Expr;
use model::regex::Regex;
use service::Failure;

use crate::limits::{BlockedQuery, Limits};

/// Refuses a query that is blocked.
pub(crate) fn check(limits: &Limits, text: &str, expr: &Expr) -> Result<(), Failure> {
    match limits.blocked_queries.iter().any(|blocked| fits(blocked, text.trim(), expr)) {
        true => Err(Failure::invalid("query blocked by policy")),
        false => Ok(()),
    }
}

fn fits(blocked: &BlockedQuery, text: &str, expr: &Expr) -> bool {
    let kind = match expr {
        Expr::Metric(_) => "metric",
        Expr::Log(log) if log.stages.is_empty() => "limited",
        Expr::Log(_) => "filter",
    };
    if !blocked.types.is_empty() && !blocked.types.iter().any(|t| t == kind) {
        return false;
    }
    if blocked.hash != 0 {
        return blocked.hash == fnv1(text);
    }
    match blocked.pattern.trim() {
        "" | ".*" => true,
        pattern if blocked.regex => Regex::anchored(pattern).is_ok_and(|regex| regex.is_match(text)),
        pattern => pattern == text,
    }
}

/// The 32-bit FNV-1 hash.
fn fnv1(text: &str) -> u32 {
    text.bytes().fold(0x811c_9dc5, |hash: u32, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_blocked() {
        let check = |pattern: &str, regex: bool, hash: u32, types: &[&str], query: &str, expect: bool| {
            let types = types.iter().map(|t| (*t).to_owned()).collect();
            let blocked = BlockedQuery { pattern: pattern.into(), regex, hash, types };
            let limits = Limits { blocked_queries: vec![blocked], ..Limits::default() };
            let refused = super::check(&limits, query, &logql::parse(query).unwrap()).is_err();
            assert_eq!(
                refused,
                expect,
                "{pattern} {regex} {hash} {types:?} {query}",
                types = limits.blocked_queries
            );
        };
        let (log, filter, metric) = (r#"{a="b"}"#, r#"{a="b"} |= "x""#, r#"rate({a="b"}[1m])"#);
        check(log, false, 0, &[], log, true);
        check(log, false, 0, &[], filter, false);
        check("rate.*", true, 0, &[], metric, true);
        check("rate", true, 0, &[], metric, false);
        check("", false, 0, &["metric"], metric, true);
        check("", false, 0, &["metric", "limited"], filter, false);
        check(".*", false, 0, &["filter"], filter, true);
        check("", false, fnv1(log), &[], log, true);
        check("", false, 7, &[], log, false);
        assert_eq!((fnv1(""), fnv1("a")), (0x811c_9dc5, 0x050c_5d7e));
    }
}
