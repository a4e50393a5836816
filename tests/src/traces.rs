//! One trace from the HTTP request to the last compensation, also over a crash.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sinew::{Bus, Config};

use crate::{
    edge::client::Client,
    harness::{Harness, OtlpReceiver, SOON, Span, eventually},
    workflow::Orchestrator,
};

/// A checkout in one process, but for the orchestrator, which is to be killed.
struct Shop {
    harness: Harness,
    collector: OtlpReceiver,
    buses: Vec<Bus>,
    services: Vec<sinew::Running>,
    edge: sinew_edge::Running,
    ledger: checkout::Ledger,
}

impl Shop {
    async fn open() -> Self {
        let (harness, collector) = (Harness::start_synced().await, OtlpReceiver::start().await);
        let ledger = checkout::Ledger::default();
        let mut buses = Vec::new();
        for name in ["orders", "inventory", "payments", "shipping", "edge"] {
            let config = Config::new(harness.url(), name).traced_to(Some(collector.endpoint().to_owned()));
            buses.push(Bus::connect(config).await.unwrap());
        }
        let orders = checkout::orders::service(checkout::orders::Orders::new(ledger.clone()));
        let inventory = checkout::inventory::service(checkout::inventory::Inventory::new(ledger.clone()));
        let payments = checkout::payments::service(checkout::payments::Payments::new(ledger.clone()));
        let shipping = checkout::shipping::service(checkout::shipping::Shipping::new(ledger.clone()));
        let services = vec![
            orders.start(&buses[0]).await.unwrap(),
            inventory.start(&buses[1]).await.unwrap(),
            payments.start(&buses[2]).await.unwrap(),
            shipping.start(&buses[3]).await.unwrap(),
        ];
        let config =
            sinew_edge::Config { listen: ([127, 0, 0, 1], 0).into(), ..sinew_edge::Config::default() };
        let edge = sinew_edge::start(config, buses[4].clone()).await.unwrap();
        Self { harness, collector, buses, services, edge, ledger }
    }

    fn orchestrator(&self) -> Orchestrator {
        Orchestrator::start_traced(self.harness.url(), self.collector.endpoint())
    }

    async fn apply(&self) {
        let ctx = sinew::Ctx::detached(&self.buses[4], "test");
        eventually(SOON, || async {
            let source = checkout::PLACE_ORDER.to_owned();
            let request = sinew::workflow::ApplyWorkflow { source, file: "place-order.yaml".to_owned() };
            ctx.call(request).within(std::time::Duration::from_secs(2)).await.is_ok()
        })
        .await;
    }

    async fn close(self) {
        self.edge.drain().await;
        for service in self.services {
            service.drain().await;
        }
        for bus in self.buses {
            bus.close().await;
        }
    }
}

/// Draws the spans of a trace as a tree of `service name`, children sorted; a span whose parent is missing is a root.
fn tree(spans: &[Span]) -> Vec<String> {
    let ids: BTreeSet<&str> = spans.iter().map(|span| span.span_id.as_str()).collect();
    let mut children: BTreeMap<&str, Vec<&Span>> = BTreeMap::new();
    for span in spans {
        let parent = if ids.contains(span.parent_id.as_str()) { span.parent_id.as_str() } else { "" };
        children.entry(parent).or_default().push(span);
    }
    let mut lines = Vec::new();
    draw("", 0, &children, &mut lines);
    lines
}

fn draw(parent: &str, depth: usize, children: &BTreeMap<&str, Vec<&Span>>, lines: &mut Vec<String>) {
    let mut own = children.get(parent).cloned().unwrap_or_default();
    own.sort_by_key(|span| (span.start, span.name.clone()));
    for span in own {
        lines.push(format!("{}{} {}", "  ".repeat(depth), span.service, span.name));
        draw(&span.span_id, depth + 1, children, lines);
    }
}

/// The same span sent twice, as a successor does after a crash, is one span to every collector.
fn of_trace(spans: &[Span], trace: &str) -> Vec<Span> {
    let mut seen = BTreeSet::new();
    let own = spans.iter().filter(|span| span.trace_id == trace);
    own.filter(|span| seen.insert(span.span_id.clone())).cloned().collect()
}

fn has(spans: &[Span], trace: &str, name: &str) -> bool {
    spans.iter().any(|span| span.trace_id == trace && span.name == name)
}

/// Says whether everybody on the way has sent their spans, and no span still waits for its parent: each process sends its
/// own in its own time.
fn whole(spans: &[Span], trace: &str, steps: &[(&str, &str)]) -> bool {
    let name = |line: &str| line.split_once(' ').map(|(_, name)| name.to_owned()).unwrap();
    let steps_told = steps.iter().flat_map(|(step, served)| [name(step), name(served)]);
    let told = steps_told.chain(["workflow place-order".to_owned(), "POST /orders".to_owned()]);
    let roots = tree(&of_trace(spans, trace)).iter().filter(|line| !line.starts_with(' ')).count();
    told.into_iter().all(|name| has(spans, trace, &name)) && roots == 1
}

