//! `cargo xtask bench`: programs that print ratios against a baseline measured in the same run. Never a test: a figure
//! is a reading, not a verdict.

mod edge;
mod engine;
mod load;
mod messages;
mod parked;
mod peer;
mod saga;
mod sdk;

use std::{path::Path, process::Command, time::Duration};

use sinew::broker::{self, Broker};

use crate::Outcome;

/// What a benchmark may fail with; read by a person.
type Error = Box<dyn std::error::Error + Send + Sync>;

const WHICH: [&str; 5] = ["workflow-engine", "sdk", "edge", "saga", "parked"];

/// The benchmark that has parts with names of their own.
const EDGE: &str = "edge";

/// Adds what takes minutes.
const LONG: &str = "long";

/// Runs the named benchmarks, all but `parked` where none is named. The first number is the seconds each takes, the second
/// how many instances are parked. Behind `edge` may stand which of its parts are wanted. A debug build runs itself again as what is shipped.
pub(crate) fn run(root: &Path, arguments: &[&str]) -> Outcome {
    if cfg!(debug_assertions) {
        return optimised(arguments);
    }
    let long = arguments.contains(&LONG);
    let (numbers, names): (Vec<&str>, Vec<&str>) =
        arguments.iter().filter(|word| **word != LONG).partition(|word| word.parse::<u64>().is_ok());
    let (parts, names): (Vec<&str>, Vec<&str>) =
        names.iter().partition(|name| names.contains(&EDGE) && edge::PARTS.contains(*name));
    if let Some(unknown) = names.iter().find(|name| !WHICH.contains(name)) {
        let (which, parts) = (WHICH.join(", "), edge::PARTS.join(", "));
        return Err(format!("there is no benchmark {unknown}: use {which}; parts of {EDGE} are {parts}"));
    }
    let number = |at: usize| numbers.get(at).and_then(|text| text.parse::<u64>().ok());
    let seconds = Duration::from_secs(number(0).unwrap_or(3));
    let parked = number(1).and_then(|count| count.try_into().ok()).unwrap_or(parked::COUNT);
    let wanted = |name: &str| names.is_empty() || names.contains(&name);
    if wanted("workflow-engine") {
        engine::run(seconds).map_err(|error| error.to_string())?;
    }
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let all = async {
        if wanted("sdk") {
            sdk::run(seconds).await?;
        }
        if wanted(EDGE) {
            edge::run(seconds, |part| parts.is_empty() || parts.contains(&part)).await?;
        }
        if wanted("saga") {
            saga::run(root, seconds, long).await?;
        }
        if names.contains(&"parked") {
            parked::run(seconds, parked).await?;
        }
        Ok::<(), Error>(())
    };
    runtime.block_on(all).map_err(|error| error.to_string())
}

fn optimised(arguments: &[&str]) -> Outcome {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    // Running builds the one program only; the peers are another.
    let build = ["build", "--profile", "dist", "--quiet", "--package", "xtask"];
    let run = ["run", "--profile", "dist", "--quiet", "--package", "xtask", "--", "bench"];
    for (what, more) in [(&build[..], &[][..]), (&run[..], arguments)] {
        let status =
            Command::new(&cargo).args(what).args(more).status().map_err(|error| error.to_string())?;
        if !status.success() {
            return Err("the benchmark failed".to_owned());
        }
    }
    Ok(())
}

/// Makes what every benchmark sends.
fn sample() -> messages::Sample {
    let tags = ["new", "gift", "fragile"].map(str::to_owned).to_vec();
    messages::Sample { id: 4_711, name: "a sample of middling size".to_owned(), tags, text: "x".repeat(150) }
}

async fn server(sync_always: bool) -> Result<Broker, Error> {
    let found = broker::Config::from_env(|name| std::env::var(name).ok().filter(|_| name != "NATS_URL"));
    let config = broker::Config { sync_always, ..found };
    Ok(broker::start(config, |step| println!("  {step}")).await?)
}
