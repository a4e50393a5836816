//! Applies the workflows of a directory whenever one changes. A broken document is reported, and the last good one stays.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use sinew::{Ctx, workflow::ApplyWorkflow};

use crate::{
    diagnostics::Checked,
    error::{Error, Kind, code},
    output::Output,
    stamp::{PERIOD, Stamp},
};

/// A directory under watch.
pub(super) struct Watch {
    dir: PathBuf,
    ctx: Ctx,
    output: Output,
    seen: HashMap<PathBuf, Stamp>,
    /// Whether the directory could be read last time; a missing one is reported once.
    readable: bool,
}

impl Watch {
    pub(super) fn new(dir: PathBuf, ctx: Ctx, output: Output) -> Self {
        Self { dir, ctx, output, seen: HashMap::new(), readable: true }
    }

    /// Watches without end.
    pub(super) async fn run(&mut self) {
        let mut period = tokio::time::interval(PERIOD);
        loop {
            period.tick().await;
            for path in self.changed() {
                self.apply(&path).await;
            }
        }
    }

    /// Returns the documents that are new or were saved since the last look, in order of their names.
    fn changed(&mut self) -> Vec<PathBuf> {
        let listed =
            std::fs::read_dir(&self.dir).map(|entries| entries.flatten().map(|entry| entry.path()).collect());
        let mut files: Vec<PathBuf> = match listed {
            Ok(files) => files,
            Err(error) => {
                if std::mem::take(&mut self.readable) {
                    self.output.note(&format!("cannot read {}: {error}", self.dir.display()));
                }
                return Vec::new();
            }
        };
        self.readable = true;
        files.sort();
        files.retain(|path| is_document(path));
        files.retain(|path| match Stamp::of(path) {
            Some(stamp) => self.seen.insert(path.clone(), stamp) != Some(stamp),
            None => false,
        });
        files
    }

    async fn apply(&mut self, path: &Path) {
        let file = path.display().to_string();
        let Ok(source) = std::fs::read_to_string(path) else { return };
        let checked = Checked::new(source.clone(), file.clone());
        if !checked.is_valid() || !checked.not_runnable.is_empty() {
            self.refuse(&checked);
            return;
        }
        match self.ctx.call(ApplyWorkflow { source, file: file.clone() }).await {
            Ok(applied) if applied.changed => {
                self.output.note(&format!("applied {}@{} from {file}", applied.name, applied.version));
            }
            Ok(_) => {}
            Err(error) => {
                self.output.note(&format!("{file} could not be applied: {error}"));
                // Looked at again next time: the reason may be gone by then.
                self.seen.remove(path);
            }
        }
    }

    fn refuse(&self, checked: &Checked) {
        if self.output.is_json() {
            let message = format!("{} is not applied; what was applied before stays", checked.file);
            let error = Error::new(Kind::Document, code::DOCUMENT, message);
            self.output.error(&error.with("document", checked.to_json()));
            return;
        }
        let text = checked.to_text(&self.output);
        self.output.note(&format!("{text}\n  not applied; what was applied before stays"));
    }
}

fn is_document(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml" || extension == "json")
}
