//! Stand-ins for the services that the tested ones call.

use std::sync::Arc;

use futures::future::BoxFuture;
use sinew_wire::{ContentType, Headers, Problem, Request, ServiceError, header};
use tokio::task::JoinHandle;

use super::{fail, network::Network, server::Packet};
use crate::{
    Answer, Bus, Ctx, Deadline,
    bus::{Message, Subscription},
    error::DEADLINE_EXCEEDED,
};

/// How a call to a stand-in ends.
#[derive(Debug)]
pub enum Stub<R: Request> {
    /// With a reply.
    Replies(R::Reply),
    /// With an error the operation declares.
    Refuses(R::Error),
    /// With a problem it does not declare.
    Fails(Problem),
    /// Unanswered, and so with an unknown outcome. The caller learns it at once: no test waits for time to pass.
    TimesOut,
    /// As if nobody served the operation: nothing was done.
    Absent,
    /// As a call too many.
    #[doc(hidden)]
    Exhausted,
}

type Respond = Box<dyn Fn(Message, Ctx) -> BoxFuture<'static, Option<Answer>> + Send + Sync>;

/// A stand-in that does not stand yet.
pub(super) struct Stand {
    subject: &'static str,
    service: &'static str,
    respond: Respond,
}

impl Stand {
    pub(super) fn of<R: Request>(
        answer: impl Fn(R, Ctx) -> BoxFuture<'static, Stub<R>> + Send + Sync + 'static,
    ) -> Self {
        let respond: Respond = Box::new(move |message, ctx| match read::<R>(&message) {
            Ok(request) => {
                let stub = answer(request, ctx);
                Box::pin(async move { stub.await.into_answer() })
            }
            Err(reason) => {
                let problem =
                    Problem::new(400, "malformed-request", "the request does not fit").detail(reason);
                Box::pin(std::future::ready(Some(Answer::problem(problem, ContentType::MessagePack))))
            }
        });
        Self { subject: R::SUBJECT, service: R::SERVICE, respond }
    }

    /// Stands in from now on, until the task is ended.
    pub(super) async fn start(self, bus: &Bus, network: &Arc<Network>) -> JoinHandle<()> {
        let requests = match bus.subscribe(self.subject, Some(self.service)).await {
            Ok(requests) => requests,
            Err(error) => fail(&format!("nobody can stand in for {}: {error}", self.subject)),
        };
        tokio::spawn(self.serve(requests, bus.clone(), network.clone()))
    }

    async fn serve(self, mut requests: Subscription, bus: Bus, network: Arc<Network>) {
        let service: Arc<str> = self.service.into();
        while let Some(request) = requests.next().await {
            let Some(reply) = request.reply_to().map(str::to_owned) else { continue };
            let ctx = Ctx::new(&bus, &service, request.clone(), Deadline::NONE, request.trace(), 1);
            let packet = match (self.respond)(request, ctx).await {
                Some(answer) => Packet { headers: answer.headers, ..Packet::new(reply, answer.payload) },
                None => Packet { status: Some(503), ..Packet::new(reply, "") },
            };
            network.publish(packet);
        }
    }
}

impl<R: Request> Stub<R> {
    /// Returns what is sent back; `None` where nobody is there to send it.
    fn into_answer(self) -> Option<Answer> {
        let problem = |problem| Some(Answer::problem(problem, ContentType::MessagePack));
        match self {
            Self::Absent => None,
            Self::Replies(reply) => match sinew_wire::encode(ContentType::MessagePack, &reply) {
                Ok(payload) => {
                    let mut headers = Headers::new();
                    let _ = headers.set(header::CONTENT_TYPE, ContentType::MessagePack.as_str());
                    Some(Answer { headers, payload, problem: None, items: None, line: None })
                }
                Err(error) => problem(
                    Problem::new(500, "stub", "the stub's reply cannot be encoded").detail(error.to_string()),
                ),
            },
            Self::Refuses(error) => problem(error.to_problem()),
            Self::Fails(failed) => problem(failed),
            Self::TimesOut => problem(Problem::new(504, DEADLINE_EXCEEDED, "the stub does not answer")),
            Self::Exhausted => {
                let text = format!("{} was called more often than it has answers in this test", R::SUBJECT);
                problem(Problem::new(500, "stub-exhausted", text))
            }
        }
    }
}

/// Reads a typed payload.
pub(super) fn read<T: serde::de::DeserializeOwned>(message: &Message) -> Result<T, String> {
    let codec = message.content_type().map_err(|error| error.to_string())?;
    sinew_wire::decode(codec, message.payload()).map_err(|error| error.to_string())
}
