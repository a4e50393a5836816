//! One trace from the HTTP client to the service: who is whose parent, and what the spans are called.

use serde_json::json;
use sinew::Bus;
use sinew_edge as edge;

use super::{client::Client, local, shop::Shop};
use crate::harness::{Harness, OtlpReceiver, Span};

const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The shop and an edge that both export their spans.
struct Traced {
    _harness: Harness,
    buses: [Bus; 2],
    _shop: Shop,
    _edge: edge::Running,
    client: Client,
    collector: OtlpReceiver,
}

#[tokio::test]
async fn the_call_is_a_child_of_the_http_request_and_the_service_of_the_call() {
    let traced = Traced::start().await;
    let headers = [("traceparent", TRACEPARENT)];
    assert_eq!(traced.client.send("GET", "/things/secret-id", &headers, "").await.status, 200);
    let [http, call, service] = traced.spans("GET /things/{id}", "shop/read").await;
    assert_eq!(http.parent_id, "b7ad6b7169203331");
    assert_eq!((&call.parent_id, &service.parent_id), (&http.span_id, &call.span_id));
    for span in [&http, &call, &service] {
        assert_eq!(span.trace_id, "0af7651916cd43dd8448eb211c80319c");
        assert!(!span.name.contains("secret-id"));
    }
    assert_eq!(http.attributes["http.request.method"], "GET");
    assert_eq!(http.attributes["http.route"], "/things/{id}");
    assert_eq!(http.attributes["http.response.status_code"], "200");
}

#[tokio::test]
async fn a_failure_marks_the_call_and_a_server_error_the_request_too() {
    let traced = Traced::start().await;
    traced.client.post("/fail/busy", &json!({})).await.problem(503, "busy");
    let [http, call, service] = traced.spans("POST /fail/{how}", "shop/fail").await;
    assert_eq!([http, call, service].map(|span| span.error.is_some()), [true; 3]);
    let traced = Traced::start().await;
    traced.client.post("/fail/stock", &json!({})).await.problem(409, "out-of-stock");
    let [http, call, _] = traced.spans("POST /fail/{how}", "shop/fail").await;
    assert_eq!(
        [http, call].map(|span| span.error.is_some()),
        [false, true],
        "a refusal is no failure of the edge"
    );
}

impl Traced {
    async fn start() -> Self {
        let harness = Harness::start().await;
        let collector = OtlpReceiver::start().await;
        let endpoint = collector.endpoint().to_owned();
        let connect =
            |name| Bus::connect(sinew::Config::new(harness.url(), name).traced_to(Some(endpoint.clone())));
        let buses = [connect("shop").await.unwrap(), connect("edge").await.unwrap()];
        let shop = Shop::start(buses[0].clone()).await;
        let edge = edge::start(local(edge::Config::default()), buses[1].clone()).await.unwrap();
        let client = Client::new(edge.local_addr());
        Self { _harness: harness, buses, _shop: shop, _edge: edge, client, collector }
    }

    /// Ends the export and returns the spans of the request, of the call and of the service.
    async fn spans(&self, route: &str, operation: &str) -> [Span; 3] {
        for bus in &self.buses {
            bus.close().await;
        }
        let all = self.collector.wait_for(|spans| spans.len() >= 3).await;
        let find = |name: &str, kind: &str| {
            let found = all.iter().find(|span| span.name == name && span.kind == kind);
            found.unwrap_or_else(|| panic!("no {name} among {all:?}")).clone()
        };
        [find(route, "server"), find(operation, "client"), find(operation, "server")]
    }
}
