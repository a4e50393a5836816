//! Content negotiation: which of the two codecs the client wants its reply in.
//!
//! Source: RFC 9110, section 12.5.1.

use http::{HeaderMap, StatusCode, header};
use sinew::wire::ContentType;

use crate::problem::Refusal;

/// In the order of preference, where the client has none.
const OFFERED: [ContentType; 2] = [ContentType::Json, ContentType::MessagePack];

/// How well a media range fits: the more it says, the more it counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, PartialOrd)]
struct Fit {
    precision: u8,
    quality: f32,
}

/// Returns the codec of the reply; JSON without an `Accept` header.
///
/// # Errors
/// 406 when the client takes neither.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<ContentType, Refusal> {
    if !headers.contains_key(header::ACCEPT) {
        return Ok(ContentType::Json);
    }
    let ranges = ranges(headers);
    let fits = OFFERED.map(|offered| fit("application/", &ranges, |exact| is(offered, exact)));
    choose(&fits).map(|at| OFFERED[at]).ok_or_else(|| {
        let refusal =
            Refusal::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "no reply in an accepted media type");
        refusal.detail("accept application/json or application/msgpack")
    })
}

/// Returns which of the media types the client likes best, the first one of those it likes the same.
pub(crate) fn best(headers: &HeaderMap, offered: &[&str]) -> Option<usize> {
    let ranges = ranges(headers);
    let fit = |name: &&str| {
        let family = name.split_inclusive('/').next().unwrap_or_default();
        fit(family, &ranges, |exact| exact.eq_ignore_ascii_case(name))
    };
    choose(&offered.iter().map(fit).collect::<Vec<_>>())
}

fn ranges(headers: &HeaderMap) -> Vec<&str> {
    let accepts = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepts.flat_map(|line| line.split(',')).map(str::trim).filter(|range| !range.is_empty()).collect()
}

fn choose(fits: &[Fit]) -> Option<usize> {
    let mut best: Option<(usize, Fit)> = None;
    for (at, fit) in fits.iter().enumerate() {
        let better = |(_, other): (_, Fit)| (fit.quality, fit.precision) > (other.quality, other.precision);
        if fit.quality > 0.0 && best.is_none_or(better) {
            best = Some((at, *fit));
        }
    }
    best.map(|(at, _)| at)
}

fn is(offered: ContentType, exact: &str) -> bool {
    ContentType::parse(exact).is_ok_and(|named| named == offered)
}

/// Returns what the most precise matching range says. `family` is the type with its slash.
fn fit(family: &str, ranges: &[&str], is: impl Fn(&str) -> bool) -> Fit {
    let mut fit = Fit::default();
    for range in ranges {
        let (media, parameters) = range.split_once(';').unwrap_or((range, ""));
        let precision = match media.trim() {
            "*/*" => 1,
            wild if wild.strip_suffix('*') == Some(family) => 2,
            exact if is(exact) => 3,
            _ => continue,
        };
        if precision > fit.precision {
            fit = Fit { precision, quality: quality(parameters) };
        }
    }
    fit
}

pub(crate) fn quality(parameters: &str) -> f32 {
    let named = parameters.split(';').filter_map(|parameter| parameter.split_once('='));
    let value =
        named.filter(|(name, _)| name.trim().eq_ignore_ascii_case("q")).map(|(_, value)| value.trim()).next();
    value.and_then(|value| value.parse().ok()).filter(|q| (0.0..=1.0).contains(q)).unwrap_or(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(accept: &str) -> Option<ContentType> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, accept.parse().unwrap());
        negotiate(&headers).ok()
    }

    #[test]
    fn the_client_chooses_and_json_is_the_default() {
        assert_eq!(negotiate(&HeaderMap::new()).unwrap(), ContentType::Json);
        for (accept, expected) in [
            ("*/*", ContentType::Json),
            ("application/*;q=0.5", ContentType::Json),
            ("application/msgpack", ContentType::MessagePack),
            ("application/x-msgpack, */*", ContentType::MessagePack),
            ("text/html, application/json;q=0.1", ContentType::Json),
            ("application/json;q=0.1, application/msgpack;q=0.2", ContentType::MessagePack),
            ("*/*, application/json;q=0", ContentType::MessagePack),
            ("application/vnd.shop+json", ContentType::Json),
            ("application/json;q=banana", ContentType::Json),
        ] {
            assert_eq!(of(accept), Some(expected), "{accept}");
        }
    }

    #[test]
    fn neither_is_refused() {
        for accept in ["text/html", "application/json;q=0", "image/*", "", "*/*;q=0"] {
            assert_eq!(of(accept), None, "{accept:?}");
        }
    }
}
