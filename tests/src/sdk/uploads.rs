//! Uploads: whole and in order, no faster than they are taken, and ended on both sides whoever goes away.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::{Stream, StreamExt, stream};
use sinew::wire::header;
use sinew::{Deadline, State, Upload, UploadHandler, UploadRequest};

use super::seen::{Guard, Seen};
use super::*;
use crate::harness::{SOON, eventually};

mod life;

/// Adds up what follows.
#[derive(Clone, Debug, Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "adder.add", upload = Summand, reply = Sum, error = AdderError)]
struct Add {
    start: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Summand {
    value: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
struct Sum {
    sum: u64,
    items: u64,
}

#[derive(Clone, Debug, PartialEq, Problem)]
enum AdderError {
    /// cannot count that far
    #[problem(status = 422)]
    TooFar { limit: u64 },
    #[problem(transparent)]
    Other(Problem),
}

contract! {
    Adder = "adder" @ "1.0.0" { add: upload Add }
}

/// Adds on stage, and lets the test see what the service does.
struct Act {
    stage: Stage,
    seen: Arc<Seen>,
    adder: Running,
}

impl Act {
    async fn start<M: 'static>(handler: impl UploadHandler<Add, Arc<Seen>, M>) -> Self {
        Self::with(handler, |service| service).await
    }

    async fn with<M: 'static>(
        handler: impl UploadHandler<Add, Arc<Seen>, M>,
        configure: impl FnOnce(Service<Arc<Seen>>) -> Service<Arc<Seen>>,
    ) -> Self {
        let (stage, seen) = (Stage::start().await, Arc::new(Seen::default()));
        let service = Service::new("adder", seen.clone()).serve(Adder, |routes| routes.add(handler));
        let adder = stage.start_service(configure(service)).await;
        Self { stage, seen, adder }
    }

    /// Uploads the numbers from 1 to `to`, as many as are asked for.
    fn add(&self, to: u64) -> sinew::UploadCall<Add> {
        self.stage.caller.upload(Add { start: 0 }, self.numbers(to))
    }

    fn numbers(&self, to: u64) -> impl Stream<Item = Summand> + Send + use<> {
        let guard = Guard(self.seen.clone());
        stream::iter(1..=to).map(move |value| {
            guard.0.made.fetch_add(1, Ordering::SeqCst);
            Summand { value }
        })
    }
}

/// The plainest handler.
async fn add(
    request: Add,
    mut summands: Upload<Summand>,
    State(seen): State<Arc<Seen>>,
) -> Result<Sum, AdderError> {
    let guard = Guard(seen);
    let mut sum = Sum { sum: request.start, items: 0 };
    while let Some(summand) = summands.next().await {
        sum.sum += summand?.value;
        sum.items += 1;
        guard.0.taken.fetch_add(1, Ordering::SeqCst);
    }
    Ok(sum)
}

/// Takes nothing until it is told to.
async fn add_when_told(
    request: Add,
    summands: Upload<Summand>,
    State(seen): State<Arc<Seen>>,
) -> Result<Sum, AdderError> {
    seen.go.notified().await;
    add(request, summands, State(seen)).await
}

/// Takes three items, says so, and never comes to an end.
async fn take_and_hang(
    _: Add,
    mut summands: Upload<Summand>,
    State(seen): State<Arc<Seen>>,
) -> Result<Sum, AdderError> {
    let guard = Guard(seen);
    for _ in 0..3 {
        summands.next().await.transpose()?;
        guard.0.taken.fetch_add(1, Ordering::SeqCst);
    }
    std::future::pending().await
}

fn sum_to(to: u64) -> Sum {
    Sum { sum: to * (to + 1) / 2, items: to }
}

