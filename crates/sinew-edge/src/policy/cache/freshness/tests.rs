//! What is kept, for how long, and that nothing is used that should not be.

use http::{HeaderMap, HeaderName, StatusCode};
use proptest::prelude::*;

use super::*;

const NOW: &str = "2026-01-01T00:00:00Z";

fn map(fields: &[(&str, &str)]) -> HeaderMap {
    let field = |(name, value): &(&str, &str)| {
        (HeaderName::try_from(*name).unwrap(), value.parse::<http::HeaderValue>().unwrap())
    };
    let mut headers = HeaderMap::new();
    for (name, value) in fields.iter().map(field) {
        headers.append(name, value);
    }
    headers
}

fn came() -> Came {
    Came { at: NOW.parse().unwrap(), now: 5_000, delay: 0 }
}

fn life(status: u16, fields: &[(&str, &str)], asked: &[(&str, &str)], rules: &Rules) -> Option<Life> {
    Life::of(StatusCode::from_u16(status).unwrap(), &map(fields), &map(asked), came(), rules)
}

fn lifetime(fields: &[(&str, &str)]) -> Option<u64> {
    life(200, fields, &[], &Rules::default()).map(|life| life.lifetime)
}

fn judged(fields: &[(&str, &str)], request: &str, after: u64) -> Verdict {
    let life = life(200, fields, &[], &Rules::default()).unwrap();
    let request = Directives::read(&map(&[("cache-control", request)]), &header::CACHE_CONTROL).unwrap();
    life.judge(&request, 5_000 + after)
}

