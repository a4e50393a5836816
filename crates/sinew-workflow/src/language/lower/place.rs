//! Which arguments of the language an expression sees, by where it stands: the specification's table, as a table.

/// Where an expression stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) enum Place {
    /// What is needed before anything starts.
    Load,
    /// `input.from` of the workflow, and its timeout.
    WorkflowInput,
    /// `output.as` of the workflow.
    WorkflowOutput,
    /// `if` of a task.
    If,
    /// `input.from` of a task.
    Input,
    /// Everything else in a task.
    #[default]
    Task,
    /// `output.as` of a task.
    Output,
    /// `export.as` of a task.
    Export,
}

/// Every argument there is. `$secrets` is not among them: it is replaced before an expression compiles.
pub(super) const ARGUMENTS: &[&str] =
    &["context", "input", "output", "authorization", "task", "workflow", "runtime"];

impl Place {
    pub(super) const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Load => &[],
            Self::WorkflowInput => &["workflow", "runtime"],
            Self::WorkflowOutput => &["context", "workflow", "runtime"],
            Self::If | Self::Input => &["context", "task", "workflow", "runtime"],
            Self::Task | Self::Output => {
                &["context", "input", "authorization", "task", "workflow", "runtime"]
            }
            Self::Export => ARGUMENTS,
        }
    }

    pub(super) const fn describe(self) -> &'static str {
        match self {
            Self::Load => "for what is fetched before the workflow runs",
            Self::WorkflowInput => "before the workflow starts",
            Self::WorkflowOutput => "in the output of the workflow",
            Self::If => "where it is decided whether a task runs",
            Self::Input => "in `input.from`",
            Self::Task => "inside a task",
            Self::Output => "in `output.as`",
            Self::Export => "in `export.as`",
        }
    }
}
