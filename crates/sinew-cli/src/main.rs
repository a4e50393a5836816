//! The binary `sinew`: every role and tool of the backbone. The only place where roles are wired together and where
//! the environment is read.
//!
//! A run is a story of six steps: parse the arguments, configure, switch logging on, run the command, report, and
//! leave with an exit code. Commands that talk to the bus connect and close in [`session`]; those that run roles drain
//! them in [`roles`].

mod args;
mod catalogue;
mod codes;
mod commands;
mod config;
mod demo;
mod diagnostics;
mod discovery;
mod document;
mod error;
mod filter;
mod logging;
mod moment;
mod operation;
mod output;
mod permissions;
mod quantity;
mod roles;
mod schemas;
mod session;
mod settings;
mod stamp;
mod subjects;
mod timeline;

use std::{process::ExitCode, time::Instant};

use mimalloc::MiMalloc;

use crate::{args::Parsed, output::Output, session::Session};

/// A shard makes and drops many small values on several threads, which costs the system's allocator two fifths of all
/// its time.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let began = Instant::now();
    let Parsed { command, settings, log_format, json } = match args::parse() {
        Ok(parsed) => parsed,
        Err(refused) => return refused.report(),
    };
    logging::start(log_format);
    let session = Session { settings, output: Output::new(json), began };
    match commands::run(command, &session).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            session.output.error(&error);
            error.exit_code()
        }
    }
}
