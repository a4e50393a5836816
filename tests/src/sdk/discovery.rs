//! What other NATS tools see of a service: the service API of ADR-32.

use serde_json::{Value, json};

use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn a_service_answers_by_wildcard_by_name_and_by_id() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let id = ask(&stage, "$SRV.PING").await["id"].as_str().unwrap().to_owned();
    for subject in ["$SRV.PING".to_owned(), "$SRV.PING.desk".to_owned(), format!("$SRV.PING.desk.{id}")] {
        let answer = ask(&stage, &subject).await;
        assert_eq!(answer["type"], "io.nats.micro.v1.ping_response", "{subject}");
        assert_eq!(
            (&answer["name"], &answer["id"], &answer["version"]),
            (&json!("desk"), &json!(id), &json!("1.2.3"))
        );
    }
    let nobody =
        stage.caller.bus().request("$SRV.PING.porter", &Headers::new(), Bytes::new(), PATIENCE).await;
    assert_eq!(nobody.unwrap_err().kind(), sinew::Kind::NoResponders);
}

#[tokio::test]
async fn info_lists_the_endpoints() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let info = ask(&stage, "$SRV.INFO.desk").await;
    assert_eq!(info["type"], "io.nats.micro.v1.info_response");
    assert_eq!(info["description"], "Answers what it is asked.");
    let [endpoint] = &info["endpoints"].as_array().unwrap()[..] else { panic!("one endpoint: {info}") };
    assert_eq!(endpoint["name"], "echo");
    assert_eq!((&endpoint["subject"], &endpoint["queue_group"]), (&json!("svc.desk.echo"), &json!("desk")));
    assert_eq!(endpoint["metadata"], json!({ "idempotent": "true", "http": "POST /echo" }), "all of it text");
}

#[tokio::test]
async fn stats_count_requests_and_errors() {
    let stage = Stage::start().await;
    let moody =
        async |request: Echo| if request.text == "no" { Err(DeskError::Busy) } else { Ok(request.text) };
    let _desk = stage.serve(moody).await;
    for text in ["yes", "no", "yes"] {
        let _ = stage.call(text).await;
    }
    let _ = stage.request(&[], "spoilt").await;
    // The last answer leaves before it is counted.
    let counted = async || {
        Some(ask(&stage, "$SRV.STATS.desk").await).filter(|stats| stats["endpoints"][0]["num_requests"] == 4)
    };
    let stats = eventually(SOON, counted).await;
    assert_eq!(stats["type"], "io.nats.micro.v1.stats_response");
    assert!(stats["started"].as_str().is_some_and(|time| time.ends_with('Z')));
    let endpoint = &stats["endpoints"][0];
    assert_eq!((&endpoint["name"], &endpoint["num_errors"]), (&json!("echo"), &json!(2)));
    assert!(endpoint["last_error"].as_str().unwrap().contains("malformed-request"), "{endpoint}");
    let (total, mean) =
        (endpoint["processing_time"].as_u64().unwrap(), endpoint["average_processing_time"].as_u64());
    assert!(total > 0 && mean == Some(total / 4), "nanoseconds");
}

#[tokio::test]
async fn stats_show_what_is_in_work() {
    let stage = Stage::start().await;
    let _desk = stage.serve(async |_: Echo| std::future::pending::<Result<String, DeskError>>().await).await;
    let shows = async |number: u64| {
        eventually(SOON, async || {
            ask(&stage, "$SRV.STATS.desk").await["endpoints"][0]["data"]["in_flight"] == number
        })
        .await
    };
    shows(0).await;
    let calls: Vec<_> = (0..3).map(|_| Box::pin(stage.call("wait"))).collect();
    let calls = futures::future::join_all(calls);
    tokio::select! {
        _ = calls => unreachable!("nobody answers"),
        () = shows(3) => {}
    }
    // The calls are dropped, and with them what was in work.
    shows(0).await;
}

#[tokio::test]
async fn every_replica_answers_and_a_drained_one_does_not() {
    let stage = Stage::start().await;
    let first = stage.serve(repeat).await;
    let _second = stage.serve(repeat).await;
    assert_eq!(roll_call(&stage, 2).await, 2);
    first.drain().await;
    assert_eq!(roll_call(&stage, 1).await, 1);
}

async fn ask(stage: &Stage, subject: &str) -> Value {
    let reply = stage.caller.bus().request(subject, &Headers::new(), Bytes::new(), PATIENCE).await.unwrap();
    assert_eq!(reply.header("content-type"), Some("application/json"));
    serde_json::from_slice(reply.payload()).unwrap()
}

/// Counts the answers to one ping; it waits for as many as are expected, and takes what came along with them.
async fn roll_call(stage: &Stage, expected: usize) -> usize {
    let bus = stage.caller.bus();
    let inbox = bus.new_inbox();
    let mut answers = bus.subscribe(&inbox, None).await.unwrap();
    let client = async_nats::connect(stage.harness.url()).await.unwrap();
    bus.barrier().await.unwrap();
    client.publish_with_reply("$SRV.PING.desk", inbox, Bytes::new()).await.unwrap();
    for _ in 0..expected {
        tokio::time::timeout(SOON, answers.next()).await.expect("an answer").unwrap();
    }
    // Whoever else was pinged has answered before it answers this.
    ask(stage, "$SRV.PING.desk").await;
    answers.drain().await;
    let mut count = expected;
    while answers.next_drained().await.is_some() {
        count += 1;
    }
    count
}
