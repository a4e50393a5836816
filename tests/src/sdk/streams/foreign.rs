//! Streams for clients that are none of ours, and what happens when only one side streams.

use async_nats::HeaderMap;

use super::*;

/// An ordinary NATS client with one inbox.
pub(super) struct Foreign {
    client: async_nats::Client,
    inbox: String,
    replies: async_nats::Subscriber,
}

impl Foreign {
    pub(super) async fn connect(stage: &Stage) -> Self {
        let client = async_nats::connect(stage.harness.url()).await.unwrap();
        let inbox = client.new_inbox();
        let replies = client.subscribe(inbox.clone()).await.unwrap();
        Self { client, inbox, replies }
    }

    pub(super) async fn ask(&self, request: &'static str, headers: &[(&'static str, &'static str)]) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, *value);
        }
        let (to, payload) = (Count::SUBJECT, request.into());
        self.client.publish_with_reply_and_headers(to, self.inbox.clone(), map, payload).await.unwrap();
    }

    pub(super) async fn next(&mut self) -> Reply {
        let reply = tokio::time::timeout(SOON, self.replies.next()).await.expect("a message in time");
        Reply(reply.expect("the subscription stands"))
    }

    async fn say(&self, control: &str, word: &'static str) {
        self.client.publish(control.to_owned(), word.into()).await.unwrap();
    }
}

pub(super) struct Reply(async_nats::Message);

impl Reply {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.0.headers.as_ref()?.get(name).map(|value| value.as_str())
    }

    fn control(&self) -> String {
        self.0.reply.as_ref().expect("a control inbox").to_string()
    }
}

#[tokio::test]
async fn an_ordinary_client_gets_every_item_and_an_empty_end() {
    let act = Act::start(count).await;
    let mut client = Foreign::connect(&act.stage).await;
    client.ask(r#"{"to":1000}"#, &[]).await;
    for number in 1..=1_000u64 {
        let reply = client.next().await;
        assert_eq!(reply.header(header::SEQ), Some(number.to_string().as_str()));
        assert_eq!(&reply.0.payload[..], format!(r#"{{"value":{number}}}"#).as_bytes());
    }
    let end = client.next().await;
    assert_eq!((end.header(header::END), end.0.payload.len()), (Some("1000"), 0));
    assert!(end.0.reply.is_none());
}

#[tokio::test]
async fn an_ordinary_client_sees_an_error_as_it_sees_any() {
    let fail = |request: Count, state: State<Arc<Seen>>| {
        count(request, state).chain(stream::iter([Err(CounterError::TooFar { limit: 1 })]))
    };
    let act = Act::start(fail).await;
    let mut client = Foreign::connect(&act.stage).await;
    client.ask(r#"{"to":1}"#, &[]).await;
    assert_eq!(client.next().await.header(header::SEQ), Some("1"));
    let error = client.next().await;
    assert_eq!(error.header("Nats-Service-Error-Code"), Some("422"));
    assert_eq!(error.header(header::END), Some("1"));
    client.ask("not json", &[]).await;
    let refusal = client.next().await;
    assert_eq!(
        (refusal.header("Nats-Service-Error-Code"), refusal.header(header::END)),
        (Some("400"), Some("0"))
    );
}

#[tokio::test]
async fn an_ordinary_client_that_goes_away_ends_the_stream() {
    let endless = |_: Count, State(seen): State<Arc<Seen>>| {
        let guard = Guard(seen);
        stream::iter(1..).map(move |value| {
            guard.0.made.fetch_add(1, Ordering::SeqCst);
            Ok::<_, CounterError>(Number { value })
        })
    };
    let act = Act::start(endless).await;
    let mut client = Foreign::connect(&act.stage).await;
    client.ask(r#"{"to":0}"#, &[]).await;
    client.next().await;
    drop(client);
    act.seen.dropped(1).await;
}

#[tokio::test]
async fn any_client_can_ask_for_more_and_cancel_by_hand() {
    let act = Act::start(count).await;
    let mut client = Foreign::connect(&act.stage).await;
    client.ask(r#"{"to":1000}"#, &[(header::CREDIT, "2")]).await;
    let opened = client.next().await;
    assert_eq!((opened.header(header::SEQ), opened.0.payload.len()), (Some("0"), 0));
    for number in ["1", "2"] {
        assert_eq!(client.next().await.header(header::SEQ), Some(number));
    }
    assert_eq!(act.seen.made(), 2);
    for word in ["nonsense", "+1"] {
        client.say(&opened.control(), word).await;
    }
    assert_eq!(client.next().await.header(header::SEQ), Some("3"));
    client.say(&opened.control(), "=3").await;
    client.say(&opened.control(), "=4").await;
    assert_eq!(client.next().await.header(header::SEQ), Some("4"));
    assert_eq!(act.seen.made(), 4);
    client.say(&opened.control(), "-").await;
    act.seen.dropped(1).await;
    assert_eq!(act.seen.made(), 4);
}

#[tokio::test]
async fn a_call_of_a_stream_is_refused_and_not_taken_for_its_first_item() {
    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "counter.count", reply = Number)]
    struct CountOnce {
        to: u64,
    }
    let act = Act::start(count).await;
    let error = act.stage.caller.call(CountOnce { to: 3 }).await.unwrap_err();
    assert!(matches!(&error, CallError::Refused(told) if told.code == "streaming-operation"), "{error:?}");
}

#[tokio::test]
async fn a_stream_of_an_operation_with_one_reply_is_an_error() {
    #[derive(Request, Serialize, Deserialize, JsonSchema)]
    #[sinew(subject = "desk.echo", stream = String)]
    struct Echoes {
        text: String,
    }
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let error = stage.caller.stream(Echoes { text: "x".to_owned() }).await.unwrap_err();
    assert!(matches!(&error, CallError::Incompatible(_)), "{error:?}");
}
