//! The documents a definition refers to, as trees, and where functions are found.

use std::collections::BTreeMap;

use super::yaml::{Node, Problem};
use crate::Resources;

/// The most documents one definition refers to.
pub(crate) const MAX_DOCUMENTS: usize = 64;
/// The catalogue that needs no declaration.
pub(crate) const DEFAULT: &str = "default";
/// Where the default catalogue is when the document does not say: wherever the host keeps it.
const DEFAULT_ROOT: &str = "catalog://default";

/// Documents by URI.
pub(crate) struct Library(BTreeMap<String, Result<Node, Problem>>);

/// A function of a catalogue, as `name:version@catalog`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Catalogued<'t> {
    pub(crate) name: &'t str,
    pub(crate) version: &'t str,
    pub(crate) catalog: &'t str,
}

impl Library {
    /// Reads documents; the first is file 1, after the definition itself.
    pub(crate) fn read(resources: &Resources) -> Self {
        let numbered = (1_u16..).zip(resources.iter().take(MAX_DOCUMENTS));
        let read = |(file, (uri, text)): (u16, (&str, &str))| {
            let tree = Node::parse(text).map(|node| node.in_file(file));
            (uri.to_owned(), tree.map_err(|problem| problem.in_file(file)))
        };
        Self(numbered.map(read).collect())
    }

    /// Returns the URIs in the order of their files.
    pub(crate) fn uris(&self) -> impl Iterator<Item = &String> {
        self.0.keys()
    }

    pub(crate) fn get(&self, uri: &str) -> Option<&Result<Node, Problem>> {
        self.0.get(uri)
    }
}

impl<'t> Catalogued<'t> {
    pub(crate) fn read(function: &'t str) -> Option<Self> {
        let (function, catalog) = function.rsplit_once('@')?;
        let (name, version) = function.split_once(':')?;
        let fits = |text: &str| !text.is_empty() && !text.contains(['/', ':', '@']);
        (fits(name) && fits(version) && fits(catalog)).then_some(Self { name, version, catalog })
    }

    /// Finds it below the root of its catalogue.
    pub(crate) fn uri(&self, root: Option<&str>) -> String {
        let root = root.unwrap_or(DEFAULT_ROOT).trim_end_matches('/');
        raw(&format!("{root}/functions/{}/{}/function.yaml", self.name, self.version))
    }
}

/// Turns the address people use for a file in a repository into that of its text.
pub(crate) fn raw(uri: &str) -> String {
    github(uri).or_else(|| gitlab(uri)).unwrap_or_else(|| uri.to_owned())
}

fn github(uri: &str) -> Option<String> {
    let path = uri.strip_prefix("https://github.com/")?;
    let mut segments = path.splitn(4, '/').filter(|segment| !segment.is_empty());
    let (owner, repository, rest) = (segments.next()?, segments.next()?, segments.next()?);
    let base = format!("https://raw.githubusercontent.com/{owner}/{repository}");
    let after = segments.next().unwrap_or_default();
    if rest == "tree" || rest == "blob" {
        let (branch, file) = after.split_once('/')?;
        return Some(format!("{base}/{}/{file}", revision(branch)));
    }
    let file = if after.is_empty() { rest.to_owned() } else { format!("{rest}/{after}") };
    Some(match file.rsplit_once('@').filter(|(_, version)| !version.contains('/')) {
        Some((folder, version)) => format!("{base}/{version}/{folder}/function.yaml"),
        None => format!("{base}/HEAD/{file}"),
    })
}

fn gitlab(uri: &str) -> Option<String> {
    let path = uri.strip_prefix("https://gitlab.com/")?;
    let (project, file) = path.split_once("/-/tree/").or_else(|| path.split_once("/-/blob/"))?;
    Some(format!("https://gitlab.com/{project}/-/raw/{file}"))
}

/// Names a branch in full, and leaves commits and versions as they are: those are no branches.
fn revision(name: &str) -> String {
    let is_commit = name.len() == 40 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_version = name.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit());
    if is_commit || is_version { name.to_owned() } else { format!("refs/heads/{name}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_read_where_their_text_is() {
        for (shown, text) in [
            (
                "https://github.com/serverlessworkflow/catalog/tree/main/functions/log/1.0.0/function.yaml",
                "https://raw.githubusercontent.com/serverlessworkflow/catalog/refs/heads/main/functions/log/1.0.0/function.yaml",
            ),
            (
                "https://github.com/o/r/blob/v1.2.0/a.json",
                "https://raw.githubusercontent.com/o/r/v1.2.0/a.json",
            ),
            (
                "https://github.com/o/r/functions/a/function.yaml",
                "https://raw.githubusercontent.com/o/r/HEAD/functions/a/function.yaml",
            ),
            (
                "https://github.com/myorg/functions/validateEmailAddress@v1.0.0",
                "https://raw.githubusercontent.com/myorg/functions/v1.0.0/validateEmailAddress/function.yaml",
            ),
            ("https://gitlab.com/g/s/r/-/tree/main/f.yaml", "https://gitlab.com/g/s/r/-/raw/main/f.yaml"),
            ("https://example.com/tree/main/f.yaml", "https://example.com/tree/main/f.yaml"),
        ] {
            assert_eq!(raw(shown), text);
        }
    }

    #[test]
    fn catalogued_functions_have_a_name_a_version_and_a_catalogue() {
        let log = Catalogued::read("log:1.0.0@global").unwrap();
        assert_eq!(log, Catalogued { name: "log", version: "1.0.0", catalog: "global" });
        assert_eq!(log.uri(Some("https://x/y/")), "https://x/y/functions/log/1.0.0/function.yaml");
        assert_eq!(log.uri(None), "catalog://default/functions/log/1.0.0/function.yaml");
        for other in ["log", "log:1", "log@global", ":1@a", "a:@b", "a:1@", "https://x/a@b", "a:1@b/c"] {
            assert_eq!(Catalogued::read(other), None, "{other}");
        }
    }
}
