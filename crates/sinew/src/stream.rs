//! Streaming replies: one request, many items, an end. Flow control, and both sides notice when the other is gone.
//!
//! # As it is used
//!
//! A request type says `stream = Row` where another says `reply = ..`, the contract lists it as `rows: stream Rows`, and
//! its handler returns a [`futures::Stream`] of results. The caller asks with [`Ctx::stream`](crate::Ctx::stream):
//!
//! ```no_run
//! use futures::{Stream, stream};
//! use sinew::{CallError, Ctx, Problem, Request, Service, contract};
//! # use serde::{Serialize, Deserialize};
//! # use schemars::JsonSchema;
//!
//! #[derive(Request, Serialize, Deserialize, JsonSchema)]
//! #[sinew(subject = "reports.rows", stream = Row, idempotent)]
//! pub struct Rows { pub table: String }
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! pub struct Row { pub number: u64 }
//!
//! contract! { pub Reports = "reports" @ "1.0.0" { rows: stream Rows } }
//!
//! async fn rows(_request: Rows) -> Result<impl Stream<Item = Result<Row, Problem>>, Problem> {
//!     Ok(stream::iter((1..=1_000).map(|number| Ok(Row { number }))))
//! }
//!
//! async fn read(ctx: Ctx) -> Result<u64, CallError<Problem>> {
//!     let mut rows = ctx.stream(Rows { table: "sales".into() }).credit(64).await?;
//!     let mut last = 0;
//!     while let Some(row) = rows.next().await {
//!         last = row?.number;
//!     }
//!     Ok(last)
//! }
//! # fn main() { let _ = (Service::new("reports", ()).serve(Reports, |s| s.rows(rows)), read); }
//! ```
//!
//! # What holds
//!
//! - Items come in order, and a stream that ended without an error is whole. One that broke off ends with an error.
//! - The handler's stream is polled only while the caller has asked for more, so neither side holds more than the
//!   caller's credit and one item.
//! - Dropping [`Streaming`] ends the handler's stream, by dropping it as well; so does a caller that crashed.
//! - A stream occupies one of the service's hands ([`Service::limits`](crate::Service::limits)) until it ends. Layers
//!   see a stream being opened, not its items: their time limits bound the opening.
//!
//! # On the wire
//!
//! | message | subject | headers | payload |
//! |---|---|---|---|
//! | request | the operation's, with the caller's inbox as reply subject | `Sinew-Credit: <items>`, `Sinew-Idle: <ms>`, those of any request | the request |
//! | preparing | the caller's inbox, with the control inbox as reply subject | none | empty |
//! | opened, alive | as above | `Sinew-Seq: <items sent>` | empty |
//! | item | as above | `Sinew-Seq: <number>`, from 1 | the item |
//! | end | the caller's inbox, without reply subject | `Sinew-End: <items sent>` | empty |
//! | failure | as the end | the same, and those of an error (ADR-32) | the problem |
//! | control | the control inbox, with the caller's inbox as reply subject | none | `+<n>`, `=<n>` or `-` |
//!
//! `+<n>` allows n items more, `=<n>` allows n in all, `-` cancels. Our callers say `=`, as a word that was lost with a
//! connection is then made good by the next.
//!
//! A request without `Sinew-Credit` is one of an ordinary NATS client. It gets the items and the end and nothing else:
//! no flow control and no signs of life, because an empty message means the end to such clients (ADR-47).
//!
//! Life is shown with a third of `Sinew-Idle` as the rhythm: the service says *alive* that often while it has nothing to
//! send, and the caller says `=<n>` again, though at least every five seconds. A caller gives up after `Sinew-Idle` of
//! silence, a service after three beats of its caller. Usually the server is faster: what is sent to an inbox that is
//! gone comes back as status 503, because items and control words both have a reply subject.

mod call;
mod flow;
mod order;
mod pace;
mod receive;
mod send;
mod upload;
mod upload_call;
mod window;

pub use call::{StreamCall, Streaming};
pub use upload::Upload;
pub use upload_call::{Items, UploadCall, UploadItem, UploadRaw};

pub(crate) use order::{Head, Order, Part};
pub(crate) use pace::{DEFAULT_IDLE, Pace};
pub(crate) use upload::{Incoming, Piece, Source, interrupted};
pub(crate) use window::{Window, Word};
