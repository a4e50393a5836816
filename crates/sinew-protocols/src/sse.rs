//! Server-sent events: the data of each, as it comes.

/// Collects what a server sends until an event is whole.
#[derive(Debug, Default)]
pub(crate) struct Events {
    /// The line that is not whole yet.
    line: Vec<u8>,
    /// The data of the event that is not whole yet.
    data: Option<String>,
    /// Whether the last byte ended a line with a carriage return, which a line feed may follow.
    returned: bool,
}

impl Events {
    /// Takes the next bytes, and returns the data of each event they end.
    pub(crate) fn feed(&mut self, bytes: &[u8]) -> Vec<String> {
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

    fn end_line(&mut self) -> Option<String> {
        let line = std::mem::take(&mut self.line);
        if line.is_empty() {
            return self.data.take();
        }
        let line = String::from_utf8_lossy(&line);
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        if field == "data" {
            let value = value.strip_prefix(' ').unwrap_or(value);
            match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            }
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
        assert_eq!(Events::default().feed(STREAM), ["a\nb", "", "{\"c\":1}"]);
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
