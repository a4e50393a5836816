//! Subscriptions that outlive the client they were made on.

use futures::StreamExt;
use tokio::sync::watch;

use super::{Bus, ENQUEUE_TIMEOUT, Message, disconnected};
use crate::{Error, Kind};

/// A stream of messages. It ends only when it is closed or the bus is.
pub struct Subscription {
    bus: Bus,
    subject: String,
    group: Option<String>,
    generation: watch::Receiver<u64>,
    made_on: u64,
    drained: bool,
    inner: Option<async_nats::Subscriber>,
}

impl Subscription {
    pub(super) async fn open(bus: Bus, subject: &str, group: Option<&str>) -> Result<Self, Error> {
        let generation = bus.shared.generation.clone();
        let mut new = Self {
            bus,
            subject: subject.to_owned(),
            group: group.map(str::to_owned),
            generation,
            made_on: 0,
            drained: false,
            inner: None,
        };
        new.reopen().await?;
        Ok(new)
    }

    /// Returns the next message; `None` once closed.
    ///
    /// # Cancel safety
    /// Cancel safe: no message is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Message> {
        if self.drained {
            return self.next_drained().await;
        }
        loop {
            let Some(inner) = &mut self.inner else {
                if self.reopen().await.is_err() {
                    self.wait_for_client().await?;
                }
                continue;
            };
            tokio::select! {
                biased;
                message = inner.next() => match message {
                    Some(message) => return Some(Message::new(message)),
                    None => self.lost(),
                },
                () = self.bus.shared.stop.cancelled() => return None,
            }
            self.wait_for_client().await?;
        }
    }

    /// Stops taking new messages; what the server already sent can still be read until `None`.
    ///
    /// The library's own drain forgets the subscription before the server has heard of it, and loses what is on the
    /// way. So the server is told first, by a limit it reads as "at once" and the library as "never"; its confirmation
    /// comes behind the last message, and only then is the subscription given up.
    pub async fn drain(&mut self) {
        self.drained = true;
        let Some(inner) = &mut self.inner else { return };
        if inner.unsubscribe_after(u64::MAX).await.is_ok()
            && let Err(error) = self.bus.barrier().await
        {
            tracing::debug!(subject = self.subject, %error, "the server did not confirm the end of a subscription");
        }
        if inner.unsubscribe().await.is_err() {
            self.inner = None;
        }
    }

    /// Reads what is left after [`Subscription::drain`]; `None` when all is read.
    pub async fn next_drained(&mut self) -> Option<Message> {
        self.inner.as_mut()?.next().await.map(Message::new)
    }

    fn lost(&mut self) {
        self.inner = None;
        let _ = self.bus.shared.dead.send(self.made_on);
    }

    async fn wait_for_client(&mut self) -> Option<()> {
        if self.bus.shared.stop.is_cancelled() {
            return None;
        }
        let (stop, made_on) = (self.bus.shared.stop.clone(), self.made_on);
        tokio::select! {
            changed = self.generation.wait_for(|now| *now > made_on) => changed.ok().map(|_| ()),
            () = stop.cancelled() => None,
        }
    }

    async fn reopen(&mut self) -> Result<(), Error> {
        // The number is read first: if the client changes in between, the next report is about an older one and the
        // subscription is simply made again.
        self.made_on = *self.generation.borrow_and_update();
        let client = self.bus.shared.client.load_full();
        let subject = self.subject.clone();
        let making = async {
            match &self.group {
                Some(group) => client.queue_subscribe(subject, group.clone()).await,
                None => client.subscribe(subject).await,
            }
        };
        let Ok(made) = tokio::time::timeout(ENQUEUE_TIMEOUT, making).await else {
            return Err(disconnected());
        };
        match made {
            Ok(inner) => {
                self.inner = Some(inner);
                Ok(())
            }
            Err(error) if error.kind() == async_nats::client::SubscribeErrorKind::Other => {
                let _ = self.bus.shared.dead.send(self.made_on);
                Err(disconnected().because(error))
            }
            Err(error) => {
                Err(Error::new(Kind::Config, format!("cannot subscribe to {}", self.subject)).because(error))
            }
        }
    }
}
