//! The JSON of `/api/v1/rules` and `/api/v1/alerts`, by which Grafana shows rules, and of Alertmanager's `/api/v2/alerts`.

use std::collections::BTreeMap;

use model::Timestamp;
use serde::{Serialize, Serializer};

/// Labels or annotations.
pub type Pairs = BTreeMap<String, String>;

/// Every answer: `{"status":"success","data":…,"errorType":"","error":""}`.
#[derive(Debug, Clone, Serialize)]
pub struct Answer<T> {
    status: &'static str,
    /// What was asked for; `null` where nothing was.
    pub data: Option<T>,
    #[serde(rename = "errorType")]
    error_type: &'static str,
    error: &'static str,
}

impl<T> Answer<T> {
    /// A good answer.
    pub fn success(data: Option<T>) -> Self {
        Self { status: "success", data, error_type: "", error: "" }
    }
}

/// `data` of `/rules`.
#[derive(Debug, Clone, Serialize)]
pub struct Rules {
    /// All groups that were asked for.
    pub groups: Vec<Group>,
}

/// `data` of `/alerts`.
#[derive(Debug, Clone, Serialize)]
pub struct Alerts {
    /// All alerts that are pending or firing.
    pub alerts: Vec<Alert>,
}

/// A group and how it fared.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Group {
    /// Its name.
    pub name: String,
    /// The namespace it belongs to.
    pub file: String,
    /// Its rules, in order of evaluation.
    pub rules: Vec<Rule>,
    /// Seconds between evaluations.
    pub interval: f64,
    /// Most series or alerts of a rule; 0 for any number.
    pub limit: u64,
    /// When its last evaluation began.
    pub last_evaluation: Time,
    /// Seconds that it took.
    pub evaluation_time: f64,
}

/// A rule and how it fared.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum Rule {
    /// Of alerts.
    Alerting(AlertingRule),
    /// Of a series.
    Recording(RecordingRule),
}

/// A rule of alerts.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AlertingRule {
    /// The highest state of its alerts: `firing`, `pending` or `inactive`.
    pub state: &'static str,
    /// Its name.
    pub name: String,
    /// What is evaluated.
    pub query: String,
    /// Seconds of `for`.
    pub duration: f64,
    /// Seconds of `keep_firing_for`.
    pub keep_firing_for: f64,
    /// Labels of its alerts, as templates.
    pub labels: Pairs,
    /// Annotations of its alerts, as templates.
    pub annotations: Pairs,
    /// What is pending or firing.
    pub alerts: Vec<Alert>,
    /// `ok`, `err`, or `unknown` before the first evaluation.
    pub health: &'static str,
    /// What went wrong.
    pub last_error: String,
    /// `alerting`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When it was last evaluated.
    pub last_evaluation: Time,
    /// Seconds that it took.
    pub evaluation_time: f64,
}

/// A rule that records a series.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordingRule {
    /// Name of the series.
    pub name: String,
    /// What is evaluated.
    pub query: String,
    /// Labels that are added.
    pub labels: Pairs,
    /// `ok`, `err`, or `unknown` before the first evaluation.
    pub health: &'static str,
    /// What went wrong.
    pub last_error: String,
    /// `recording`
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// When it was last evaluated.
    pub last_evaluation: Time,
    /// Seconds that it took.
    pub evaluation_time: f64,
}

/// An alert that is pending or firing.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Alert {
    /// What tells it from others.
    pub labels: Pairs,
    /// What people read.
    pub annotations: Pairs,
    /// `pending` or `firing`.
    pub state: &'static str,
    /// Since when its condition holds.
    pub active_at: Time,
    /// The value, as Go writes it with an exponent: `1e+00`.
    pub value: String,
}

/// One alert in the body that Alertmanager takes, a JSON list of these.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PostableAlert {
    /// What tells it from others.
    pub labels: Pairs,
    /// What people read.
    pub annotations: Pairs,
    /// Since when it fires.
    pub starts_at: Time,
    /// When it ended, or when to take it as ended if nothing more is heard.
    pub ends_at: Time,
    /// Where its query can be seen.
    #[serde(rename = "generatorURL")]
    pub generator_url: String,
}

/// A time in RFC 3339; none is Go's zero time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Option<Timestamp>);

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(time) => serializer.collect_str(&time),
            None => serializer.serialize_str("0001-01-01T00:00:00Z"),
        }
    }
}

/// A number as Go's `strconv.FormatFloat(v, 'e', -1, 64)` writes it.
pub fn exponent(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let text = format!("{value:e}");
    match text.split_once('e') {
        Some((digits, exponent)) => {
            let (sign, exponent) = match exponent.strip_prefix('-') {
                Some(exponent) => ('-', exponent),
                None => ('+', exponent),
            };
            format!("{digits}e{sign}{exponent:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponents() {
        let check = |value: f64, want: &str| assert_eq!(exponent(value), want);
        check(1.0, "1e+00");
        check(0.0, "0e+00");
        check(-12.5, "-1.25e+01");
        check(1e-7, "1e-07");
        check(1.5e300, "1.5e+300");
        check(f64::NAN, "NaN");
        check(f64::NEG_INFINITY, "-Inf");
    }

    #[test]
    fn answers() {
        let nothing = serde_json::to_string(&Answer::<Rules>::success(None)).unwrap();
        assert_eq!(nothing, r#"{"status":"success","data":null,"errorType":"","error":""}"#);
        let alert = PostableAlert {
            labels: Pairs::from([("alertname".into(), "a".into())]),
            annotations: Pairs::new(),
            starts_at: Time(Some(Timestamp(0))),
            ends_at: Time(None),
            generator_url: "http://g".into(),
        };
        assert_eq!(
            serde_json::to_string(&alert).unwrap(),
            r#"{"labels":{"alertname":"a"},"annotations":{},"startsAt":"1970-01-01T00:00:00Z","endsAt":"0001-01-01T00:00:00Z","generatorURL":"http://g"}"#
        );
    }
}
