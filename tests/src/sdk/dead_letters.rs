//! Dead letters are found, understood, mended and tried again; nothing leaves without a trace.

use sinew::dead_letters::{By, Change, DeadLetters, Dropped, Edited, Filter, Letter, Payload, Retried};
use sinew::{Bulk, DEAD_LETTERS, EVENTS, Kind, Redelivery};

use super::book::{Book, mail, quick};
use super::*;
use crate::harness::{SOON, eventually};

#[tokio::test]
async fn p7_a_letter_says_all_there_is_to_know() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(failing(&book)).await;
    stage.caller.publish(Noted { number: 7 }).id("n 7").await.unwrap();
    let letter = only(&stage).await;
    assert_eq!((letter.service.as_str(), letter.group.as_str()), ("mail", "mailer"));
    assert_eq!((letter.event.as_str(), letter.schema.as_deref()), (Noted::NAME, Some("desk.noted.v3")));
    assert_eq!((letter.id.as_deref(), letter.code.as_str(), letter.attempts), (Some("n 7"), "busy", 2));
    assert_eq!((letter.stream.as_str(), letter.origin), (EVENTS, 1));
    assert_eq!(letter.payload, Payload::Here(pack(&Noted { number: 7 })));
    assert_eq!(letter.content_type().unwrap(), ContentType::MessagePack);
    assert!(letter.time.is_some_and(|time| time <= now()));
    assert_eq!(letters(&stage).get(letter.sequence).await.unwrap().unwrap().payload, letter.payload);
    assert!(letters(&stage).get(99).await.unwrap().is_none());
}

#[tokio::test]
async fn p1_a_retried_letter_goes_to_its_own_group_and_nobody_else() {
    let stage = Stage::start().await;
    let (book, audit) = (Book::default(), Book::default());
    let _mail = stage.start_service(failing(&book)).await;
    let audited = Service::new("audit", audit.clone()).on("mailer", book::write_down, |group| group);
    let _audit = stage.start_service(audited).await;
    stage.caller.publish(Noted { number: 7 }).id("n-7").await.unwrap();
    let letter = only(&stage).await;
    book.fail(1);
    assert!(letters(&stage).retry(letter.sequence, &ada()).await.unwrap());
    let entries = book.reaches(4).await;
    assert_eq!(book.attempts(), [1, 2, 1, 2], "a fresh budget");
    assert!(entries.iter().all(|entry| entry.id.as_deref() == Some("n-7")), "the id it always had");
    assert_eq!(entries[2].redelivery, Some(Redelivery::Redrive));
    assert_eq!(stage.bus.stream_state(DEAD_LETTERS).await.unwrap().messages, 0);
    assert!(!letters(&stage).retry(letter.sequence, &ada()).await.unwrap(), "it is gone");
    assert_eq!(audit.numbers(), [7]);
    let told: Retried = told(&stage).await;
    assert_eq!(told.change, change(&letter));
}

#[tokio::test]
async fn p1_a_letter_that_dies_again_at_once_is_another_letter() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(failing(&book)).await;
    stage.publish(7).await;
    let mut last = 0;
    // All of it well within the time in which the server takes two of one id for one.
    for _ in 0..3 {
        let letter = eventually(SOON, || newer(&stage, last)).await;
        assert_eq!((letter.origin, letter.attempts), (1, 2));
        last = letter.sequence;
        assert!(letters(&stage).retry(last, &ada()).await.unwrap());
    }
    eventually(SOON, || newer(&stage, last)).await;
    assert_eq!(book.attempts(), [1, 2, 1, 2, 1, 2, 1, 2]);
}

