//! Puts released spans together into requests again.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use wire::otlp::encode::{ResourceGroup, ScopeGroup, request};

use super::sampler::{Group, Origin, Release};

/// Requests of about `max_bytes` each, with the number of their spans. Spans of one origin share its
/// resource and scope; the spans of a trace stay in one request unless they are larger than that.
pub fn assemble(releases: Vec<Release>, max_bytes: usize) -> Vec<(Bytes, u64)> {
    let mut requests = Vec::new();
    let mut builder = Builder::default();
    for group in releases.into_iter().flat_map(|r| r.groups) {
        builder.add(group);
        if builder.bytes >= max_bytes {
            requests.push(std::mem::take(&mut builder).finish());
        }
    }
    if builder.spans > 0 {
        requests.push(builder.finish());
    }
    requests
}

#[derive(Default)]
struct Builder {
    /// Where the scope of an origin stands in `groups`.
    places: HashMap<Arc<Origin>, (usize, usize)>,
    /// Where a resource (with its schema) stands in `groups`.
    resources: HashMap<(Bytes, Bytes), usize>,
    groups: Vec<ResourceGroup<Bytes>>,
    bytes: usize,
    spans: u64,
}

impl Builder {
    fn add(&mut self, group: Group) {
        let (resource, scope) = match self.places.get(&group.origin) {
            Some(place) => *place,
            None => self.place(group.origin.clone()),
        };
        self.spans += group.spans.len() as u64;
        self.bytes += group.spans.iter().map(Bytes::len).sum::<usize>();
        self.groups[resource].scopes[scope].items.extend(group.spans);
    }

    fn place(&mut self, origin: Arc<Origin>) -> (usize, usize) {
        let key = (origin.resource.clone(), origin.resource_schema_url.clone());
        let resource = *self.resources.entry(key).or_insert_with_key(|(resource, schema_url)| {
            self.bytes += resource.len();
            let (resource, schema_url) = (resource.clone(), schema_url.clone());
            self.groups.push(ResourceGroup { resource, schema_url, scopes: Vec::new() });
            self.groups.len() - 1
        });
        let scopes = &mut self.groups[resource].scopes;
        let (scope, schema_url) = (origin.scope.clone(), origin.scope_schema_url.clone());
        self.bytes += scope.len();
        scopes.push(ScopeGroup { scope, schema_url, items: Vec::new() });
        let place = (resource, scopes.len() - 1);
        self.places.insert(origin, place);
        place
    }

    fn finish(self) -> (Bytes, u64) {
        (request(&self.groups), self.spans)
    }
}
