//! Whether a response may be kept, how old it is, and what may be done with it (RFC 9111, sections 3 and 4).
//!
//! Pure: what is known of a response when it comes is worked out once, times are arguments. Ages are in milliseconds of a
//! clock that never goes back, so that an age never falls; dates are only compared with each other and the moment of
//! arrival.

use http::{HeaderMap, HeaderName, StatusCode, header};
use jiff::Timestamp;

use super::{
    dates,
    directives::{Directives, seconds},
};

/// Written for caches like this one (RFC 9213).
const CDN: HeaderName = HeaderName::from_static("cdn-cache-control");
/// The same before there was a standard.
const SURROGATE: HeaderName = HeaderName::from_static("surrogate-control");
/// As what this cache goes by in them.
pub(super) const TARGET: &str = "sinew";
/// The part of the time since a change for which something that says nothing else is fresh, and the most of it.
const HEURISTIC_PART: u64 = 10;
const HEURISTIC_MOST: u64 = 24 * 60 * 60 * 1_000;

/// What a route adds to what responses say of themselves. Times are in milliseconds.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    /// How long something is fresh that says nothing.
    pub(super) fresh: Option<u64>,
    pub(super) stale_while_revalidate: Option<u64>,
    pub(super) stale_if_error: Option<u64>,
    /// What may be kept; every status the response allows where nothing is said.
    pub(super) statuses: Vec<u16>,
    /// Whether what is kept belongs to who asked.
    pub(super) apart: bool,
}

/// What is known of a kept response, in milliseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Life {
    /// How old it was when it came.
    initial_age: u64,
    /// When it came.
    since: u64,
    /// How long it is fresh.
    pub(super) lifetime: u64,
    /// To be confirmed before every use.
    no_cache: bool,
    /// Never to be used stale.
    strict: bool,
    while_revalidate: u64,
    if_error: u64,
    /// Whether it is for those who say who they are, too.
    pub(super) public: bool,
}

/// What may be done with a kept response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Used as it is.
    Fresh,
    /// Used, while it is asked for anew.
    Revalidate,
    /// Asked for anew, and used only if it still holds; `true` where it may be used if nobody answers.
    Stale(bool),
}

/// When something came.
#[derive(Clone, Copy, Debug)]
pub(super) struct Came {
    /// By the calendar.
    pub(super) at: Timestamp,
    /// By the clock that never goes back.
    pub(super) now: u64,
    /// How long it took.
    pub(super) delay: u64,
}

/// Returns what a response says to this cache: in the field that is written for it, or in the common one.
pub(super) fn said(headers: &HeaderMap) -> (Directives, bool) {
    let targeted = [CDN, SURROGATE].iter().find_map(|name| Directives::targeted(headers, name, TARGET));
    match targeted {
        Some(directives) => (directives, true),
        None => (Directives::read(headers, &header::CACHE_CONTROL).unwrap_or_default(), false),
    }
}

impl Life {
    /// Says how long a response to such a request lives; `None` where it may not be kept.
    pub(super) fn of(
        status: StatusCode,
        headers: &HeaderMap,
        asked: &HeaderMap,
        came: Came,
        rules: &Rules,
    ) -> Option<Self> {
        let (said, targeted) = said(headers);
        let request = Directives::read(asked, &header::CACHE_CONTROL).unwrap_or_default();
        // Who has to understand a status, and does, need not mind that others are told not to store it.
        let stored = if said.must_understand { understood(status) } else { !said.no_store };
        let forbidden = !stored || said.private || request.no_store;
        let kept = match rules.statuses.as_slice() {
            // Parts are not put together, and a confirmation is no response.
            [] => {
                status != StatusCode::PARTIAL_CONTENT
                    && status != StatusCode::NOT_MODIFIED
                    && status.as_u16() >= 200
            }
            statuses => statuses.contains(&status.as_u16()),
        };
        let public = said.public || said.s_maxage.is_some() || said.must_revalidate;
        let named = asked.contains_key(header::AUTHORIZATION) || asked.contains_key(header::COOKIE);
        if forbidden || !kept || (named && !public && !rules.apart) {
            return None;
        }
        let date = date_of(headers, &header::DATE, came.at).unwrap_or(came.at);
        let explicit = explicit(&said, targeted, headers, date, came.at);
        let implied = || implied(status, &said, headers, date, came.at, rules);
        let lifetime = explicit.or_else(implied);
        let validated = headers.contains_key(header::ETAG) || headers.contains_key(header::LAST_MODIFIED);
        // What is not fresh for a moment and cannot be confirmed is of no use.
        if lifetime.is_none() && !validated {
            return None;
        }
        let apparent = millis(came.at.as_millisecond() - date.as_millisecond());
        let (age, trusted) = age_of(headers);
        Some(Self {
            initial_age: apparent.max(age.saturating_add(came.delay)),
            since: came.now,
            lifetime: if trusted { lifetime.unwrap_or(0) } else { 0 },
            no_cache: said.no_cache,
            strict: said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some(),
            while_revalidate: within(said.stale_while_revalidate, rules.stale_while_revalidate),
            if_error: within(said.stale_if_error, rules.stale_if_error),
            public,
        })
    }

