//! `sinew demo`: four orders through a complete system. What happens stands in [`crate::demo`].

use crate::{demo, error::Error, session::Session};

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Brings its own broker unless --nats-url names one. Stays up after the orders, to be looked at.\n\nExamples:\n  sinew demo\n  sinew demo --once"
)]
pub(crate) struct Args {
    /// Ends after the four orders; fails when one did not end as expected
    #[arg(long)]
    once: bool,
}

pub(crate) async fn run(args: Args, session: &Session) -> Result<(), Error> {
    demo::run(session, args.once).await
}
