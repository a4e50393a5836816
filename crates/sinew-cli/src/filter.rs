//! Choosing messages by what they hold: `status=paid`, `total>100`, `items.0.sku~tea`, `header.tenant=a`. Pure.

use std::{cmp::Ordering, str::FromStr};

use serde_json::Value;

/// One condition on a message.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filter {
    path: Vec<String>,
    test: Test,
}

#[derive(Clone, Debug, PartialEq)]
enum Test {
    /// The member is there and not null.
    Present,
    Is(String),
    IsNot(String),
    Contains(String),
    Above(f64),
    Below(f64),
}

impl Filter {
    /// Says whether `message` meets the condition. Its members are the data's own; `header.<name>` and `subject` are
    /// beside them.
    pub(crate) fn takes(&self, data: &Value, subject: &str, header: impl Fn(&str) -> Option<String>) -> bool {
        let found = match self.path.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["subject"] => Some(Value::from(subject)),
            ["header", name] => header(name).map(Value::from),
            path => find(data, path).cloned(),
        };
        self.test.holds(found.as_ref().filter(|value| !value.is_null()))
    }
}

impl Test {
    fn holds(&self, found: Option<&Value>) -> bool {
        match self {
            Self::Present => found.is_some(),
            Self::Is(wanted) => found.is_some_and(|found| &text(found) == wanted),
            Self::IsNot(wanted) => found.is_none_or(|found| &text(found) != wanted),
            Self::Contains(part) => found.is_some_and(|found| text(found).contains(part)),
            Self::Above(limit) => compare(found, *limit) == Some(Ordering::Greater),
            Self::Below(limit) => compare(found, *limit) == Some(Ordering::Less),
        }
    }
}

impl FromStr for Filter {
    type Err = String;

    fn from_str(written: &str) -> Result<Self, String> {
        let wrong = || {
            "write member=value, !=, ~ (contains), > or <; members may be nested: items.0.sku=tea".to_owned()
        };
        let at = written.find(['=', '!', '~', '>', '<']).unwrap_or(written.len());
        let (member, rest) = written.split_at(at);
        let number = |text: &str| {
            text.trim().parse::<f64>().ok().filter(|number| number.is_finite()).ok_or_else(wrong)
        };
        let test = match (rest.strip_prefix("!="), rest.chars().next()) {
            (Some(value), _) => Test::IsNot(value.to_owned()),
            (None, None) => Test::Present,
            (None, Some('=')) => Test::Is(rest[1..].to_owned()),
            (None, Some('~')) => Test::Contains(rest[1..].to_owned()),
            (None, Some('>')) => Test::Above(number(&rest[1..])?),
            (None, Some('<')) => Test::Below(number(&rest[1..])?),
            (None, Some(_)) => return Err(wrong()),
        };
        let path: Vec<String> = member.trim().trim_start_matches('.').split('.').map(str::to_owned).collect();
        if path.iter().any(String::is_empty) { Err(wrong()) } else { Ok(Self { path, test }) }
    }
}

fn find<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, member| match value {
        Value::Array(items) => items.get(member.parse::<usize>().ok()?),
        value => value.get(member),
    })
}

/// What stands in JSON between the quotes, or without any.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn compare(found: Option<&Value>, limit: f64) -> Option<Ordering> {
    let found = found?;
    let number = found.as_f64().or_else(|| found.as_str()?.parse().ok())?;
    number.partial_cmp(&limit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn takes(filter: &str) -> bool {
        let data = json!({ "id": "o-1", "total": 120, "paid": true, "note": null, "items": [{ "sku": "green tea" }] });
        let header = |name: &str| (name == "tenant").then(|| "acme".to_owned());
        filter.parse::<Filter>().unwrap().takes(&data, "evt.orders.placed", header)
    }

    #[test]
    fn members_are_compared_by_what_they_look_like() {
        for filter in [
            "id=o-1",
            "total=120",
            "paid=true",
            "id!=o-2",
            "missing!=x",
            "total>100",
            "total<120.5",
            "items.0.sku~tea",
            ".id=o-1",
            "id",
            "header.tenant=acme",
            "subject=evt.orders.placed",
        ] {
            assert!(takes(filter), "{filter}");
        }
        for filter in [
            "id=O-1",
            "total>120",
            "note",
            "missing",
            "items.1.sku~tea",
            "header.other",
            "id>1",
            "paid!=true",
        ] {
            assert!(!takes(filter), "{filter}");
        }
    }

    #[test]
    fn what_is_no_condition_is_refused() {
        for bad in ["", "=x", "a..b=1", "total>many", "a!b", ">1"] {
            assert!(bad.parse::<Filter>().is_err(), "{bad}");
        }
    }
}
