//! The webhooks at work: one task owns them, starts and ends them as configurations come, and leaves alone what goes on.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::future::join_all;
use sinew::{Bus, Events, Reaction, Retry};
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

use super::{Sender, key};
use crate::{Error, Kind, WebhookChanges, WebhookInfo, config::Webhook, observe::Tallies};

/// The service that the groups of webhooks belong to.
const SERVICE: &str = "edge";

/// A handle to all webhooks of an edge.
pub(crate) struct Webhooks {
    changes: mpsc::Sender<Change>,
    told: Told,
    task: AbortOnDropHandle<()>,
}

/// Has other webhooks put into the place of those at work.
#[derive(Clone, Debug)]
pub(crate) struct Changer(mpsc::Sender<Change>);

type Change = (Vec<Webhook>, oneshot::Sender<Result<WebhookChanges, Error>>);

/// What is told of those at work.
type Told = Arc<ArcSwap<Vec<WebhookInfo>>>;

/// The task's own.
struct Owner {
    bus: Bus,
    limit: Duration,
    running: Vec<(Webhook, Reaction)>,
    told: Told,
    tallies: Tallies,
}

impl Webhooks {
    /// Starts all of them. `limit` is how long one that ends may take to finish what is under way.
    ///
    /// # Errors
    /// [`Kind::Config`] for a secret that was not read, [`Kind::Bus`] when a consumer cannot be made.
    pub(crate) async fn start(
        webhooks: &[Webhook],
        bus: &Bus,
        limit: Duration,
        tallies: Tallies,
    ) -> Result<Self, Error> {
        let (bus, told) = (bus.clone(), Told::default());
        let mut owner = Owner { bus, limit, running: Vec::new(), told, tallies };
        owner.change(webhooks.to_vec()).await?;
        let (told, (changes, coming)) = (owner.told.clone(), mpsc::channel(1));
        Ok(Self { changes, told, task: AbortOnDropHandle::new(tokio::spawn(owner.run(coming))) })
    }

    /// Returns the way to other ones.
    pub(crate) fn changer(&self) -> Changer {
        Changer(self.changes.clone())
    }

    /// Returns what there is to know about those at work.
    pub(crate) fn told(&self) -> Vec<WebhookInfo> {
        self.told.load().to_vec()
    }

    /// Finishes what is under way, bounded in time.
    pub(crate) async fn drain(self) {
        let (answer, ended) = oneshot::channel();
        // Without any, all of them end; whoever still holds a way to other ones finds it closed.
        if self.changes.send((Vec::new(), answer)).await.is_ok() {
            let _ = ended.await;
        }
        drop(self.task);
    }
}

impl Changer {
    /// Starts what is new, ends what is there no more, leaves alone what stays as it was, and says which is which.
    ///
    /// # Errors
    /// As [`Webhooks::start`]; then nothing has changed.
    pub(crate) async fn change(&self, webhooks: Vec<Webhook>) -> Result<WebhookChanges, Error> {
        let (answer, changed) = oneshot::channel();
        let gone = || Error::new(Kind::Bus, "the webhooks cannot change: the edge has ended");
        self.0.send((webhooks, answer)).await.map_err(|_| gone())?;
        changed.await.map_err(|_| gone())?
    }
}

impl Owner {
    async fn run(mut self, mut changes: mpsc::Receiver<Change>) {
        while let Some((webhooks, answer)) = changes.recv().await {
            let changed = self.change(webhooks).await;
            // Who asked may have gone; the change counts all the same.
            let _ = answer.send(changed);
        }
        join_all(self.running.into_iter().map(|(_, reaction)| reaction.drain(self.limit))).await;
    }

    async fn change(&mut self, webhooks: Vec<Webhook>) -> Result<WebhookChanges, Error> {
        let told = WebhookInfo::all(&webhooks);
        let before: Vec<Webhook> = self.running.iter().map(|(own, _)| own.clone()).collect();
        let changes = WebhookChanges::between(&before, &webhooks);
        let goes_on = |own: &Webhook| self.running.iter().any(|(running, _)| running == own);
        // Those of the same name share a group: a new one takes over from the old without a gap.
        let new = join_all(
            webhooks.iter().filter(|own| !goes_on(own)).map(|own| begin(own, &self.bus, &self.tallies)),
        )
        .await;
        let (mut begun, mut failed) = (Vec::new(), None);
        for one in new {
            match one {
                Ok(one) => begun.push(one),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        if let Some(error) = failed {
            self.end(begun).await;
            return Err(error);
        }
        let stay = |(own, _): &mut (Webhook, Reaction)| webhooks.contains(own);
        let over: Vec<_> = self.running.extract_if(.., |one| !stay(one)).collect();
        for (what, list) in [("started", &begun), ("ended", &over)] {
            let names: Vec<&str> = list.iter().map(|(own, _)| own.name.as_str()).collect();
            if !names.is_empty() {
                tracing::info!(webhooks = names.join(", "), "{what}");
            }
        }
        self.running.extend(begun);
        self.told.store(told.into());
        self.end(over).await;
        Ok(changes)
    }

    async fn end(&self, webhooks: Vec<(Webhook, Reaction)>) {
        join_all(webhooks.into_iter().map(|(_, reaction)| reaction.drain(self.limit))).await;
    }
}

async fn begin(webhook: &Webhook, bus: &Bus, tallies: &Tallies) -> Result<(Webhook, Reaction), Error> {
    let sender = Arc::new(Sender::new(webhook, tallies)?);
    let retry = &webhook.retry;
    let pauses =
        Retry::exponential(Duration::from_millis(retry.first_ms), Duration::from_millis(retry.longest_ms));
    let pauses = pauses.attempts(retry.attempts);
    let events = Events::named(SERVICE, &webhook.name, &crate::feed::names(&webhook.events));
    let begin = webhook.from.begin().unwrap_or_default();
    let mut events =
        events.configure(|group| group.concurrency(webhook.concurrency).retry(pauses).begin(begin));
    if let Some(pointer) = webhook.order_by.clone() {
        events = events.ordered_by(move |media_type, payload| key(&pointer, media_type, payload));
    }
    let reaction = events.start(bus, move |message, ctx| {
        let sender = sender.clone();
        async move { sender.deliver(message, ctx).await }
    });
    let failed = |error: sinew::Error| {
        Error::new(Kind::Bus, format!("webhook {} cannot start: {error}", webhook.name)).because(error)
    };
    Ok((webhook.clone(), reaction.await.map_err(failed)?))
}
