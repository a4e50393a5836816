//! Bytes no decent client sends: they cost neither a connection nor a service, and never another message.
//!
//! Other clients give up their connection at most of them, and some their whole task at a lone carriage return.

use std::sync::{Arc, Mutex};

use sinew::{DEAD_LETTERS, Retry, State};
use tokio::sync::Semaphore;

use super::*;
use crate::harness::{RawClient, SOON, eventually};

const BLOCKS: [&[u8]; 5] = [
    b"NATS/1.0\r\nx-mark: a\rb\r\n\r\n",
    b"NATS/1.0\r\nx-mark: \xff\xfe\r\n\r\n",
    b"NATS/1.0\r\nthere is no colon\r\n\r\n",
    b"NATS/1.0 what\r\n\r\n",
    b"SPAM/9.9\r\nx-mark: y\r\n\r\n",
];

#[tokio::test]
async fn a_service_answers_the_next_good_request() {
    let stage = Stage::start().await;
    let desk = stage.serve(repeat).await;
    let mut raw = RawClient::connect(stage.harness.url()).await;
    for block in BLOCKS {
        raw.publish(Echo::SUBJECT, block, br#"{"text":"spam"}"#).await;
        // A request may still be lost with the connection it is sent on; its caller is told so, and asks again.
        eventually(SOON, || async { soon(&stage.caller).await }).await;
        // The service's own requests go out and come back as well.
        let own = Ctx::detached(&stage.bus, "desk");
        eventually(SOON, || async { soon(&own).await }).await;
        eventually(SOON, || std::future::ready(desk.is_ready())).await;
    }
}

#[tokio::test]
async fn a_caller_survives_the_reply() {
    let stage = Stage::start().await;
    let mut requests = stage.bus.subscribe(Echo::SUBJECT, None).await.unwrap();
    stage.bus.barrier().await.unwrap();
    let mut raw = RawClient::connect(stage.harness.url()).await;
    for block in BLOCKS {
        let hostile = async {
            let request = requests.next().await.unwrap();
            raw.publish(request.reply_to().unwrap(), block, b"").await;
        };
        let call = stage.caller.call(echo("")).within(Duration::from_millis(300));
        let (outcome, ()) = tokio::join!(call, hostile);
        // It came, and an empty payload is no reply.
        assert!(matches!(outcome, Err(CallError::Incompatible(_))), "{outcome:?}");
    }
    drop(requests);
    let _desk = stage.serve(repeat).await;
    eventually(SOON, || async { soon(&stage.caller).await }).await;
}

#[tokio::test]
async fn p1_a_consumer_goes_on_with_what_came_along_and_what_comes_next() {
    let stage = Stage::start().await;
    let book = Book::default();
    let mail = stage.start_service(mail(&book)).await;
    let mut raw = RawClient::connect(stage.harness.url()).await;
    for (number, block) in (0..).zip(BLOCKS) {
        raw.publish(Noted::SUBJECT, block, b"spam").await;
        stage.publish(number).await;
    }
    for number in 10..40 {
        stage.publish(number).await;
    }
    let good: Vec<u32> = (0..5).chain(10..40).collect();
    eventually(SOON, || std::future::ready(book.distinct() == good)).await;
    eventually(SOON, || std::future::ready(mail.is_ready())).await;
    // None of the others has vanished.
    let kept =
        async || stage.caller.bus().stream_state(DEAD_LETTERS).await.is_ok_and(|state| state.messages == 5);
    eventually(SOON, kept).await;
}

#[tokio::test]
async fn p1_what_cannot_be_delivered_becomes_a_dead_letter_all_the_same() {
    let stage = Stage::start().await;
    let (book, gate) = (Book::default(), Arc::new(Semaphore::new(0)));
    let busy = Service::new("mail", (book.clone(), gate.clone())).on("mailer", wait_at_zero, |group| {
        group.ack_wait(Duration::from_millis(100)).retry(Retry::never()).concurrency(1)
    });
    let _mail = stage.start_service(busy).await;
    // The only hand is taken, so that others get the next one.
    stage.publish(0).await;
    eventually(SOON, || std::future::ready(!book.distinct().is_empty())).await;
    stage.publish(666).await;
    // Each delivery goes to somebody who never says a word, as one that dies of it would not. After so many the server
    // gives the event up.
    let silent = stage.caller.bus();
    let letter = eventually(SOON, async || {
        let next = "$JS.API.CONSUMER.MSG.NEXT.EVENTS.mail+mailer";
        let patience = Duration::from_millis(300);
        let pulled = silent.request(next, &Headers::new(), Bytes::from_static(b"1"), patience).await;
        if let Ok(pulled) = pulled {
            assert!(pulled.reply_to().is_some_and(|reply| reply.starts_with("$JS.ACK.")), "{pulled:?}");
        }
        stage.caller.bus().last_message(DEAD_LETTERS, "dlq.mail.mailer").await.ok().flatten()
    });
    let letter = letter.await;
    assert_eq!(letter.headers.get("Sinew-Dead-Code"), Some("undeliverable"));
    assert_eq!(letter.headers.get("Sinew-Dead-Sequence"), Some("2"), "where its bytes still stand");
    gate.add_permits(1);
    stage.publish(1).await;
    eventually(SOON, || std::future::ready(book.distinct() == [0, 1])).await;
}

#[derive(Clone, Default)]
struct Book(Arc<Mutex<Vec<u32>>>);

impl Book {
    fn distinct(&self) -> Vec<u32> {
        let mut numbers = self.0.lock().unwrap().clone();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

/// A group that the server soon loses its patience with.
fn mail(book: &Book) -> Service<Book> {
    Service::new("mail", book.clone()).on("mailer", write_down, |group| {
        group.ack_wait(Duration::from_millis(100)).retry(Retry::never()).concurrency(8)
    })
}

async fn soon(caller: &Ctx) -> bool {
    caller.call(echo("good")).within(Duration::from_millis(500)).await.is_ok_and(|reply| reply == "good")
}

async fn write_down(event: Noted, State(book): State<Book>) -> Result<(), Problem> {
    book.0.lock().unwrap().push(event.number);
    Ok(())
}

async fn wait_at_zero(
    event: Noted,
    State((book, gate)): State<(Book, Arc<Semaphore>)>,
) -> Result<(), Problem> {
    book.0.lock().unwrap().push(event.number);
    if event.number == 0 {
        let _ = gate.acquire().await;
    }
    Ok(())
}
