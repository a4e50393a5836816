//! Promise 1: an accepted event reaches every group at least once.

use std::sync::{Arc, Mutex};

use sinew::bus::Reader;
use sinew::{EVENTS, State, wire::CloudEvent};

use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn p1_a_published_event_is_stored_as_a_cloud_event() {
    let stage = Stage::start().await;
    let ack = stage.caller.publish(Noted { number: 7 }).id("n-7").about("desk 7").await.unwrap();
    assert_eq!((ack.stream.as_str(), ack.sequence, ack.duplicate), (EVENTS, 1, false));
    let stored = stage.bus.last_message(EVENTS, Noted::SUBJECT).await.unwrap().unwrap();
    let told = CloudEvent::read(&stored.headers).unwrap();
    assert_eq!((told.id.as_str(), told.kind.as_str()), ("n-7", "desk.noted.v3"));
    assert_eq!((told.source.as_str(), told.subject.as_deref()), ("/services/caller", Some("desk 7")));
    assert!(told.time.is_some_and(|time| time.ends_with('Z')));
    assert_eq!(stored.headers.get("content-type"), Some("application/msgpack"));
    assert_eq!(stored.headers.get("ce-specversion"), Some("1.0"));
    assert_eq!(
        wire::decode::<Noted>(ContentType::MessagePack, &stored.payload).unwrap(),
        Noted { number: 7 }
    );
}

#[tokio::test]
async fn p1_the_same_event_is_stored_once_and_another_of_the_same_id_too() {
    let stage = Stage::start().await;
    let first = stage.caller.publish(Noted { number: 1 }).id("order-1").await.unwrap();
    let again = stage.caller.publish(Noted { number: 1 }).id("order-1").await.unwrap();
    assert_eq!((again.sequence, again.duplicate), (first.sequence, true));
    let other_kind = stage.caller.publish(Crossed { number: 1 }).id("order-1").await.unwrap();
    assert!(!other_kind.duplicate, "an id is unique per kind of event");
    let other_source =
        Ctx::detached(&stage.bus, "desk").publish(Noted { number: 1 }).id("order-1").await.unwrap();
    assert!(!other_source.duplicate, "and per source");
    assert_eq!(stage.bus.stream_state(EVENTS).await.unwrap().messages, 3);
}

#[tokio::test]
async fn p1_every_group_gets_every_event() {
    let stage = Stage::start().await;
    let (mail, audit) = (Book::default(), Book::default());
    let _mail = stage.start_service(reader("mail", "mailer", &mail)).await;
    let _audit = stage.start_service(reader("audit", "mailer", &audit)).await;
    for number in 0..20 {
        stage.publish(number).await;
    }
    for book in [mail, audit] {
        eventually(SOON, || std::future::ready(book.sorted() == (0..20).collect::<Vec<_>>())).await;
    }
}

#[tokio::test]
async fn p1_members_of_a_group_share_the_events() {
    let stage = Stage::start().await;
    let books = [Book::default(), Book::default()];
    let second = connect(&stage.harness, "second").await;
    let _first = reader("mail", "mailer", &books[0]).start(&stage.bus).await.unwrap();
    let _second = reader("mail", "mailer", &books[1]).start(&second).await.unwrap();
    for number in 0..60 {
        stage.publish(number).await;
    }
    let both = || books.iter().flat_map(Book::sorted).collect::<Vec<_>>();
    eventually(SOON, || std::future::ready(both().len() >= 60)).await;
    let mut all = both();
    all.sort_unstable();
    assert_eq!(all, (0..60).collect::<Vec<_>>(), "each event once");
    assert!(books.iter().all(|book| !book.sorted().is_empty()), "and nobody had to do it alone");
}

#[tokio::test]
async fn p1_names_with_dashes_do_not_mix_groups_up() {
    let stage = Stage::start().await;
    let (one, two) = (Book::default(), Book::default());
    let _one = stage.start_service(reader("mail-night", "shift", &one)).await;
    let _two = stage.start_service(reader("mail", "night-shift", &two)).await;
    stage.publish(1).await;
    for book in [one, two] {
        eventually(SOON, || std::future::ready(book.sorted() == [1])).await;
    }
}

#[tokio::test]
async fn p1_what_was_acknowledged_survives_a_killed_server() {
    let mut stage = Stage::on(Harness::start_synced().await).await;
    for number in 0..10 {
        stage.publish(number).await;
    }
    stage.harness.kill().await;
    stage.harness.revive().await;
    let book = Book::default();
    let bus = connect(&stage.harness, "late").await;
    let _mail = reader("mail", "mailer", &book).start(&bus).await.unwrap();
    eventually(SOON, || std::future::ready(book.sorted() == (0..10).collect::<Vec<_>>())).await;
}

#[tokio::test]
async fn p1_publishing_goes_on_through_a_restart_of_the_server() {
    let mut stage = Stage::on(Harness::start_synced().await).await;
    let book = Book::default();
    let _mail = stage.start_service(reader("mail", "mailer", &book)).await;
    stage.publish(0).await;
    let publisher = stage.caller.clone();
    let publishing = tokio::spawn(async move {
        for number in 1..200 {
            publisher.publish(Noted { number }).await.expect("stored, if not at once");
        }
    });
    eventually(SOON, || std::future::ready(book.sorted().len() > 20)).await;
    stage.harness.kill().await;
    stage.harness.revive().await;
    publishing.await.unwrap();
    let distinct = || {
        let mut numbers = book.sorted();
        numbers.dedup();
        numbers.len()
    };
    eventually(SOON, || std::future::ready(distinct() == 200)).await;
    let stored = all(&mut stage.caller.bus().read_stream(EVENTS, Noted::SUBJECT, 1).await.unwrap()).await;
    assert_eq!(stored, 200, "what was sent again was not stored again");
}

/// Something was crossed out again.
#[derive(Clone, Debug, Event, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "desk.crossed")]
struct Crossed {
    number: u32,
}

/// What a handler has seen.
#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<u32>>>);

impl Book {
    fn sorted(&self) -> Vec<u32> {
        let mut numbers = self.0.lock().unwrap().clone();
        numbers.sort_unstable();
        numbers
    }
}

fn reader(service: &str, group: &str, book: &Book) -> Service<Book> {
    Service::new(service, book.clone()).on(group, write_down, |group| group)
}

async fn write_down(event: Noted, State(book): State<Book>) -> Result<(), Problem> {
    book.0.lock().unwrap().push(event.number);
    Ok(())
}

async fn all(reader: &mut Reader) -> usize {
    let mut count = 0;
    loop {
        match reader.batch().await.unwrap().len() {
            0 => return count,
            more => count += more,
        }
    }
}