    /// Returns how old it is.
    pub(super) fn age(&self, now: u64) -> u64 {
        self.initial_age.saturating_add(now.saturating_sub(self.since))
    }

    /// Judges what may be done with it for a request that says so.
    pub(super) fn judge(&self, request: &Directives, now: u64) -> Verdict {
        let age = self.age(now);
        let stale = age.saturating_sub(self.lifetime);
        let fresh = self.lifetime > age;
        let client = request.max_age.map_or(u64::MAX, ms);
        let too_old = age > client || (request.max_age == Some(0));
        let left = self.lifetime.saturating_sub(age);
        let short = request.min_fresh.is_some_and(|wanted| left < ms(wanted));
        let bound = self.strict || self.no_cache;
        if self.no_cache || request.no_cache || request.no_store || too_old || (short && fresh) {
            let patient = request.stale_if_error.map_or(0, ms).max(self.if_error);
            return Verdict::Stale(!bound && stale <= patient && patient > 0);
        }
        if fresh {
            return Verdict::Fresh;
        }
        if !bound && request.max_stale.is_some_and(|most| stale <= ms(most)) {
            return Verdict::Fresh;
        }
        if !bound && request.min_fresh.is_none() && stale < self.while_revalidate {
            return Verdict::Revalidate;
        }
        let patient = request.stale_if_error.map_or(0, ms).max(self.if_error);
        Verdict::Stale(!bound && stale < patient)
    }
}

/// Says whether the cache knows what a status is about.
fn understood(status: StatusCode) -> bool {
    matches!(
        status.as_u16(),
        200 | 203 | 204 | 300..=303 | 307 | 308 | 400..=406 | 408..=417 | 421..=426 | 428 | 429 | 431 | 451 | 500..=505
    )
}

/// Says whether something of that status may be kept though it does not say for how long.
fn heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn explicit(
    said: &Directives,
    targeted: bool,
    headers: &HeaderMap,
    date: Timestamp,
    at: Timestamp,
) -> Option<u64> {
    let told = said.s_maxage.or(said.max_age).map(ms);
    if told.is_some() || targeted {
        return told;
    }
    let mut lines = headers.get_all(header::EXPIRES).iter();
    let expires = lines.next()?;
    // One that cannot be read is over.
    let until = expires.to_str().ok().and_then(|text| dates::read(text, at));
    Some(until.map_or(0, |until| millis(until.as_millisecond() - date.as_millisecond())))
}

/// What says nothing lives as the route has it, or as long as experience has it. Cookies are for somebody.
fn implied(
    status: StatusCode,
    said: &Directives,
    headers: &HeaderMap,
    date: Timestamp,
    at: Timestamp,
    rules: &Rules,
) -> Option<u64> {
    if !(heuristic(status) || said.public) || headers.contains_key(header::SET_COOKIE) {
        return None;
    }
    if rules.fresh.is_some() {
        return rules.fresh;
    }
    let modified = date_of(headers, &header::LAST_MODIFIED, at)?;
    let since = millis(date.as_millisecond() - modified.as_millisecond());
    Some((since / HEURISTIC_PART).min(HEURISTIC_MOST))
}

/// Returns the age a response came with, and whether it is to be believed: an age that cannot be read is any age.
fn age_of(headers: &HeaderMap) -> (u64, bool) {
    let mut lines = headers.get_all(header::AGE).iter();
    match (lines.next(), lines.next()) {
        (None, _) => (0, true),
        (Some(age), None) => match age.to_str().ok().and_then(|text| seconds(text.trim())) {
            Some(age) => (ms(age), true),
            None => (0, false),
        },
        _ => (0, false),
    }
}

fn date_of(headers: &HeaderMap, name: &HeaderName, now: Timestamp) -> Option<Timestamp> {
    dates::read(headers.get(name)?.to_str().ok()?, now)
}

fn within(said: Option<u64>, rule: Option<u64>) -> u64 {
    said.map(ms).or(rule).unwrap_or(0)
}

fn ms(seconds: u64) -> u64 {
    seconds.saturating_mul(1_000)
}

fn millis(difference: i64) -> u64 {
    u64::try_from(difference).unwrap_or(0)
}

#[cfg(test)]
mod tests;
