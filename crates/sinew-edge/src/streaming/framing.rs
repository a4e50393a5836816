//! How the items of a stream look to a client.

use bytes::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::json;
use sinew::Problem;

use crate::{accept, problem::Refusal};

/// The form a client asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Server-sent events: every item is one, with its number as id.
    Events,
    /// One JSON value a line.
    Lines,
    /// All of them in one JSON array.
    Array,
    /// Every item is a message of a WebSocket.
    Messages,
}

impl Framing {
    /// In the order of preference, where the client has none.
    const OFFERED: [(Self, &'static str); 5] = [
        (Self::Lines, "application/jsonl"),
        (Self::Lines, "application/x-ndjson"),
        (Self::Lines, "application/jsonlines"),
        (Self::Events, "text/event-stream"),
        (Self::Array, "application/json"),
    ];

    /// Returns what the client asks for; JSON lines without an `Accept` header.
    ///
    /// # Errors
    /// 406 when the client takes none of them.
    pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Self, Refusal> {
        if !headers.contains_key(header::ACCEPT) {
            return Ok(Self::Lines);
        }
        accept::best(headers, &Self::OFFERED.map(|(_, name)| name)).map(|at| Self::OFFERED[at].0).ok_or_else(
            || {
                let title = "no reply in an accepted media type";
                let refusal = Refusal::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", title);
                refusal.detail("accept text/event-stream, application/jsonl or application/json")
            },
        )
    }

    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Lines => "application/jsonl",
            Self::Array | Self::Messages => "application/json",
        }
    }

    /// Whether the end of the body alone would look like the end of the items.
    pub(super) const fn breaks_off(self) -> bool {
        !matches!(self, Self::Events)
    }

    pub(super) fn opening(self) -> Bytes {
        Bytes::from_static(if self == Self::Array { b"[" } else { b"" })
    }

    /// Writes one item, which is JSON without line ends; `count` came before it.
    pub(super) fn item(self, item: &[u8], count: u64) -> Bytes {
        let mut piece = Vec::with_capacity(item.len() + 32);
        match self {
            Self::Events => piece.extend_from_slice(format!("id: {}\ndata: ", count + 1).as_bytes()),
            Self::Array if count > 0 => piece.extend_from_slice(b",\n"),
            Self::Array | Self::Lines | Self::Messages => {}
        }
        piece.extend_from_slice(item);
        piece.extend_from_slice(match self {
            Self::Events => b"\n\n",
            Self::Lines => b"\n",
            Self::Array | Self::Messages => b"",
        });
        piece.into()
    }

    /// Shows life; the other forms have no room for it.
    pub(super) fn heartbeat(self) -> Option<Bytes> {
        (self == Self::Events).then(|| Bytes::from_static(b":\n\n"))
    }

    pub(super) fn end(self, count: u64) -> Bytes {
        match self {
            Self::Events => format!("event: end\ndata: {{\"items\":{count}}}\n\n").into(),
            Self::Lines | Self::Messages => Bytes::new(),
            Self::Array => Bytes::from_static(b"]"),
        }
    }

    /// Writes why there is no more; an array is only broken off.
    pub(super) fn failure(self, problem: &Problem) -> Bytes {
        match self {
            Self::Events => format!("event: error\ndata: {}\n\n", json!(problem)).into(),
            Self::Lines => format!("{}\n", json!({ "problem": problem })).into(),
            Self::Messages => json!({ "problem": problem }).to_string().into(),
            Self::Array => Bytes::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Option<Framing> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        Framing::negotiate(&headers).ok()
    }

    #[test]
    fn the_client_chooses_the_form() {
        assert_eq!(Framing::negotiate(&HeaderMap::new()).unwrap(), Framing::Lines);
        for (accept, expected) in [
            ("*/*", Framing::Lines),
            ("text/event-stream", Framing::Events),
            ("text/*", Framing::Events),
            ("application/json", Framing::Array),
            ("application/x-ndjson, application/json;q=0.5", Framing::Lines),
        ] {
            assert_eq!(of(accept), Some(expected), "{accept}");
        }
        assert_eq!(of("text/html"), None);
    }

    #[test]
    fn an_array_is_json_and_events_are_numbered() {
        let array = [
            Framing::Array.opening(),
            Framing::Array.item(b"1", 0),
            Framing::Array.item(b"2", 1),
            Framing::Array.end(2),
        ];
        assert_eq!(array.concat(), b"[1,\n2]");
        assert_eq!(Framing::Events.item(b"{}", 4), "id: 5\ndata: {}\n\n");
    }
}
