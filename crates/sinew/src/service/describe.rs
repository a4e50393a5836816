//! What a service says of itself without a broker: its descriptor, and the hook by which a tool asks a program for it.

use std::{io::Write, time::Duration};

use sinew_wire::{
    Event, EventDescriptor, LimitsDescriptor, Request, RequirementDescriptor, ServiceDescriptor,
    StreamRequest, UploadRequest,
};

use super::Service;
use crate::{Error, Kind};

/// The variable that makes [`Service::run`] describe instead of serve.
const DESCRIBE: &str = "SINEW_DESCRIBE";

/// What only the author can say: handlers reach others through [`crate::Ctx`], which no type shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    publishes: Vec<EventDescriptor>,
    requires: Vec<RequirementDescriptor>,
}

impl<S: Clone + Send + Sync + 'static> Service<S> {
    /// Says that handlers publish `E`. Nothing is enforced here: it is what `sinew describe` derives the service's
    /// permissions from, and `sinew check` the streams that have to exist.
    ///
    /// ```
    /// use schemars::JsonSchema;
    /// use serde::{Deserialize, Serialize};
    /// use sinew::{Event, Request, Service};
    ///
    /// #[derive(Event, Serialize, Deserialize, JsonSchema)]
    /// #[sinew(subject = "orders.placed")]
    /// struct OrderPlaced { id: String }
    ///
    /// #[derive(Request, Serialize, Deserialize, JsonSchema)]
    /// #[sinew(subject = "inventory.reserve", reply = bool)]
    /// struct Reserve { sku: String }
    ///
    /// let orders = Service::new("orders", ()).publishes::<OrderPlaced>().requires::<Reserve>();
    /// let described = orders.describe();
    /// assert_eq!(described.publishes[0].subject, "evt.orders.placed");
    /// assert_eq!(described.requires[0].subject, "svc.inventory.reserve");
    /// ```
    #[must_use]
    pub fn publishes<E: Event>(mut self) -> Self {
        let stands = |known: &EventDescriptor| known.subject == E::SUBJECT && known.version == E::VERSION;
        if !self.said.publishes.iter().any(stands) {
            self.said.publishes.push(E::descriptor());
        }
        self
    }

    /// Says that handlers call `R`, an operation of another service. As [`Service::publishes`], for calls.
    #[must_use]
    pub fn requires<R: Request>(self) -> Self {
        self.needs(R::SERVICE, R::OPERATION, R::SUBJECT, |_| {})
    }

    /// Says that handlers ask for the stream `R`. As [`Service::requires`], for streams.
    #[must_use]
    pub fn requires_stream<R: StreamRequest>(self) -> Self {
        self.needs(R::SERVICE, R::OPERATION, R::SUBJECT, |required| required.stream = true)
    }

    /// Says that handlers send the upload `R`. As [`Service::requires`], for uploads.
    #[must_use]
    pub fn requires_upload<R: UploadRequest>(self) -> Self {
        self.needs(R::SERVICE, R::OPERATION, R::SUBJECT, |required| required.upload = true)
    }

    fn needs(
        mut self,
        service: &str,
        operation: &str,
        subject: &str,
        mark: impl FnOnce(&mut RequirementDescriptor),
    ) -> Self {
        if self.said.requires.iter().all(|known| known.subject != subject) {
            let (service, operation, subject) = (service.into(), operation.into(), subject.into());
            let mut required =
                RequirementDescriptor { service, operation, subject, stream: false, upload: false };
            mark(&mut required);
            self.said.requires.push(required);
        }
        self
    }

    /// Describes the service: operations and groups with the policies in force. Needs no broker.
    pub fn describe(&self) -> ServiceDescriptor {
        ServiceDescriptor {
            name: self.name.clone(),
            version: self.version.clone(),
            description: self.description.clone(),
            operations: self.routes.iter().map(|route| route.descriptor.clone()).collect(),
            groups: self.groups.iter().map(|group| group.describe()).collect(),
            publishes: self.said.publishes.clone(),
            requires: self.said.requires.clone(),
            dependencies: self.calls.describe(),
            limits: Some(LimitsDescriptor {
                concurrency: u64::try_from(self.concurrency).unwrap_or(u64::MAX),
                queue: u64::try_from(self.queue).unwrap_or(u64::MAX),
                drain_ms: milliseconds(self.drain),
                commands: u64::try_from(self.commands).unwrap_or(u64::MAX),
            }),
        }
    }
}

/// Says whether this process was started to be described, not to serve.
///
/// The library reads this one variable itself: a program cannot be asked to read it, as it was written before anybody
/// thought of asking.
pub(super) fn is_asked() -> bool {
    std::env::var_os(DESCRIBE).is_some_and(|value| value == "1")
}

/// Prints a descriptor as one line; whatever else the program prints stands on other lines.
pub(super) fn print(descriptor: &ServiceDescriptor) -> Result<(), Error> {
    let mut line = serde_json::to_vec(descriptor)
        .map_err(|error| Error::new(Kind::Codec, "the description cannot be written").because(error))?;
    line.push(b'\n');
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(&line).and_then(|()| stdout.flush());
    written.map_err(|error| Error::new(Kind::Config, "nobody reads the description").because(error))
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
