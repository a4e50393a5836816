//! Which kept response a request selects (RFC 9111, section 4.1): the fields its `Vary` names, written alike.

use http::{HeaderMap, HeaderName, header};

/// What a request said in each field that chose the response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Selection(Vec<(HeaderName, Option<String>)>);

/// Fields whose order says nothing but for their weights.
const LISTS: [HeaderName; 3] = [header::ACCEPT, header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE];

impl Selection {
    /// Says what chose a response to this request; `None` where no other request can be known to choose it.
    pub(super) fn of(response: &HeaderMap, asked: &HeaderMap) -> Option<Self> {
        let mut fields = Vec::new();
        for line in response.get_all(header::VARY) {
            for name in line.to_str().ok()?.split(',').map(str::trim).filter(|name| !name.is_empty()) {
                // A star is no name, and neither is what cannot be read: both may mean anything.
                let name = if name == "*" { None } else { HeaderName::try_from(name).ok() }?;
                let value = written(asked, &name);
                fields.push((name, value));
            }
        }
        fields.sort_unstable_by(|one, two| one.0.as_str().cmp(two.0.as_str()));
        fields.dedup();
        Some(Self(fields))
    }

    /// Says whether a request chooses the same.
    pub(super) fn matches(&self, asked: &HeaderMap) -> bool {
        self.0.iter().all(|(name, value)| written(asked, name) == *value)
    }
}

/// Returns the lines of a field as one, without what makes no difference.
fn written(asked: &HeaderMap, name: &HeaderName) -> Option<String> {
    let mut lines = asked.get_all(name).iter().peekable();
    lines.peek()?;
    let text: Vec<String> = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
    let parts = text.iter().flat_map(|line| line.split(',')).map(str::trim).filter(|part| !part.is_empty());
    if !LISTS.contains(name) {
        return Some(parts.collect::<Vec<_>>().join(","));
    }
    let bare = |part: &str| part.to_ascii_lowercase().split_whitespace().collect::<String>();
    let mut parts: Vec<String> = parts.map(bare).collect();
    parts.sort_unstable();
    Some(parts.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(fields: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::try_from(*name).unwrap(), value.parse().unwrap());
        }
        headers
    }

    fn chosen(vary: &str, by: &[(&str, &str)], asked: &[(&str, &str)]) -> bool {
        Selection::of(&map(&[("vary", vary)]), &map(by)).is_some_and(|kept| kept.matches(&map(asked)))
    }

    #[test]
    fn every_field_that_is_named_has_to_say_the_same() {
        assert!(chosen("Foo", &[("foo", "1")], &[("foo", "1"), ("bar", "2")]));
        assert!(!chosen("Foo, Bar", &[("foo", "1")], &[("foo", "1"), ("bar", "2")]));
        assert!(!chosen("foo", &[("foo", "1")], &[]) && !chosen("foo", &[], &[("foo", "")]));
        assert!(chosen("foo", &[("foo", "1,2")], &[("foo", "1"), ("foo", " 2")]));
    }

    #[test]
    fn a_star_is_chosen_by_nobody() {
        for vary in ["*", "foo, *", ", *", "*,foo", "a b"] {
            assert!(!chosen(vary, &[], &[]), "{vary}");
        }
    }

    #[test]
    fn languages_are_the_same_in_any_order_and_case() {
        let languages =
            |one, two| chosen("accept-language", &[("accept-language", one)], &[("accept-language", two)]);
        assert!(languages("en, de", "De,EN") && languages("fr;q=0.5, de", "de, fr; q=0.5"));
        assert!(!languages("en, de", "en"));
    }
}
