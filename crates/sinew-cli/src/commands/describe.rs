//! `sinew describe`: what a service is, before it runs or while it does: operations, events, policies, permissions.

mod program;
mod source;
mod text;

use std::{path::PathBuf, time::Duration};

use serde::Serialize;
use sinew::wire::ServiceDescriptor;

use crate::{
    error::Error,
    operation::{duration, inbox},
    permissions::{self, Permissions},
    session::Session,
};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "A program is run with SINEW_DESCRIBE=1: its Service::run then prints what it would serve and returns \
                  before it connects. Nothing but the catalogue needs a bus.\n\nExamples:\n  sinew describe -- cargo \
                  run -p hello\n  sinew describe orders                       # from the catalogue\n  sinew describe \
                  --permissions -- ./orders  # for nats-server.conf\n  sinew describe --json -- ./orders > \
                  orders.json\n  sinew describe --file orders.json\n\nExit codes: 0 described, 1 no such service or no \
                  service in the program, 2 usage, 4 bus unreachable."
)]
pub(crate) struct Args {
    /// Services to look up in the catalogue; without any, all of them
    #[arg(value_name = "SERVICE")]
    services: Vec<String>,
    /// File with descriptions, as --json prints them; - for standard input
    #[arg(long, value_name = "FILE", conflicts_with = "services")]
    file: Option<PathBuf>,
    /// Prints only the permissions, as a block for a user in the configuration of nats-server
    #[arg(long)]
    permissions: bool,
    /// First token of the service's reply inboxes, where it has an identity of its own
    #[arg(long, value_name = "PREFIX", default_value = "_INBOX", value_parser = inbox)]
    inbox: String,
    /// How long the program may take, such as 30s or 5m
    #[arg(long, default_value = "5m", value_name = "DURATION", value_parser = duration)]
    timeout: Duration,
    /// The program that holds the service, and its arguments
    #[arg(last = true, value_name = "PROGRAM", conflicts_with_all = ["services", "file"])]
    program: Vec<String>,
}

/// A service with all that follows from its descriptor.
#[derive(Serialize)]
struct Described {
    #[serde(flatten)]
    service: ServiceDescriptor,
    permissions: Permissions,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    let services = match (args.program.split_first(), &args.file) {
        (Some((program, arguments)), _) => program::ask(program, arguments, args.timeout).await?,
        (None, Some(file)) => source::file(file)?,
        (None, None) => session.on_bus(async |bus| source::catalogue(bus, &args.services).await).await?,
    };
    let described: Vec<Described> =
        services.into_iter().map(|service| Described::new(service, &args.inbox)).collect();
    session.output.show(&described, |described| {
        let one = |one: &Described| {
            if args.permissions { one.permissions_block() } else { text::page(one, &session.output) }
        };
        match described.as_slice() {
            [] => "the catalogue is empty: start a service, or describe a program with `sinew describe -- PROGRAM`"
                .to_owned(),
            described => described.iter().map(one).collect::<Vec<_>>().join("\n\n"),
        }
    });
    Ok(())
}

impl Described {
    fn new(service: ServiceDescriptor, inbox: &str) -> Self {
        Self { permissions: permissions::of(&service, inbox), service }
    }

    fn permissions_block(&self) -> String {
        format!("# {} {}\n{}", self.service.name, self.service.version, self.permissions.to_config())
    }
}
