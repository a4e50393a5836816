//! What a group has seen, written down by handlers that do as they are told.

use std::sync::{Arc, Mutex};

use sinew::{Attempt, Group, Redelivery, Retry, State};

use super::*;
use crate::harness::{SOON, eventually};

/// What handlers have seen, and how many more attempts they are to fail.
#[derive(Clone, Default)]
pub(super) struct Book(Arc<Mutex<Pages>>);

#[derive(Default)]
struct Pages {
    entries: Vec<Entry>,
    failures: u32,
}

/// One attempt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) number: u32,
    pub(super) attempt: u32,
    pub(super) id: Option<String>,
    pub(super) redelivery: Option<Redelivery>,
}

impl Book {
    /// Makes the next `attempts` fail with an error that asks for another.
    pub(super) fn fail(&self, attempts: u32) {
        self.0.lock().unwrap().failures = attempts;
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        self.0.lock().unwrap().entries.clone()
    }

    pub(super) fn numbers(&self) -> Vec<u32> {
        self.entries().iter().map(|entry| entry.number).collect()
    }

    pub(super) fn attempts(&self) -> Vec<u32> {
        self.entries().iter().map(|entry| entry.attempt).collect()
    }

    /// Waits until that many attempts were begun.
    pub(super) async fn reaches(&self, attempts: usize) -> Vec<Entry> {
        eventually(SOON, || std::future::ready(self.entries().len() >= attempts)).await;
        self.entries()
    }
}

/// The service `mail` with group `mailer`.
pub(super) fn mail(book: &Book, configure: impl FnOnce(Group) -> Group) -> Service<Book> {
    Service::new("mail", book.clone()).on("mailer", write_down, configure)
}

/// Next to no delay.
pub(super) fn quick() -> Retry {
    Retry::exponential(Duration::from_millis(5), Duration::from_millis(20))
}

pub(super) async fn write_down(
    event: Noted,
    ctx: Ctx,
    Attempt(attempt): Attempt,
    State(book): State<Book>,
) -> Result<(), DeskError> {
    let mut pages = book.0.lock().unwrap();
    let (id, redelivery) = (ctx.event_id(), ctx.redelivery());
    pages.entries.push(Entry { number: event.number, attempt, id, redelivery });
    if pages.failures > 0 {
        pages.failures -= 1;
        return Err(DeskError::Busy);
    }
    Ok(())
}
