//! Takes over the routes of a file whenever it is saved. A file with mistakes is reported, and the last good routes stay.

use std::path::{Path, PathBuf};

use sinew_edge::Reloader;

use crate::{
    config,
    output::Output,
    stamp::{PERIOD, Stamp},
};

/// A file under watch.
pub(crate) struct Watch {
    path: PathBuf,
    seen: Option<Stamp>,
}

impl Watch {
    /// Takes the file as it is for known.
    pub(crate) fn new(path: PathBuf) -> Self {
        let seen = Stamp::of(&path);
        Self { path, seen }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Watches until the edge has ended.
    pub(crate) async fn run(&mut self, reloader: &Reloader, output: Output) {
        let mut period = tokio::time::interval(PERIOD);
        loop {
            period.tick().await;
            let stamp = Stamp::of(&self.path);
            // A file that is gone for a moment is being replaced.
            if stamp.is_some() && stamp != self.seen {
                self.seen = stamp;
                self.reload(reloader, output).await;
            }
        }
    }

    async fn reload(&self, reloader: &Reloader, output: Output) {
        let file = self.path.display();
        let read = config::edge(Some(&self.path)).and_then(|mut config| {
            config::secrets(&mut config)?;
            Ok(config)
        });
        let config = match read {
            Ok(config) => config,
            Err(error) => {
                reloader.unreadable();
                output.error(&error);
                return output.note("not taken over; the routes that were in force stay");
            }
        };
        match reloader.reload(config).await {
            Ok(changes) => output.note(&format!("took the routes of {file} over\n{changes}")),
            Err(error) => output.error(&error.into()),
        }
    }
}
