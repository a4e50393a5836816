//! Following a stream: in order, each message once, over whatever breaks on the way.

use sinew::{
    Bus, Config, EVENTS,
    bus::{Follow, admin::Place},
    ensure_streams,
    wire::Headers,
};

use crate::harness::{Harness, SOON};

async fn connect(harness: &Harness) -> Bus {
    let bus = Bus::connect(Config::new(harness.url(), "follower")).await.unwrap();
    ensure_streams(&bus).await.unwrap();
    bus
}

async fn publish(bus: &Bus, subject: &str, numbers: std::ops::Range<u32>) {
    for number in numbers {
        let stored = bus.publish_acked(subject, &Headers::new(), number.to_string().into(), SOON).await;
        stored.unwrap();
    }
}

/// Takes so many messages.
async fn take(follow: &mut Follow, count: usize) -> Vec<(u64, String)> {
    let mut taken = Vec::new();
    while taken.len() < count {
        if let Some(one) = follow.next().await {
            taken.push((one.sequence, String::from_utf8_lossy(one.message.payload()).into_owned()));
        }
    }
    taken
}

#[tokio::test]
async fn what_stands_and_what_comes_is_told_on_the_subjects_that_are_wanted() {
    let harness = Harness::start().await;
    let bus = connect(&harness).await;
    publish(&bus, "evt.a", 0..3).await;
    publish(&bus, "evt.b", 3..5).await;
    publish(&bus, "evt.c", 5..6).await;
    let subjects = vec!["evt.a".to_owned(), "evt.c".to_owned()];
    let mut follow = bus.follow(EVENTS, subjects, Place::Sequence(2));
    assert_eq!(take(&mut follow, 3).await, [(2, "1".into()), (3, "2".into()), (6, "5".into())]);
    assert_eq!(follow.reached(), 6);
    publish(&bus, "evt.b", 6..7).await;
    publish(&bus, "evt.a", 7..8).await;
    assert_eq!(take(&mut follow, 1).await, [(8, "7".into())]);
    let mut empty = bus.follow(EVENTS, vec!["evt.d".to_owned()], Place::Sequence(1));
    assert!(empty.next().await.is_none(), "the end is told");
    assert_eq!(empty.reached(), 8, "and everything up to it is known");
    bus.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_costs_no_message_and_none_comes_twice() {
    let mut harness = Harness::start().await;
    let bus = connect(&harness).await;
    let mut follow = bus.follow(EVENTS, Vec::new(), Place::Sequence(1));
    publish(&bus, "evt.a", 0..50).await;
    let mut taken = take(&mut follow, 20).await;
    harness.kill().await;
    harness.revive().await;
    bus.connected(SOON).await.unwrap();
    publish(&bus, "evt.a", 50..100).await;
    taken.extend(take(&mut follow, 80).await);
    let expected: Vec<(u64, String)> = (0..100).map(|number| (number + 1, number.to_string())).collect();
    assert_eq!(taken, expected);
    bus.close().await;
}