#[test]
fn the_more_precise_word_says_how_long_something_is_fresh() {
    let expires = ("expires", "Thu, 01 Jan 2026 00:01:00 GMT");
    let date = ("date", "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(lifetime(&[expires, date]), Some(60_000));
    assert_eq!(lifetime(&[("cache-control", "max-age=5"), expires]), Some(5_000));
    assert_eq!(lifetime(&[("cache-control", "max-age=5, s-maxage=9"), expires]), Some(9_000));
    assert_eq!(lifetime(&[("cdn-cache-control", "max-age=7"), ("cache-control", "no-store")]), Some(7_000));
    assert_eq!(lifetime(&[("expires", "0")]), Some(0));
    let modified = ("last-modified", "Wed, 31 Dec 2025 23:50:00 GMT");
    assert_eq!(lifetime(&[modified]), Some(60_000), "a tenth of the time since the change");
    assert_eq!(lifetime(&[modified, ("set-cookie", "a=b")]), Some(0), "cookies are for somebody");
    assert_eq!(lifetime(&[]), None);
}

#[test]
fn what_is_forbidden_or_for_somebody_is_not_kept() {
    let fresh = |said: &str, status: u16, asked: &[(&str, &str)]| {
        life(status, &[("cache-control", said)], asked, &Rules::default()).is_some()
    };
    assert!(fresh("max-age=9", 200, &[]) && fresh("max-age=9", 599, &[]));
    for said in ["max-age=9, no-store", "private, max-age=9"] {
        assert!(!fresh(said, 200, &[]), "{said}");
    }
    assert!(!fresh("max-age=9, must-understand", 599, &[]));
    assert!(fresh("max-age=9, must-understand, no-store", 200, &[]));
    assert!(!fresh("max-age=9", 206, &[]) && !fresh("max-age=9", 304, &[]));
    assert!(!fresh("max-age=9", 200, &[("cache-control", "no-store")]));
    for who in [("authorization", "me"), ("cookie", "me")] {
        assert!(!fresh("max-age=9", 200, &[who]), "{who:?}");
        for shared in ["public, max-age=9", "s-maxage=9", "max-age=9, must-revalidate"] {
            assert!(fresh(shared, 200, &[who]), "{shared}");
        }
        let apart = Rules { apart: true, ..Rules::default() };
        assert!(life(200, &[("cache-control", "max-age=9")], &[who], &apart).is_some());
    }
}

#[test]
fn a_route_says_what_is_kept_and_how_long_what_says_nothing_is_fresh() {
    let rules = Rules { fresh: Some(1_000), statuses: vec![200], ..Rules::default() };
    assert_eq!(life(200, &[], &[], &rules).map(|life| life.lifetime), Some(1_000));
    assert_eq!(life(404, &[], &[], &rules), None);
    assert_eq!(life(500, &[], &[], &Rules { fresh: Some(1), ..Rules::default() }), None);
}

#[test]
fn an_age_that_came_along_counts_and_one_that_cannot_be_read_is_any_age() {
    let of = |age: &[&str]| {
        let fields: Vec<(&str, &str)> = age.iter().map(|age| ("age", *age)).collect();
        let life =
            life(200, &[&[("cache-control", "max-age=60")], &fields[..]].concat(), &[], &Rules::default());
        let life = life.unwrap();
        (life.age(5_000), life.judge(&Directives::default(), 5_000))
    };
    assert_eq!(of(&["30"]), (30_000, Verdict::Fresh));
    for wrong in [&["60"][..], &["abc"], &["-1"], &["0", "0"], &["7.0"]] {
        assert_eq!(of(wrong).1, Verdict::Stale(false), "{wrong:?}");
    }
}

#[test]
fn clients_may_want_it_fresher_or_take_it_staler() {
    let kept = [("cache-control", "max-age=10")];
    assert_eq!(judged(&kept, "x", 9_000), Verdict::Fresh);
    assert_eq!(judged(&kept, "x", 10_000), Verdict::Stale(false));
    for wish in ["no-cache", "max-age=1", "min-fresh=5", "max-age=0"] {
        assert_eq!(judged(&kept, wish, 6_000), Verdict::Stale(false), "{wish}");
    }
    assert_eq!(judged(&kept, "max-stale", 90_000), Verdict::Fresh);
    assert_eq!(judged(&kept, "max-stale=5", 15_000), Verdict::Fresh);
    assert_eq!(judged(&kept, "max-stale=5", 15_001), Verdict::Stale(false));
    assert_eq!(judged(&kept, "stale-if-error=5", 12_000), Verdict::Stale(true));
}

#[test]
fn stale_is_used_only_where_the_response_lets_it() {
    let lax = [("cache-control", "max-age=1, stale-while-revalidate=5, stale-if-error=20")];
    assert_eq!(judged(&lax, "x", 3_000), Verdict::Revalidate);
    assert_eq!(judged(&lax, "x", 8_000), Verdict::Stale(true));
    assert_eq!(judged(&lax, "x", 30_000), Verdict::Stale(false));
    for bound in ["must-revalidate", "proxy-revalidate", "s-maxage=1", "no-cache"] {
        let said = format!("max-age=1, stale-while-revalidate=5, stale-if-error=20, {bound}");
        let kept = [("cache-control", said.as_str())];
        assert_eq!(judged(&kept, "max-stale", 3_000), Verdict::Stale(false), "{bound}");
    }
}

fn directive() -> impl Strategy<Value = String> {
    let number = 0_u64..100;
    prop_oneof![
        Just("no-store".to_owned()),
        Just("private".to_owned()),
        Just("no-cache".to_owned()),
        Just("public".to_owned()),
        Just("must-revalidate".to_owned()),
        number.clone().prop_map(|n| format!("max-age={n}")),
        number.clone().prop_map(|n| format!("s-maxage={n}")),
        number.clone().prop_map(|n| format!("stale-while-revalidate={n}")),
        number.clone().prop_map(|n| format!("stale-if-error={n}")),
        number.clone().prop_map(|n| format!("max-stale={n}")),
        number.prop_map(|n| format!("min-fresh={n}")),
    ]
}

proptest! {
    #[test]
    fn what_says_no_store_or_private_is_never_kept(
        said in prop::collection::vec(directive(), 1..6), age in 0_u64..50,
    ) {
        let said = said.join(", ");
        let kept = life(200, &[("cache-control", &said), ("age", &age.to_string())], &[], &Rules::default());
        prop_assert!(kept.is_none() || !(said.contains("no-store") || said.contains("private")));
    }

    #[test]
    fn nothing_is_used_past_its_freshness_unless_somebody_says_so(
        said in prop::collection::vec(directive(), 1..6), wish in prop::collection::vec(directive(), 0..4),
        after in 0_u64..200_000,
    ) {
        let said = said.join(", ");
        let Some(life) = life(200, &[("cache-control", &said)], &[], &Rules::default()) else { return Ok(()) };
        let headers = map(&[("cache-control", &wish.join(", "))]);
        let request = Directives::read(&headers, &header::CACHE_CONTROL).unwrap_or_default();
        let now = 5_000 + after;
        let fresh = life.age(now) < life.lifetime;
        match life.judge(&request, now) {
            Verdict::Fresh => {
                prop_assert!(fresh || (request.max_stale.is_some() && !said.contains("must-revalidate")));
                prop_assert!(!said.contains("no-cache") && !request.no_cache);
            }
            Verdict::Revalidate => prop_assert!(said.contains("stale-while-revalidate") && !said.contains("must-revalidate")),
            Verdict::Stale(usable) => prop_assert!(!usable || !said.contains("must-revalidate")),
        }
    }

    #[test]
    fn an_age_never_falls(age in 0_u64..10_000, delay in 0_u64..10_000, one in 0_u64..u64::MAX, two in 0_u64..u64::MAX) {
        let headers = map(&[("cache-control", "max-age=1"), ("age", &age.to_string())]);
        let came = Came { delay, ..came() };
        let life = Life::of(StatusCode::OK, &headers, &map(&[]), came, &Rules::default()).unwrap();
        prop_assert!(life.age(one.min(two)) <= life.age(one.max(two)));
        prop_assert!(life.age(one) >= age * 1_000);
    }
}
