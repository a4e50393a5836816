//! What the cache did with a request, told in `Cache-Status` (RFC 9211).

use std::fmt::Write;

use http::{HeaderName, HeaderValue, StatusCode};

use super::{
    BYPASS, EXPIRED, MISS,
    freshness::{Life, TARGET},
};
use crate::Response;

const NAME: HeaderName = HeaderName::from_static("cache-status");

/// Why the service was asked.
#[derive(Clone, Copy, Debug)]
pub(super) enum Forwarded {
    /// Nothing was kept for such a request.
    Miss,
    /// The client wanted it.
    Request,
    /// What was kept had to be confirmed.
    Stale,
}

impl Forwarded {
    /// Says where it is counted.
    pub(super) fn place(self) -> usize {
        match self {
            Self::Miss => MISS,
            Self::Request => BYPASS,
            Self::Stale => EXPIRED,
        }
    }
}

/// One line, as it is being written.
#[derive(Debug)]
pub(super) struct Told(String);

impl Told {
    /// It was there.
    pub(super) fn hit(life: &Life, now: u64) -> Self {
        let left = i128::from(life.lifetime) - i128::from(life.age(now));
        Self(format!("{TARGET}; hit; ttl={}", left / 1_000))
    }

    /// The service was asked, and answered so.
    pub(super) fn forwarded(why: Forwarded, status: StatusCode) -> Self {
        let why = match why {
            Forwarded::Miss => "miss",
            Forwarded::Request => "request",
            Forwarded::Stale => "stale",
        };
        Self(format!("{TARGET}; fwd={why}; fwd-status={}", status.as_u16()))
    }

    /// It failed, and what is stale is used.
    pub(super) fn stale(mut self) -> Self {
        // Writing to a text cannot fail.
        let _ = write!(self.0, "; detail=stale-if-error");
        self
    }

    pub(super) fn stored(mut self, stored: bool) -> Self {
        self.0.push_str(if stored { "; stored" } else { "" });
        self
    }

    /// It came with another request's answer.
    pub(super) fn collapsed(mut self, collapsed: bool) -> Self {
        self.0.push_str(if collapsed { "; collapsed" } else { "" });
        self
    }

    /// Writes the line into a response, behind those of caches before.
    pub(super) fn sign(self, mut response: Response) -> Response {
        if let Ok(line) = HeaderValue::try_from(self.0) {
            response.headers_mut().append(NAME, line);
        }
        response
    }
}
