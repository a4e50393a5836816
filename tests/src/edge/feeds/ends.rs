//! How feeds end: after their time, for clients that take nothing, and with the edge.

use super::*;

#[tokio::test]
async fn a_client_stays_as_long_as_it_may_and_comes_again_where_it_was() {
    let to = json!({ "events": ["orders.*"], "feed": { "longest_ms": 300, "heartbeat_ms": 60_000 } });
    let system = system(to).await;
    let mut feed = Feed::open(&system, "/feed", &[]).await;
    let at = feed.opened_at.clone();
    assert_eq!(feed.next().await, None, "no error, just an end");
    number(&system, 1).await;
    // Each stay may be too short for a busy machine; what it did not tell the next one does.
    let told =
        eventually(SOON, async || Feed::open(&system, "/feed", &[("last-event-id", &at)]).await.next().await)
            .await;
    assert_eq!(told.data["n"], 1);
    let mut socket = socket(&system, "/feed").await;
    assert_eq!(hear(&mut socket).await, Err(1000));
}

#[tokio::test]
async fn a_client_that_takes_nothing_is_told_where_to_go_on_and_let_go() {
    let route = json!({ "match": { "method": "GET", "path": "/feed" },
        "to": { "events": ["orders.*"], "feed": { "max_clients": 1 } } });
    let metrics = json!({ "listen": "127.0.0.1:0" });
    let config = json!({ "routes": [route], "slow_client_ms": 3_000, "metrics": metrics });
    let system = System::start_with(edge::Config::read(&config).unwrap()).await;
    let mut slow = Feed::open(&system, "/feed", &[]).await;
    let filler = "x".repeat(200_000);
    for n in 0..100 {
        publish(&system, "orders.placed", json!({ "n": n, "filler": filler })).await;
    }
    // Its place is free once it is given up.
    eventually(SOON, async || Feed::open(&system, "/feed", &[]).await.status == 200).await;
    let mut last = Event::default();
    let error = loop {
        let event = slow.next().await.expect("an error event");
        if event.name == "error" {
            break event.data;
        }
        last = event;
    };
    assert_eq!((&error["code"], &error["last_event_id"]), (&json!("slow-client"), &json!(last.id)));
    assert_eq!(slow.next().await, None);
    assert!(counted(&system, "sinew_edge_feed_cut_off_total").await >= 1);
    let mut again = Feed::open(&system, "/feed", &[("last-event-id", &last.id)]).await;
    if again.status == 200 {
        assert_eq!(again.next().await.unwrap().data["n"], last.data["n"].as_u64().unwrap() + 1);
    }
}

#[tokio::test]
async fn p5_feeds_end_with_the_edge_and_say_where_to_go_on() {
    let system = orders().await;
    let mut feed = Feed::open(&system, "/feed", &[]).await;
    let sequence = number(&system, 1).await;
    feed.next().await.unwrap();
    timeout(SOON, system.edge.drain()).await.expect("the drain does not wait for feeds");
    let error = feed.next().await.unwrap();
    assert_eq!((error.name.as_str(), &error.data["code"]), ("error", &json!("shutting-down")));
    assert_eq!(error.data["last_event_id"], sequence.to_string());
    assert_eq!(feed.next().await, None);
}

#[tokio::test]
async fn p5_websockets_of_feeds_are_told_that_the_edge_ends() {
    let system = orders().await;
    let mut socket = socket(&system, "/feed").await;
    say(&mut socket, "{}").await;
    let sequence = number(&system, 1).await;
    hear(&mut socket).await.unwrap();
    let ended = async {
        let last = hear(&mut socket).await.unwrap();
        (last["problem"]["last_event_id"].clone(), hear(&mut socket).await)
    };
    let (_, (last, code)) = timeout(SOON, async { tokio::join!(system.edge.drain(), ended) }).await.unwrap();
    assert_eq!((last, code), (json!(sequence.to_string()), Err(1001)));
}
