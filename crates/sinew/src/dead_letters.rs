//! Dead letters.

/// The headers of a dead letter.
pub(crate) mod field {
    /// Why, in words.
    pub(crate) const REASON: &str = "Sinew-Dead-Reason";
    /// Why, as the problem's code.
    pub(crate) const CODE: &str = "Sinew-Dead-Code";
    /// How often the group had the event in hand.
    pub(crate) const ATTEMPTS: &str = "Sinew-Dead-Attempts";
    /// The subject it was published on.
    pub(crate) const SUBJECT: &str = "Sinew-Dead-Subject";
    /// The stream it stands or stood in.
    pub(crate) const STREAM: &str = "Sinew-Dead-Stream";
    /// Its sequence there.
    pub(crate) const SEQUENCE: &str = "Sinew-Dead-Sequence";
    /// When the group gave up.
    pub(crate) const TIME: &str = "Sinew-Dead-Time";
    /// Trace context of the attempt that failed last.
    pub(crate) const TRACE: &str = "Sinew-Dead-Trace";
    /// Where the payload is, when it is not here.
    pub(crate) const PAYLOAD: &str = "Sinew-Dead-Payload";
    /// It still stands where it was published.
    pub(crate) const LEFT: &str = "left in the stream";
}
