//! The data directory of a child broker: who owns it, its log, and the files in which server and parent exchange
//! settings and ports.

use std::fs::{DirBuilder, File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use tokio::time::{Instant, sleep};

use super::Error;
use super::child::Endpoint;
use super::error::io_error;

const LOG: &str = "nats-server.log";
const SETTINGS: &str = "nats-server.conf";
const PORTS: &str = "ports";
/// A longer log is emptied at the next start.
const LOG_LIMIT: u64 = 4 * 1024 * 1024;
/// How much of the log's end is shown: at most so many lines, out of so many bytes.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 16 * 1024;

/// A directory one child broker writes to. Removed when dropped, if it is temporary.
#[derive(Debug)]
pub(super) struct DataDir {
    path: PathBuf,
    temporary: bool,
}

impl DataDir {
    /// Creates the directory; a temporary one, which nobody else may read, if no path is given.
    pub(super) fn open(path: Option<&Path>) -> Result<Self, Error> {
        let Some(path) = path else {
            let path =
                scratch_dir(&std::env::temp_dir()).map_err(io_error("create a temporary directory"))?;
            return Ok(Self { path, temporary: true });
        };
        let create = || {
            std::fs::create_dir_all(path)?;
            std::path::absolute(path)
        };
        let path = create().map_err(io_error(format!("create {}", path.display())))?;
        Ok(Self { path, temporary: false })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn settings(&self) -> PathBuf {
        self.path.join(SETTINGS)
    }

    /// Returns the directory if it must not outlive the server.
    pub(super) fn scratch(&self) -> Option<&Path> {
        self.temporary.then_some(&self.path)
    }

    /// Opens the log for appending and locks it, waiting so long for a predecessor to go.
    ///
    /// Two servers on one directory would destroy its streams. The lock belongs to the open file, which becomes the
    /// output of watchdog and server, so it is held exactly until both are gone, whatever happens to the parent.
    pub(super) async fn lock_log(&self, patience: Duration) -> Result<File, Error> {
        let path = self.path.join(LOG);
        let failed = || io_error(format!("open {}", path.display()));
        let log = File::options().create(true).append(true).open(&path).map_err(failed())?;
        let give_up = Instant::now() + patience;
        loop {
            match log.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(error)) => return Err(failed()(error)),
                Err(TryLockError::WouldBlock) if Instant::now() > give_up => {
                    return Err(Error::DataDirBusy { dir: self.path.clone() });
                }
                Err(TryLockError::WouldBlock) => sleep(Duration::from_millis(20)).await,
            }
        }
        if log.metadata().map_err(failed())?.len() > LOG_LIMIT {
            log.set_len(0).map_err(failed())?;
        }
        Ok(log)
    }

    /// Returns an empty directory for the server's ports file: a crashed server leaves its own behind.
    pub(super) fn fresh_ports_dir(&self) -> Result<PathBuf, Error> {
        let dir = self.path.join(PORTS);
        let create = || match std::fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => std::fs::create_dir(&dir),
        };
        create().map_err(io_error(format!("create {}", dir.display())))?;
        Ok(dir)
    }

    pub(super) fn write_settings(&self, text: &str) -> Result<(), Error> {
        let path = self.settings();
        std::fs::write(&path, text).map_err(io_error(format!("write {}", path.display())))
    }

    /// Returns the last lines of the log, oldest first; none if it cannot be read.
    pub(super) fn log_tail(&self) -> Vec<String> {
        let text = read_end(&self.path.join(LOG)).unwrap_or_default();
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].to_vec()
    }

    /// Makes the watchdog responsible for removing a temporary directory.
    pub(super) fn leave_to_watchdog(&mut self) {
        self.temporary = false;
    }
}

impl Drop for DataDir {
    fn drop(&mut self) {
        if self.temporary {
            // The system empties its temporary directory sooner or later; there is nobody to tell here.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Creates a new directory with an unguessable name that only this user may enter.
pub(super) fn scratch_dir(parent: &Path) -> io::Result<PathBuf> {
    let path = parent.join(format!("sinew-{}", uuid::Uuid::new_v4().simple()));
    DirBuilder::new().mode(0o700).create(&path)?;
    Ok(path)
}

/// Reads the file `<program>_<pid>.ports` once the server has written it in full.
pub(super) async fn endpoint(ports_dir: &Path) -> Option<Endpoint> {
    #[derive(Deserialize)]
    struct Ports {
        nats: Vec<String>,
    }
    let mut files = tokio::fs::read_dir(ports_dir).await.ok()?;
    let path = files.next_entry().await.ok()??.path();
    let (_program, pid) = path.file_stem()?.to_str()?.rsplit_once('_')?;
    let ports: Ports = serde_json::from_slice(&tokio::fs::read(&path).await.ok()?).ok()?;
    let (_host, port) = ports.nats.first()?.rsplit_once(':')?;
    Some(Endpoint { pid: pid.parse().ok()?, port: port.parse().ok()? })
}

fn read_end(path: &Path) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_temporary_directory_goes_and_a_given_one_stays() {
        let temporary = DataDir::open(None).unwrap();
        let path = temporary.path().to_owned();
        let given = DataDir::open(Some(&path.join("given"))).unwrap();
        let inner = given.path().to_owned();
        drop(given);
        assert!(inner.is_dir());
        drop(temporary);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_directory_in_use_is_refused_until_its_log_is_closed() {
        let data = DataDir::open(None).unwrap();
        let log = data.lock_log(Duration::ZERO).await.unwrap();
        assert!(matches!(data.lock_log(Duration::ZERO).await, Err(Error::DataDirBusy { .. })));
        drop(log);
        assert!(data.lock_log(Duration::from_secs(10)).await.is_ok());
    }

    #[test]
    fn the_tail_is_the_end_of_the_log() {
        let data = DataDir::open(None).unwrap();
        assert_eq!(data.log_tail(), Vec::<String>::new());
        let lines: String = (0..3000).map(|n| format!("line {n}\n")).collect();
        std::fs::write(data.path().join(LOG), lines).unwrap();
        let tail = data.log_tail();
        assert_eq!((tail.len(), tail[19].as_str()), (20, "line 2999"));
    }

    #[tokio::test]
    async fn a_half_written_ports_file_is_not_an_endpoint_yet() {
        let data = DataDir::open(None).unwrap();
        let dir = data.fresh_ports_dir().unwrap();
        assert!(endpoint(&dir).await.is_none());
        std::fs::write(dir.join("nats-server_71.ports"), "{\"nats\":[\"nats://127.").unwrap();
        assert!(endpoint(&dir).await.is_none());
        std::fs::write(dir.join("nats-server_71.ports"), "{\"nats\":[\"nats://127.0.0.1:4321\"]}").unwrap();
        let endpoint = endpoint(&dir).await.unwrap();
        assert_eq!((endpoint.pid, endpoint.port), (71, 4321));
        assert!(super::endpoint(&data.fresh_ports_dir().unwrap()).await.is_none());
    }
}
