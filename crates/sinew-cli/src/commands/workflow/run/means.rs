//! What calls of the workflow may do on this machine.

use std::{collections::BTreeSet, path::PathBuf};

use sinew_orchestrator::{Allow, local::Calling};

use crate::{commands::workflow::reach::ReachArgs, error::Error};

#[derive(Debug, clap::Args)]
#[command(next_help_heading = "What calls may do")]
pub(super) struct MeansArgs {
    /// Lets `run: shell` start this command; without one, any
    #[arg(long, value_name = "COMMAND", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    allow_shell: Vec<String>,
    /// Lets `run: script` run this language; without one, js and python
    #[arg(long, value_name = "LANGUAGE", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    allow_script: Vec<String>,
    /// Lets `run: container` run this image, by its name without a tag; without one, any
    #[arg(long, value_name = "IMAGE", num_args = 0..=1, require_equals = true, default_missing_value = "*")]
    allow_container: Vec<String>,
    /// The program that runs containers; docker, or else podman, where none is named
    #[arg(long, value_name = "PROGRAM")]
    container_engine: Option<PathBuf>,
    #[command(flatten)]
    pub(super) reach: ReachArgs,
}

impl MeansArgs {
    /// Reads what is named: files and variables.
    pub(super) fn settings(&self) -> Result<Calling, Error> {
        let container_engine = self.container_engine.clone();
        Ok(Calling { allow: self.allow(), container_engine, ..self.reach.settings()? })
    }

    pub(super) fn allow(&self) -> Allow {
        let set = |given: &[String]| given.iter().cloned().collect::<BTreeSet<_>>();
        let mut script = set(&self.allow_script);
        if script.remove("*") {
            script.extend(["js", "javascript", "python"].map(str::to_owned));
        }
        let (shell, container) = (set(&self.allow_shell), set(&self.allow_container));
        Allow { shell, script, container, file: self.reach.files() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_script_is_one_of_the_languages_there_are() {
        let means = MeansArgs {
            allow_shell: Vec::new(),
            allow_script: vec!["*".to_owned()],
            allow_container: Vec::new(),
            container_engine: None,
            reach: ReachArgs::default(),
        };
        let allow = means.allow();
        assert!(allow.script.contains("python") && !allow.script.contains("*"));
        assert!(allow.shell.is_empty());
    }
}
