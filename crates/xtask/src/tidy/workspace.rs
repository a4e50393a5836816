//! Rules about the workspace as cargo sees it: names, dependency arrows, features, and the files at the root.

use std::path::Path;

use serde::Deserialize;

use super::{Finding, run_tool};

const ROOT_FILES: [&str; 4] = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "LICENSE"];

/// Which members of the workspace a package may depend on, as ARCHITECTURE.md draws them.
const ARROWS: [(&str, &[&str]); 9] = [
    ("sinew-wire", &[]),
    ("sinew-macros", &["sinew-wire"]),
    ("sinew-workflow", &["sinew-wire"]),
    ("sinew", &["sinew-wire", "sinew-macros"]),
    ("sinew-edge", &["sinew", "sinew-wire"]),
    ("sinew-protocols", &["sinew-workflow"]),
    ("sinew-orchestrator", &["sinew", "sinew-wire", "sinew-workflow", "sinew-protocols"]),
    (
        "sinew-cli",
        &[
            "sinew",
            "sinew-wire",
            "sinew-workflow",
            "sinew-protocols",
            "sinew-edge",
            "sinew-orchestrator",
            "checkout",
        ],
    ),
    ("xtask", &["sinew", "sinew-wire", "sinew-workflow", "sinew-edge", "sinew-orchestrator"]),
];

/// What an example may depend on: what its reader would.
const EXAMPLE_ARROWS: &[&str] = &["sinew"];

/// Packages that do no I/O, and the crates through which it would creep in.
const PURE: [&str; 3] = ["sinew-wire", "sinew-macros", "sinew-workflow"];
const IMPURE: [&str; 6] = ["tokio", "async-nats", "axum", "hyper", "reqwest", "mio"];

/// What `cargo metadata` says, as far as the rules care.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_root: String,
}

#[derive(Debug, Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `None` for a normal dependency; `dev` and `build` are free.
    kind: Option<String>,
}

/// Checks the workspace.
pub(crate) fn check(root: &Path, files: &[String]) -> Result<Vec<Finding>, String> {
    let metadata = run_tool(root, "cargo", &["metadata", "--format-version", "1", "--no-deps"])?;
    let metadata: Metadata =
        serde_json::from_str(&metadata).map_err(|error| format!("cannot read `cargo metadata`: {error}"))?;
    let features = ["tree", "--workspace", "--edges", "features", "--invert", "serde_json"];
    let mut findings = root_files(files);
    findings.extend(packages(&metadata));
    findings.extend(number_feature(&run_tool(root, "cargo", &features)?));
    Ok(findings)
}

fn root_files(files: &[String]) -> Vec<Finding> {
    let missing = ROOT_FILES.iter().filter(|name| !files.iter().any(|file| file == *name));
    missing.map(|name| Finding::new(name, 1, "root-files", "write it: readers look for it first")).collect()
}

fn packages(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let manifest = Path::new(&package.manifest_path);
        let manifest = manifest.strip_prefix(&metadata.workspace_root).unwrap_or(manifest);
        let mut find =
            |rule, message| findings.push(Finding::new(&manifest.to_string_lossy(), 1, rule, message));
        let dir = manifest.parent().unwrap_or(manifest);
        if !is_named_after(&package.name, dir) {
            find(
                "names",
                format!("package `{}` lives in {}: give both one name", package.name, dir.display()),
            );
        }
        let normal = package.dependencies.iter().filter(|dependency| dependency.kind.is_none());
        for name in normal.map(|dependency| dependency.name.as_str()) {
            let is_member = metadata.packages.iter().any(|member| member.name == name);
            if is_member && !may_depend(&package.name, dir, name) {
                find(
                    "arrows",
                    format!("`{}` must not depend on `{name}`: they meet over subjects", package.name),
                );
            }
            if PURE.contains(&package.name.as_str()) && IMPURE.contains(&name) {
                find("purity", format!("`{}` does no I/O: do without `{name}`", package.name));
            }
        }
    }
    findings
}

fn is_named_after(package: &str, dir: &Path) -> bool {
    let name = dir.file_name().unwrap_or_default();
    name == package || (package == "sinew-tests" && dir == Path::new("tests"))
}

