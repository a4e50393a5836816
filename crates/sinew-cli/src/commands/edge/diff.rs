//! `sinew edge diff`: which routes and webhooks another file adds, removes and changes.

use std::path::PathBuf;

use sinew_edge::{Changes, Services};

use crate::{config, error::Error, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Needs no broker: only the files are looked at.\n\nExamples:\n  sinew edge diff edge.yaml edge.new.yaml\n  git \
                  show HEAD:edge.yaml > /tmp/old.yaml && sinew edge diff /tmp/old.yaml edge.yaml"
)]
pub(super) struct Args {
    /// The file as it is
    #[arg(value_name = "BEFORE")]
    before: PathBuf,
    /// The file as it shall be
    #[arg(value_name = "AFTER")]
    after: PathBuf,
}

pub(super) fn run(args: &Args, session: &Session) -> Result<(), Error> {
    let read = |path| config::edge(Some(path));
    let changes = Changes::of(&read(&args.before)?, &read(&args.after)?, &Services::default());
    session.output.show(&changes, ToString::to_string);
    Ok(())
}