/// Says whether both sides of a call have sent their spans.
fn both(spans: &[Span], trace: &str, name: &str) -> bool {
    spans.iter().filter(|span| span.trace_id == trace && span.name == name).count() > 1
}

/// Asserts that `lines` holds `below` somewhere under one of the lines `above`: a step may have had earlier attempts.
fn assert_below(lines: &[String], above: &str, below: &str) {
    let depth = |line: &str| line.len() - line.trim_start().len();
    let holds = |at: usize| {
        let under = lines[at + 1..].iter().take_while(|line| depth(line) > depth(&lines[at]));
        under.into_iter().any(|line| line.trim() == below)
    };
    let found = (0..lines.len()).any(|at| lines[at].trim() == above && holds(at));
    assert!(found, "no {below} below {above} in {lines:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_one_trace_holds_request_workflow_steps_and_compensations() {
    let shop = Shop::open().await;
    let orchestrator = shop.orchestrator();
    shop.apply().await;
    let client = Client::new(shop.edge.local_addr());
    let order = json!({ "items": [{ "sku": "tea", "quantity": 1 }], "card": "4242", "address": "slow" });
    let reply = client.post("/orders", &order).await;
    let trace = reply.header("x-trace-id").unwrap().to_owned();
    assert_eq!(reply.status, 504, "{reply:?}");
    let steps = [
        ("orchestrator reserve", "inventory inventory/reserve"),
        ("orchestrator charge", "payments payments/charge"),
        ("orchestrator undo ship", "shipping shipping/cancel"),
        ("orchestrator undo charge", "payments payments/refund"),
        ("orchestrator undo reserve", "inventory inventory/release"),
    ];
    let calls = ["orders/place", "workflow/start"];
    let spans = shop
        .collector
        .wait_for(|spans| whole(spans, &trace, &steps) && calls.iter().all(|name| both(spans, &trace, name)));
    let spans = spans.await;
    let spans = of_trace(&spans, &trace);
    let lines = tree(&spans);
    assert_eq!(lines[0], "edge POST /orders");
    assert_below(&lines, "edge POST /orders", "orders orders/place");
    assert_below(&lines, "orders orders/place", "orders workflow/start");
    assert_below(&lines, "orders workflow/start", "orchestrator workflow/start");
    assert_below(&lines, "orders workflow/start", "orchestrator workflow place-order");
    for (step, service) in steps {
        assert_below(&lines, "orchestrator workflow place-order", step);
        assert_below(&lines, step, service);
    }
    orchestrator.kill();
    shop.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_a_crash_of_the_orchestrator_keeps_the_trace_one() {
    let mut shop = Shop::open().await;
    let first = shop.orchestrator();
    shop.apply().await;
    // Payments are away, so that the saga is caught between its first step and its second.
    shop.services.remove(2).drain().await;
    let client = Client::new(shop.edge.local_addr());
    let id = "crash-1";
    let order =
        json!({ "id": id, "items": [{ "sku": "tea", "quantity": 1 }], "card": "4242", "address": "here" });
    // The client gives up while the orchestrator is gone; its order does not.
    let headers = [("content-type", "application/json"), ("request-timeout", "3")];
    let placed = client.send("POST", "/orders", &headers, order.to_string());
    let crash = async {
        eventually(SOON, || async { shop.ledger.of_order(id).contains(&"inventory.reserve") }).await;
        first.kill();
        shop.orchestrator()
    };
    let (reply, second) = tokio::join!(placed, crash);
    assert_eq!(reply.status, 504, "{reply:?}");
    let trace = reply.header("x-trace-id").unwrap().to_owned();
    let payments = checkout::payments::service(checkout::payments::Payments::new(shop.ledger.clone()));
    let payments = payments.start(&shop.buses[2]).await.unwrap();
    shop.services.push(payments);
    let steps = [
        ("orchestrator reserve", "inventory inventory/reserve"),
        ("orchestrator charge", "payments payments/charge"),
        ("orchestrator ship", "shipping shipping/book"),
        ("orchestrator confirm", "orders orders/confirm"),
    ];
    let spans = shop.collector.wait_for(|spans| whole(spans, &trace, &steps)).await;
    let lines = tree(&of_trace(&spans, &trace));
    for (step, service) in steps {
        assert_below(&lines, "orchestrator workflow place-order", step);
        assert_below(&lines, step, service);
    }
    second.kill();
    shop.close().await;
}
