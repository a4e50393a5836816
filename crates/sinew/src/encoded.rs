//! Replies whose bytes are at hand already: from a store, a cache, or made once for many callers.

use std::{fmt, marker::PhantomData};

use bytes::Bytes;
use sinew_wire::{CodecError, ContentType, encode};

use crate::{IntoReply, completion::Given};

/// A reply `T` in MessagePack, which a caller that asks for MessagePack gets without another encoding.
///
/// ```
/// use sinew::{Encoded, Problem, Request, State};
/// # use {schemars::JsonSchema, serde::{Deserialize, Serialize}};
///
/// #[derive(Request, Serialize, Deserialize, JsonSchema)]
/// #[sinew(subject = "catalogue.page", reply = Vec<String>)]
/// struct Page { number: u32 }
///
/// /// Made once, and cheap to clone.
/// #[derive(Clone)]
/// struct FirstPage(Encoded<Vec<String>>);
///
/// async fn page(_: Page, State(first): State<FirstPage>) -> Result<Encoded<Vec<String>>, Problem> {
///     Ok(first.0)
/// }
/// # let page = FirstPage(Encoded::of(&vec!["a".to_owned()]).unwrap());
/// # let _ = sinew::Service::new("catalogue", page);
/// ```
pub struct Encoded<T> {
    bytes: Bytes,
    value: PhantomData<fn() -> T>,
}

impl<T> Encoded<T> {
    /// Encodes a reply.
    ///
    /// # Errors
    /// When MessagePack cannot hold it.
    pub fn of(value: &T) -> Result<Self, CodecError>
    where
        T: serde::Serialize,
    {
        encode(ContentType::MessagePack, value).map(Self::trusted)
    }

    /// Takes bytes for a reply in MessagePack. Nobody looks whether they are: the caller would find out.
    pub fn trusted(bytes: Bytes) -> Self {
        Self { bytes, value: PhantomData }
    }
}

impl<T> IntoReply<T> for Encoded<T> {
    fn into_reply(self) -> Given<T> {
        Given::Encoded(self.bytes)
    }
}

impl<T> Clone for Encoded<T> {
    fn clone(&self) -> Self {
        Self::trusted(self.bytes.clone())
    }
}

impl<T> fmt::Debug for Encoded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded").field("len", &self.bytes.len()).finish()
    }
}
