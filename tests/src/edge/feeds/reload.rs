//! What a reload does to feeds of any event.

use serde_json::json;
use sinew_edge as edge;

use super::{super::System, Feed, number};

#[tokio::test]
async fn open_feeds_open_and_close_with_a_reload() {
    let system = System::start().await;
    let path = "/events/orders/placed";
    assert_eq!(Feed::open(&system, path, &[]).await.status, 405);
    let open = edge::Config::read(&json!({ "open_feeds": { "format": "data" } })).unwrap();
    system.edge.reloader().reload(open).await.unwrap();
    let mut feed = Feed::open(&system, path, &[]).await;
    number(&system, 1).await;
    assert_eq!(feed.numbers(1).await, [1]);
    system.edge.reloader().reload(edge::Config::default()).await.unwrap();
    assert_eq!(Feed::open(&system, path, &[]).await.status, 405);
    number(&system, 2).await;
    assert_eq!(feed.numbers(1).await, [2], "who follows goes on");
}
