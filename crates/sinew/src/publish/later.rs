//! Publishing later: once, at a moment; or again and again.

use std::{
    future::{Future, IntoFuture},
    pin::Pin,
    time::Duration,
};

use jiff::Timestamp;
use sinew_wire::{Event, header};

use super::{Prepared, Publish, offer};
use crate::{
    Error,
    schedule::{self, Declared, Recurrence, ScheduleId, Scheduled},
};

/// An event to be published later; awaiting it waits until the server has it in keeping.
#[must_use = "an event is not scheduled until it is awaited"]
pub struct PublishLater<E> {
    publish: Publish<E>,
    when: When,
}

/// A recurring event to be declared; awaiting it waits until the server has it in keeping.
#[must_use = "a recurring event is not declared until it is awaited"]
pub struct PublishRepeatedly<E> {
    publish: Publish<E>,
    name: String,
    recurrence: Recurrence,
}

enum When {
    After(Duration),
    At(Timestamp),
}

impl<E: Event> Publish<E> {
    /// Publishes the event when `delay` is over, as the clock of this process counts; up to half a second late.
    ///
    /// Publishing it again under the same [id](Publish::id) before it is due moves it: one waits, the later one.
    pub fn after(self, delay: Duration) -> PublishLater<E> {
        PublishLater { publish: self, when: When::After(delay) }
    }

    /// Publishes the event at `due`, or at once when that has passed; otherwise as [`Publish::after`].
    pub fn at(self, due: Timestamp) -> PublishLater<E> {
        PublishLater { publish: self, when: When::At(due) }
    }

    /// Publishes the event again and again, from now on, whether this process lives or not.
    ///
    /// The name tells it from other recurring events of this service. Declaring the same again changes nothing, so
    /// every replica may do it at its start; declaring it differently takes the place of what stood.
    pub fn repeat(self, name: impl Into<String>, recurrence: Recurrence) -> PublishRepeatedly<E> {
        PublishRepeatedly { publish: self, name: name.into(), recurrence }
    }
}

impl<E: Event> PublishLater<E> {
    async fn send(self) -> Result<Scheduled, Error> {
        let due = match self.when {
            When::After(delay) => schedule::after(self.publish.ctx.now(), delay),
            When::At(due) => due,
        };
        let Prepared { ctx, id, mut headers, payload } = self.publish.prepare(Some(due))?;
        let id = ScheduleId::new(ctx.service(), E::NAME, &id)?;
        schedule::order(&mut headers, due, E::SUBJECT)?;
        // The same event for another time is another message, or moving it would be taken for a repetition.
        headers.set(header::MESSAGE_ID, format!("{id}@{due}"))?;
        offer(&ctx, &id.subject(), E::NAME, headers, payload).await?;
        Ok(Scheduled { id, due })
    }
}

impl<E: Event> PublishRepeatedly<E> {
    async fn send(self) -> Result<Declared, Error> {
        let Prepared { ctx, mut headers, payload, .. } = self.publish.prepare(None)?;
        // Each occurrence happens at a time of its own; the stream says when.
        headers.remove("ce-time");
        schedule::declare(&ctx, &self.name, &self.recurrence, E::SUBJECT, headers, payload).await
    }
}

impl<E: Event> IntoFuture for PublishLater<E> {
    type Output = Result<Scheduled, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

impl<E: Event> IntoFuture for PublishRepeatedly<E> {
    type Output = Result<Declared, Error>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}
