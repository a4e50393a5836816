//! Cache directives as header fields have them (RFC 9111, section 5.2): names in any case, values bare or quoted.
//!
//! Where a directive stands twice, the first one counts. A number that is none makes what it says of stale at once: who
//! cannot say how long something is fresh is not believed that it is.

use http::{HeaderMap, HeaderName};

/// Behind this no number is told apart from a larger one (RFC 9111, section 1.2.2).
const FOREVER: u64 = 1 << 31;

/// What one field, or its lines together, says. Times are in seconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Directives {
    pub(super) no_store: bool,
    /// To be confirmed before every use.
    pub(super) no_cache: bool,
    /// For one user only.
    pub(super) private: bool,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<u64>,
    pub(super) s_maxage: Option<u64>,
    pub(super) min_fresh: Option<u64>,
    pub(super) max_stale: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    /// The fields that `no-cache` and `private` are limited to, in lower case.
    pub(super) fields: Vec<String>,
}

/// One member of a list.
#[derive(Debug, PartialEq, Eq)]
struct Member {
    name: String,
    value: Option<String>,
    /// Whom it is for, as `Surrogate-Control` has it; everybody where nobody is named.
    target: Option<String>,
}

impl Directives {
    /// Reads all lines of a field; `None` where there is none.
    pub(super) fn read(headers: &HeaderMap, name: &HeaderName) -> Option<Self> {
        let mut lines = headers.get_all(name).iter().peekable();
        lines.peek()?;
        let mut found = Self::default();
        for line in lines {
            members(line.as_bytes()).into_iter().for_each(|member| found.take(member));
        }
        Some(found)
    }

    /// Reads the field that is written for caches like this one, where there is one that says anything to it
    /// (RFC 9213, and the note on edge architecture before it).
    pub(super) fn targeted(headers: &HeaderMap, name: &HeaderName, target: &str) -> Option<Self> {
        let (mut found, mut any) = (Self::default(), false);
        for line in headers.get_all(name) {
            for member in members(line.as_bytes()) {
                if member.target.as_ref().is_none_or(|own| own.eq_ignore_ascii_case(target)) {
                    any = true;
                    found.take(member);
                }
            }
        }
        any.then_some(found)
    }

    fn take(&mut self, member: Member) {
        let Member { name, value, .. } = member;
        let seconds = |value: Option<String>| Some(value.as_deref().and_then(seconds).unwrap_or(0));
        match name.as_str() {
            "no-store" => self.no_store = true,
            "no-cache" | "private" if value.is_some() => {
                let listed = value.unwrap_or_default().to_ascii_lowercase();
                self.fields.extend(listed.split(',').map(|field| field.trim().to_owned()));
            }
            "no-cache" => self.no_cache = true,
            "private" => self.private = true,
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => self.max_age = self.max_age.or_else(|| seconds(value)),
            "s-maxage" => self.s_maxage = self.s_maxage.or_else(|| seconds(value)),
            // A client that says no number wants it as fresh as can be.
            "min-fresh" => {
                self.min_fresh = self.min_fresh.or(value.map(|v| self::seconds(&v).unwrap_or(FOREVER)))
            }
            // Without a number it takes any age.
            "max-stale" if value.is_none() => self.max_stale = self.max_stale.or(Some(FOREVER)),
            "max-stale" => self.max_stale = self.max_stale.or_else(|| seconds(value)),
            "stale-while-revalidate" => {
                self.stale_while_revalidate = self.stale_while_revalidate.or_else(|| seconds(value));
            }
            "stale-if-error" => self.stale_if_error = self.stale_if_error.or_else(|| seconds(value)),
            _ => {}
        }
    }
}

/// Reads a number of seconds.
pub(super) fn seconds(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // Only one that is too large cannot be read any more.
    digits.then(|| text.parse().map_or(FOREVER, |seconds: u64| seconds.min(FOREVER)))
}

/// Splits a list at commas outside of quotes.
fn members(line: &[u8]) -> Vec<Member> {
    let text = String::from_utf8_lossy(line);
    let (mut quoted, mut escaped) = (false, false);
    let parts = text.split(|letter| {
        let ends = letter == ',' && !quoted;
        match letter {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ => {}
        }
        ends
    });
    parts.filter_map(member).collect()
}

