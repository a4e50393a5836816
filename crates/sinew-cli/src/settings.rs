//! Settings and where they came from. Values only; [`crate::args`] fills them in.

use std::{borrow::Cow, fmt};

use serde::Serialize;

/// Where a server is expected when nobody says.
pub(crate) const DEFAULT_URL: &str = "nats://127.0.0.1:4222";

/// What every command may need to know about its surroundings.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) nats_url: Setting,
    pub(crate) otlp_endpoint: Setting,
}

/// One setting.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    pub(crate) value: Option<String>,
    pub(crate) source: Source,
}

/// Where a setting came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    Flag,
    Environment(&'static str),
    Default,
}

impl Settings {
    /// Returns the address to connect to.
    pub(crate) fn url(&self) -> &str {
        self.nats_url.value.as_deref().unwrap_or(DEFAULT_URL)
    }

    /// Returns where traces go, if anywhere.
    pub(crate) fn otlp(&self) -> Option<String> {
        self.otlp_endpoint.value.clone()
    }

    /// Returns how a broker is found: a running one where an address was given, else one of our own.
    pub(crate) fn broker(&self) -> sinew::broker::Config {
        let found = sinew::broker::Config::from_env(|name| std::env::var(name).ok());
        sinew::broker::Config { url: self.nats_url.value.clone(), ..found }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Default => f.write_str("default"),
        }
    }
}

impl Serialize for Source {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Returns an address without the user and password it may hold.
pub(crate) fn without_secrets(url: &str) -> Cow<'_, str> {
    let hide = |one: &str| {
        let (scheme, rest) = one.split_once("://").map_or(("", one), |(scheme, rest)| (scheme, rest));
        let host = rest.rsplit_once('@').map(|(_, host)| host)?;
        Some(if scheme.is_empty() { format!("***@{host}") } else { format!("{scheme}://***@{host}") })
    };
    if !url.contains('@') {
        return Cow::Borrowed(url);
    }
    let parts = url.split(',').map(|one| hide(one).unwrap_or_else(|| one.to_owned()));
    Cow::Owned(parts.collect::<Vec<_>>().join(","))
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn secrets_do_not_reach_a_screen() {
        assert_eq!(without_secrets("nats://ada:pass@bus:4222,nats://b"), "nats://***@bus:4222,nats://b");
        assert_eq!(without_secrets("token@bus"), "***@bus");
        assert_eq!(without_secrets("nats://bus:4222"), "nats://bus:4222");
    }
}
