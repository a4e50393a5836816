//! Tests of how requests are made from what clients send.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::{matcher::Template, operation::tests::descriptor};

fn json_body(text: &str) -> Payload {
    Payload::plain(ContentType::Json, Bytes::copy_from_slice(text.as_bytes()))
}

/// A route of the operation that tests share, as a contract would have it.
fn route(path: &str, body: Option<&str>) -> (Schema, Mapping) {
    let schema = Schema::new(&descriptor("do", "GET /a").request);
    (schema, Mapping::by_name(&Template::parse(path).unwrap(), body.map(str::to_owned)))
}

fn built(
    (schema, mapping): &(Schema, Mapping),
    values: &[&str],
    uri: &str,
    body: &str,
) -> Result<Value, u16> {
    let (head, ()) = http::Request::get(uri).header("x-n", "7").body(()).unwrap().into_parts();
    let values: Vec<Cow<'_, str>> = values.iter().copied().map(Cow::Borrowed).collect();
    let given = Given { head: &head, values: &values, body: &json_body(body) };
    let payload = payload(schema, mapping, &given, ContentType::MessagePack);
    let payload = payload.map_err(|refusal| refusal.problem().status)?;
    Ok(decode(ContentType::MessagePack, &payload).unwrap())
}

#[test]
fn path_query_and_body_become_one_request() {
    let put = route("/things/{id}", None);
    let all = built(&put, &["7"], "/?count=3&tags=a&tags=b+c%26", r#"{"note":"x"}"#);
    assert_eq!(all, Ok(json!({ "id": "7", "count": 3, "tags": ["a", "b c&"], "note": "x" })));
    assert_eq!(built(&put, &["7"], "/", ""), Ok(json!({ "id": "7" })));
    assert_eq!(built(&route("/things", None), &[], "/", ""), Ok(json!({})));
}

#[test]
fn a_body_may_repeat_what_the_path_says_but_not_contradict_it() {
    let put = route("/things/{id}", None);
    assert_eq!(built(&put, &["7"], "/", r#"{"id":"7"}"#), Ok(json!({ "id": "7" })));
    assert_eq!(built(&put, &["7"], "/", r#"{"id":"8"}"#), Err(422));
    assert_eq!(built(&put, &["7"], "/?id=7", ""), Err(422));
    assert_eq!(built(&put, &["7"], "/", "[]"), Err(422));
}

#[test]
fn a_field_may_take_the_whole_body() {
    let start = route("/things/{id}", Some("tags"));
    let all = built(&start, &["7"], "/?count=1", r#"["a"]"#);
    assert_eq!(all, Ok(json!({ "id": "7", "count": 1, "tags": ["a"] })));
    assert_eq!(built(&start, &["7"], "/", ""), Ok(json!({ "id": "7" })));
    assert_eq!(built(&start, &["7"], "/?tags=1", ""), Err(422));
    assert_eq!(built(&start, &["7"], "/", "[1]"), Err(422));
}

#[test]
fn what_cannot_be_read_is_told_from_what_does_not_fit() {
    let post = route("/things", None);
    for (uri, body, status) in [
        ("/", "{", 400),
        ("/", "{} x", 400),
        ("/?a=%ff", "", 400),
        ("/?count=x", "", 422),
        ("/?nope=1", "", 422),
        ("/?count=1&count=2", "", 422),
        ("/", r#"{"count":"x"}"#, 422),
        ("/", "[1]", 422),
    ] {
        assert_eq!(built(&post, &[], uri, body), Err(status), "{uri:?} {body:?}");
    }
}

#[test]
fn a_field_may_come_from_anywhere_and_every_violation_is_told() {
    let (schema, mapping) = route("/things/{key}", None);
    let from = |name: &str, source| (name.to_owned(), source);
    let mapping = Mapping {
        fields: vec![
            from("count", Source::Header(HeaderName::from_static("x-n"))),
            from("id", Source::Path(0)),
            from("tags", Source::Query("tag".into())),
            from("fixed", Source::Constant(json!({ "a": 1 }))),
        ],
        path: Vec::new(),
        ..mapping
    };
    let route = (schema, mapping);
    let all = built(&route, &["k"], "/?tag=a&tag=b", "");
    assert_eq!(all, Ok(json!({ "count": 7, "id": "k", "tags": ["a", "b"], "fixed": { "a": 1 } })));
    let (head, ()) =
        http::Request::get("/?count=2&colour=x").header("x-n", "x").body(()).unwrap().into_parts();
    let given = Given { head: &head, values: &[Cow::Borrowed("k")], body: &json_body(r#"{"tags":[1]}"#) };
    let refusal = payload(&route.0, &route.1, &given, ContentType::Json).unwrap_err();
    let told = serde_json::to_value(refusal.problem()).unwrap();
    let pointers: Vec<&str> =
        told["errors"].as_array().unwrap().iter().map(|one| one["pointer"].as_str().unwrap()).collect();
    assert_eq!(pointers, ["/count", "/count", "/colour", "/tags/0"]);
    assert_eq!(told["errors"][0]["in"], "header x-n");
}

#[test]
fn headers_carry_time_key_preference_and_trace() {
    let mut from = HeaderMap::new();
    for (name, value) in [
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ("tracestate", "a=1"),
        ("baggage", "k=v"),
        ("idempotency-key", "key-1"),
        ("prefer", "respond-async"),
    ] {
        from.append(name, value.parse().unwrap());
    }
    from.append("tracestate", "b=2".parse().unwrap());
    let budget = Duration::from_millis(250);
    let headers = headers(&from, crate::trace::of_client(&from), budget, ContentType::MessagePack).unwrap();
    let get = |name| headers.get(name).unwrap();
    assert_eq!((get("tracestate"), get("baggage")), ("a=1,b=2", "k=v"));
    assert_eq!((get("sinew-timeout"), get("sinew-idempotency-key")), ("250", "key-1"));
    assert_eq!((get("prefer"), get("accept")), ("respond-async", "application/msgpack"));
    from.insert("traceparent", "nonsense".parse().unwrap());
    assert_eq!(
        super::headers(&from, None, Duration::ZERO, ContentType::Json).unwrap().get("tracestate"),
        None
    );
}

#[test]
fn a_client_may_prefer_not_to_wait_or_not_for_long() {
    for (prefer, expected) in [
        ("respond-async", Some("respond-async")),
        ("return=minimal, Respond-Async; wait=5", Some("respond-async")),
        ("wait=10, respond-async", Some("respond-async")),
        ("Wait = 10;a=b", Some("wait=10")),
        ("wait=soon", None),
        ("respond-asynchronously", None),
    ] {
        let headers = HeaderMap::from_iter([(HeaderName::from_static("prefer"), prefer.parse().unwrap())]);
        assert_eq!(deferral(&headers).as_ref().map(|told| told.to_str().unwrap()), expected, "{prefer}");
    }
}

#[test]
fn keys_and_timeouts_are_checked() {
    let with = |name: &'static str, values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(name, value.parse().unwrap());
        }
        headers
    };
    for bad in [&[""][..], &["a", "a"], &["ä"], &["k".repeat(257).as_str()]] {
        assert!(idempotency_key(&with("idempotency-key", bad)).is_err(), "{bad:?}");
    }
    for bad in ["\"a", "\"a\"b\"", "\"a\\\"", "\"\"", "\"\\a\""] {
        assert!(idempotency_key(&with("idempotency-key", &[bad])).is_err(), "{bad:?}");
    }
    for (sent, key) in [("a-1", "a-1"), ("\"a-1\"", "a-1"), (r#""a\"b\\c""#, r#"a"b\c"#)] {
        assert_eq!(idempotency_key(&with("idempotency-key", &[sent])).unwrap().as_deref(), Some(key));
    }
    let asked = |text| timeout(&with("request-timeout", &[text]));
    assert_eq!(asked("1.5").unwrap(), Some(Duration::from_millis(1500)));
    for bad in ["0", "-1", "x", "NaN", "1e300", ""] {
        assert!(asked(bad).is_err(), "{bad:?}");
    }
}

proptest! {
    #[test]
    fn hostile_queries_and_bodies_never_panic(query in "[a-z=&%+0-9]{0,40}", body in any::<Vec<u8>>()) {
        let (schema, mapping) = route("/things/{id}", None);
        let Ok(request) = http::Request::get(format!("/?{query}")).body(()) else { return Ok(()) };
        let (head, ()) = request.into_parts();
        for codec in [ContentType::Json, ContentType::MessagePack] {
            let body = Payload::plain(codec, body.clone().into());
            let given = Given { head: &head, values: &[Cow::Borrowed("7")], body: &body };
            let _ = payload(&schema, &mapping, &given, ContentType::MessagePack);
        }
    }
}

#[test]
fn a_whole_number_is_an_integer_however_it_is_written() {
    let plain = route("/things", None);
    for body in [r#"{"count":3.0}"#, r#"{"count":3}"#, r#"{"count":30e-1}"#] {
        assert_eq!(built(&plain, &[], "/", body).map(|all| all.to_string()), Ok(r#"{"count":3}"#.to_owned()));
    }
    let put = route("/things/{id}", None);
    let all = built(&put, &["7"], "/?count=3.0", "").map(|all| all.to_string());
    assert_eq!(all, Ok(r#"{"id":"7","count":3}"#.to_owned()));
    assert_eq!(built(&plain, &[], "/", r#"{"count":3.5}"#), Err(422));
}

#[test]
fn there_is_no_text_for_null_but_an_empty_field_of_a_form_is_left_out() {
    let mut descriptor = descriptor("do", "GET /a");
    descriptor.request["properties"]["count"] = json!({ "type": ["integer", "null"] });
    let route = (Schema::new(&descriptor.request), Mapping::by_name(&Template::parse("/a").unwrap(), None));
    for query in ["/?count=", "/?count=null"] {
        assert_eq!(built(&route, &[], query, ""), Err(422), "{query}");
    }
    let form = Form { texts: vec![("count".into(), vec![String::new()])], ..Form::default() };
    let (head, ()) = http::Request::post("/").body(()).unwrap().into_parts();
    let body = Payload { form: Some(Box::new(form)), ..json_body("") };
    let given = Given { head: &head, values: &[], body: &body };
    let bytes = payload(&route.0, &route.1, &given, ContentType::Json);
    assert_eq!(bytes.map_err(|refusal| refusal.problem().status).unwrap(), "{}");
}
