//! Rate limits as `edge.yaml` writes them: how many requests, in which time, counted for whom.

use std::{borrow::Cow, fmt, time::Duration};

use http::HeaderName;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use super::{Mistake, below};

/// Longest period, and longest time a bucket may take to fill: a day. What counts longer is a quota.
const LONGEST: Duration = Duration::from_secs(24 * 3_600);

/// One limit: so many requests in such a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RateLimit {
    /// What header fields, problems and tools call it.
    pub name: String,
    /// How many requests pass in `per`.
    pub requests: u32,
    /// The time they are counted in.
    pub per: Period,
    /// How they are counted.
    #[serde(default, skip_serializing_if = "Algorithm::is_default")]
    pub algorithm: Algorithm,
    /// How many requests a full token bucket lets pass at once; as many as `requests` where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
    /// Who is counted apart: every combination of these has a limit of its own. Without any, all requests are counted
    /// together.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub key: Vec<Key>,
    /// Which requests are counted together.
    #[serde(default, skip_serializing_if = "Scope::is_default")]
    pub scope: Scope,
    /// Whether replicas of the edge tell each other what they counted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub shared: bool,
}

/// How requests are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// A bucket that fills evenly: a burst passes at once, then requests pass at the rate.
    #[default]
    TokenBucket,
    /// Never more in any stretch of that time, wherever it begins.
    SlidingWindow,
}

/// Which requests are counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Those of one route.
    #[default]
    Route,
    /// Those of all routes that have the limit.
    Edge,
}

/// By what requests are told apart. A request without it is counted with all others without it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// The client's address; of IPv6 the network, as one client has all of it.
    Ip,
    /// The version of the interface.
    Version,
    /// This header field.
    Header(String),
    /// This cookie.
    Cookie(String),
    /// This claim of a verified bearer token.
    Claim(String),
}

/// A time, written as a number and its unit: `500ms`, `10s`, `1m`, `1h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period(Duration);

impl Algorithm {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Scope {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl Period {
    /// Returns how long it is.
    pub fn length(self) -> Duration {
        self.0
    }
}

impl TryFrom<String> for Period {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no time: write a number and ms, s, m or h, such as 10s");
        let digits = text.find(|one: char| !one.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, unit) = text.split_at(digits);
        let number: u64 = number.parse().map_err(|_| wrong())?;
        let millis = match unit {
            "ms" => Some(number),
            "s" => number.checked_mul(1_000),
            "m" => number.checked_mul(60_000),
            "h" => number.checked_mul(3_600_000),
            _ => None,
        };
        millis.map(Duration::from_millis).map(Self).ok_or_else(wrong)
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.to_string()
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let unit = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
        let (size, name) = unit
            .into_iter()
            .find(|(size, _)| millis > 0 && millis.is_multiple_of(*size))
            .unwrap_or((1, "ms"));
        write!(f, "{}{name}", millis / size)
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^[0-9]{1,15}(ms|s|m|h)$",
            "description": "A time, written as a number and its unit: `500ms`, `10s`, `1m`, `1h`."
        })
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Version => f.write_str("version"),
            Self::Header(name) => write!(f, "header {name}"),
            Self::Cookie(name) => write!(f, "cookie {name}"),
            Self::Claim(name) => write!(f, "claim {name}"),
        }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} per {}", self.name, self.requests, self.per)?;
        if let Some(burst) = self.burst {
            write!(f, ", {burst} at once")?;
        }
        by(f, &self.key)?;
        let scope = if self.scope == Scope::Edge { ", on all routes" } else { "" };
        let shared = if self.shared { ", with all replicas" } else { "" };
        write!(f, "{scope}{shared}")
    }
}

/// Writes who is counted apart.
pub(super) fn by(f: &mut fmt::Formatter<'_>, keys: &[Key]) -> fmt::Result {
    let names: Vec<String> = keys.iter().map(Key::to_string).collect();
    if names.is_empty() { Ok(()) } else { write!(f, ", by {}", names.join(" and ")) }
}

/// Lists what cannot work about these limits.
pub(super) fn check(limits: &[RateLimit], at: &str, mistakes: &mut Vec<Mistake>) {
    for (index, limit) in limits.iter().enumerate() {
        let at = format!("{at}/{index}");
        check_name(&limit.name, &at, mistakes);
        if limits[..index].iter().any(|other| other.name == limit.name) {
            mistakes.push(Mistake::new(below(&at, "name"), "stands twice: give every limit its own name"));
        }
        limit.check(&at, mistakes);
        check_keys(&limit.key, &below(&at, "key"), mistakes);
    }
}

