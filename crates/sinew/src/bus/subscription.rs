//! Subscriptions that outlive the client they were made on.

use futures::StreamExt;
use tokio::sync::watch;

use super::{Bus, Message};
use crate::{Error, Kind};

/// A stream of messages. It ends only when it is closed or the bus is.
pub struct Subscription {
    bus: Bus,
    subject: String,
    group: Option<String>,
    generation: watch::Receiver<u64>,
    made_on: u64,
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
        let stop = self.bus.shared.stop.clone();
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
                () = stop.cancelled() => return None,
            }
            self.wait_for_client().await?;
        }
    }

    /// Stops taking new messages; what the server already sent can still be read until `None`.
    pub async fn drain(&mut self) {
        if let Some(inner) = &mut self.inner
            && inner.drain().await.is_err()
        {
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
        let made = match &self.group {
            Some(group) => client.queue_subscribe(subject, group.clone()).await,
            None => client.subscribe(subject).await,
        };
        match made {
            Ok(inner) => {
                self.inner = Some(inner);
                Ok(())
            }
            Err(error) if error.kind() == async_nats::client::SubscribeErrorKind::Other => {
                let _ = self.bus.shared.dead.send(self.made_on);
                Err(Error::new(Kind::Disconnected, "the connection is being rebuilt").because(error))
            }
            Err(error) => {
                Err(Error::new(Kind::Config, format!("cannot subscribe to {}", self.subject)).because(error))
            }
        }
    }
}
