//! What suites are made of, with the versions their verdicts were written for. Installed below `target/conformance`, but
//! for programs of the distribution, whose version is its own.

use std::fmt;

/// A package of an index, in one version.
#[derive(Clone, Copy, Debug)]
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
}

/// A program of the distribution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    pub(super) name: &'static str,
    /// What to install where it is missing.
    pub(super) package: &'static str,
}

/// From pip: requests made of an OpenAPI document, and what reads replies in MessagePack for it.
pub(super) const SCHEMATHESIS: &[Package] =
    &[Package { name: "schemathesis", version: "4.32.5" }, Package { name: "msgpack", version: "1.1.2" }];

/// From npm: tests of HTTP caches.
pub(super) const HTTP_CACHE_TESTS: Package = Package { name: "http-cache-tests", version: "0.4.5" };

/// From apt: load over HTTP/2.
pub(super) const H2LOAD: Program = Program { name: "h2load", package: "nghttp2-client" };

/// From apt: clients that are slow on purpose.
pub(super) const SLOWHTTPTEST: Program = Program { name: "slowhttptest", package: "slowhttptest" };

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.name, self.version)
    }
}
