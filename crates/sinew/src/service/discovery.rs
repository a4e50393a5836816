//! Discovery: answers `$SRV.PING|INFO|STATS`, so that `nats micro` and every other NATS client sees the service.
//!
//! Source: NATS ADR-32, Service API.

use std::sync::{Arc, atomic::Ordering};

use bytes::Bytes;
use jiff::Timestamp;
use serde_json::{Value, json};
use sinew_wire::{ContentType, Headers, ServiceDescriptor, header};
use tokio_util::sync::CancellationToken;

use super::operation::Operation;
use crate::{
    Bus, Error,
    bus::{Message, Subscription},
};

pub(super) struct Discovery {
    bus: Bus,
    id: String,
    started: Timestamp,
    descriptor: ServiceDescriptor,
    operations: Vec<Arc<Operation>>,
    subscriptions: [Subscription; 3],
}

impl Discovery {
    pub(super) async fn open(
        bus: &Bus,
        descriptor: ServiceDescriptor,
        operations: Vec<Arc<Operation>>,
    ) -> Result<Self, Error> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        // The verb is the second token, so three wildcards stand for the nine subjects of the specification.
        let name = &descriptor.name;
        let subscriptions = [
            bus.subscribe("$SRV.*", None).await?,
            bus.subscribe(&format!("$SRV.*.{name}"), None).await?,
            bus.subscribe(&format!("$SRV.*.{name}.{id}"), None).await?,
        ];
        Ok(Self { bus: bus.clone(), id, started: Timestamp::now(), descriptor, operations, subscriptions })
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        loop {
            let [all, named, own] = &mut self.subscriptions;
            let message = tokio::select! {
                () = stop.cancelled() => return,
                message = all.next() => message,
                message = named.next() => message,
                message = own.next() => message,
            };
            let Some(message) = message else { return };
            self.answer(&message).await;
        }
    }

    async fn answer(&self, message: &Message) {
        let body = match message.subject().split('.').nth(1) {
            Some("PING") => self.head("ping"),
            Some("INFO") => self.info(),
            Some("STATS") => self.stats(),
            _ => return,
        };
        let Some(to) = message.reply_to() else { return };
        let mut headers = Headers::new();
        let _ = headers.set(header::CONTENT_TYPE, ContentType::Json.as_str());
        if let Err(error) = self.bus.publish(to, &headers, Bytes::from(body.to_string())).await {
            tracing::debug!(%error, "a discovery answer could not be sent");
        }
    }

    fn head(&self, kind: &str) -> Value {
        json!({
            "type": format!("io.nats.micro.v1.{kind}_response"),
            "name": self.descriptor.name,
            "id": self.id,
            "version": self.descriptor.version,
            "metadata": { "sinew": env!("CARGO_PKG_VERSION") },
        })
    }

    fn info(&self) -> Value {
        let endpoint = |operation: &sinew_wire::OperationDescriptor| {
            let mut metadata = serde_json::Map::new();
            metadata.insert("idempotent".into(), operation.idempotent.to_string().into());
            if operation.stream {
                metadata.insert("stream".into(), "true".into());
            }
            if operation.accepts {
                metadata.insert("accepts".into(), "true".into());
            }
            if self.descriptor.limits.as_ref().is_some_and(|limits| limits.commands > 0) {
                metadata.insert("commands".into(), "true".into());
            }
            if operation.upload.is_some() {
                metadata.insert("upload".into(), "true".into());
            }
            if let Some(http) = &operation.http {
                metadata.insert("http".into(), format!("{} {}", http.method, http.path).into());
            }
            json!({
                "name": operation.name,
                "subject": operation.subject,
                "queue_group": self.descriptor.name,
                "metadata": metadata,
            })
        };
        let endpoints: Vec<Value> = self.descriptor.operations.iter().map(endpoint).collect();
        let mut body = self.head("info");
        body["description"] = self.descriptor.description.clone().into();
        body["endpoints"] = endpoints.into();
        body
    }

    fn stats(&self) -> Value {
        let endpoint = |operation: &Arc<Operation>| {
            let stats = &operation.stats;
            let (requests, nanos) =
                (stats.requests.load(Ordering::Relaxed), stats.nanos.load(Ordering::Relaxed));
            json!({
                "name": &*operation.name,
                "subject": format!("svc.{}.{}", self.descriptor.name, operation.name),
                "queue_group": self.descriptor.name,
                "num_requests": requests,
                "num_errors": stats.errors.load(Ordering::Relaxed),
                "last_error": stats.last_error(),
                "processing_time": nanos,
                "average_processing_time": nanos.checked_div(requests).unwrap_or(0),
                "data": {
                    "panics": stats.panics.load(Ordering::Relaxed),
                    "shed": stats.shed.load(Ordering::Relaxed),
                    "cancelled": stats.cancelled.load(Ordering::Relaxed),
                    "in_flight": stats.in_flight(),
                },
            })
        };
        let endpoints: Vec<Value> = self.operations.iter().map(endpoint).collect();
        let mut body = self.head("stats");
        body["started"] = self.started.to_string().into();
        body["endpoints"] = endpoints.into();
        body
    }
}
