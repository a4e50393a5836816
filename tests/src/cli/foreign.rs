//! A service of another NATS client, as one in another language would be: no contract, JSON, subjects of its own.

use async_nats::{Client, HeaderMap, Message};
use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::program::{Ran, sinew};
use crate::harness::Harness;

/// The service `Tally`: it adds what it is sent, on subjects that do not follow from its name.
struct Tally {
    _tasks: JoinSet<()>,
}

#[tokio::test]
async fn services_of_other_clients_are_listed() {
    let harness = Harness::start().await;
    let _two = [Tally::start(&harness).await, Tally::start(&harness).await];
    let listed = run(&harness, &["services"]).await.succeeded().json();
    let [tally] = &listed.as_array().expect("services are listed")[..] else {
        panic!("one service: {listed}")
    };
    assert_eq!((&tally["name"], &tally["version"]), (&json!("Tally"), &json!("0.1.0")));
    assert_eq!((&tally["serving"], &tally["instances"]), (&json!(true), &json!(2)));
    assert_eq!(tally["catalogued"], false);
    assert_eq!(tally["operations"][0]["name"], "addAll");
    assert_eq!(tally["operations"][0]["subject"], "math.add");
    let text = sinew(&["--nats-url", harness.url(), "services"]).await.succeeded().stdout;
    assert!(text.contains("serving, 2 instances, not in the catalogue"), "{text}");
    assert!(text.contains("Tally.addAll  on math.add"), "{text}");
    let report = run(&harness, &["check"]).await.succeeded().json();
    assert_eq!((&report["bus"]["uncatalogued"], &report["bus"]["absent"]), (&json!(["Tally"]), &json!([])));
}

#[tokio::test]
async fn an_operation_of_another_client_is_called_where_it_says_it_is() {
    let harness = Harness::start().await;
    let _tally = Tally::start(&harness).await;
    let sum = run(&harness, &["call", "Tally.addAll", "[1, 2, 39]"]).await.succeeded();
    assert_eq!(sum.json(), json!({ "sum": 42 }));
    let refused = run(&harness, &["call", "Tally.addAll", r#"{"a":1}"#]).await;
    assert_eq!((refused.code, refused.error_code()), (1, "service-error".into()), "{refused:?}");
    assert!(refused.error()["message"].as_str().unwrap().contains("send a list of numbers"), "{refused:?}");
    assert_eq!(refused.error()["problem"]["status"], 422);
    let empty = run(&harness, &["call", "Tally.reset"]).await.succeeded();
    assert_eq!(empty.json(), Value::Null);
    let text = run(&harness, &["call", "Tally.greet"]).await;
    assert_eq!((text.code, text.error_code()), (1, "SNW-1106".into()), "{text:?}");
    assert!(text.error()["hint"].as_str().unwrap().contains("neither in JSON"), "{text:?}");
    let unknown = run(&harness, &["call", "Tally.addALL", "[]"]).await;
    assert_eq!((unknown.code, unknown.error_code()), (1, "SNW-5005".into()), "{unknown:?}");
    assert_eq!(unknown.error()["hint"], "did you mean Tally.addAll?");
}

async fn run(harness: &Harness, arguments: &[&str]) -> Ran {
    sinew(&[&["--json", "--nats-url", harness.url()], arguments].concat()).await
}

impl Tally {
    async fn start(harness: &Harness) -> Self {
        let client = async_nats::connect(harness.url()).await.expect("the server is there");
        let mut tasks = JoinSet::new();
        for subject in ["$SRV.INFO", "$SRV.INFO.Tally"] {
            let id = client.new_inbox();
            serve(&mut tasks, &client, subject, None, move |_| (HeaderMap::new(), info(&id).to_string()))
                .await;
        }
        serve(&mut tasks, &client, "math.add", Some("q"), add).await;
        serve(&mut tasks, &client, "math.reset", Some("q"), |_| (HeaderMap::new(), String::new())).await;
        serve(&mut tasks, &client, "math.greet", Some("q"), |_| (HeaderMap::new(), "hello".to_owned())).await;
        // What comes back here was sent after the subscriptions.
        let inbox = client.new_inbox();
        let mut echo = client.subscribe(inbox.clone()).await.expect("subscribe");
        client.publish(inbox, "ready".into()).await.expect("publish");
        echo.next().await.expect("the server has the subscriptions");
        Self { _tasks: tasks }
    }
}

async fn serve(
    tasks: &mut JoinSet<()>,
    client: &Client,
    subject: &str,
    group: Option<&str>,
    answer: impl Fn(&Message) -> (HeaderMap, String) + Send + 'static,
) {
    let mut requests = match group {
        Some(group) => client.queue_subscribe(subject.to_owned(), group.to_owned()).await,
        None => client.subscribe(subject.to_owned()).await,
    }
    .expect("subscribe");
    let client = client.clone();
    tasks.spawn(async move {
        while let Some(request) = requests.next().await {
            let (headers, body) = answer(&request);
            let to = request.reply.expect("a request names where to answer");
            client.publish_with_headers(to, headers, body.into()).await.expect("answer");
        }
    });
}

#[expect(clippy::disallowed_methods, reason = "another client's service knows nothing of ours")]
fn add(request: &Message) -> (HeaderMap, String) {
    let mut headers = HeaderMap::new();
    let Ok(numbers) = serde_json::from_slice::<Vec<i64>>(&request.payload) else {
        headers.insert("Nats-Service-Error", "send a list of numbers");
        headers.insert("Nats-Service-Error-Code", "422");
        return (headers, String::new());
    };
    (headers, json!({ "sum": numbers.iter().sum::<i64>() }).to_string())
}

fn info(id: &str) -> Value {
    let endpoint = |name: &str, subject: &str| json!({ "name": name, "subject": subject, "queue_group": "q", "metadata": null });
    json!({
        "type": "io.nats.micro.v1.info_response",
        "name": "Tally",
        "id": id,
        "version": "0.1.0",
        "description": "Adds.",
        "metadata": null,
        "endpoints": [
            endpoint("addAll", "math.add"), endpoint("reset", "math.reset"), endpoint("greet", "math.greet"),
        ],
    })
}
