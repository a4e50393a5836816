//! Streams and consumers as the bus shows them.

use sinew::{DEAD_LETTERS, EVENTS, Problem, Retry, ensure_streams};

use super::{Noted, Stage, desk, repeat};
use crate::harness::{SOON, eventually};

async fn refuse_even(event: Noted) -> Result<(), Problem> {
    if event.number.is_multiple_of(2) { Err(Problem::new(422, "even", "no")) } else { Ok(()) }
}

#[tokio::test]
async fn streams_are_listed_with_what_they_hold() {
    let stage = Stage::start().await;
    assert_eq!(stage.bus.streams().await.unwrap(), []);
    assert_eq!(stage.bus.stream(EVENTS).await.unwrap(), None);
    assert_eq!(stage.bus.consumers(EVENTS).await.unwrap(), []);
    ensure_streams(&stage.bus).await.unwrap();
    stage.publish(1).await;
    let events = stage.bus.stream(EVENTS).await.unwrap().unwrap();
    assert_eq!((events.messages, events.first_sequence, events.last_sequence), (1, 1, 1));
    assert_eq!(
        (events.subjects, events.replicas, events.max_bytes),
        (["evt.>", "evt-at.>", "evt-every.>"].map(str::to_owned).to_vec(), 1, None)
    );
    let listed = stage.bus.streams().await.unwrap();
    assert!(listed.iter().any(|stream| stream.name == DEAD_LETTERS), "{listed:?}");
}

#[tokio::test]
async fn a_consumer_tells_how_far_it_is() {
    let stage = Stage::start().await;
    let service = desk((), repeat).on("odd", refuse_even, |group| group.retry(Retry::never()));
    let running = stage.start_service(service).await;
    for number in 1..=3 {
        stage.publish(number).await;
    }
    let odd = eventually(SOON, || async {
        let odd = stage.bus.consumer(EVENTS, "desk+odd").await.unwrap()?;
        (odd.settled_below == 3).then_some(odd)
    })
    .await;
    assert_eq!((odd.pending, odd.unsettled, odd.delivered, odd.settled), (0, 0, 3, 3));
    assert_eq!((odd.filters, odd.durable, odd.bound), (vec!["evt.desk.noted".to_owned()], true, false));
    assert!(odd.max_deliver.is_some() && odd.last_delivery.is_some());
    eventually(SOON, || async {
        stage.bus.consumer(EVENTS, "desk+odd").await.unwrap().unwrap().waiting == 1
    })
    .await;
    let dead = stage.bus.subject_counts(DEAD_LETTERS, "dlq.>").await.unwrap();
    assert_eq!(dead, [("dlq.desk.odd".to_owned(), 1)]);
    assert_eq!(stage.bus.consumer(EVENTS, "desk+even").await.unwrap(), None);
    running.drain().await;
}
