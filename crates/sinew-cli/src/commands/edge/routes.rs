//! `sinew edge routes`: what an edge serves, who asked for it, and what is not served although it was asked for.

use std::path::PathBuf;

use sinew_edge::{Overview, RouteInfo, Services, WebhookInfo, overview};

use super::live;
use crate::{
    config,
    error::Error,
    output::{Output, Style, columns},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Lists what an edge with this file would serve now. On the same path routes of the file come before those of \
                  contracts, and those before discovery.\n\nExamples:\n  sinew edge routes\n  sinew edge routes --config \
                  edge.yaml\n  sinew edge routes --live 127.0.0.1:9464    # of a running edge, with its counts\n  sinew edge routes --json | jq '.routes[] | select(.origin == \"config\")'"
)]
pub(super) struct Args {
    /// Settings and routes, as YAML
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A running edge, by the address its metrics are read at: its routes, with what they did since it started
    #[arg(long, value_name = "ADDRESS", value_parser = live::address, conflicts_with = "config")]
    live: Option<http::Uri>,
}

pub(super) async fn run(args: &Args, session: &Session) -> Result<(), Error> {
    if let Some(uri) = &args.live {
        return live::run(uri, session).await;
    }
    let config = config::edge(args.config.as_deref())?;
    let services = session.on_bus(async |bus| Ok(Services::read(bus).await?)).await?;
    let overview = overview(&config, &services);
    session.output.show(&overview, |overview| text(overview, &session.output));
    Ok(())
}

fn text(overview: &Overview, output: &Output) -> String {
    let mut routes: Vec<&RouteInfo> = overview.routes.iter().collect();
    routes.sort_by(|a, b| (&a.host, &a.path, &a.method).cmp(&(&b.host, &b.path, &b.method)));
    let rows: Vec<Vec<String>> = routes.into_iter().map(row).collect();
    let notes: Vec<String> = overview
        .notes
        .iter()
        .map(|note| format!("{} {note}", output.paint(Style::Doubtful, "note")))
        .collect();
    let webhooks: Vec<Vec<String>> = overview.webhooks.iter().map(webhook).collect();
    let parts = [columns(&rows), columns(&webhooks), notes.join("\n")];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("\n\n")
}

fn webhook(webhook: &WebhookInfo) -> Vec<String> {
    let signed = if webhook.signed { "signed" } else { "not signed" };
    vec![
        "webhook".to_owned(),
        webhook.name.clone(),
        webhook.events.join(", "),
        webhook.url.clone(),
        signed.to_owned(),
    ]
}

fn row(route: &RouteInfo) -> Vec<String> {
    let host = route.host.as_deref().unwrap_or_default();
    let path = format!("{host}{}", route.path);
    vec![route.method.clone(), path, route.conditions.join(", "), route.to.clone(), route.origin.to_owned()]
}
