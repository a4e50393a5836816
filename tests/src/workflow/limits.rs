//! How much goes on at once: limits of operations over all shards, and starts that are more than there is room for.

use std::{
    future::IntoFuture,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use sinew::{
    Bus, Problem, Request, Running, Service, State, contract,
    wire::Headers,
    workflow::{CallLimit, CancelWorkflow, ListLimits},
};

use super::lab::{Lab, timeline};
use crate::harness::{Harness, SOON, eventually};

/// Charges a card.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "till.charge", reply = u32, idempotent)]
struct Charge {
    /// Whether nobody ever answers.
    #[serde(default)]
    hang: bool,
}

contract! {
    /// Takes money.
    TillContract = "till" @ "1.0.0" { charge: Charge }
}

/// How many charges there are at once, were at most, and were in all.
#[derive(Clone, Default)]
struct Till {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

/// A charge in work; counted out however it ends.
struct InWork(Arc<AtomicUsize>);

impl Drop for InWork {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn charge(request: Charge, State(till): State<Till>) -> Result<u32, Problem> {
    let now = till.now.fetch_add(1, Ordering::SeqCst) + 1;
    let _in_work = InWork(till.now.clone());
    till.most.fetch_max(now, Ordering::SeqCst);
    till.all.fetch_add(1, Ordering::SeqCst);
    if request.hang {
        std::future::pending::<()>().await;
    }
    // why: a charge takes a while, so that others meet it.
    tokio::time::sleep(Duration::from_millis(40)).await;
    Ok(1)
}

async fn open(bus: &Bus, till: &Till) -> Running {
    Service::new("till", till.clone()).serve(TillContract, |s| s.charge(charge)).start(bus).await.unwrap()
}

/// The time there is for a charge is less than what a turn may take.
const PAY: &str = "\
document: { dsl: '1.0.3', namespace: test, name: pay, version: '1.0.0' }
do:
  - charge:
      call: nats
      with: { service: till, endpoint: charge, body: { hang: '${ .hang // false }' }, timeout: PT5S }
      compensate: false
";

async fn lab(limits: serde_json::Value, shards: u16) -> (Lab, Till, Running) {
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.shards = shards;
    lab.config.calls.limits = serde_json::from_value(limits).unwrap();
    lab.start_orchestrator().await;
    let till = Till::default();
    let service = open(&lab.bus, &till).await;
    lab.apply(PAY).await;
    (lab, till, service)
}

async fn limits(lab: &Lab) -> CallLimit {
    // A shard that is being handed over answers a moment later.
    eventually(SOON, || async { lab.ctx.call(ListLimits {}).await.ok() }).await.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_holds_over_two_replicas_and_everybody_has_a_turn() {
    let (lab, till, service) = lab(json!({ "till.charge": { "concurrency": 3 } }), 2).await;
    let other = sinew_orchestrator::start(lab.config.clone(), lab.bus.clone()).await.unwrap();
    eventually(SOON, || async { other.is_ready() }).await;
    let runs = (0..30).map(|number| {
        let (lab, id) = (&lab, format!("p-{number}"));
        async move {
            eventually(SOON, || async { lab.run("pay", &id, json!({})).await.ok() }).await;
            // Where its shard was handed over meanwhile, the answer said only that it runs.
            lab.closed("pay", &id).await.status
        }
    });
    let ended = futures::future::join_all(runs).await;
    assert!(ended.iter().all(|status| status == "completed"), "{ended:?}");
    let (most, all) = (till.most.load(Ordering::SeqCst), till.all.load(Ordering::SeqCst));
    assert!(most <= 3 && all == 30, "{most} at once, {all} in all");
    let stands = limits(&lab).await;
    assert_eq!((stands.concurrency, stands.under_way, stands.waiting), (Some(3), 0, 0));
    other.drain().await;
    service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_turn_is_shown_and_waits_again_at_the_next_owner() {
    let (mut lab, till, service) = lab(json!({ "till.*": { "concurrency": 1 } }), 1).await;
    lab.begin("pay", "w-1", json!({ "hang": true })).await;
    eventually(SOON, || async { till.now.load(Ordering::SeqCst) == 1 }).await;
    lab.begin("pay", "w-2", json!({})).await;
    eventually(SOON, || async { limits(&lab).await.waiting == 1 }).await;
    lab.stop_orchestrator().await;
    lab.start_orchestrator().await;
    // The next owner asks for the first one again, or for the second one first.
    let cancel = CancelWorkflow { name: "pay".into(), id: "w-1".into(), reason: None };
    lab.ctx.call(cancel).await.unwrap();
    assert_eq!(timeline(&lab.closed("pay", "w-2").await), "charge completed → completed/none");
    let most = till.most.load(Ordering::SeqCst);
    assert!(most <= 2, "beside the one that the owner before had begun and given up: {most}");
    service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_spreads_what_comes_at_once_and_no_call_times_out_in_the_queue() {
    let (lab, till, service) = lab(json!({ "till.charge": { "rate": "5/s" } }), 1).await;
    let began = std::time::Instant::now();
    let runs = (0..31).map(|number| {
        let (lab, id) = (&lab, format!("r-{number}"));
        async move { lab.begin("pay", &id, json!({})).await }
    });
    futures::future::join_all(runs).await;
    for number in 0..31 {
        assert_eq!(lab.closed("pay", &format!("r-{number}")).await.status, "completed");
    }
    let took = began.elapsed();
    assert!(
        took > Duration::from_millis(5_500),
        "31 at 5 a second, each with five seconds of its own: {took:?}"
    );
    assert_eq!(till.all.load(Ordering::SeqCst), 31);
    service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_reaches_the_callee_of_a_call_in_flight() {
    let (lab, till, service) = lab(json!({}), 1).await;
    lab.begin("pay", "c-1", json!({ "hang": true })).await;
    eventually(SOON, || async { till.now.load(Ordering::SeqCst) == 1 }).await;
    let began = std::time::Instant::now();
    let cancel = CancelWorkflow { name: "pay".into(), id: "c-1".into(), reason: None };
    lab.ctx.call(cancel).await.unwrap();
    eventually(SOON, || async { till.now.load(Ordering::SeqCst) == 0 }).await;
    assert!(began.elapsed() < Duration::from_secs(3), "by the cancel, and not by the end of its time");
    assert_eq!(lab.closed("pay", "c-1").await.status, "cancelled");
    service.drain().await;
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn starts_beyond_what_there_is_room_for_are_turned_away_with_a_hint() {
    let mut lab = Lab::on(Harness::start().await).await;
    lab.config.max_live = 10;
    lab.start_orchestrator().await;
    let nap = "document: { dsl: '1.0.3', namespace: test, name: nap, version: '1.0.0' }\ndo:\n  - nap: { wait: PT1H }\n";
    lab.apply(nap).await;
    let starts = (0..500).map(|number| {
        let start = sinew::workflow::StartWorkflow::new("nap", json!({})).id(format!("o-{number}"));
        lab.ctx.call(start.without_waiting()).into_future()
    });
    let (mut accepted, mut refused) = (0, 0);
    for outcome in futures::future::join_all(starts).await {
        match outcome.map_err(|error| error.to_problem()) {
            Ok(_) => accepted += 1,
            Err(problem) => {
                assert_eq!((problem.status, problem.code.as_str()), (503, "overloaded"));
                assert!(problem.retry, "{problem:?}");
                refused += 1;
            }
        }
    }
    assert_eq!((accepted, refused), (10, 490));
    let start = Bytes::from(json!({ "name": "nap", "id": "late" }).to_string());
    let limit = Duration::from_secs(5);
    let reply = lab.bus.request("svc.workflow.start", &Headers::new(), start, limit).await.unwrap();
    let hint = sinew::problem_of(&reply).unwrap().retry_hint();
    assert_eq!(hint, Some(Duration::from_secs(1)), "on the wire, for the edge to say Retry-After");
    lab.stop().await;
}