fn may_depend(package: &str, dir: &Path, on: &str) -> bool {
    let allowed = match ARROWS.iter().find(|(from, _)| *from == package) {
        Some((_, allowed)) => allowed,
        None if dir.starts_with("examples") => EXAMPLE_ARROWS,
        None => return dir.starts_with("tests"),
    };
    allowed.contains(&on)
}

/// `serde_json/arbitrary_precision` turns every number into a map, in every crate, as soon as one asks for it.
fn number_feature(tree: &str) -> Vec<Finding> {
    if !tree.contains("serde_json feature \"arbitrary_precision\"") {
        return Vec::new();
    }
    let message = "a dependency enables `serde_json/arbitrary_precision`, which turns numbers into maps on the wire: \
                   `cargo tree -e features -i serde_json` says which; do without it";
    vec![Finding::new("Cargo.lock", 1, "numbers", message)]
}

#[cfg(test)]
mod tests {
    use super::super::finding::brief;
    use super::*;

    fn package(name: &str, dir: &str, dependencies: &[(&str, Option<&str>)]) -> Package {
        let dependencies = dependencies
            .iter()
            .map(|(name, kind)| Dependency { name: (*name).into(), kind: kind.map(str::to_owned) })
            .collect();
        Package { name: name.into(), manifest_path: format!("/r/{dir}/Cargo.toml"), dependencies }
    }

    fn found(package_under_test: Package) -> Vec<String> {
        let members = ["sinew", "sinew-wire", "sinew-edge", "sinew-orchestrator"];
        let mut packages: Vec<_> =
            members.iter().map(|name| package(name, &format!("crates/{name}"), &[])).collect();
        packages.push(package_under_test);
        brief(&super::packages(&Metadata { packages, workspace_root: "/r".into() }))
    }

    #[test]
    fn a_package_is_named_after_its_directory() {
        assert_eq!(found(package("hello", "examples/hello", &[])), [""; 0]);
        assert_eq!(found(package("hi", "examples/hello", &[])), ["names:1"]);
        assert_eq!(found(package("sinew-tests", "tests", &[])), [""; 0]);
    }

    #[test]
    fn arrows_point_one_way() {
        let normal = |name| [(name, None)];
        assert_eq!(found(package("sinew-cli", "crates/sinew-cli", &normal("sinew-edge"))), [""; 0]);
        assert_eq!(
            found(package("sinew-edge", "crates/sinew-edge", &normal("sinew-orchestrator"))),
            ["arrows:1"]
        );
        assert_eq!(found(package("hello", "examples/hello", &normal("sinew-edge"))), ["arrows:1"]);
        assert_eq!(found(package("newcomer", "crates/newcomer", &normal("sinew"))), ["arrows:1"]);
        assert_eq!(found(package("sinew-tests", "tests", &normal("sinew-edge"))), [""; 0]);
    }

    #[test]
    fn dev_dependencies_are_free() {
        assert_eq!(found(package("sinew-wire", "crates/sinew-wire", &[("sinew", Some("dev"))])), [""; 0]);
    }

    #[test]
    fn pure_packages_stay_away_from_io() {
        assert_eq!(
            found(package("sinew-workflow", "crates/sinew-workflow", &[("tokio", None)])),
            ["purity:1"]
        );
        assert_eq!(found(package("sinew-edge", "crates/sinew-edge", &[("tokio", None)])), [""; 0]);
    }

    #[test]
    fn numbers_stay_numbers() {
        let tree = |feature: &str| {
            format!("serde_json v1.0.1\n├── serde_json feature \"{feature}\"\n│   └── a v1.0.0\n")
        };
        assert_eq!(number_feature(&tree("default")), []);
        assert_eq!(brief(&number_feature(&tree("arbitrary_precision"))), ["numbers:1"]);
    }

    #[test]
    fn what_readers_look_for_first_is_there() {
        let files = ["LICENSE", "README.md", "ARCHITECTURE.md", "docs/CHANGELOG.md"].map(str::to_owned);
        let missing = root_files(&files);
        assert_eq!(missing.iter().map(|finding| finding.path.as_str()).collect::<Vec<_>>(), ["CHANGELOG.md"]);
    }
}
