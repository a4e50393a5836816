//! Authentication policies, and the tokens some of them take.

use std::sync::atomic::{AtomicU32, Ordering};

use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde_json::{Value, json};
use sinew_workflow::{Outcome, Protocol};

use super::server::{Answer, Seen, Server};
use super::{done, not_sent, outcome, protocols, refused};
use crate::{Protocols, Settings};

fn guarded(server: &Server, policy: &Value) -> Value {
    json!({ "method": "get", "endpoint": { "uri": server.url("/guarded"), "authentication": policy } })
}

/// Gives tokens `t1`, `t2` … at `/oauth2/token` and takes those that are not `stale` elsewhere.
async fn authority(stale: &'static str) -> Server {
    let tokens = AtomicU32::new(0);
    Server::start(move |seen| match seen.path() {
        "/oauth2/token" | "/token" => {
            let number = tokens.fetch_add(1, Ordering::Relaxed) + 1;
            Answer::json(
                200,
                &json!({ "access_token": format!("t{number}"), "token_type": "bearer", "expires_in": 3600 }),
            )
        }
        "/.well-known/openid-configuration" => {
            let endpoint = format!("http://{}/token", seen.header("host").unwrap());
            Answer::json(200, &json!({ "token_endpoint": endpoint }))
        }
        _ if seen.header("authorization") == Some(stale) => Answer::with(401, &[], ""),
        _ => Answer::json(200, &json!({})),
    })
    .await
}

fn oauth(server: &Server, more: Value) -> Value {
    let mut policy = json!({ "authority": server.url(""), "grant": "client_credentials", "client": { "id": "shop", "secret": "p ss" } });
    policy.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({ "oauth2": policy })
}

async fn called(server: &Server, policy: &Value) -> Outcome {
    outcome(&protocols(), Protocol::Http, &guarded(server, policy)).await
}

/// Returns the request for a token that a policy leads to.
async fn token_request(more: Value) -> Seen {
    let server = authority("").await;
    done(called(&server, &oauth(&server, more)).await);
    server.seen().into_iter().find(|seen| seen.method == "POST").unwrap()
}

fn form(seen: &Seen) -> Value {
    url::form_urlencoded::parse(&seen.body)
        .map(|(name, value)| (name.into_owned(), Value::from(value.into_owned())))
        .collect()
}

#[tokio::test]
async fn simple_policies_are_headers_and_take_secrets() {
    let server = Server::start(|_| Answer::json(200, &json!({}))).await;
    let secrets = [
        ("ann".to_owned(), json!({ "username": "ann", "password": "pw" })),
        ("token".to_owned(), json!("t0p")),
    ];
    let protocols = Protocols::new(Settings { secrets: secrets.into(), ..Settings::default() }).unwrap();
    for policy in [
        json!({ "basic": { "username": "ann", "password": "pw" } }),
        json!({ "basic": { "use": "ann" } }),
        json!({ "bearer": { "token": "\u{E000}secret:token\u{E001}" } }),
    ] {
        done(outcome(&protocols, Protocol::Http, &guarded(&server, &policy)).await);
    }
    let user = json!({ "method": "get", "endpoint": server.url("/").replace("//", "//ann:pw@") });
    done(outcome(&protocols, Protocol::Http, &user).await);
    let sent: Vec<_> =
        server.seen().iter().map(|seen| seen.header("authorization").unwrap().to_owned()).collect();
    let basic = format!("Basic {}", BASE64.encode(b"ann:pw"));
    assert_eq!(sent, [&*basic, &*basic, "Bearer t0p", &*basic]);
}

#[tokio::test]
async fn a_policy_that_cannot_work_says_why() {
    let server = Server::start(|_| Answer::json(200, &json!({}))).await;
    let secret = json!({ "bearer": { "use": "nobody" } });
    assert_eq!(refused(called(&server, &secret).await).kind(), "authorization", "a secret nobody gave");
    for policy in [
        json!({ "basic": { "username": "ann" } }),
        json!({ "use": "nobody" }),
        json!({ "kerberos": {} }),
        json!("basic"),
        oauth(&server, json!({ "grant": "authorization_code" })),
        oauth(&server, json!({ "grant": "password" })),
    ] {
        assert_eq!(refused(called(&server, &policy).await).kind(), "configuration", "{policy}");
    }
    assert!(server.seen().is_empty());
}

#[tokio::test]
async fn a_digest_answers_the_challenge() {
    let server = Server::start(|seen| match seen.header("authorization") {
        Some(answer) if answer.starts_with("Digest username=\"ann\"") => Answer::json(200, &json!("in")),
        Some(_) => Answer::with(403, &[], ""),
        None => Answer::with(
            401,
            &[("www-authenticate", "Digest realm=\"r\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256")],
            "",
        ),
    })
    .await;
    let policy = json!({ "digest": { "username": "ann", "password": "pw" } });
    assert_eq!(done(called(&server, &policy).await), json!("in"));
    assert!(server.seen()[1].header("authorization").unwrap().contains("uri=\"/guarded\""));
}

