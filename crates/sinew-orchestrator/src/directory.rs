//! Where operations are: contracts from the catalogue, and what other services say of themselves. Never a guess.
//!
//! A task owns the map and follows the catalogue; askers read a snapshot.

use std::{collections::HashMap, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Deserialize;
use sinew::{
    Bus, Catalogue, CatalogueChange,
    wire::{ContentType, Headers, OperationDescriptor},
};
use sinew_workflow::{Contracts, Operation};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::Error;

/// How long a service that is not in the catalogue may take to introduce itself.
const INTRODUCTION: Duration = Duration::from_millis(500);

/// Where an operation is asked, and in what format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) subject: String,
    pub(crate) codec: ContentType,
    /// Whether it answers with a stream, which a step cannot take.
    pub(crate) stream: bool,
    /// Whether asking twice is harmless; `None` where its contract is not known.
    pub(crate) idempotent: Option<bool>,
    /// Whether its service takes commands.
    pub(crate) commands: bool,
    /// Whether it may take work on and bring the result later; so may what nothing is known of.
    pub(crate) accepts: bool,
}

/// The known operations; a cheap handle.
#[derive(Clone)]
pub(crate) struct Directory {
    bus: Bus,
    known: watch::Receiver<Arc<Known>>,
}

type Known = HashMap<String, HashMap<String, Arc<Endpoint>>>;

/// The contracts of this moment.
pub(crate) struct Listed(Arc<Known>);

/// The parts of a `$SRV.INFO` answer that matter here.
#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    endpoints: Vec<InfoEndpoint>,
    #[serde(default)]
    metadata: Option<HashMap<String, String>>,
}

#[derive(Deserialize)]
struct InfoEndpoint {
    name: String,
    subject: String,
    #[serde(default)]
    metadata: Option<HashMap<String, String>>,
}

impl Directory {
    pub(crate) async fn open(
        bus: &Bus,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self, Error> {
        let catalogue = Catalogue::open(bus).await?;
        let (sender, known) = watch::channel(Arc::new(Known::new()));
        tasks.spawn(follow(catalogue, sender, stop.clone()));
        Ok(Self { bus: bus.clone(), known })
    }

    /// Finds an operation; asks the service itself when the catalogue does not know it.
    pub(crate) async fn find(&self, target: &Operation) -> Option<Arc<Endpoint>> {
        let known =
            self.known.borrow().get(&*target.service).and_then(|ops| ops.get(&*target.operation)).cloned();
        let introduced = match known {
            Some(endpoint) => Some(endpoint),
            None if target.subject.is_some() => None,
            None => Box::pin(self.introduce(target)).await.map(Arc::new),
        };
        match &target.subject {
            Some(subject) => {
                let known = introduced.as_deref().cloned().unwrap_or_else(|| Endpoint::foreign(""));
                Some(Arc::new(Endpoint { subject: subject.to_string(), ..known }))
            }
            None => introduced,
        }
    }

    /// Returns what the catalogue says now, for documents to be checked against.
    pub(crate) fn contracts(&self) -> Listed {
        Listed(self.known.borrow().clone())
    }

    /// Asks a service that is not in the catalogue, such as one written with another language's client.
    async fn introduce(&self, target: &Operation) -> Option<Endpoint> {
        let subject = format!("$SRV.INFO.{}", target.service);
        let reply = self.bus.request(&subject, &Headers::new(), Bytes::new(), INTRODUCTION).await.ok()?;
        let info: Info = serde_json::from_slice(reply.payload()).ok()?;
        let ours = info.metadata.is_some_and(|metadata| metadata.contains_key("sinew"));
        let endpoint = info.endpoints.into_iter().find(|endpoint| *endpoint.name == *target.operation)?;
        let codec = if ours { ContentType::MessagePack } else { ContentType::Json };
        let said = |name| endpoint.metadata.as_ref().is_some_and(|metadata| metadata.contains_key(name));
        Some(Endpoint {
            codec,
            stream: said("stream"),
            commands: said("commands"),
            accepts: !ours || said("accepts"),
            ..Endpoint::foreign(&endpoint.subject)
        })
    }
}

impl Endpoint {
    /// What nothing is known of but its subject.
    fn foreign(subject: &str) -> Self {
        Self {
            subject: subject.to_owned(),
            codec: ContentType::Json,
            stream: false,
            idempotent: None,
            commands: false,
            accepts: true,
        }
    }
}

impl Contracts for Listed {
    fn find(&self, service: &str, operation: &str) -> sinew_workflow::Known {
        let Some(operations) = self.0.get(service) else { return sinew_workflow::Known::Nothing };
        match operations.get(operation) {
            Some(endpoint) => match endpoint.idempotent {
                Some(idempotent) => sinew_workflow::Known::Operation { idempotent },
                None => sinew_workflow::Known::Nothing,
            },
            None => sinew_workflow::Known::Missing { others: operations.keys().cloned().collect() },
        }
    }
}

async fn follow(catalogue: Catalogue, known: watch::Sender<Arc<Known>>, stop: CancellationToken) {
    let mut watch = catalogue.watch();
    loop {
        let change = tokio::select! {
            change = watch.next() => change,
            () = stop.cancelled() => return,
        };
        let mut next = Known::clone(&known.borrow());
        match change {
            Some(CatalogueChange::Served(service)) => {
                let commands = service.limits.is_some_and(|limits| limits.commands > 0);
                let operations = service.operations.into_iter().map(|operation| listed(operation, commands));
                next.insert(service.name, operations.collect());
            }
            Some(CatalogueChange::Removed(service)) => {
                next.remove(&service);
            }
            None => return,
        }
        known.send_replace(Arc::new(next));
    }
}

fn listed(operation: OperationDescriptor, commands: bool) -> (String, Arc<Endpoint>) {
    let OperationDescriptor { name, subject, stream, accepts, idempotent, .. } = operation;
    let (codec, idempotent) = (ContentType::MessagePack, Some(idempotent));
    (name, Arc::new(Endpoint { subject, codec, stream, idempotent, commands, accepts }))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_operation_that_streams_is_known_as_one() {
        let described = |stream: bool| {
            let text = json!({
                "name": "rows", "subject": "svc.reports.rows", "stream": stream, "request": true, "reply": true,
            });
            serde_json::from_value::<OperationDescriptor>(text).unwrap()
        };
        for stream in [true, false] {
            let (name, endpoint) = listed(described(stream), false);
            assert_eq!((name.as_str(), endpoint.stream), ("rows", stream));
        }
    }

    #[test]
    fn documents_are_held_against_the_contracts_of_this_moment() {
        let described = |name: &str, idempotent: bool| {
            let text = json!({
                "name": name, "subject": "svc.pay.x", "idempotent": idempotent, "request": true, "reply": true,
            });
            serde_json::from_value::<OperationDescriptor>(text).unwrap()
        };
        let operations =
            [described("charge", false), described("refund", true)].map(|operation| listed(operation, false));
        let listed = Listed(Arc::new(Known::from([("pay".to_owned(), HashMap::from(operations))])));
        let found = |service, operation| listed.find(service, operation);
        assert_eq!(found("pay", "charge"), sinew_workflow::Known::Operation { idempotent: false });
        assert_eq!(found("pay", "refund"), sinew_workflow::Known::Operation { idempotent: true });
        assert!(
            matches!(found("pay", "chrge"), sinew_workflow::Known::Missing { others } if others.len() == 2)
        );
        assert_eq!(found("mail", "send"), sinew_workflow::Known::Nothing);
    }
}
