//! `sinew completions`: a completion script for a shell.

use clap_complete::Shell;

use crate::{error::Error, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sinew completions bash > ~/.local/share/bash-completion/completions/sinew"
)]
pub(crate) struct Args {
    /// The shell
    shell: Shell,
}

pub(crate) fn run(args: &Args, session: &Session) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut crate::args::command(), "sinew", &mut script);
    let script = String::from_utf8_lossy(&script);
    if session.output.is_json() {
        session.output.value(&serde_json::json!({ "shell": args.shell.to_string(), "script": script }));
    } else {
        session.output.text(&script);
    }
    Ok(())
}
