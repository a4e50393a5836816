//! Bodies of responses: one piece that is known, or pieces that come one after another.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::mpsc;

/// A response's body.
pub(crate) enum Body {
    Whole(Full<Bytes>),
    /// Ends when its sender is dropped; an error breaks it off, so that a client sees that it is not whole.
    Pieces(mpsc::Receiver<io::Result<Bytes>>),
    /// Left out, and nobody knows how long it would be.
    Unknown,
    /// Breaks off when it is asked again.
    Broken(io::Error),
}

impl Default for Body {
    fn default() -> Self {
        Self::Whole(Full::default())
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(Full::new(bytes))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match &mut *self {
            Self::Whole(whole) => {
                Pin::new(whole).poll_frame(cx).map_err(|never: std::convert::Infallible| match never {})
            }
            Self::Pieces(pieces) => match std::task::ready!(pieces.poll_recv(cx)) {
                Some(Err(error)) => {
                    // What came before is written only while nothing follows: a body that breaks off at once would take
                    // along why.
                    *self = Self::Broken(error);
                    cx.waker().wake_by_ref();
                    Poll::Pending
                }
                piece => Poll::Ready(piece.map(|piece| piece.map(Frame::data))),
            },
            Self::Unknown => Poll::Ready(None),
            Self::Broken(error) => Poll::Ready(Some(Err(io::Error::new(error.kind(), error.to_string())))),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(whole) => whole.is_end_stream(),
            Self::Pieces(_) | Self::Unknown | Self::Broken(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(whole) => whole.size_hint(),
            Self::Pieces(_) | Self::Unknown | Self::Broken(_) => SizeHint::default(),
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(_) => f.write_str("Whole"),
            Self::Pieces(_) => f.write_str("Pieces"),
            Self::Unknown => f.write_str("Unknown"),
            Self::Broken(error) => write!(f, "Broken({error})"),
        }
    }
}