#[tokio::test]
async fn p1_a_retry_repeated_after_a_crash_is_one() {
    let stage = Stage::start().await;
    let book = Book::default();
    let mail = stage.start_service(failing(&book)).await;
    stage.publish(7).await;
    let letter = only(&stage).await;
    mail.drain().await;
    // As if the process had ended between the copy and the removal of the letter.
    let mut headers = Headers::new();
    headers.set("Nats-Msg-Id", format!("redrive/{}", letter.sequence)).unwrap();
    let bytes = pack(&Noted { number: 7 });
    headers.set("content-type", "application/msgpack").unwrap();
    stage.bus.publish_acked("redo.mail.mailer", &headers, bytes, PATIENCE).await.unwrap();
    assert!(letters(&stage).retry(letter.sequence, &ada()).await.unwrap());
    assert_eq!(stage.bus.stream_state(sinew::REDELIVERIES).await.unwrap().messages, 1);
}

#[tokio::test]
async fn p1_a_retried_letter_waits_for_a_service_that_is_down_and_survives_a_killed_server() {
    let mut stage = Stage::on(Harness::start_synced().await).await;
    let book = Book::default();
    let mail = stage.start_service(failing(&book)).await;
    stage.publish(7).await;
    let letter = only(&stage).await;
    mail.drain().await;
    assert!(letters(&stage).retry(letter.sequence, &ada()).await.unwrap());
    stage.harness.kill().await;
    stage.harness.revive().await;
    let again = Book::default();
    let bus = connect(&stage.harness, "again").await;
    let _mail = failing(&again).start(&bus).await.unwrap();
    again.fail(0);
    assert_eq!(again.reaches(1).await[0].number, 7);
}

#[tokio::test]
async fn letters_are_listed_by_what_one_asks_for() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(failing(&book)).await;
    let other = Service::new("audit", book.clone()).on("writer", refuse, |group| group);
    let _audit = stage.start_service(other).await;
    for number in 0..5 {
        stage.publish(number).await;
    }
    eventually(SOON, || async { count(&stage).await == 10 }).await;
    let found = async |filter: Filter| letters(&stage).page(&filter, 0, 100).await.unwrap().letters.len();
    assert_eq!(found(Filter::default().service("mail")).await, 5);
    assert_eq!(found(Filter::default().group("audit", "writer").code("out-of-stock")).await, 5);
    assert_eq!(found(Filter::default().code("busy").event(Noted::NAME)).await, 5);
    assert_eq!(found(Filter::default().older_than(Duration::from_secs(3_600))).await, 0);
    assert_eq!(found(Filter::default().younger_than(Duration::from_secs(3_600))).await, 10);
    let (mut after, mut sequences) = (0, Vec::new());
    loop {
        let page = letters(&stage).page(&Filter::default(), after, 3).await.unwrap();
        sequences.extend(page.letters.iter().map(|letter| letter.sequence));
        let Some(next) = page.next else { break };
        after = next;
    }
    assert_eq!(sequences, (1..=10).collect::<Vec<_>>(), "page by page, each once");
    let wrong = letters(&stage).page(&Filter::default().service("*"), 0, 1).await;
    assert_eq!(wrong.unwrap_err().kind(), Kind::Config);
}

#[tokio::test]
async fn without_any_dead_letter_there_is_nothing_to_list() {
    let stage = Stage::start().await;
    let page = letters(&stage).page(&Filter::default(), 0, 10).await.unwrap();
    assert!(page.letters.is_empty() && page.next.is_none());
}

#[tokio::test]
async fn many_are_retried_at_a_rate_up_to_a_limit_or_only_counted() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(failing(&book)).await;
    for number in 0..8 {
        stage.publish(number).await;
    }
    eventually(SOON, || async { count(&stage).await == 8 }).await;
    let all = Filter::default();
    let dry = letters(&stage).retry_all(&all, &ada(), Bulk::default().dry_run()).await.unwrap();
    assert_eq!((dry.matched, dry.done, count(&stage).await), (8, 0, 8));
    book.fail(0);
    let began = std::time::Instant::now();
    let some = letters(&stage).retry_all(&all, &ada(), Bulk::default().limit(5).rate(20.0)).await.unwrap();
    assert_eq!((some.matched, some.done, some.failed.len()), (5, 5, 0));
    assert!(began.elapsed() >= Duration::from_millis(150), "four pauses took {:?}", began.elapsed());
    book.reaches(16 + 5).await;
    // These die again, and are not retried a second time by the same action.
    book.fail(u32::MAX);
    let rest = letters(&stage).retry_all(&all, &ada(), Bulk::default()).await.unwrap();
    assert_eq!((rest.matched, rest.done), (3, 3));
    eventually(SOON, || async { count(&stage).await == 3 }).await;
}

