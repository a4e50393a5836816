//! How requests get from the subscription to a hand: in place where that is quicker, in tasks of their own where not.
//!
//! A task for every request costs more than many a handler. So the reader begins requests itself, one after the other;
//! whichever has to wait for something moves into a task of its own and goes on there. Handlers that compute for long
//! before they first wait are found out by the clock and begun in tasks of their own, so that they share the machine.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use futures::poll;
use sinew_wire::{Problem, header};
use tokio::{sync::OwnedSemaphorePermit, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Answer,
    operation::{Operation, Shop, late, reply, wanted, work},
    shed,
};
use crate::{
    Deadline,
    bus::{Message, Subscription},
};

/// Requests taken from the subscription at once.
const BATCH: usize = 64;
/// Requests of a batch that one task begins; the rest of a batch goes to other tasks, for other cores.
const SHARE: usize = 16;
/// Time after which what is left of a share gets tasks of its own.
const PATIENCE: Duration = Duration::from_micros(500);

/// Takes requests until `stop`; then reads what the server had already sent, so that nothing accepted is dropped.
pub(super) async fn serve(
    shop: Arc<Shop>,
    operation: Arc<Operation>,
    mut subscription: Subscription,
    stop: CancellationToken,
) {
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        tokio::select! {
            taken = subscription.next_many(&mut batch, BATCH) => match taken {
                0 => return,
                _ => begin(&shop, &operation, &mut batch).await,
            },
            () = stop.cancelled() => break,
        }
    }
    subscription.drain().await;
    while subscription.next_many(&mut batch, BATCH).await > 0 {
        begin(&shop, &operation, &mut batch).await;
    }
}

async fn begin(shop: &Arc<Shop>, operation: &Arc<Operation>, batch: &mut Vec<Message>) {
    operation.stats.requests.fetch_add(batch.len() as u64, Ordering::Relaxed);
    let own = |message| admit(shop.clone(), operation.clone(), message);
    if operation.pace.is_heavy(batch.len()) {
        batch.drain(..).for_each(|message| drop(shop.tasks.spawn(own(message))));
        return;
    }
    while batch.len() > SHARE {
        let mut share = batch.split_off(batch.len() - SHARE);
        let (shop, operation) = (shop.clone(), operation.clone());
        shop.clone().tasks.spawn(async move { begin_here(&shop, &operation, &mut share).await });
    }
    begin_here(shop, operation, batch).await;
}

/// Begins requests in this task; those that wait go on in their own.
async fn begin_here(shop: &Arc<Shop>, operation: &Arc<Operation>, batch: &mut Vec<Message>) {
    let (began, count) = (Instant::now(), batch.len());
    let mut late = false;
    for message in batch.drain(..) {
        let mut admitted = Box::pin(admit(shop.clone(), operation.clone(), message));
        // Whoever comes behind heavy ones does not wait for them.
        if late || poll!(admitted.as_mut()).is_pending() {
            shop.tasks.spawn(admitted);
        }
        late = late || began.elapsed() > PATIENCE;
    }
    operation.pace.note(began.elapsed(), count);
}

/// Finds a hand for a request, lets it wait for one, or turns it away.
async fn admit(shop: Arc<Shop>, operation: Arc<Operation>, message: Message) {
    let now = Instant::now();
    let deadline = deadline(&message, now);
    if let Ok(hand) = shop.hands.clone().try_acquire_owned() {
        return work(&shop, &operation, message, deadline, now, hand).await;
    }
    // Boxed: a request that finds a hand must not carry the room that waiting needs.
    if shop.waiting.fetch_add(1, Ordering::Relaxed) < shop.queue {
        Box::pin(wait(&shop, &operation, message, deadline)).await;
    } else {
        shop.waiting.fetch_sub(1, Ordering::Relaxed);
        Box::pin(turn_away(&shop, &operation, message)).await;
    }
}

async fn wait(shop: &Shop, operation: &Operation, message: Message, deadline: Deadline) {
    let hand = hand(shop, &message, deadline).await;
    shop.waiting.fetch_sub(1, Ordering::Relaxed);
    match hand {
        Some(Some(hand)) => work(shop, operation, message, deadline, Instant::now(), hand).await,
        Some(None) => reply(shop, operation, &message, Answer::problem(late(), wanted(&message))).await,
        None => _ = operation.stats.cancelled.fetch_add(1, Ordering::Relaxed),
    }
}

/// Waits for a free hand: within the deadline, as who waits for nothing must not keep others out of the queue, and unless
/// the caller goes away, which is the outer `None`.
async fn hand(shop: &Shop, message: &Message, deadline: Deadline) -> Option<Option<OwnedSemaphorePermit>> {
    let free = shop.hands.clone().acquire_owned();
    let free = async {
        // The semaphore is never closed.
        match deadline.at() {
            Some(at) => tokio::time::timeout_at(at, free).await.ok()?.ok(),
            None => free.await.ok(),
        }
    };
    match message.reply_to() {
        Some(reply_to) => shop.in_flight.guarded(reply_to, &CancellationToken::new(), free).await,
        None => Some(free.await),
    }
}

async fn turn_away(shop: &Shop, operation: &Operation, message: Message) {
    operation.stats.shed.fetch_add(1, Ordering::Relaxed);
    let pause = shed::pause(shop, &operation.stats);
    let problem = Problem::new(503, "overloaded", "the service is overloaded").retry_after(pause);
    reply(shop, operation, &message, Answer::problem(problem, wanted(&message))).await;
}

fn deadline(message: &Message, now: Instant) -> Deadline {
    let budget =
        message.header(header::TIMEOUT).and_then(|text| text.parse().ok()).map(Duration::from_millis);
    budget.map_or(Deadline::NONE, |budget| Deadline::until(now.checked_add(budget)))
}