#[tokio::test]
async fn ten_thousand_items_come_whole_and_in_order() {
    let in_order = |_: Add, mut items: Upload<Summand>| async move {
        let mut next = 1;
        while let Some(item) = items.next().await {
            assert_eq!(item?.value, next);
            next += 1;
        }
        Ok::<_, AdderError>(Sum { sum: next - 1, items: next - 1 })
    };
    let act = Act::start(in_order).await;
    assert_eq!(act.add(10_000).await.unwrap().items, 10_000);
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn an_upload_may_be_empty_or_have_one_item() {
    let act = Act::start(add).await;
    for to in [0, 1, 2] {
        assert_eq!(act.add(to).await.unwrap(), sum_to(to));
    }
}

#[tokio::test]
async fn a_generated_client_has_a_method_for_the_upload() {
    let act = Act::start(add).await;
    let adder = Adder::client(&act.stage.caller);
    let sum = adder.add(Add { start: 5 }, act.numbers(3)).within(PATIENCE).await.unwrap();
    assert_eq!(sum, Sum { sum: 11, items: 3 });
}

#[tokio::test]
async fn no_more_is_made_than_the_handler_asks_for() {
    let act = Act::start(add_when_told).await;
    let call = tokio::spawn(act.add(100_000).into_future());
    eventually(SOON, || std::future::ready(act.seen.made() == 8)).await;
    act.seen.go.notify_one();
    eventually(SOON, || {
        let (taken, made) = (act.seen.taken(), act.seen.made());
        assert!(made <= taken.max(act.seen.taken()) + 257, "{made} made, {taken} taken");
        std::future::ready(taken > 10_000)
    })
    .await;
    assert_eq!(call.await.unwrap().unwrap(), sum_to(100_000));
}

#[tokio::test]
async fn large_items_come_a_few_at_a_time() {
    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "store.put", upload = String, reply = u64)]
    struct Put {}
    contract! { Store = "store" @ "1.0.0" { put: upload Put } }
    async fn put(_: Put, mut parts: Upload<String>) -> Result<u64, Problem> {
        let mut bytes = 0;
        while let Some(part) = parts.next().await {
            bytes += part?.len() as u64;
        }
        Ok(bytes)
    }
    let stage = Stage::start().await;
    let _store = stage.start_service(Service::new("store", ()).serve(Store, |store| store.put(put))).await;
    let part = "x".repeat(900_000);
    let parts = stream::iter(std::iter::repeat_n(part, 40));
    assert_eq!(stage.caller.upload(Put {}, parts).await.unwrap(), 36_000_000);
    let parts = stream::iter(["short".to_owned(), "x".repeat(2 << 20)]);
    let error = stage.caller.upload(Put {}, parts).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(told) if told.code == "item-too-large"), "{error:?}");
}

#[tokio::test]
async fn an_error_in_the_middle_is_the_last_item() {
    let count = |_: Add, mut items: Upload<Summand>, State(seen): State<Arc<Seen>>| async move {
        loop {
            match items.next().await {
                Some(Ok(_)) => seen.taken.fetch_add(1, Ordering::SeqCst),
                Some(Err(problem)) => {
                    assert!(items.next().await.is_none(), "the error is the last item");
                    return Err::<Sum, _>(AdderError::Other(problem));
                }
                None => panic!("the upload did not end whole"),
            };
        }
    };
    let act = Act::start(count).await;
    let broken = Problem::new(422, "unreadable", "line 4 cannot be read");
    let items = act.numbers(3).map(Ok).chain(stream::iter([Err(broken), Ok(Summand { value: 0 })]));
    let error = act.stage.caller.upload(Add { start: 0 }, items).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Refused(AdderError::Other(told)) if told.code == "unreadable"),
        "{error:?}"
    );
    assert_eq!(act.seen.taken(), 3);
}

