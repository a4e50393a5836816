//! Groups that take events by name, whatever is in them: for roles that hand events on.

use std::{sync::Arc, time::Duration};

use sinew_wire::{Problem, Subject};
use tokio_util::task::TaskTracker;

use super::{Failure, Group, Halt, Health, React, lanes, ordered::Order, validate, worker};
use crate::{Bus, Ctx, Error, Kind, bus::Message};

/// A group that takes events by name, with all that holds for any group: every event at least once, tried again as its
/// [`Retry`](crate::Retry) says, then kept as a dead letter; members of one name share the work.
///
/// ```no_run
/// # async fn run(bus: sinew::Bus) -> Result<(), sinew::Error> {
/// let reaction = sinew::Events::named("audit", "writer", &["orders.*".to_owned(), "stock.low".to_owned()])
///     .configure(|group| group.concurrency(4))
///     .start(&bus, |message, _ctx| async move {
///         println!("{} bytes on {}", message.payload().len(), message.subject());
///         Ok(())
///     })
///     .await?;
/// sinew::shutdown::requested().await;
/// reaction.drain(std::time::Duration::from_secs(10)).await;
/// # Ok(()) }
/// ```
pub struct Events {
    service: Arc<str>,
    names: Vec<String>,
    group: Group,
    order: Option<Order>,
}

/// A member of such a group at work. Call [`Reaction::drain`] before the process ends.
#[must_use = "a reaction that is dropped stops without handing back what it holds"]
pub struct Reaction {
    halt: Halt,
    tasks: TaskTracker,
    health: Health,
}

impl Events {
    /// Names who takes which events, each as `<domain>.<event>`; `*` stands for every domain or event. Names must not
    /// overlap.
    pub fn named(service: &str, group: &str, names: &[String]) -> Self {
        Self { service: service.into(), names: names.to_vec(), group: Group::new(group), order: None }
    }

    /// Sets how the group works.
    #[must_use]
    pub fn configure(mut self, configure: impl FnOnce(Group) -> Group) -> Self {
        self.group = configure(self.group);
        self
    }

    /// Handles events of one key in the order they were stored, as [`Group::ordered_by`] says. The key is read from the
    /// media type and the payload; what has none is a dead letter.
    #[must_use]
    pub fn ordered_by(
        mut self,
        key: impl Fn(Option<&str>, &[u8]) -> Result<String, String> + Send + Sync + 'static,
    ) -> Self {
        let read = move |media_type: Option<&str>, payload: &[u8]| Ok(lanes::key(&key(media_type, payload)?));
        self.order = Some(Order::by(Arc::new(read)));
        self
    }

    /// Joins the group and begins to work. A handler that fails with a problem that asks for a pause gets it.
    ///
    /// # Errors
    /// [`Kind::Config`] for a name that is none, [`Kind::JetStream`] when the server refuses the consumer.
    pub async fn start<H, F>(self, bus: &Bus, handler: H) -> Result<Reaction, Error>
    where
        H: Fn(Message, Ctx) -> F + Send + Sync + 'static,
        F: Future<Output = Result<(), Problem>> + Send + 'static,
    {
        validate(&self.group)?;
        let subjects = self.names.iter().map(|name| subject(name)).collect::<Result<Vec<_>, _>>()?;
        let react: React = Arc::new(move |message, ctx| {
            let handled = handler(message, ctx);
            Box::pin(async move { handled.await.map_err(Failure::Handler) })
        });
        let (tasks, halt) = (TaskTracker::new(), Halt::default());
        let event = format!("{} {}", self.service, self.group.name);
        let (subject, event) = (subjects.join(",").into(), event.into());
        let spec = worker::Spec { group: self.group, subject, event, react, order: self.order };
        let health = worker::start(spec, bus.clone(), self.service, &tasks, halt.clone()).await?;
        tasks.close();
        Ok(Reaction { halt, tasks, health })
    }
}

impl Reaction {
    /// Says whether the server answered lately.
    pub fn is_alive(&self) -> bool {
        self.health.is_alive()
    }

    /// Takes nothing new, finishes what is in work within `limit`, and hands back the rest.
    ///
    /// # Cancel safety
    /// Dropping the future stops without waiting any longer.
    pub async fn drain(self, limit: Duration) {
        self.halt.stop.cancel();
        if tokio::time::timeout(limit, self.tasks.wait()).await.is_err() {
            self.halt.abandon.cancel();
            self.tasks.wait().await;
        }
    }
}

impl Drop for Reaction {
    fn drop(&mut self) {
        self.halt.stop.cancel();
        self.halt.abandon.cancel();
    }
}

fn subject(name: &str) -> Result<String, Error> {
    // A star is no token of a subject that is published to.
    let plain =
        name.split('.').map(|token| if token == "*" { "x" } else { token }).collect::<Vec<_>>().join(".");
    let usable = !name.contains(',') && Subject::event(&plain).is_ok();
    usable.then(|| format!("evt.{name}")).ok_or_else(|| {
        Error::new(Kind::Config, format!("{name:?} names no events: write domain.event, or domain.*"))
    })
}
