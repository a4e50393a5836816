//! `sinew dlq`: dead letters: looking at them, giving them to their group again, mending and dropping them.

mod act;
mod choice;
mod edit;
mod show;

use sinew::dead_letters::By;

use crate::{error::Error, session::Session};

/// What to do with dead letters.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Lists dead letters, the oldest first
    Ls(show::Ls),
    /// Shows one dead letter: why it died, its headers and its payload
    Show(show::Show),
    /// Gives dead letters to their own group again, with a fresh budget of attempts
    Retry(act::Args),
    /// Replaces the payload of a dead letter; the first version is kept
    Edit(edit::Args),
    /// Gives dead letters up for good
    Drop(act::DropArgs),
}

/// Who acts and why; told as an event with every change.
#[derive(Debug, clap::Args)]
struct Author {
    /// Why, for those who ask later
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who, where it is not the user of this machine
    #[arg(long = "by", value_name = "WHO")]
    who: Option<String>,
}

pub(crate) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::Ls(args) => show::list(args, session).await,
        Command::Show(args) => show::one(args, session).await,
        Command::Retry(args) => act::retry(args, session).await,
        Command::Edit(args) => edit::run(args, session).await,
        Command::Drop(args) => act::drop(args, session).await,
    }
}

impl Author {
    fn by(&self) -> By {
        By::new(self.who.clone().unwrap_or_else(user)).because(self.reason.clone())
    }
}

/// Returns the user and machine this process runs as.
fn user() -> String {
    let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = variable("USER").or_else(|| variable("LOGNAME")).unwrap_or_else(|| "unknown".to_owned());
    let told = || std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = variable("HOSTNAME").or_else(told).unwrap_or_else(|| "unknown".to_owned());
    format!("{user}@{}", host.trim())
}
