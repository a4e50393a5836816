//! What can be wrong with the settings. Failures of calls are outcomes: see [`Outcome`](sinew_workflow::Outcome).

/// Why calls cannot be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A setting cannot be used.
    #[error("{name} is unusable: {reason}")]
    Setting {
        /// The name of the setting.
        name: &'static str,
        /// What is wrong, and what to do.
        reason: String,
    },
}