fn member(text: &str) -> Option<Member> {
    let text = text.trim_matches([' ', '\t']);
    if text.is_empty() {
        return None;
    }
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (text, None),
    };
    let (name, value, parameters) = match value {
        None => {
            let (name, parameters) = name.split_once(';').unwrap_or((name, ""));
            (name, None, parameters.to_owned())
        }
        Some(value) => {
            let (value, behind) = unquoted(value);
            (name, Some(value), behind)
        }
    };
    let target = parameters.split(';').map(str::trim).find(|part| !part.is_empty() && !part.contains('='));
    Some(Member { name: name.to_ascii_lowercase(), value, target: target.map(str::to_owned) })
}

/// Returns a value without its quotes, and what stands behind it.
fn unquoted(text: &str) -> (String, String) {
    let Some(inner) = text.strip_prefix('"') else {
        let (value, behind) = text.split_once(';').unwrap_or((text, ""));
        return (value.to_owned(), behind.to_owned());
    };
    let (mut value, mut letters) = (String::new(), inner.chars());
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => value.extend(letters.next()),
            '"' => break,
            other => value.push(other),
        }
    }
    (value, letters.as_str().to_owned())
}

#[cfg(test)]
mod tests {
    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    use super::*;

    fn read(lines: &[&str]) -> Directives {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(CACHE_CONTROL, line.parse().unwrap());
        }
        Directives::read(&headers, &CACHE_CONTROL).unwrap_or_default()
    }

    #[test]
    fn names_are_read_in_any_case_and_values_bare_or_quoted() {
        let found = read(&["Max-Age=\"60\", NO-STORE", "private=\"a, B\", s-maxage=5"]);
        assert_eq!((found.max_age, found.s_maxage, found.no_store), (Some(60), Some(5), true));
        assert_eq!((found.private, found.fields), (false, vec!["a".to_owned(), "b".to_owned()]));
    }

    #[test]
    fn what_is_quoted_is_no_directive() {
        let found = read(&["extension=\"max-age=3600, no-store\", max-age=1", "x=\"\\\", private\""]);
        assert_eq!((found.max_age, found.no_store, found.private), (Some(1), false, false));
    }

    #[test]
    fn the_first_of_two_counts_and_a_number_that_is_none_is_stale() {
        assert_eq!(read(&["max-age=1, max-age=9"]).max_age, Some(1));
        for wrong in ["max-age=-1", "max-age=1.5", "max-age=a", "max-age", "max-age='60'", "max-age= 60"] {
            assert_eq!(read(&[wrong]).max_age, Some(0), "{wrong}");
        }
        assert_eq!(read(&["max-age =60"]).max_age, None);
        assert_eq!(read(&["max-age=99999999999999999999999"]).max_age, Some(FOREVER));
    }

    #[test]
    fn what_is_for_another_cache_is_nothing_to_this_one() {
        let mut headers = HeaderMap::new();
        let name = HeaderName::from_static("surrogate-control");
        headers.insert(&name, "max-age=60;other, no-store;sinew".parse().unwrap());
        let found = Directives::targeted(&headers, &name, "sinew").unwrap();
        assert_eq!((found.max_age, found.no_store), (None, true));
        headers.insert(&name, "max-age=60;other".parse().unwrap());
        assert_eq!(Directives::targeted(&headers, &name, "sinew"), None);
    }

    proptest! {
        #[test]
        fn whatever_stands_around_it_no_store_is_seen(
            before in "[a-z=, ;0-9]{0,30}", after in "[ -~]{0,30}", spelt in "[nN][oO]-[sS][tT][oO][rR][eE]",
        ) {
            let line = format!("{before},{spelt},{after}");
            prop_assert!(read(&[&line]).no_store);
        }

        #[test]
        fn any_bytes_are_read(line in prop::collection::vec(32_u8..=255, 0..60)) {
            let _ = members(&line);
        }
    }
}