#[tokio::test]
async fn an_edited_letter_is_checked_and_the_first_version_kept() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let mut headers = Headers::new();
    headers.set("content-type", "application/json").unwrap();
    headers.set("x-mark", "kept").unwrap();
    let poison = Bytes::from_static(br#"{"numbr":7}"#);
    stage.bus.publish_acked(Noted::SUBJECT, &headers, poison.clone(), PATIENCE).await.unwrap();
    let letter = only(&stage).await;
    assert_eq!(letter.code, "poison");
    let (desk, json) = (letters(&stage), ContentType::Json);
    let refused = desk.edit(letter.sequence, json, "{ not json", &ada()).await;
    assert_eq!(refused.unwrap_err().kind(), Kind::Codec);
    let first = desk.edit(letter.sequence, json, r#"{"number":6}"#, &ada()).await.unwrap().unwrap();
    assert!(desk.get(letter.sequence).await.unwrap().is_none(), "its place is taken");
    let told: Edited = told(&stage).await;
    assert_eq!((told.change, told.replacement), (change(&letter), first));
    let second = desk.edit(first, json, r#"{"number":7}"#, &ada()).await.unwrap().unwrap();
    let edited = desk.get(second).await.unwrap().unwrap();
    assert_eq!(edited.original, Some(told.original));
    assert_eq!((edited.headers.get("x-mark"), edited.code.as_str()), (Some("kept"), "poison"));
    let original = stage.bus.message_at(DEAD_LETTERS, told.original).await.unwrap().unwrap();
    assert_eq!(original.message.payload, poison);
    assert_eq!(
        desk.page(&Filter::default(), 0, 10).await.unwrap().letters.len(),
        1,
        "originals are no letters"
    );
    assert!(desk.retry(second, &ada()).await.unwrap());
    assert_eq!(book.reaches(1).await[0].number, 7);
}

#[tokio::test]
async fn a_dropped_letter_is_gone_and_somebody_has_said_why() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(failing(&book)).await;
    stage.publish(7).await;
    let letter = only(&stage).await;
    assert!(letters(&stage).drop(letter.sequence, &ada()).await.unwrap());
    assert!(!letters(&stage).drop(letter.sequence, &ada()).await.unwrap());
    assert_eq!(count(&stage).await, 0);
    let told: Dropped = told(&stage).await;
    assert_eq!((told.change.who.as_str(), told.change.why.as_str()), ("ada", "the price list is back"));
}

#[tokio::test]
async fn p1_what_was_left_in_the_stream_is_found_there_and_retried() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let mut headers = Headers::new();
    headers.set("ce-id", "666").unwrap();
    let payload = Bytes::from_static(br#"{"number":666}"#);
    let stored = stage.bus.publish_acked(Noted::SUBJECT, &headers, payload.clone(), PATIENCE).await.unwrap();
    eventually(SOON, || std::future::ready(book.numbers() == [666])).await;
    // What a member writes when it never saw the event, or when the two do not fit into one message.
    let mut headers = Headers::new();
    headers.set("Sinew-Dead-Code", "undeliverable").unwrap();
    headers.set("Sinew-Dead-Payload", "left in the stream").unwrap();
    headers.set("Sinew-Dead-Subject", Noted::SUBJECT).unwrap();
    headers.set("Sinew-Dead-Sequence", stored.sequence.to_string()).unwrap();
    stage.bus.publish_acked("dlq.mail.mailer", &headers, Bytes::new(), PATIENCE).await.unwrap();
    let letter = only(&stage).await;
    assert_eq!(letter.payload, Payload::Left);
    let whole = letters(&stage).get(letter.sequence).await.unwrap().unwrap();
    assert_eq!(whole.payload, Payload::Here(payload));
    assert_eq!(whole.id.as_deref(), Some("666"));
    assert!(letters(&stage).retry(letter.sequence, &ada()).await.unwrap());
    eventually(SOON, || std::future::ready(book.numbers() == [666, 666])).await;
}

#[tokio::test]
async fn what_is_not_in_the_stream_any_more_is_said_to_be_gone() {
    let stage = Stage::start().await;
    let book = Book::default();
    let _mail = stage.start_service(mail(&book, |group| group)).await;
    let huge = vec![b'x'; stage.bus.max_payload() - 10];
    stage.bus.publish_acked(Noted::SUBJECT, &Headers::new(), huge.into(), PATIENCE).await.unwrap();
    let letter = only(&stage).await;
    let refused = letters(&stage).retry(letter.sequence, &ada()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::TooLarge, "there is no room for what a copy has to say");
    assert!(stage.bus.delete_message(EVENTS, letter.origin).await.unwrap());
    assert_eq!(letters(&stage).get(letter.sequence).await.unwrap().unwrap().payload, Payload::Gone);
    let refused = letters(&stage).retry(letter.sequence, &ada()).await.unwrap_err();
    assert_eq!(refused.kind(), Kind::Config);
    assert_eq!(count(&stage).await, 1, "it is still there");
}

#[tokio::test]
async fn a_letter_of_a_group_that_never_ran_stays_where_it_is() {
    let stage = Stage::start().await;
    sinew::ensure_streams(&stage.bus).await.unwrap();
    let mut headers = Headers::new();
    headers.set("Sinew-Dead-Subject", Noted::SUBJECT).unwrap();
    stage.bus.publish_acked("dlq.ghost.house", &headers, "{}".into(), PATIENCE).await.unwrap();
    assert_eq!(letters(&stage).retry(1, &ada()).await.unwrap_err().kind(), Kind::Config);
    assert_eq!(count(&stage).await, 1);
}

/// Tries twice, and fails until told otherwise.
fn failing(book: &Book) -> Service<Book> {
    book.fail(u32::MAX);
    mail(book, |group| group.retry(quick().attempts(2)))
}

async fn refuse(_: Noted) -> Result<(), DeskError> {
    Err(DeskError::OutOfStock { sku: "tea".into() })
}

fn ada() -> By {
    By::new("ada").because("the price list is back")
}

fn change(letter: &Letter) -> Change {
    Change {
        sequence: letter.sequence,
        service: letter.service.clone(),
        group: letter.group.clone(),
        event: letter.event.clone(),
        id: letter.id.clone(),
        code: letter.code.clone(),
        who: "ada".into(),
        why: "the price list is back".into(),
    }
}

fn letters(stage: &Stage) -> DeadLetters {
    DeadLetters::new(stage.caller.bus())
}

async fn newer(stage: &Stage, than: u64) -> Option<Letter> {
    letters(stage).page(&Filter::default(), than, 1).await.ok()?.letters.pop()
}

async fn only(stage: &Stage) -> Letter {
    eventually(SOON, || newer(stage, 0)).await
}

async fn count(stage: &Stage) -> usize {
    letters(stage).page(&Filter::default(), 0, 1_000).await.unwrap().letters.len()
}

/// Returns the newest event that tells of a change.
async fn told<E: Event>(stage: &Stage) -> E {
    let stored = stage.bus.last_message(EVENTS, E::SUBJECT).await.unwrap().expect("it was told");
    wire::decode(ContentType::MessagePack, &stored.payload).unwrap()
}
