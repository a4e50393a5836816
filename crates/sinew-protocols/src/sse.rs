//! Server-sent events, as they come.

use std::time::Duration;

/// An event.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) data: String,
    /// Its own id, if it has one.
    pub(crate) id: Option<String>,
}

/// Collects what a server sends until an event is whole.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// The data of the event that is not whole yet.
    data: Option<String>,
    /// The id of the event that is not whole yet.
    id: Option<String>,
    /// How long the server wants to be left alone before somebody comes back.
    retry: Option<Duration>,
    /// Whether the last byte ended a line with a carriage return, which a line feed may follow.
    returned: bool,
}

impl Events {
    /// Takes the next bytes, and returns each event they end.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<Event> {
        let mut events = Vec::new();
        for &byte in bytes {
            let after_return = std::mem::take(&mut self.returned);
            match byte {
                b'\n' if after_return => {}
                b'\n' | b'\r' => {
                    self.returned = byte == b'\r';
                    events.extend(self.end_line());
                }
                byte => self.line.push(byte),
            }
        }
        events
    }

    /// Returns how many bytes wait for their event to end.
    pub(crate) fn waiting(&self) -> usize {
        self.line.len() + self.data.as_ref().map_or(0, String::len)
    }

    /// Returns how long the server wants to be left alone before somebody comes back.
    pub(crate) fn retry(&self) -> Option<Duration> {
        self.retry
    }

    fn end_line(&mut self) -> Option<Event> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            let id = self.id.take();
            return self.data.take().map(|data| Event { data, id });
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            "retry" => self.retry = value.parse().ok().map(Duration::from_millis).or(self.retry),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STREAM: &[u8] =
        b": hello\nevent: x\ndata: a\ndata:b\n\nid: 1\n\ndata\n\r\ndata: {\"c\":1}\r\n\r\ndata: cut off";

    #[test]
    fn data_is_joined_and_what_carries_none_is_no_event() {
        let events = Events::default().feed(STREAM);
        let data: Vec<_> = events.into_iter().map(|event| event.data).collect();
        assert_eq!(data, ["a\nb", "", "{\"c\":1}"]);
    }

    #[test]
    fn an_event_may_have_an_id_and_the_server_a_wish() {
        let mut events = Events::default();
        let read = events.feed(b"retry: 1500\nid: 7\ndata: a\n\ndata: b\n\nretry: soon\n\n");
        let event = |data: &str, id: Option<&str>| Event { data: data.to_owned(), id: id.map(str::to_owned) };
        assert_eq!(read, [event("a", Some("7")), event("b", None)]);
        assert_eq!(events.retry(), Some(Duration::from_millis(1500)));
    }

    proptest! {
        #[test]
        fn where_the_bytes_are_cut_does_not_matter(cuts in proptest::collection::vec(1usize..9, 1..60)) {
            let (mut events, mut found, mut rest) = (Events::default(), Vec::new(), STREAM);
            for cut in cuts.into_iter().cycle() {
                let (now, later) = rest.split_at(cut.min(rest.len()));
                found.extend(events.feed(now));
                rest = later;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found, Events::default().feed(STREAM));
        }
    }
}
