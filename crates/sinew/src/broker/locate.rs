//! Finds a nats-server program. Runs candidates only to ask their version.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use super::{Config, Error, Progress, Source, Version, fetch};

/// A freshly unpacked program may be scanned by the system first; normally this takes ten milliseconds.
const VERSION_LIMIT: Duration = Duration::from_secs(20);

/// A nats-server program that is new enough.
#[derive(Debug, Clone)]
pub struct Located {
    /// The program.
    pub binary: PathBuf,
    /// What it says its version is.
    pub version: Version,
    /// How it was found.
    pub source: Source,
}

/// Finds a nats-server program, fetching one if there is none and fetching is allowed. [`Config::url`] plays no part.
///
/// Use it to search once and start many: put the result into [`Config::binary`].
///
/// # Errors
///
/// Fails when a configured program does not run or is too old, or when nothing was found and fetching failed.
pub async fn locate(config: &Config, progress: &mut (impl FnMut(Progress) + Send)) -> Result<Located, Error> {
    if let Some(binary) = &config.binary {
        let version = version_of(binary).await?;
        return accept(binary.clone(), version, Source::Configured);
    }
    let on_path = config.search_path.iter().map(|dir| (dir.join("nats-server"), Source::Path));
    let cached = config.cache_dir.iter().map(|dir| (fetch::cached(dir), Source::Cache));
    let mut refused = None;
    for (binary, source) in on_path.chain(cached).filter(|(binary, _)| binary.is_file()) {
        match version_of(&binary).await.and_then(|version| accept(binary, version, source)) {
            Ok(located) => return Ok(located),
            Err(error) => refused = Some(error),
        }
    }
    let fetched = fetch::fetch(config, progress).await;
    let binary = fetched.map_err(|error| match (error, refused) {
        // That the server somebody has is too old explains more than that pip is missing.
        (Error::NotFound { .. }, Some(refused)) => refused,
        (error, _) => error,
    })?;
    let version = version_of(&binary).await?;
    accept(binary, version, Source::Fetched)
}

async fn version_of(binary: &Path) -> Result<Version, Error> {
    let unusable = |reason: String| Error::Unusable { path: binary.to_owned(), reason };
    let run = Command::new(binary).arg("--version").kill_on_drop(true).output();
    let output = match timeout(VERSION_LIMIT, run).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Err(unusable(error.to_string())),
        Err(_elapsed) => return Err(unusable("`--version` does not return".to_owned())),
    };
    String::from_utf8_lossy(&output.stdout).parse().map_err(|error: Error| unusable(error.to_string()))
}

fn accept(binary: PathBuf, version: Version, source: Source) -> Result<Located, Error> {
    if !version.is_supported() {
        return Err(Error::TooOld { what: binary.display().to_string(), version });
    }
    Ok(Located { binary, version, source })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Sandbox, server_script};
    use super::*;

    async fn search(config: &Config) -> Result<(Source, String), Error> {
        let located = locate(config, &mut |_| {}).await?;
        Ok((located.source, located.version.to_string()))
    }

    #[tokio::test]
    async fn a_configured_program_beats_path_and_path_beats_the_cache() {
        let sandbox = Sandbox::new();
        let mut config = sandbox.config();
        sandbox.program("cache/sinew/nats-server-2.15.1/nats-server", &server_script("2.15.1"));
        assert_eq!(search(&config).await.unwrap(), (Source::Cache, "2.15.1".into()));
        sandbox.program("bin/nats-server", &server_script("2.13.0"));
        assert_eq!(search(&config).await.unwrap(), (Source::Path, "2.13.0".into()));
        config.binary = Some(sandbox.program("mine", &server_script("2.14.2")));
        assert_eq!(search(&config).await.unwrap(), (Source::Configured, "2.14.2".into()));
    }

    #[tokio::test]
    async fn an_old_server_on_path_is_passed_over_and_only_blamed_when_nothing_else_is_left() {
        let sandbox = Sandbox::new();
        sandbox.program("bin/nats-server", &server_script("2.11.0"));
        let config = Config { offline: true, ..sandbox.config() };
        assert!(matches!(search(&config).await, Err(Error::TooOld { .. })));
        sandbox.program("cache/sinew/nats-server-2.15.1/nats-server", &server_script("2.15.1"));
        assert_eq!(search(&config).await.unwrap().0, Source::Cache);
    }

    #[tokio::test]
    async fn a_configured_program_is_never_replaced() {
        let sandbox = Sandbox::new();
        sandbox.program("bin/nats-server", &server_script("2.15.1"));
        let mut config = sandbox.config();
        config.binary = Some(sandbox.program("old", &server_script("2.11.0")));
        assert!(matches!(search(&config).await, Err(Error::TooOld { .. })));
        config.binary = Some(sandbox.program("other", "echo some other tool"));
        assert!(matches!(search(&config).await, Err(Error::Unusable { .. })));
        config.binary = Some("missing".into());
        assert!(matches!(search(&config).await, Err(Error::Unusable { .. })));
    }
}
