//! An upload as its handler sees it: a stream of items that were checked for order, and of how it ended.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
};

use futures::Stream;
use serde::de::DeserializeOwned;
use sinew_wire::Problem;
use tokio::sync::mpsc;

use super::flow::{Flow, MOST};
use crate::bus::Message;

/// The items behind a request, in order, as the handler takes them.
///
/// It stands as the second argument of the handler of a request that is declared with `upload = ..`. An error is the
/// last item: it says that the caller failed in the middle, is gone, or was not understood. What came before it stays
/// true.
///
/// Dropping it tells the caller to stop sending; so does returning from the handler. Neither is an error: the caller
/// gets the handler's reply.
///
/// ```
/// use sinew::{Problem, Request, Service, Upload, contract};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
///
/// #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// #[sinew(subject = "orders.import", upload = Row, reply = Imported)]
/// struct ImportRows { table: String }
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Row { sku: String, quantity: u32 }
///
/// #[derive(Serialize, Deserialize, JsonSchema)]
/// struct Imported { rows: u64 }
///
/// contract! { Orders = "orders" @ "1.0.0" { import: upload ImportRows } }
///
/// async fn import(request: ImportRows, mut rows: Upload<Row>) -> Result<Imported, Problem> {
///     let mut imported = Imported { rows: 0 };
///     while let Some(row) = rows.next().await {
///         println!("into {}: {}", request.table, row?.sku);
///         imported.rows += 1;
///     }
///     Ok(imported)
/// }
///
/// let service = Service::new("orders", ()).serve(Orders, |orders| orders.import(import));
/// ```
#[must_use = "dropping an upload tells the caller to stop"]
pub struct Upload<T> {
    incoming: Incoming,
    item: PhantomData<fn() -> T>,
}

/// An upload before anybody knows what it consists of.
pub(crate) struct Incoming {
    pieces: mpsc::Receiver<Piece>,
    /// Tells how many items may come in all; its end tells that nobody wants more.
    allowed_to: mpsc::UnboundedSender<u64>,
    flow: Flow,
    ended: bool,
}

/// What comes in.
pub(crate) enum Piece {
    /// The next item.
    Item(Message),
    /// There are no more.
    End,
    /// There will be no more, although the caller had not come to the end.
    Failed(Problem),
}

/// The other end of an [`Incoming`].
pub(crate) struct Source {
    pub(crate) pieces: mpsc::Sender<Piece>,
    pub(crate) allowed: mpsc::UnboundedReceiver<u64>,
    /// Items that may come at first.
    pub(crate) first: u64,
}

impl Incoming {
    pub(crate) fn new() -> (Self, Source) {
        // Never more items than were allowed, and the end behind them.
        let (pieces_to, pieces) = mpsc::channel(MOST as usize + 1);
        let (allowed_to, allowed) = mpsc::unbounded_channel();
        let flow = Flow::new();
        let source = Source { pieces: pieces_to, allowed, first: flow.allowed() };
        (Self { pieces, allowed_to, flow, ended: false }, source)
    }
}

impl<T> Upload<T> {
    pub(crate) fn new(incoming: Incoming) -> Self {
        Self { incoming, item: PhantomData }
    }
}

impl<T: DeserializeOwned> Upload<T> {
    /// Returns the next item; `None` behind the last one.
    ///
    /// # Errors
    /// An error is the last item.
    ///
    /// # Cancel safety
    /// Cancel safe: no item is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Result<T, Problem>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    fn take(&mut self, message: &Message) -> Result<T, Problem> {
        if let Some(allowed) = self.incoming.flow.take(message.payload().len()) {
            // Whoever brings the items is gone once there are no more to bring.
            let _ = self.incoming.allowed_to.send(allowed);
        }
        let item = message.content_type().and_then(|codec| sinew_wire::decode(codec, message.payload()));
        item.map_err(|error| {
            self.end();
            let number = self.incoming.flow.taken();
            Problem::new(400, "malformed-item", "an uploaded item does not fit the operation")
                .detail(format!("item {number}: {error}"))
        })
    }

    /// Wants no more of it.
    fn end(&mut self) {
        self.incoming.ended = true;
        self.incoming.pieces.close();
        (self.incoming.allowed_to, _) = mpsc::unbounded_channel();
    }
}

impl<T: DeserializeOwned> Stream for Upload<T> {
    type Item = Result<T, Problem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.incoming.ended {
            return Poll::Ready(None);
        }
        let Poll::Ready(piece) = self.incoming.pieces.poll_recv(cx) else { return Poll::Pending };
        Poll::Ready(match piece {
            Some(Piece::Item(message)) => Some(self.take(&message)),
            Some(Piece::End) => {
                self.end();
                None
            }
            Some(Piece::Failed(problem)) => {
                self.end();
                Some(Err(problem))
            }
            // The request is over: its caller went away, or it was answered while somebody still read.
            None => {
                self.end();
                Some(Err(interrupted("the request it belongs to has ended")))
            }
        })
    }
}

impl<T> fmt::Debug for Upload<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload").field("ended", &self.incoming.ended).finish_non_exhaustive()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Incoming(..)")
    }
}

/// Returns the error of an upload that will not come to its end.
pub(crate) fn interrupted(reason: &str) -> Problem {
    Problem::new(408, "upload-interrupted", "the upload broke off before its end").detail(reason)
}
