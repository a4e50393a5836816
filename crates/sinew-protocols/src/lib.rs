//! Carries out what workflows call outside the bus: HTTP, OpenAPI, gRPC, AsyncAPI, MCP, A2A, and processes.
//!
//! The engine computes the arguments of a call; [`Protocols::call`] carries it out and says what came of it as an
//! [`Outcome`](sinew_workflow::Outcome): done, definitely not done, or unknown. It never fails otherwise, and knows
//! nothing of sagas or of the bus.
//!
//! ```
//! use std::time::Duration;
//!
//! use serde_json::json;
//! use sinew_protocols::{Call, Protocols, Settings};
//! use sinew_workflow::{Outcome, Protocol};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! let protocols = Protocols::new(Settings::default())?;
//! let arguments = json!({ "method": "post", "endpoint": "http://127.0.0.1:1/charges", "body": { "amount": 7 } });
//! let outcome = protocols
//!     .call(Call {
//!         protocol: Protocol::Http,
//!         arguments: &arguments,
//!         key: "order-7/do/0/charge",
//!         attempt: 1,
//!         limit: Duration::from_secs(5),
//!         traceparent: None,
//!     })
//!     .await;
//! assert!(matches!(outcome, Outcome::NotSent(fault) if fault.kind() == "communication"));
//! # Ok::<_, sinew_protocols::Error>(())
//! # })?;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # What an outcome says
//!
//! A saga undoes what was done and what *may* have been done, so a call must not claim to know more than it does.
//!
//! | what happened | outcome | fault |
//! |---|---|---|
//! | no address, no connection, no TLS; a token or a document could not be had | not sent | communication, timeout, authentication |
//! | the definition asks for something impossible, or for something no setting allows | refused | configuration |
//! | 401, 403 | refused | authentication, authorization |
//! | any other 4xx, except 408 and 499; 501, 505, 506, 510, 511; 503 with `retry-after` | refused | communication |
//! | 3xx without `redirect: true`, except 302 and 303 | refused | communication |
//! | 302, 303, 408, 499, any other 5xx | unknown | communication |
//! | the connection was lost, or time ran out, after the request was sent | unknown | communication, timeout |
//! | the reply is too large, or not what it claims to be | unknown | communication |
//! | a process could not be started | not sent | runtime |
//! | a process ended with a code other than 0, where the output does not tell it; it was killed | unknown | runtime, timeout |
//! | gRPC: `unauthenticated`, `permission-denied` | refused | authentication, authorization |
//! | gRPC: `cancelled`, `unknown`, `deadline-exceeded`, `internal`, `unavailable`, `data-loss` | unknown | communication, timeout |
//! | gRPC: any other status | refused | communication |
//! | JSON-RPC (MCP, A2A): the request was not understood, -32700 and -32600 to -32602 | refused | runtime |
//! | JSON-RPC: any other error; an MCP tool that reports one | unknown | runtime |
//!
//! What only reads has done nothing, whatever came of it: for `GET`, `HEAD`, `OPTIONS` and `TRACE`, and for MCP and A2A
//! methods that list or get, *not sent* stands in the place of *unknown*. The status of a communication fault is the one
//! the other side gave, or 500; its title, detail and code are taken from what the other side said.
//!
//! # What the specification leaves open
//!
//! | question | decision |
//! |---|---|
//! | What is a body on the wire? | JSON, unless a content type says otherwise; then a text is sent as it is, and for types that are not text it is base64 |
//! | What is a redirection with `redirect: true`? | The result. It is not followed; documents that moved are |
//! | Which headers does `response` show? | By lower case name; of the request those the task gave, without `authorization`, secrets as `***` |
//! | What carries the idempotency key? | `idempotency-key`, on every request that may change something, unless the task gives its own |
//! | Where is the token of the grant `refresh_token`? | `subject.token`; one that replaces it is used from then on |
//! | What is a body parameter of OpenAPI? | `body`, its name in Swagger 2.0, or all that is left over |
//! | When is an exit code an error? | When it is not 0 and `return` is `stdout` or `none` |
//! | Does `run: shell` interpret its command? | With `allow.shell: *`, by `sh -c`; otherwise it is started as plain words |
//! | When does a subscription end by itself? | When a WebSocket is closed with 1000 or 1005, or events are answered with 204. Any other end is a lost connection, which is replaced |
//! | Which messages of a subscription are the same? | Those with the same id of a server-sent event, or the same `Nats-Msg-Id` |
//! | Is gRPC encrypted? | On port 443 |
//! | What is an MCP tool's error? | A runtime fault, as a JSON-RPC error is |
//! | What does `$authorization.parameter` mean for `digest`? | A configuration fault: it is not known before the request |

mod a2a;
mod asyncapi;
mod authentication;
mod call;
mod client;
mod document;
mod duration;
mod endpoint;
mod error;
mod failure;
mod grpc;
mod http;
mod mcp;
mod openapi;
mod process;
mod rpc;
mod secrets;
mod settings;
mod sse;

pub use asyncapi::Heard;
pub use call::{Call, Protocols, Subscription};
pub use error::Error;
pub use secrets::{Secrets, reveal};
pub use settings::{Allow, Settings};

#[cfg(test)]
mod tests;
