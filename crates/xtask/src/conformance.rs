//! `cargo xtask conformance`: other people's tests against the edge. Each suite installs what it needs, starts a real
//! nats-server, services and the edge as its users run it, and says how much passed and how much is asked.

mod cache;
mod catalogue;
mod client;
mod desk;
mod load;
mod schemathesis;
mod site;
mod tools;

use std::{fmt, path::Path};

use site::Site;
use tools::Unreachable;

/// What a suite may fail with; read by a person. [`Unreachable`] is told apart.
type Error = Box<dyn std::error::Error + Send + Sync>;

/// Every suite, in the order they run.
const SUITES: [&str; 3] = ["schemathesis", "load", "cache"];

/// Has a suite that cannot be installed for want of a network count as told, not as failed.
const IF_REACHABLE: &str = "--if-reachable";

/// How a suite ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outcome {
    passed: usize,
    failed: usize,
    /// How many have to pass.
    asked: usize,
}

impl Outcome {
    fn is_enough(self) -> bool {
        self.passed >= self.asked
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { passed, failed, asked } = self;
        write!(f, "{passed} passed, {failed} failed, {asked} asked")
    }
}

/// Runs the named suites, all of them where none is named, and fails when one passes less than is asked.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> crate::Outcome {
    let names: Vec<&str> = arguments.iter().copied().filter(|word| *word != IF_REACHABLE).collect();
    if let Some(unknown) = names.iter().find(|name| !SUITES.contains(name)) {
        return Err(format!("there is no suite {unknown}: use {}", SUITES.join(", ")));
    }
    let wanted = SUITES.iter().filter(|suite| names.is_empty() || names.contains(suite));
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let lenient = arguments.contains(&IF_REACHABLE);
    let mut short = Vec::new();
    for suite in wanted {
        println!("\nconformance {suite}");
        let ended = runtime.block_on(suite_of(suite, root));
        match ended {
            Ok(outcome) => {
                println!("{suite}: {outcome}");
                short.extend((!outcome.is_enough()).then(|| format!("{suite}: {outcome}")));
            }
            Err(error) if lenient && error.is::<Unreachable>() => println!("{suite}: NOT RUN: {error}"),
            Err(error) => short.push(format!("{suite}: {error}")),
        }
    }
    if short.is_empty() { Ok(()) } else { Err(short.join("\n")) }
}

async fn suite_of(name: &str, root: &Path) -> Result<Outcome, Error> {
    let site = Site::prepare(root, name)?;
    match name {
        "cache" => cache::run(&site).await,
        "schemathesis" => schemathesis::run(&site).await,
        "load" => load::run(&site).await,
        other => Err(format!("there is no suite {other} in {}", site.folder().display()).into()),
    }
}
