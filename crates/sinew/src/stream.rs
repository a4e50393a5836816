//! Streams: one request answered with many items, or followed by many. Flow control, and both sides notice when the
//! other is gone.
//!
//! # Streaming replies
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
//! # Uploads
//!
//! The other way round, a request type says `upload = Row` beside its `reply`, the contract lists it as
//! `import: upload ImportRows`, and its handler takes an [`Upload`] as its second argument. The caller asks with
//! [`Ctx::upload`](crate::Ctx::upload):
//!
//! ```no_run
//! use futures::stream;
//! use sinew::{CallError, Ctx, Problem, Request, Service, Upload, contract};
//! # use serde::{Serialize, Deserialize};
//! # use schemars::JsonSchema;
//!
//! #[derive(Request, Serialize, Deserialize, JsonSchema)]
//! #[sinew(subject = "reports.import", upload = Row, reply = Imported)]
//! pub struct ImportRows { pub table: String }
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! pub struct Row { pub number: u64 }
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! pub struct Imported { pub rows: u64 }
//!
//! contract! { pub Reports = "reports" @ "1.0.0" { import: upload ImportRows } }
//!
//! async fn import(request: ImportRows, mut rows: Upload<Row>) -> Result<Imported, Problem> {
//!     let mut imported = Imported { rows: 0 };
//!     while let Some(row) = rows.next().await {
//!         println!("into {}: {}", request.table, row?.number);
//!         imported.rows += 1;
//!     }
//!     Ok(imported)
//! }
//!
//! async fn send(ctx: Ctx) -> Result<u64, CallError<Problem>> {
//!     let rows = stream::iter((1..=1_000).map(|number| Row { number }));
//!     let imported = ctx.upload(ImportRows { table: "sales".into() }, rows).await?;
//!     Ok(imported.rows)
//! }
//! # fn main() { let _ = (Service::new("reports", ()).serve(Reports, |s| s.import(import)), send); }
//! ```
//!
//! # What holds
//!
//! - Items come in order, and a stream that ended without an error is whole. One that broke off ends with an error.
//! - A stream is polled only while the other side has asked for more. Of a streaming reply neither side holds more than
//!   the caller's credit and one item; of an upload no more than 256 items, and no more of large ones than make a mebibyte,
//!   though always four.
//! - Dropping [`Streaming`] ends the handler's stream, by dropping it as well; so does a caller that crashed.
//! - Dropping an [`UploadCall`] drops the handler. One that moved its [`Upload`] elsewhere, or whose caller crashed, sees
//!   an error as the last item. A handler that answers early, or drops its upload, stops the sender, and neither is an error.
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
//! An upload uses the same messages with the roles exchanged, and one inbox of the caller for words and the reply:
//!
//! | message | subject | headers | payload |
//! |---|---|---|---|
//! | request | the operation's, with the caller's inbox as reply subject | `Sinew-Upload: items`, `Sinew-Idle: <ms>`, those of any request | the request |
//! | word | the caller's inbox, with the item inbox as reply subject | none | `=<n>`, `+<n>` or `-` |
//! | item | the item inbox, with the caller's inbox as reply subject | `Sinew-Seq: <number>`, from 1, and `content-type` | the item |
//! | alive | as above | `Sinew-Seq: <items sent>` | empty |
//! | end | as above | `Sinew-End: <items sent>` | empty |
//! | failure | as the end | the same, and those of an error (ADR-32) | the problem |
//! | reply | the caller's inbox, without reply subject | those of any reply | the reply |
//!
//! The first word says where items go to; before it none is sent. The service says its last word again as a sign of life
//! until it replies, with a third of `Sinew-Idle` as the rhythm.
//!
//! Life is shown with a third of `Sinew-Idle` as the rhythm: the service says *alive* that often while it has nothing to
//! send, and the caller says `=<n>` again, though at least every five seconds. A caller gives up after `Sinew-Idle` of
//! silence, a service after three beats of its caller. Usually the server is faster: what is sent to an inbox that is
//! gone comes back as status 503, because items and control words both have a reply subject.

mod call;
mod feed;
mod flow;
mod order;
mod pace;
mod raw;
mod receive;
mod send;
mod upload;
mod upload_call;
mod window;

pub use call::{StreamCall, Streaming};
pub use raw::{StreamRaw, StreamingRaw};
pub use upload::Upload;
pub use upload_call::{Items, UploadCall, UploadItem, UploadRaw};

pub(crate) use order::{Head, Order, Part};
pub(crate) use pace::{DEFAULT_IDLE, Pace};
pub(crate) use upload::{Incoming, Piece, Source, interrupted};
pub(crate) use window::{Window, Word};

use bytes::Bytes;
use sinew_wire::Headers;

use crate::{Bus, Error, bus::Subscription};

/// Items that may be under way where a caller says nothing.
const DEFAULT_CREDIT: u32 = 256;
/// Far below what one subscription can hold.
const MAX_CREDIT: u32 = 16_384;

/// Subscribes to a fresh inbox, then sends the request.
async fn ask(
    bus: &Bus,
    subject: &str,
    headers: &Headers,
    payload: Bytes,
) -> Result<(Subscription, String), Error> {
    let inbox = bus.new_inbox();
    let subscription = bus.subscribe(&inbox, None).await?;
    bus.post(subject, Some(&inbox), headers, &payload).await?;
    Ok((subscription, inbox))
}
