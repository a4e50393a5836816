//! Documents a definition refers to: functions and schemas at a URI. The engine fetches nothing; a host does.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::definition::Reading;

/// Fetched documents by the URI they were asked for under. Kept beside the definition, so that it parses alike forever.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Resources(BTreeMap<String, String>);

/// A document that a definition refers to, to be fetched before it can run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Resource {
    /// The name to give it in [`Resources`]: an absolute URI, or a path relative to the definition.
    ///
    /// Functions of the default catalogue are `catalog://default/functions/<name>/<version>/function.yaml`, wherever a
    /// host keeps them.
    pub uri: String,
    /// Where to fetch it: the URI, or an object with `uri` and `authentication`, as the specification writes an endpoint.
    pub endpoint: Value,
    /// The file that refers to it: the definition's own, or the URI of another resource.
    pub file: String,
    /// The JSON pointer of the reference in that file.
    pub pointer: String,
    /// What it is for, in words.
    pub why: String,
}

/// Says what has to be fetched before a document can run, beyond what there is already.
///
/// Fetched documents may refer to further ones: ask again until nothing is missing. A document that needs more than 64
/// is refused by [`Definition::parse_with`](crate::Definition::parse_with), so this ends.
///
/// ```
/// use sinew_workflow::{Resources, resources};
///
/// let source = "
/// document: { dsl: '1.0.3', namespace: shop, name: greet, version: '1.0.0' }
/// do:
///   - log: { call: 'log:1.0.0@default', with: { message: hello } }
/// ";
/// let missing = resources(source, "greet.yaml", &Resources::default());
/// assert_eq!(missing[0].uri, "catalog://default/functions/log/1.0.0/function.yaml");
/// ```
#[must_use]
pub fn resources(source: &str, file: &str, known: &Resources) -> Vec<Resource> {
    Reading::new(source, file, known).missing
}

impl Resources {
    /// Adds a document under its URI.
    pub fn insert(&mut self, uri: impl Into<String>, text: impl Into<String>) {
        self.0.insert(uri.into(), text.into());
    }

    /// Returns a document.
    #[must_use]
    pub fn get(&self, uri: &str) -> Option<&str> {
        self.0.get(uri).map(String::as_str)
    }

    /// Says whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the documents by URI.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(uri, text)| (uri.as_str(), text.as_str()))
    }
}

impl<U: Into<String>, T: Into<String>> FromIterator<(U, T)> for Resources {
    fn from_iter<I: IntoIterator<Item = (U, T)>>(documents: I) -> Self {
        Self(documents.into_iter().map(|(uri, text)| (uri.into(), text.into())).collect())
    }
}