#[tokio::test]
async fn an_item_of_another_shape_ends_the_upload() {
    let act = Act::start(add).await;
    let items = stream::iter([r#"{"value":1}"#, r#"{"value":"two"}"#, r#"{"value":3}"#]);
    let items = items.map(|item| Ok(Bytes::from(item)));
    let reply = act.stage.caller.upload_raw(Add::SUBJECT, r#"{"start":0}"#.into(), items).await.unwrap();
    let problem = problem(&reply);
    assert_eq!((problem.status, problem.code.as_str()), (400, "malformed-item"));
    assert!(problem.detail.unwrap().starts_with("item 2:"));
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn raw_items_are_json_unless_they_say_otherwise() {
    let act = Act::start(add).await;
    let items = || stream::iter(1..=3).map(|value| Ok(format!(r#"{{"value":{value}}}"#).into()));
    let reply = act.stage.caller.upload_raw(Add::SUBJECT, r#"{"start":1}"#.into(), items()).await.unwrap();
    assert_eq!(reply.payload().as_ref(), br#"{"sum":7,"items":3}"#);
    let mut headers = Headers::new();
    headers.set(header::CONTENT_TYPE, "application/msgpack").unwrap();
    let items = stream::iter(1..=3).map(|value| Ok(pack(&Summand { value })));
    let call = act.stage.caller.upload_raw(Add::SUBJECT, pack(&Add { start: 1 }), items).headers(headers);
    let sum: Sum = wire::decode(ContentType::MessagePack, call.await.unwrap().payload()).unwrap();
    assert_eq!(sum, Sum { sum: 7, items: 3 });
}

#[tokio::test]
async fn a_refusal_comes_before_the_items_and_is_the_callers() {
    let refuse = |request: Add, _: Upload<Summand>| async move {
        Err::<Sum, _>(AdderError::TooFar { limit: request.start })
    };
    let act = Act::start(refuse).await;
    let error = act.add(1_000_000).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(AdderError::TooFar { limit: 0 })), "{error:?}");
    assert!(act.seen.made() <= 8, "{} made", act.seen.made());
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn a_handler_that_has_enough_answers_early_and_the_stream_of_items_is_dropped() {
    let some = |_: Add, items: Upload<Summand>| async move {
        let sum = items.take(10).map(|item| item.unwrap().value).fold(0, async |sum, value| sum + value);
        Ok::<_, AdderError>(Sum { sum: sum.await, items: 10 })
    };
    let act = Act::start(some).await;
    assert_eq!(act.add(1_000_000).await.unwrap(), sum_to(10));
    assert!(act.seen.made() < 600, "{} made", act.seen.made());
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn a_handler_that_drops_the_upload_and_works_on_stops_the_sender() {
    let drop_it = |_: Add, mut items: Upload<Summand>, State(seen): State<Arc<Seen>>| async move {
        let first = items.next().await.transpose()?;
        drop(items);
        seen.go.notified().await;
        Ok::<_, AdderError>(Sum { sum: first.map_or(0, |first| first.value), items: 1 })
    };
    let act = Act::start(drop_it).await;
    let call = tokio::spawn(act.add(1_000_000).into_future());
    act.seen.dropped(1).await;
    act.seen.go.notify_one();
    assert_eq!(call.await.unwrap().unwrap(), sum_to(1));
}

#[tokio::test]
async fn many_uploads_run_at_once_on_two_replicas_and_each_is_whole() {
    let act = Act::start(add).await;
    let second = Arc::new(Seen::default());
    let bus = connect(&act.stage.harness, "adder-2").await;
    let replica = Service::new("adder", second.clone()).serve(Adder, |routes| routes.add(add));
    let _replica = replica.start(&bus).await.unwrap();
    let sums = (1..=60).map(async |to| act.add(to).await.unwrap() == sum_to(to));
    assert!(futures::future::join_all(sums).await.into_iter().all(|whole| whole));
    assert!(act.seen.taken() > 0 && second.taken() > 0, "both took part");
}

#[tokio::test]
async fn nobody_serving_is_told_at_once() {
    let stage = Stage::start().await;
    let items = stream::iter([Summand { value: 1 }]);
    let error = stage.caller.upload(Add { start: 0 }, items).await.unwrap_err();
    assert!(matches!(error, CallError::NoResponders), "{error:?}");
}

#[tokio::test]
async fn a_request_without_an_upload_is_told_what_is_missing() {
    let act = Act::start(add).await;
    let call = act.stage.caller.call_raw(Add::SUBJECT, r#"{"start":0}"#.into()).await.unwrap();
    let problem = problem(&call);
    assert_eq!((problem.status, problem.code.as_str()), (400, "upload-missing"));
}

#[tokio::test]
async fn a_panic_is_answered_and_harms_nobody_else() {
    let burst = |_: Add, mut items: Upload<Summand>| async move {
        let first = items.next().await.transpose()?;
        assert!(first.is_none(), "burst on purpose");
        Ok::<_, AdderError>(sum_to(0))
    };
    let act = Act::start(burst).await;
    let error = act.add(5).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(AdderError::Other(told)) if told.status == 500), "{error:?}");
    assert_eq!(act.add(0).await.unwrap(), sum_to(0));
}

#[tokio::test]
async fn a_running_upload_holds_one_hand() {
    let act = Act::with(take_and_hang, |service| service.limits(1, 0)).await;
    let first = tokio::spawn(act.add(5).into_future());
    eventually(SOON, || std::future::ready(act.seen.taken() == 3)).await;
    let error = act.add(1).await.unwrap_err();
    assert!(
        matches!(&error, CallError::Refused(AdderError::Other(told)) if told.code == "overloaded"),
        "{error:?}"
    );
    first.abort();
}

#[tokio::test]
async fn an_operation_that_takes_an_upload_says_so_in_its_description() {
    let act = Act::start(add).await;
    let descriptor = Add::descriptor();
    assert_eq!(descriptor.upload.unwrap()["properties"]["value"]["type"], "integer");
    assert_eq!(descriptor.reply["properties"]["items"]["type"], "integer");
    assert!(serde_json::to_value(Echo::descriptor()).unwrap().get("upload").is_none());
    let info =
        act.stage.caller.bus().request("$SRV.INFO.adder", &Headers::new(), Bytes::new(), PATIENCE).await;
    let info: serde_json::Value = serde_json::from_slice(info.unwrap().payload()).unwrap();
    assert_eq!(info["endpoints"][0]["metadata"]["upload"], "true");
    let caller = Service::new("caller", ()).requires_upload::<Add>().describe();
    assert!(caller.requires[0].upload && !caller.requires[0].stream);
}