impl RateLimit {
    fn check(&self, at: &str, mistakes: &mut Vec<Mistake>) {
        let mut wrong =
            |member: &str, message: String| mistakes.push(Mistake::new(below(at, member), message));
        if self.requests == 0 {
            wrong("requests", "0 cannot work: use 1 or more".to_owned());
        }
        let per = self.per.length();
        if per.is_zero() || per > LONGEST {
            wrong("per", "has to be 1ms to 24h: for longer times write a `quota`".to_owned());
        }
        match self.burst {
            Some(0) => wrong("burst", "0 lets nothing pass: use 1 or more".to_owned()),
            Some(_) if self.algorithm == Algorithm::SlidingWindow => {
                wrong("burst", "belongs to token buckets: a window has no burst".to_owned());
            }
            Some(burst) if per.saturating_mul(burst) > LONGEST.saturating_mul(self.requests.max(1)) => {
                wrong("burst", "takes more than a day to fill again: use less".to_owned());
            }
            _ => {}
        }
    }
}

/// Names stand in header fields and problems.
pub(super) fn check_name(name: &str, at: &str, mistakes: &mut Vec<Mistake>) {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if name.is_empty() || name.len() > 64 || !name.bytes().all(allowed) {
        mistakes.push(Mistake::new(below(at, "name"), "write 1 to 64 letters, digits, -, _ and ."));
    }
}

/// Lists what cannot work about who is counted apart.
pub(super) fn check_keys(keys: &[Key], at: &str, mistakes: &mut Vec<Mistake>) {
    for (index, key) in keys.iter().enumerate() {
        let message = match key {
            Key::Header(name) if HeaderName::try_from(name.as_str()).is_err() => {
                "is no name of a header field"
            }
            Key::Cookie(name) if name.is_empty() || name.contains(['=', ';', ' ']) => {
                "is no name of a cookie"
            }
            Key::Claim(_) => {
                "this edge verifies no tokens yet, and a claim nobody verified is anybody's to choose: use ip, a \
                 header or a cookie"
            }
            _ if keys[..index].contains(key) => "stands twice",
            _ => continue,
        };
        mistakes.push(Mistake::new(format!("{at}/{index}"), message));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pointers(limits: Value) -> Vec<String> {
        let limits: Vec<RateLimit> = serde_json::from_value(limits).unwrap();
        let mut mistakes = Vec::new();
        check(&limits, "", &mut mistakes);
        mistakes.into_iter().map(|mistake| mistake.pointer).collect()
    }

    #[test]
    fn every_mistake_of_a_limit_is_told() {
        let found = pointers(json!([
            { "name": "a b", "requests": 0, "per": "0s", "burst": 0 },
            { "name": "x", "requests": 1, "per": "25h", "algorithm": "sliding_window", "burst": 3 },
            { "name": "x", "requests": 1, "per": "1h", "burst": 25,
              "key": [{ "header": "a b" }, { "cookie": "" }, { "claim": "sub" }, "ip", "ip"] },
        ]));
        let expected = [
            "/0/name",
            "/0/requests",
            "/0/per",
            "/0/burst",
            "/1/per",
            "/1/burst",
            "/2/name",
            "/2/burst",
            "/2/key/0",
            "/2/key/1",
            "/2/key/2",
            "/2/key/4",
        ];
        assert_eq!(found, expected);
        assert!(
            pointers(
                json!([{ "name": "a", "requests": 5, "per": "1m", "burst": 9, "key": ["ip", "version"] }])
            )
            .is_empty()
        );
    }

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        for (text, millis, written) in [
            ("500ms", 500, "500ms"),
            ("10s", 10_000, "10s"),
            ("120s", 120_000, "2m"),
            ("1h", 3_600_000, "1h"),
        ] {
            let period = Period::try_from(text.to_owned()).unwrap();
            assert_eq!((period.length().as_millis(), period.to_string().as_str()), (millis, written));
        }
        for wrong in ["", "s", "10", "10d", "-1s", "1.5s", "99999999999999999h"] {
            assert!(Period::try_from(wrong.to_owned()).is_err(), "{wrong:?}");
        }
    }
}
