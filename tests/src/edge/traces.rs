//! One trace from the HTTP client to the service: who is whose parent, and what the spans are called.

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use serde_json::json;
use sinew::Bus;
use sinew_edge as edge;
use tokio::{sync::mpsc, time::timeout};

use super::{client::Client, collector, local, shop::Shop};
use crate::harness::{Harness, SOON};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The shop and an edge that both export their spans.
struct Traced {
    _harness: Harness,
    buses: [Bus; 2],
    _shop: Shop,
    _edge: edge::Running,
    client: Client,
    spans: mpsc::UnboundedReceiver<Span>,
}

#[tokio::test]
async fn the_call_is_a_child_of_the_http_request_and_the_service_of_the_call() {
    let mut traced = Traced::start().await;
    let headers = [("traceparent", TRACEPARENT)];
    assert_eq!(traced.client.send("GET", "/things/secret-id", &headers, "").await.status, 200);
    let [http, call, service] = traced.spans("GET /things/{id}", "shop/read").await;
    assert_eq!(hex(&http.parent_span_id), "b7ad6b7169203331");
    assert_eq!((&call.parent_span_id, &service.parent_span_id), (&http.span_id, &call.span_id));
    for span in [&http, &call, &service] {
        assert_eq!(hex(&span.trace_id), "0af7651916cd43dd8448eb211c80319c");
        assert!(!span.name.contains("secret-id"));
    }
    assert_eq!(attribute(&http, "http.request.method").as_deref(), Some("GET"));
    assert_eq!(attribute(&http, "http.route").as_deref(), Some("/things/{id}"));
    assert_eq!(attribute(&http, "http.response.status_code").as_deref(), Some("200"));
}

#[tokio::test]
async fn a_failure_marks_the_call_and_a_server_error_the_request_too() {
    let mut traced = Traced::start().await;
    traced.client.post("/fail/busy", &json!({})).await.problem(503, "busy");
    let [http, call, service] = traced.spans("POST /fail/{how}", "shop/fail").await;
    assert_eq!([failed(&http), failed(&call), failed(&service)], [true; 3]);
    let mut traced = Traced::start().await;
    traced.client.post("/fail/stock", &json!({})).await.problem(409, "out-of-stock");
    let [http, call, _] = traced.spans("POST /fail/{how}", "shop/fail").await;
    assert_eq!([failed(&http), failed(&call)], [false, true], "a refusal is no failure of the edge");
}

impl Traced {
    async fn start() -> Self {
        let harness = Harness::start().await;
        let (endpoint, spans) = collector::start().await;
        let connect =
            |name| Bus::connect(sinew::Config::new(harness.url(), name).traced_to(Some(endpoint.clone())));
        let buses = [connect("shop").await.unwrap(), connect("edge").await.unwrap()];
        let shop = Shop::start(buses[0].clone()).await;
        let edge = edge::start(local(edge::Config::default()), buses[1].clone()).await.unwrap();
        let client = Client::new(edge.local_addr());
        Self { _harness: harness, buses, _shop: shop, _edge: edge, client, spans }
    }

    /// Ends the export and returns the spans of the request, of the call and of the service.
    async fn spans(&mut self, route: &str, operation: &str) -> [Span; 3] {
        for bus in &self.buses {
            bus.close().await;
        }
        let mut all = Vec::new();
        while all.len() < 3 {
            all.push(timeout(SOON, self.spans.recv()).await.expect("three spans").unwrap());
        }
        let find = |name: &str, kind: SpanKind| {
            let found = all.iter().find(|span| span.name == name && span.kind() == kind);
            found.unwrap_or_else(|| panic!("no {name} among {all:?}")).clone()
        };
        [find(route, SpanKind::Server), find(operation, SpanKind::Client), find(operation, SpanKind::Server)]
    }
}

fn failed(span: &Span) -> bool {
    span.status.as_ref().is_some_and(|status| status.code() == StatusCode::Error)
}

fn attribute(span: &Span, name: &str) -> Option<String> {
    use opentelemetry_proto::tonic::common::v1::any_value::Value::StringValue;
    let attribute = span.attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.as_ref()?.value.as_ref()? {
        StringValue(text) => Some(text.clone()),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
