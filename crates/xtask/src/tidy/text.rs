//! Rules for every text file, whatever its language.

use super::Finding;

/// Places that exist on one machine only.
const PLACES: [&str; 2] = ["/work/", "/root/"];

/// Where packages come from is the business of the tools' own configuration.
const HOSTS: [&str; 5] =
    ["pypi.org", "pythonhosted.org", "crates.io", "registry.npmjs.org", "proxy.golang.org"];

/// Words that promise work; the promise is kept in an issue.
const PROMISES: [&str; 3] = ["TODO", "FIXME", "XXX"];

/// Checks one file.
pub(crate) fn check(path: &str, text: &str) -> Vec<Finding> {
    // Cargo writes the index it used into the lock file.
    if path == "Cargo.lock" {
        return Vec::new();
    }
    let mut findings = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let mut find = |rule, message: String| findings.push(Finding::new(path, index + 1, rule, message));
        for place in PLACES.into_iter().filter(|place| names_place(line, place)) {
            find("places", format!("`{place}` exists on one machine only: write a relative path"));
        }
        for host in HOSTS.into_iter().filter(|host| line.contains(host)) {
            find(
                "hosts",
                format!("`{host}` is for the tools' own configuration to say: name the package only"),
            );
        }
        for word in PROMISES.into_iter().filter(|word| promises(line, word)) {
            find("promises", format!("write `{word} #<issue>`, or do it now"));
        }
    }
    findings
}

/// Tells whether the line names the absolute path, rather than a path or address it is a part of.
fn names_place(line: &str, place: &str) -> bool {
    let starts_path =
        |before: &str| !before.ends_with(|c: char| c.is_alphanumeric() || "._-~}])>*".contains(c));
    line.match_indices(place).any(|(at, _)| starts_path(&line[..at]))
}

fn promises(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + word.len()..]);
        let stands_alone =
            !before.ends_with(char::is_alphanumeric) && !after.starts_with(char::is_alphanumeric);
        let issue = after.split_once('#').map_or("", |(_, number)| number);
        stands_alone && !issue.starts_with(|c: char| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::brief;
    use super::*;

    #[track_caller]
    fn expect(line: &str, found: &[&str]) {
        assert_eq!(brief(&check("a.md", line)), found, "{line}");
    }

    #[test]
    fn places_of_one_machine_are_found() {
        expect("cd /work/main", &["places:1"]);
        expect("path = \"/root/x\"", &["places:1"]);
        expect("GET https://example.org/work/7", &[]);
        expect("${HOME}/work/x, target/work/y", &[]);
    }

    #[test]
    fn package_hosts_are_found_but_not_in_the_lock_file() {
        expect("see https://pypi.org/project/x", &["hosts:1"]);
        expect("\nindex.crates.io", &["hosts:2"]);
        assert_eq!(check("Cargo.lock", "source = \"crates.io-index\""), []);
    }

    #[test]
    fn a_promise_names_its_issue() {
        expect("// TODO: later", &["promises:1"]);
        expect("# FIXME (#)", &["promises:1"]);
        expect("// TODO #12: later", &[]);
        expect("// TODO(#12) later", &[]);
        expect("AUTODOC, TODOS, XXXL", &[]);
    }
}
