//! The front door: which protocol carries out a call.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::BoxStream;
use serde_json::Value;
use sinew_workflow::{Fault, Outcome, Protocol};
use tokio::time::Instant;

use crate::asyncapi::Heard;
use crate::authentication::Tokens;
use crate::client::Client;
use crate::document::Documents;
use crate::failure::Failure;
use crate::process::{Background, Swept};
use crate::secrets::{Revealer, scrub};
use crate::{Error, Settings, a2a, asyncapi, document, grpc, http, mcp, openapi, process};

/// Carries out calls; cheap to clone, one per process, so that connections and tokens are shared.
#[derive(Clone, Debug)]
pub struct Protocols {
    core: Arc<Core>,
}

/// One call, as the engine asks for it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// What carries it out.
    pub protocol: Protocol,
    /// The arguments of the task as the specification writes them, with their expressions computed.
    pub arguments: &'a Value,
    /// The idempotency key, sent along where the protocol has a place for it.
    pub key: &'a str,
    /// Which attempt it is, from 1: a repetition of the same one finds what the first left behind, such as a container.
    pub attempt: u32,
    /// How long it may take.
    pub limit: Duration,
    /// The trace it belongs to, as a `traceparent`.
    pub traceparent: Option<&'a str>,
}

/// Messages as they come, until the first error.
pub type Subscription = BoxStream<'static, Result<Heard, Box<Fault>>>;

/// What all calls share.
#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) settings: Settings,
    pub(crate) client: Client,
    pub(crate) tokens: Tokens,
    pub(crate) documents: Documents,
    pub(crate) background: Background,
    pub(crate) swept: Swept,
}

/// What belongs to one call, whatever its protocol.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scope<'a> {
    pub(crate) core: &'a Core,
    pub(crate) deadline: Instant,
    /// Empty where a document is fetched on nobody's behalf.
    pub(crate) key: &'a str,
    pub(crate) attempt: u32,
    pub(crate) traceparent: Option<&'a str>,
}

impl Protocols {
    /// Sets calls up.
    ///
    /// # Errors
    /// [`Error::Setting`] for certificates that cannot be read.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        let client = Client::new(&settings)?;
        let core = Core {
            client,
            settings,
            tokens: Tokens::default(),
            documents: Documents::default(),
            background: Background::default(),
            swept: Swept::default(),
        };
        Ok(Self { core: Arc::new(core) })
    }

    /// Carries out a call. Whatever goes wrong is an outcome; [the crate](crate) says which.
    ///
    /// # Cancel safety
    /// A dropped future leaves the outcome unknown: the other side may have done it.
    pub async fn call(&self, call: Call<'_>) -> Outcome {
        let Call { key, attempt, traceparent, .. } = call;
        let scope = Scope { key, attempt, traceparent, ..self.scope(call.limit) };
        let done = match call.protocol {
            Protocol::Http => http::call(scope, call.arguments).await,
            Protocol::OpenApi => openapi::call(scope, call.arguments).await,
            Protocol::Shell | Protocol::Script | Protocol::Container => {
                process::run(scope, call.protocol, call.arguments).await
            }
            Protocol::Mcp => mcp::call(scope, call.arguments).await,
            Protocol::A2a => a2a::call(scope, call.arguments).await,
            Protocol::Grpc => grpc::call(scope, call.arguments).await,
            Protocol::AsyncApi => asyncapi::publish(scope, call.arguments).await,
            other => Err(Failure::configuration(format!(
                "`{other}` is not called by a protocol: whoever runs the workflow does it"
            ))),
        };
        done.map_or_else(|failure| self.scrubbed(failure).into(), Outcome::Completed)
    }

    /// Fetches an external resource, such as a schema or a function: an `endpoint` as the specification writes it.
    ///
    /// # Errors
    /// The fault a task that needs it raises.
    pub async fn fetch(&self, endpoint: &Value, limit: Duration) -> Result<Bytes, Box<Fault>> {
        let scope = self.scope(limit);
        let fetched = document::fetch(scope, endpoint).await;
        fetched.map_err(|failure| self.scrubbed(failure).fault)
    }

    /// Fetches what describes a call, and looks whether it describes that call. Arguments that are not known yet are null;
    /// what depends on them is not looked at. Nothing is called.
    ///
    /// # Errors
    /// The fault a task that makes this call would raise.
    pub async fn examine(
        &self,
        protocol: Protocol,
        arguments: &Value,
        limit: Duration,
    ) -> Result<(), Box<Fault>> {
        let scope = self.scope(limit);
        let examined = match protocol {
            Protocol::OpenApi => openapi::examine(scope, arguments).await,
            Protocol::AsyncApi => asyncapi::examine(scope, arguments).await,
            Protocol::Grpc => grpc::examine(scope, arguments).await,
            Protocol::A2a => a2a::examine(scope, arguments).await,
            Protocol::Script => process::examine(scope, arguments).await,
            _ => Ok(()),
        };
        examined.map_err(|failure| self.scrubbed(failure).fault)
    }

    /// Subscribes to what a protocol has to say.
    ///
    /// `limit` is for each attempt to connect. A lost connection is replaced, after pauses of up to 30 s, as long as the
    /// other side does not say no; what it does not keep meanwhile is lost. The stream goes on until it is dropped, the
    /// other side says that there is no more, or it fails, after which it is over.
    ///
    /// # Errors
    /// The fault of a task that cannot subscribe.
    pub async fn subscribe(
        &self,
        protocol: Protocol,
        arguments: &Value,
        limit: Duration,
    ) -> Result<Subscription, Box<Fault>> {
        let begun = match protocol {
            Protocol::AsyncApi => asyncapi::subscribe(&self.core, arguments, limit).await,
            other => Err(Failure::configuration(format!("there is nothing to subscribe to in `{other}`"))),
        };
        let protocols = self.clone();
        let messages = begun.map_err(|failure| self.scrubbed(failure).fault)?;
        Ok(messages.map(move |message| message.map_err(|failure| protocols.scrubbed(failure).fault)).boxed())
    }

    /// Ends what goes on after its call was answered, such as processes nobody waits for, and waits for it.
    pub async fn close(&self) {
        self.core.background.close().await;
    }

    fn scope(&self, limit: Duration) -> Scope<'_> {
        Scope::nobodys(&self.core, limit)
    }

    /// Takes out what the other side repeated of our secrets.
    fn scrubbed(&self, mut failure: Failure) -> Failure {
        let fault = &mut failure.fault;
        for text in [&mut fault.title, &mut fault.detail, &mut fault.code].into_iter().flatten() {
            scrub(text, &self.core.settings.secrets);
        }
        failure
    }
}

/// Returns when a limit is over; one beyond what clocks count is as good as a year.
pub(crate) fn deadline(limit: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(365 * 86_400);
    Instant::now() + limit.min(YEAR)
}

impl<'a> Scope<'a> {
    /// Returns the scope of what is done on no call's behalf.
    pub(crate) fn nobodys(core: &'a Core, limit: Duration) -> Self {
        Self { core, deadline: deadline(limit), key: "", attempt: 1, traceparent: None }
    }

    /// Returns what reveals the placeholders of the call's arguments.
    pub(crate) fn revealer(&self) -> Revealer<'a> {
        Revealer::new(&self.core.settings.secrets)
    }
}
