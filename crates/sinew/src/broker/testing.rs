//! A file tree of fake programs for the locator's tests.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{Config, data};

/// A directory with a `bin/`, which is the whole search path, and a `cache/`. Removed when dropped.
pub(super) struct Sandbox {
    root: PathBuf,
}

/// The body of a program that claims to be this version of nats-server.
pub(super) fn server_script(version: &str) -> String {
    format!("echo 'nats-server: v{version}'")
}

impl Sandbox {
    pub(super) fn new() -> Self {
        let root = data::scratch_dir(&std::env::temp_dir()).unwrap();
        std::fs::create_dir(root.join("bin")).unwrap();
        Self { root }
    }

    pub(super) fn config(&self) -> Config {
        let search_path = vec![self.root.join("bin")];
        Config { search_path, cache_dir: Some(self.root.join("cache")), ..Config::default() }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Writes a shell script and makes it executable.
    ///
    /// Another process does the writing: a test running beside this one may fork while we hold the file open,
    /// and a program somebody has open for writing cannot be run.
    pub(super) fn program(&self, name: &str, body: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).unwrap();
        let write = "printf '#!/bin/sh\\n%s\\n' \"$2\" >\"$1\" && chmod +x \"$1\"";
        let status =
            Command::new("/bin/sh").args(["-c", write, "write"]).arg(&path).arg(body).status().unwrap();
        assert!(status.success());
        path
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}
