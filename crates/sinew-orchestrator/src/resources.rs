//! Documents that definitions refer to, such as functions and schemas: fetched once, before anything runs.
//!
//! They are kept beside the definition, so that a replay needs neither the network nor the same document there.

use std::{fmt, path::Path, time::Duration};

use serde_json::Value;
use sinew_protocols::Protocols;
use sinew_workflow::{Resource, Resources};

/// How long one document may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Documents of one definition; the language refuses one that needs more.
const MOST: usize = 64;

/// A document that could not be fetched.
#[derive(Clone, Debug)]
pub struct Unfetched {
    /// Which, and what refers to it.
    pub resource: Resource,
    /// Why not.
    pub reason: String,
}

/// Fetches what a document refers to, and what that refers to, on top of what is `known`. Paths are read below `folder`,
/// where one is given; what nobody can find is left out, and the definition says where it is missing.
///
/// # Errors
/// Each document that could not be fetched, with the place that refers to it and the reason.
pub async fn fetch(
    source: &str,
    file: &str,
    known: Resources,
    protocols: &Protocols,
    folder: Option<&Path>,
) -> Result<Resources, Vec<String>> {
    let (found, failed) = gather(source, file, known, protocols, folder).await;
    if failed.is_empty() { Ok(found) } else { Err(failed.iter().map(Unfetched::to_string).collect()) }
}

/// Fetches as [`fetch`] does, and returns what could be fetched beside what could not.
pub async fn gather(
    source: &str,
    file: &str,
    mut known: Resources,
    protocols: &Protocols,
    folder: Option<&Path>,
) -> (Resources, Vec<Unfetched>) {
    let mut failed: Vec<Unfetched> = Vec::new();
    for _ in 0..MOST {
        let mut missing = sinew_workflow::resources(source, file, &known);
        missing.retain(|one| !failed.iter().any(|failed| failed.resource.uri == one.uri));
        let before = known.iter().count() + failed.len();
        for resource in missing.into_iter().take(MOST) {
            match one(&resource, protocols, folder).await {
                Ok(Some(text)) => known.insert(&resource.uri, text),
                Ok(None) => {}
                Err(reason) => failed.push(Unfetched { resource, reason }),
            }
        }
        if known.iter().count() + failed.len() == before {
            break;
        }
    }
    (known, failed)
}

/// Fetches one document; `None` where nobody says how.
async fn one(
    resource: &Resource,
    protocols: &Protocols,
    folder: Option<&Path>,
) -> Result<Option<String>, String> {
    let Some((scheme, _)) = resource.uri.split_once("://").or_else(|| resource.uri.split_once(':')) else {
        let Some(folder) = folder else { return Ok(None) };
        let read = std::fs::read_to_string(folder.join(&resource.uri));
        return read.map(Some).map_err(|error| error.to_string());
    };
    if scheme == "catalog" {
        return Ok(None);
    }
    let fetched = protocols.fetch(&resource.endpoint, LIMIT).await;
    let bytes = fetched.map_err(|fault| fault.to_string())?;
    String::from_utf8(bytes.into()).map(Some).map_err(|_| "it is not text in UTF-8".to_owned())
}

impl fmt::Display for Unfetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Resource { file, pointer, uri, why, .. } = &self.resource;
        write!(f, "{file}: at {pointer}: cannot fetch {uri}, {why}: {}", self.reason)
    }
}

/// Recognises a definition by its text and everything it refers to.
pub(crate) fn digest(source: &str, resources: &Resources) -> String {
    if resources.is_empty() {
        return format!("{:016x}", crate::view::digest_of_text(source));
    }
    let whole = Value::from_iter([
        ("source".to_owned(), Value::from(source)),
        ("resources".to_owned(), serde_json::to_value(resources).unwrap_or_default()),
    ]);
    format!("{:016x}", crate::view::digest_of(&whole))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "
document: { dsl: '1.0.3', namespace: test, name: schema, version: '1.0.0' }
input: { schema: { resource: { endpoint: schemas/input.yaml } } }
do: [ { a: { set: { b: 1 } } } ]
";

    #[tokio::test]
    async fn a_path_is_read_below_the_folder_of_the_document_and_nowhere_else() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("schemas")).unwrap();
        std::fs::write(folder.path().join("schemas/input.yaml"), "type: object").unwrap();
        let protocols = crate::local::protocols(crate::local::Calling::default()).unwrap();
        let fetched = fetch(SOURCE, "a.yaml", Resources::default(), &protocols, Some(folder.path())).await;
        assert_eq!(fetched.unwrap().iter().map(|(_, text)| text).collect::<Vec<_>>(), ["type: object"]);
        let without = fetch(SOURCE, "a.yaml", Resources::default(), &protocols, None).await.unwrap();
        assert!(without.is_empty());
    }

    #[tokio::test]
    async fn what_cannot_be_fetched_is_said_with_its_place() {
        let source = SOURCE.replace("schemas/input.yaml", "http://127.0.0.1:1/schema.json");
        let protocols = crate::local::protocols(crate::local::Calling::default()).unwrap();
        let failed = fetch(&source, "a.yaml", Resources::default(), &protocols, None).await.unwrap_err();
        assert!(failed[0].contains("a.yaml: at /input/schema"), "{failed:?}");
        assert!(failed[0].contains("http://127.0.0.1:1/schema.json"), "{failed:?}");
    }

    #[test]
    fn another_document_behind_the_same_name_is_another_definition() {
        let with = |text: &str| digest(SOURCE, &Resources::from_iter([("a", text)]));
        assert_eq!(digest(SOURCE, &Resources::default()), digest(SOURCE, &Resources::default()));
        assert_ne!(with("1"), with("2"));
        assert_ne!(with("1"), digest(SOURCE, &Resources::default()));
    }
}
