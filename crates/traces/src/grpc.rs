//! `tempopb.StreamingQuerier`: the API over gRPC. Each question is answered whole, in one message.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use model::{TenantId, duration};
use otlp::RawCodec;
use prost::Message;
use service::Failure;
use tonic::codec::CompressionEncoding;
use tonic::server::{Grpc, NamedService, ServerStreamingService};
use tonic::{Response, Status};
use wire::tempo::{
    QueryInstantRequest, QueryRangeRequest, SearchRequest, SearchTagValuesRequest, SearchTagsRequest,
};

use crate::api::ask::{Metrics, Search, Tags};
use crate::api::{Api, QUERY_TIMEOUT, within};

/// The service.
#[derive(Clone)]
pub(crate) struct StreamingQuerier(pub(crate) Api);

impl NamedService for StreamingQuerier {
    const NAME: &'static str = "tempopb.StreamingQuerier";
}

impl tonic::codegen::Service<http::Request<tonic::body::Body>> for StreamingQuerier {
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        let api = self.0.clone();
        let limit = api.querier.config.server.grpc_server_max_recv_msg_size;
        let method =
            request.uri().path().strip_prefix("/tempopb.StreamingQuerier/").unwrap_or_default().to_owned();
        Box::pin(async move {
            let mut grpc = Grpc::new(RawCodec)
                .accept_compressed(CompressionEncoding::Gzip)
                .send_compressed(CompressionEncoding::Gzip)
                .max_decoding_message_size(limit);
            Ok(grpc.server_streaming(Ask { api, method }, request).await)
        })
    }
}

struct Ask {
    api: Api,
    method: String,
}

type Answer = futures::stream::Once<futures::future::Ready<Result<Bytes, Status>>>;

impl ServerStreamingService<Bytes> for Ask {
    type Response = Bytes;
    type ResponseStream = Answer;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Status>> + Send>>;

    fn call(&mut self, request: tonic::Request<Bytes>) -> Self::Future {
        let (api, method) = (self.api.clone(), self.method.clone());
        Box::pin(async move {
            let tenants = api.tenancy.grpc_readers(request.metadata())?;
            let answer = api.ask(&method, &tenants, request.into_inner()).await?;
            Ok(Response::new(futures::stream::once(futures::future::ready(Ok(answer)))))
        })
    }
}

fn read<M: Message + Default>(bytes: Bytes) -> Result<M, Failure> {
    M::decode(bytes).map_err(|e| Failure::invalid(e.to_string()))
}

fn given<T: Default + PartialEq>(value: T) -> Option<T> {
    Some(value).filter(|v| *v != T::default())
}

impl Api {
    async fn ask(&self, method: &str, tenants: &[TenantId], request: Bytes) -> Result<Bytes, Status> {
        let answer = within(QUERY_TIMEOUT, self.answer(method, tenants, request)).await?;
        answer.ok_or_else(|| Status::unimplemented(format!("unknown method {method}")))
    }

    async fn answer(
        &self,
        method: &str,
        tenants: &[TenantId],
        bytes: Bytes,
    ) -> Result<Option<Bytes>, Failure> {
        let querier = &self.querier;
        let message = match method {
            "Search" => querier.ask_search(tenants, self.search(read(bytes)?)?).await?.encode_to_vec(),
            "SearchTags" => querier.ask_tags(tenants, self.names_of(read(bytes)?)?).await?.encode_to_vec(),
            "SearchTagsV2" => {
                querier.ask_tags_v2(tenants, self.names_of(read(bytes)?)?).await?.encode_to_vec()
            }
            "SearchTagValues" => {
                querier.ask_values(tenants, self.values_of(read(bytes)?)?).await?.encode_to_vec()
            }
            "SearchTagValuesV2" => {
                querier.ask_values_v2(tenants, self.values_of(read(bytes)?)?).await?.encode_to_vec()
            }
            "MetricsQueryRange" => {
                querier.ask_range(tenants, self.range_of(read(bytes)?)?).await?.encode_to_vec()
            }
            "MetricsQueryInstant" => {
                let ask: QueryInstantRequest = read(bytes)?;
                let range = querier.range_of_nanos(ask.start, ask.end)?;
                let ask = Metrics { query: ask.query, range, ..Metrics::default() };
                querier.ask_instant(tenants, ask).await?.encode_to_vec()
            }
            _ => return Ok(None),
        };
        Ok(Some(message.into()))
    }

    fn search(&self, ask: SearchRequest) -> Result<Search, Failure> {
        let millis = |n: u32| given(n).map(|n| i64::from(n) * 1_000_000);
        Ok(Search {
            query: given(ask.query),
            tags: ask.tags.into_iter().collect(),
            min_duration: millis(ask.min_duration_ms),
            max_duration: millis(ask.max_duration_ms),
            limit: given(ask.limit as usize),
            spans: given(ask.spans_per_span_set as usize),
            range: self.querier.range_of_seconds(ask.start, ask.end)?,
        })
    }

    fn names_of(&self, ask: SearchTagsRequest) -> Result<Tags, Failure> {
        Ok(Tags {
            of: ask.scope,
            query: given(ask.query),
            limit: ask.max_tags_per_scope as usize,
            range: self.querier.range_of_seconds(ask.start, ask.end)?,
        })
    }

    fn values_of(&self, ask: SearchTagValuesRequest) -> Result<Tags, Failure> {
        Ok(Tags {
            of: ask.tag_name,
            query: given(ask.query),
            limit: ask.max_tag_values as usize,
            range: self.querier.range_of_seconds(ask.start, ask.end)?,
        })
    }

    fn range_of(&self, ask: QueryRangeRequest) -> Result<Metrics, Failure> {
        let range = self.querier.range_of_nanos(ask.start, ask.end)?;
        let step = given(ask.step).map(|step| step as i64);
        if let Some(step) = step.filter(|step| *step <= 0) {
            return Err(Failure::invalid(format!("invalid step: {}", duration::format_go(step))));
        }
        Ok(Metrics {
            query: ask.query,
            range,
            step: if ask.instant == Some(true) { None } else { Some(step.unwrap_or(range.1 - range.0)) },
            exemplars: ask.exemplars as usize,
            max_series: ask.max_series as usize,
        })
    }
}