#[tokio::test]
async fn a_token_is_fetched_once_for_everybody() {
    let server = authority("").await;
    let (protocols, arguments) = (protocols(), guarded(&server, &oauth(&server, json!({}))));
    let calls = (0..10).map(|_| outcome(&protocols, Protocol::Http, &arguments));
    futures::future::join_all(calls).await.into_iter().for_each(|outcome| drop(done(outcome)));
    let seen = server.seen();
    let (asked, called): (Vec<_>, Vec<_>) = seen.iter().partition(|seen| seen.path() == "/oauth2/token");
    assert_eq!((asked.len(), called.len()), (1, 10));
    assert!(called.iter().all(|seen| seen.header("authorization") == Some("Bearer t1")));
}

#[tokio::test]
async fn a_token_that_is_not_taken_is_replaced_once() {
    let server = authority("Bearer t1").await;
    done(called(&server, &oauth(&server, json!({}))).await);
    let sent: Vec<_> =
        server.seen().iter().filter_map(|seen| seen.header("authorization").map(str::to_owned)).collect();
    assert_eq!(sent, ["Bearer t1", "Bearer t2"]);
}

#[tokio::test]
async fn each_grant_sends_its_fields() {
    let seen = token_request(json!({ "scopes": ["a", "b"], "audiences": ["x"] })).await;
    let expected = json!({
        "grant_type": "client_credentials", "client_id": "shop", "client_secret": "p ss", "scope": "a b", "audience": "x",
    });
    assert_eq!(form(&seen), expected);

    let seen = token_request(json!({ "grant": "password", "username": "ann", "password": "pw", "client": { "authentication": "none" } })).await;
    assert_eq!(form(&seen), json!({ "grant_type": "password", "username": "ann", "password": "pw" }));

    let seen =
        token_request(json!({ "grant": "refresh_token", "subject": { "token": "r1", "type": "refresh" } }))
            .await;
    assert_eq!(form(&seen)["refresh_token"], "r1");

    let exchange = "urn:ietf:params:oauth:grant-type:token-exchange";
    let seen = token_request(json!({ "grant": exchange, "subject": { "token": "s", "type": "jwt" }, "actor": { "token": "a", "type": "jwt" } })).await;
    let form = form(&seen);
    assert_eq!((&form["subject_token"], &form["actor_token"]), (&json!("s"), &json!("a")));
}

#[tokio::test]
async fn each_client_authentication_proves_itself_in_its_way() {
    let with = |method: &str| json!({ "client": { "id": "shop", "secret": "p ss", "assertion": "a.b.c", "authentication": method } });
    let seen = token_request(with("client_secret_basic")).await;
    assert_eq!(seen.header("authorization"), Some(&*format!("Basic {}", BASE64.encode(b"shop:p+ss"))));
    let jwt = form(&token_request(with("client_secret_jwt")).await);
    assert_eq!(jwt["client_assertion"].as_str().unwrap().split('.').count(), 3);
    assert_eq!(form(&token_request(with("private_key_jwt")).await)["client_assertion"], "a.b.c");
    let seen = token_request(
        json!({ "request": { "encoding": "application/json" }, "endpoints": { "token": "/token" } }),
    )
    .await;
    assert_eq!((seen.path(), &seen.json()["client_id"]), ("/token", &json!("shop")));
}

#[tokio::test]
async fn openid_providers_say_themselves_where_tokens_are() {
    let server = authority("").await;
    for authority in [server.url(""), server.url("/.well-known/openid-configuration")] {
        let policy = json!({ "oidc": { "authority": authority, "grant": "client_credentials", "client": { "id": "shop" } } });
        done(called(&server, &policy).await);
    }
    let asked = server.seen().iter().filter(|seen| seen.path() == "/token").count();
    assert_eq!(asked, 2);
}

#[tokio::test]
async fn no_token_is_an_authentication_fault_and_nothing_was_sent() {
    let server = Server::start(|seen| match seen.path() {
        "/oauth2/token" => {
            Answer::json(400, &json!({ "error": "invalid_client", "error_description": "who is shop?" }))
        }
        "/empty" => Answer::json(200, &json!({})),
        _ => Answer::json(200, &json!({})),
    })
    .await;
    let fault = not_sent(called(&server, &oauth(&server, json!({}))).await);
    assert_eq!(fault.kind(), "authentication");
    assert!(fault.detail.unwrap().contains("invalid_client: who is shop?"));
    let fault =
        not_sent(called(&server, &oauth(&server, json!({ "endpoints": { "token": "empty" } }))).await);
    assert!(fault.detail.unwrap().contains("access_token"));
    let nowhere = json!({ "endpoints": { "token": "http://127.0.0.1:1/token" } });
    assert_eq!(not_sent(called(&server, &oauth(&server, nowhere)).await).kind(), "authentication");
    assert!(server.seen().iter().all(|seen| seen.path() != "/guarded"));
}

#[tokio::test]
async fn a_token_of_another_issuer_is_not_used() {
    let claims = BASE64URL_NOPAD.encode(br#"{"iss":"https://id.example"}"#);
    let server =
        Server::start(move |_| Answer::json(200, &json!({ "access_token": format!("e30.{claims}.x") })))
            .await;
    let from = |issuer: &str| oauth(&server, json!({ "issuers": [issuer] }));
    done(called(&server, &from("https://id.example")).await);
    let fault = not_sent(called(&server, &from("https://other.example")).await);
    assert!(fault.detail.unwrap().contains("https://id.example"));
}
