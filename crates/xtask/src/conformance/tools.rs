//! Installing what suites are made of. Knows pip, npm and apt, and when it is the network that is missing.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use super::{
    Error,
    catalogue::{Package, Program},
};

/// What installers say when it is the way to their packages that is missing, or the leave to install them.
const CUT_OFF: [&str; 18] = [
    "NewConnectionError",
    "NameResolutionError",
    "ProxyError",
    "ConnectTimeout",
    "Read timed out",
    "name resolution",
    "ENOTFOUND",
    "ECONNREFUSED",
    "ECONNRESET",
    "ETIMEDOUT",
    "EAI_AGAIN",
    "Could not resolve",
    "Could not connect",
    "Unable to connect",
    "Failed to fetch",
    // Said where no list of packages could be fetched before.
    "Unable to locate package",
    "Temporary failure resolving",
    "are you root?",
];

/// The source of a package cannot be reached.
#[derive(Debug)]
pub(super) struct Unreachable(String);

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreachable {}

/// Installs packages with pip into an environment of their own below `folder`; returns where their programs are.
pub(super) async fn pip(folder: &Path, packages: &[Package]) -> Result<PathBuf, Error> {
    let home = folder.join(packages.iter().map(Package::to_string).collect::<Vec<_>>().join("-"));
    let programs = home.join("bin");
    if !is_done(&home) {
        install("python3", &["-m", "venv", "--clear", text(&home)?]).await?;
        let wanted = packages.iter().map(|package| format!("{}=={}", package.name, package.version));
        let wanted: Vec<String> = wanted.collect();
        let flags = ["install", "--quiet", "--disable-pip-version-check"].into_iter();
        let arguments: Vec<&str> = flags.chain(wanted.iter().map(String::as_str)).collect();
        install(text(&programs.join("pip"))?, &arguments).await?;
        done(&home)?;
    }
    Ok(programs)
}

/// Installs a package with npm into a folder of its own; returns where its files are.
pub(super) async fn npm(folder: &Path, package: Package) -> Result<PathBuf, Error> {
    let home = folder.join(package.to_string());
    if !is_done(&home) {
        std::fs::create_dir_all(&home)?;
        let wanted = format!("{}@{}", package.name, package.version);
        install("npm", &["install", "--no-audit", "--no-fund", "--prefix", text(&home)?, &wanted]).await?;
        done(&home)?;
    }
    Ok(home.join("node_modules").join(package.name))
}

/// Has apt install a program where it is missing.
pub(super) async fn apt(program: Program) -> Result<(), Error> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    if std::env::split_paths(&paths).any(|folder| folder.join(program.name).is_file()) {
        return Ok(());
    }
    install("apt-get", &["update", "--quiet"]).await?;
    install("apt-get", &["install", "--quiet", "--yes", "--no-install-recommends", program.package]).await
}

/// An installation that was broken off is begun anew.
fn is_done(home: &Path) -> bool {
    home.join(".done").is_file()
}

fn done(home: &Path) -> Result<(), Error> {
    Ok(std::fs::write(home.join(".done"), "")?)
}

fn text(path: &Path) -> Result<&str, Error> {
    path.to_str().ok_or_else(|| format!("{} is not UTF-8: build elsewhere", path.display()).into())
}

async fn install(program: &str, arguments: &[&str]) -> Result<(), Error> {
    let command = format!("{program} {}", arguments.join(" "));
    println!("  $ {command}");
    let mut running = Command::new(program);
    running.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null());
    let output = running.output().await.map_err(|error| format!("cannot run {program}: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    let end: Vec<&str> = said.lines().rev().take(5).collect();
    let failed = format!("`{command}` failed: {}", end.into_iter().rev().collect::<Vec<_>>().join("\n    "));
    match CUT_OFF.iter().any(|mark| said.contains(mark)) {
        true => Err(Unreachable(failed).into()),
        false => Err(failed.into()),
    }
}
