//! `sinew edge purge`: has every running edge let go of replies it keeps.

use std::time::Duration;

use serde_json::{Value, json};
use sinew::wire::{ContentType, Headers, decode};
use sinew_edge::PURGE;

use crate::{
    diagnostics::counted,
    error::{Error, code},
    session::Session,
};

/// How long edges have to answer. They do it at once; nobody knows how many there are.
const PATIENCE: Duration = Duration::from_millis(1_000);

#[derive(Debug, clap::Args)]
#[command(
    group = clap::ArgGroup::new("what").required(true).multiple(true),
    after_help = "Every edge that caches hears it; a reply that is asked for meanwhile is not kept. Whoever may publish on \
                  _EDGE.purge may purge.\n\nExamples:\n  sinew edge purge --path /orders/7\n  sinew edge purge --tag \
                  orders --tag order:7\n  sinew edge purge --all --json\n\nExit codes: 0 done, 1 no edge answered, 4 bus \
                  unreachable."
)]
pub(super) struct Args {
    /// What was kept at this path, for every query and host; may be given several times
    #[arg(long = "path", value_name = "PATH", group = "what", value_parser = path)]
    paths: Vec<String>,
    /// What has this tag; may be given several times
    #[arg(long = "tag", value_name = "TAG", group = "what")]
    tags: Vec<String>,
    /// Everything
    #[arg(long, group = "what", conflicts_with_all = ["paths", "tags"])]
    all: bool,
}

pub(super) async fn run(args: &Args, session: &Session) -> Result<(), Error> {
    let purge = json!({ "all": args.all, "tags": args.tags, "paths": args.paths });
    let answers = session
        .on_bus(async |bus| {
            let answers = bus.gather(PURGE, &Headers::new(), purge.to_string().into(), PATIENCE).await?;
            Ok(answers)
        })
        .await?;
    let read = |message: &sinew::bus::Message| decode::<Value>(ContentType::Json, message.payload()).ok();
    let edges: Vec<Value> = answers.iter().filter_map(read).collect();
    if edges.is_empty() {
        return Err(Error::failed(code::FINDINGS, "no edge that caches answered").hint(
            "is one running on this bus, with `cache` among its policies? `sinew services` lists what runs",
        ));
    }
    session.output.show(&json!({ "edges": edges }), |_| {
        let line = |edge: &Value| {
            let count = edge["purged"].as_u64().and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
            format!("{}: {} purged", edge["edge"].as_str().unwrap_or("edge"), counted(count, "response"))
        };
        edges.iter().map(line).collect::<Vec<_>>().join("\n")
    });
    Ok(())
}

fn path(text: &str) -> Result<String, String> {
    match text.split_once(['?', '#']) {
        _ if !text.starts_with('/') => Err("a path begins with a slash, as in /orders/7".to_owned()),
        Some((path, _)) => Err(format!("every query goes at once: write {path}")),
        None => Ok(text.to_owned()),
    }
}
