//! A collector of traces for tests: takes OTLP over HTTP as a real one does, and shows what came.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::time::Duration;

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::{Request, Response, StatusCode, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{
    self as proto, ResourceSpans, span::SpanKind, status::StatusCode as Code,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A span as a collector sees it. Ids are lower case hexadecimal.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) service: String,
    pub(crate) name: String,
    /// `server`, `client`, `producer`, `consumer` or `internal`.
    pub(crate) kind: &'static str,
    pub(crate) trace_id: String,
    pub(crate) span_id: String,
    /// Empty for the root of a trace.
    pub(crate) parent_id: String,
    /// Trace and span id of each link.
    pub(crate) links: Vec<(String, String)>,
    pub(crate) attributes: BTreeMap<String, String>,
    /// Nanoseconds since 1970.
    pub(crate) start: u64,
    /// Nanoseconds since 1970.
    pub(crate) end: u64,
    /// What the span says it failed with.
    pub(crate) error: Option<String>,
}

/// A collector on a port of its own; it is gone when it is dropped.
pub(crate) struct OtlpReceiver {
    endpoint: String,
    spans: watch::Receiver<Vec<Span>>,
    _stop: DropGuard,
}

impl OtlpReceiver {
    /// Starts to listen on loopback.
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bind a port for the collector");
        let endpoint = format!("http://{}", listener.local_addr().expect("a bound port"));
        let (sender, spans) = watch::channel(Vec::new());
        let stop = CancellationToken::new();
        tokio::spawn(stop.clone().run_until_cancelled_owned(accept(listener, sender)));
        Self { endpoint, spans, _stop: stop.drop_guard() }
    }

    /// Returns what `otlp_endpoint` or `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub(crate) fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Returns every span that came so far.
    pub(crate) async fn spans(&self) -> Vec<Span> {
        self.spans.borrow().clone()
    }

    /// Waits until what came so far is enough, and returns it.
    ///
    /// # Panics
    ///
    /// Panics with what did come when that takes unreasonably long.
    pub(crate) async fn wait_for(&self, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        self.wait_within(super::SOON, enough).await
    }

    async fn wait_within(&self, limit: Duration, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let mut spans = self.spans.clone();
        let waiting = tokio::time::timeout(limit, spans.wait_for(|spans| enough(spans))).await;
        match waiting {
            Ok(found) => found.expect("the collector is alive").clone(),
            Err(_) => panic!("the spans waited for did not come, these did: {:#?}", self.spans().await),
        }
    }
}

async fn accept(listener: TcpListener, spans: watch::Sender<Vec<Span>>) {
    while let Ok((socket, _)) = listener.accept().await {
        let spans = spans.clone();
        tokio::spawn(async move {
            let take = service_fn(|request| take(request, &spans));
            // A client that hangs up is no concern of a collector.
            let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), take).await;
        });
    }
}

async fn take(
    request: Request<Incoming>,
    spans: &watch::Sender<Vec<Span>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let answer = |status| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    if request.uri().path() != "/v1/traces" {
        return answer(StatusCode::NOT_FOUND);
    }
    let Ok(body) = request.into_body().collect().await else { return answer(StatusCode::BAD_REQUEST) };
    match ExportTraceServiceRequest::decode(body.to_bytes()) {
        Ok(export) => {
            spans.send_modify(|spans| spans.extend(export.resource_spans.into_iter().flat_map(of_resource)));
            answer(StatusCode::OK)
        }
        Err(_) => answer(StatusCode::BAD_REQUEST),
    }
}

fn of_resource(resource: ResourceSpans) -> Vec<Span> {
    let attributes = texts(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
    let service = attributes.get("service.name").cloned().unwrap_or_default();
    let spans = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
    spans.map(|span| read(&service, span)).collect()
}

fn read(service: &str, span: proto::Span) -> Span {
    let error = span.status.filter(|status| status.code == Code::Error as i32).map(|status| status.message);
    Span {
        service: service.to_owned(),
        kind: match SpanKind::try_from(span.kind) {
            Ok(SpanKind::Server) => "server",
            Ok(SpanKind::Client) => "client",
            Ok(SpanKind::Producer) => "producer",
            Ok(SpanKind::Consumer) => "consumer",
            _ => "internal",
        },
        name: span.name,
        trace_id: hex(&span.trace_id),
        span_id: hex(&span.span_id),
        parent_id: hex(&span.parent_span_id),
        links: span.links.iter().map(|link| (hex(&link.trace_id), hex(&link.span_id))).collect(),
        attributes: texts(span.attributes),
        start: span.start_time_unix_nano,
        end: span.end_time_unix_nano,
        error,
    }
}

fn texts(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    let text = |value| match value {
        Value::StringValue(text) => text,
        Value::IntValue(number) => number.to_string(),
        Value::BoolValue(truth) => truth.to_string(),
        other => format!("{other:?}"),
    };
    let value =
        |attribute: KeyValue| attribute.value.and_then(|value| value.value).map(text).unwrap_or_default();
    attributes.into_iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
