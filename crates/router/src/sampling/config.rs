//! The `tail_sampling` block as the Collector's users write it.

use serde::{Deserialize, Serialize};
use service::config::Duration;

/// `processors.tail_sampling`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(default)]
pub struct TailSamplingConfig {
    /// Time from the first span of a trace to its decision.
    pub decision_wait: Duration,
    /// Once a root span is there, decide this much later, never later than planned; 0 turns it off.
    pub decision_wait_after_root_received: Duration,
    /// Traces that wait at the same time; beyond it the one due next is decided at once.
    pub num_traces: usize,
    /// Accepted; memory grows as needed.
    pub expected_new_traces_per_sec: u64,
    /// How many decided traces are remembered for spans that come late.
    pub decision_cache: DecisionCacheConfig,
    /// Stop at the first policy that says keep.
    pub sample_on_first_match: bool,
    /// `trace-complete` is the one that is built.
    pub sampling_strategy: String,
    /// Refuse new traces, with a retryable error, instead of deciding waiting ones early.
    pub block_on_overflow: bool,
    /// Protobuf bytes above which a trace is dropped at once; 0 turns it off.
    pub maximum_trace_size_bytes: u64,
    /// At shutdown, drop what waits instead of deciding it.
    pub drop_pending_traces_on_shutdown: bool,
    /// Bytes of waiting spans in all; beyond it traces are decided early.
    pub max_memory_mib: u64,
    /// The policies, in order.
    pub policies: Vec<PolicyConfig>,
}

/// How many decisions to remember; 0 means ten times `num_traces`.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DecisionCacheConfig {
    /// Kept traces.
    pub sampled_cache_size: usize,
    /// Dropped traces.
    pub non_sampled_cache_size: usize,
}

impl Default for TailSamplingConfig {
    fn default() -> Self {
        Self {
            decision_wait: Duration::from_secs(30),
            decision_wait_after_root_received: Duration::default(),
            num_traces: 50_000,
            expected_new_traces_per_sec: 0,
            decision_cache: DecisionCacheConfig::default(),
            sample_on_first_match: false,
            sampling_strategy: "trace-complete".to_owned(),
            block_on_overflow: false,
            maximum_trace_size_bytes: 0,
            drop_pending_traces_on_shutdown: false,
            max_memory_mib: 256,
            policies: Vec::new(),
        }
    }
}

/// One policy: its name, its type, and the block of that type.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct PolicyConfig {
    /// Unique within its list.
    pub name: String,
    /// Which of the blocks below counts.
    #[serde(rename = "type")]
    pub kind: String,
    /// `latency`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<LatencyConfig>,
    /// `status_code`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status_code: Option<StatusCodeConfig>,
    /// `probabilistic`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probabilistic: Option<ProbabilisticConfig>,
    /// `numeric_attribute`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub numeric_attribute: Option<NumericConfig>,
    /// `boolean_attribute`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boolean_attribute: Option<BooleanConfig>,
    /// `string_attribute`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub string_attribute: Option<StringConfig>,
    /// `trace_state`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<TraceStateConfig>,
    /// `rate_limiting`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_limiting: Option<RateConfig>,
    /// `bytes_limiting`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_limiting: Option<BytesConfig>,
    /// `span_count`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span_count: Option<SpanCountConfig>,
    /// `and`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub and: Option<AndConfig>,
    /// `not`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not: Option<NotConfig>,
    /// `drop`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drop: Option<DropConfig>,
    /// `composite`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub composite: Option<CompositeConfig>,
}

/// Keeps traces by their length from first start to last end.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct LatencyConfig {
    /// Milliseconds from which a trace is kept.
    pub threshold_ms: u64,
    /// Milliseconds up to which it is kept; 0 means no bound.
    pub upper_threshold_ms: u64,
}

/// Keeps traces with a span of one of these states.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct StatusCodeConfig {
    /// Of `OK`, `ERROR`, `UNSET`.
    pub status_codes: Vec<String>,
}

/// Keeps a share of all traces, chosen by trace id.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct ProbabilisticConfig {
    /// Part of the hash; empty means the Collector's default.
    pub hash_salt: String,
    /// From 0 to 100.
    pub sampling_percentage: f64,
}

/// Keeps traces with an integer attribute in a range.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NumericConfig {
    /// Attribute of a span or its resource.
    pub key: String,
    /// Lowest value; 0 means no bound.
    pub min_value: i64,
    /// Highest value; 0 means no bound.
    pub max_value: i64,
    /// Keep traces without such a value instead.
    pub invert_match: bool,
}

/// Keeps traces with a boolean attribute of a value.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct BooleanConfig {
    /// Attribute of a span or its resource.
    pub key: String,
    /// The value.
    pub value: bool,
    /// Keep traces without such a value instead.
    pub invert_match: bool,
}

/// Keeps traces with a string attribute of one of some values.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct StringConfig {
    /// Attribute of a span or its resource.
    pub key: String,
    /// Values, or regular expressions that may match anywhere in the value.
    pub values: Vec<String>,
    /// Whether `values` are regular expressions.
    pub enabled_regex_matching: bool,
    /// Accepted; results are not cached because matching is cheap.
    pub cache_max_size: u64,
    /// Keep traces without such a value instead.
    pub invert_match: bool,
}

/// Keeps traces with a `tracestate` entry of one of some values.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct TraceStateConfig {
    /// The entry's key.
    pub key: String,
    /// Its values.
    pub values: Vec<String>,
}

/// Keeps traces up to a rate of spans.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RateConfig {
    /// Spans per second.
    pub spans_per_second: u64,
    /// Spans at once; 0 means twice the rate.
    pub burst_capacity: u64,
}

/// Keeps traces up to a rate of protobuf bytes.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct BytesConfig {
    /// Bytes per second.
    pub bytes_per_second: u64,
    /// Bytes at once; 0 means twice the rate.
    pub burst_capacity: u64,
}

/// Keeps traces by how many spans they have.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct SpanCountConfig {
    /// At least so many.
    pub min_spans: u64,
    /// At most so many; 0 means no bound.
    pub max_spans: u64,
}

/// Keeps traces that all sub-policies keep.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct AndConfig {
    /// At least one.
    pub and_sub_policy: Vec<PolicyConfig>,
}

/// Keeps traces that the sub-policy does not keep.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct NotConfig {
    /// The policy to turn around.
    pub not_sub_policy: Box<PolicyConfig>,
}

/// Drops traces that all sub-policies would keep, whatever other policies say.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct DropConfig {
    /// At least one.
    pub drop_sub_policy: Vec<PolicyConfig>,
}

/// Shares a rate of spans among sub-policies.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct CompositeConfig {
    /// Spans per second for all sub-policies together.
    pub max_total_spans_per_second: u64,
    /// Names of the sub-policies in the order in which they are asked; empty means as listed.
    pub policy_order: Vec<String>,
    /// The sub-policies.
    pub composite_sub_policy: Vec<PolicyConfig>,
    /// Shares of the rate.
    pub rate_allocation: Vec<RateAllocation>,
    /// Ask the next sub-policy when the share of the one that would keep a trace is used up.
    pub fall_through: bool,
}

/// The share of one sub-policy.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(default)]
pub struct RateAllocation {
    /// Its name.
    pub policy: String,
    /// Per cent of the rate; 0 means an equal share.
    pub percent: u64,
}
