//! Tag names and tag values.

use serde::Serialize;

use super::value::MetadataMetrics;

/// Which attribute names are there; times in Unix seconds, 0 if not given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SearchTagsRequest {
    /// Empty, `none`, `resource`, `span`, …
    #[prost(string, tag = "1")]
    pub scope: String,
    /// Only names of spans matching this.
    #[prost(string, tag = "2")]
    pub query: String,
    /// From, in seconds.
    #[prost(uint32, tag = "3")]
    pub start: u32,
    /// To, in seconds.
    #[prost(uint32, tag = "4")]
    pub end: u32,
    /// Most names per scope, 0 for all.
    #[prost(uint32, tag = "5")]
    pub max_tags_per_scope: u32,
    /// Stop after so many blocks without a new name.
    #[prost(uint32, tag = "6")]
    pub stale_values_threshold: u32,
}

/// Names of all scopes together, sorted.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagsResponse {
    /// The names.
    #[prost(string, repeated, tag = "1")]
    pub tag_names: Vec<String>,
    /// What it cost.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetadataMetrics>,
}

/// Names by scope.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct SearchTagsV2Response {
    /// The scopes.
    #[prost(message, repeated, tag = "1")]
    pub scopes: Vec<SearchTagsV2Scope>,
    /// What it cost.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetadataMetrics>,
}

/// Names of one scope.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct SearchTagsV2Scope {
    /// `span`, `resource`, …
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The names.
    #[prost(string, repeated, tag = "2")]
    pub tags: Vec<String>,
}

/// Which values an attribute has; times in Unix seconds, 0 if not given.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub struct SearchTagValuesRequest {
    /// The attribute.
    #[prost(string, tag = "1")]
    pub tag_name: String,
    /// Only values of spans matching this.
    #[prost(string, tag = "2")]
    pub query: String,
    /// From, in seconds.
    #[prost(uint32, tag = "4")]
    pub start: u32,
    /// To, in seconds.
    #[prost(uint32, tag = "5")]
    pub end: u32,
    /// Most values, 0 for all.
    #[prost(uint32, tag = "6")]
    pub max_tag_values: u32,
    /// Stop after so many blocks without a new value.
    #[prost(uint32, tag = "7")]
    pub stale_value_threshold: u32,
}

/// Values without types.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagValuesResponse {
    /// The values.
    #[prost(string, repeated, tag = "1")]
    pub tag_values: Vec<String>,
    /// What it cost.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetadataMetrics>,
}

/// Values with types.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SearchTagValuesV2Response {
    /// The values.
    #[prost(message, repeated, tag = "1")]
    pub tag_values: Vec<TagValue>,
    /// What it cost.
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metrics: Option<MetadataMetrics>,
}

/// A value with its type.
#[derive(Clone, PartialEq, Eq, prost::Message, Serialize)]
pub struct TagValue {
    /// `string`, `int`, `float`, `bool`, `duration`, `keyword`
    #[prost(string, tag = "1")]
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The value as text.
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    pub value: String,
}
