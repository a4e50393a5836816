//! Where definitions are found: stored on the bus, or given to this process.

use std::{collections::BTreeMap, sync::Arc};

use sinew::workflow::WorkflowError;

use crate::{
    definitions::{Definitions, Precedence},
    shard::Compiled,
};

/// The definitions a shard can start; a cheap handle.
#[derive(Clone)]
pub(crate) enum Library {
    /// Those in the bucket.
    Stored(Definitions),
    /// Those of this process, by what stands for their digest.
    Given(Arc<BTreeMap<String, Compiled>>),
}

impl Library {
    /// Makes a library of what is given; of two with the same name and version the first counts.
    pub(crate) fn of(definitions: impl IntoIterator<Item = Compiled>) -> Self {
        let mut given = BTreeMap::new();
        for definition in definitions {
            given.entry(definition.reference().to_string()).or_insert(definition);
        }
        Self::Given(Arc::new(given))
    }

    /// Returns the definition of a digest; `None` where there is none, or where it cannot be compiled any more.
    ///
    /// # Errors
    /// When it is unknown whether there is one.
    pub(crate) async fn compiled(&self, digest: &str) -> Result<Option<Compiled>, sinew::Error> {
        match self {
            Self::Stored(definitions) => definitions.compiled(digest).await,
            Self::Given(given) => Ok(given.get(digest).cloned()),
        }
    }

    /// Returns the digest of a version of a workflow; without one, that of the newest.
    ///
    /// # Errors
    /// [`WorkflowError::UnknownWorkflow`] when there is none, anything else when that is unknown.
    pub(crate) async fn resolve(
        &self,
        namespace: &str,
        name: &str,
        version: Option<&str>,
    ) -> Result<String, WorkflowError> {
        match self {
            Self::Stored(definitions) => definitions.resolve_in(Some(namespace), name, version).await,
            Self::Given(given) => newest(given, namespace, name, version),
        }
    }
}

fn newest(
    given: &BTreeMap<String, Compiled>,
    namespace: &str,
    name: &str,
    version: Option<&str>,
) -> Result<String, WorkflowError> {
    let fits = |(_, one): &(&String, &Compiled)| {
        let reference = one.reference();
        (reference.namespace.as_str(), reference.name.as_str()) == (namespace, name)
            && version.is_none_or(|version| reference.version == version)
    };
    let newest = given.iter().filter(fits).max_by_key(|(_, one)| Precedence::of(&one.reference().version));
    newest.map(|(digest, _)| digest.clone()).ok_or_else(|| {
        let known: Vec<&str> = given.keys().map(String::as_str).collect();
        let wanted = version.map_or_else(|| name.to_owned(), |version| format!("{name}@{version}"));
        let known = known.join(", ");
        WorkflowError::UnknownWorkflow(format!("{namespace}/{wanted}: given are {known}"))
    })
}
