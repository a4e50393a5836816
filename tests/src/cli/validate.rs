//! `sinew workflow validate`: what it looks at, and what it leaves alone until it is asked.

use serde_json::{Value, json};
use tempfile::TempDir;

use super::program::{Ran, sinew};
use crate::harness::{HttpsStub, Seen, json as answer};

const DOCUMENT: &str = "\
document: { dsl: '1.0.3', namespace: test, name: pets, version: '1.0.0' }
input: { schema: { resource: { endpoint: 'https://pets.example/input.json' } } }
do:
  - find:
      call: openapi
      with: { document: { endpoint: 'https://pets.example/openapi.json' }, operationId: findPets }
  - tell:
      call: asyncapi
      with:
        document: { endpoint: 'https://pets.example/asyncapi.json' }
        channel: pets.found
        message: { payload: { pet: '${ .id }' } }
  - greet:
      call: grpc
      with:
        proto: { endpoint: 'https://pets.example/greet.proto' }
        service: { name: Greeter, host: pets.example }
        method: SayHello
  - unknown:
      call: openapi
      with: { document: { endpoint: '${ .description }' }, operationId: x }
";

const PROTO: &str =
    "syntax = 'proto3'; service Greeter { rpc SayHello(Hello) returns (Hello); } message Hello {}";

fn respond(seen: &Seen) -> http::Response<http_body_util::Full<bytes::Bytes>> {
    match seen.path.as_str() {
        "/input.json" => answer(200, &json!({ "type": "object" })),
        "/openapi.json" => {
            let operation = json!({ "get": { "operationId": "findPets", "responses": {} } });
            answer(200, &json!({ "openapi": "3.0.0", "paths": { "/pets": operation } }))
        }
        "/asyncapi.json" => {
            let servers = json!({ "bus": { "url": "pets.example", "protocol": "nats" } });
            answer(200, &json!({ "asyncapi": "2.6.0", "servers": servers, "channels": { "pets.found": {} } }))
        }
        "/greet.proto" => http::Response::new(PROTO.into()),
        _ => answer(404, &json!({})),
    }
}

async fn validated(document: &str, stub: &HttpsStub, options: &[&str]) -> Ran {
    let folder: TempDir = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (file, ca) = (path("pets.yaml", document), path("ca.pem", stub.authority()));
    let (host, address) = stub.resolve().into_iter().next().unwrap();
    let resolve = format!("{host}={address}");
    let fixed = ["workflow", "validate", &file, "--json", "--ca", &ca, "--resolve", &resolve];
    sinew(&[&fixed[..], options].concat()).await
}

fn uris(told: &Value) -> Vec<&str> {
    told[0]["notFetched"].as_array().unwrap().iter().map(|one| one["uri"].as_str().unwrap_or("?")).collect()
}

#[tokio::test]
async fn what_a_document_refers_to_is_fetched_only_when_asked() {
    let stub = HttpsStub::start(&["pets.example"], respond).await;
    let ran = validated(DOCUMENT, &stub, &[]).await.succeeded();
    let expected = ["input.json", "openapi.json", "asyncapi.json", "greet.proto"]
        .map(|name| format!("https://pets.example/{name}"));
    let told = ran.json();
    assert_eq!(uris(&told)[..4], expected);
    assert_eq!(uris(&told)[4], "?", "an address that is computed is listed too");
    assert_eq!((stub.seen().len(), &told[0]["valid"], &told[0]["runnable"]), (0, &json!(true), &json!(true)));

    let told = validated(DOCUMENT, &stub, &["--fetch"]).await.succeeded().json();
    assert_eq!(uris(&told), ["?"], "there is still one that nobody can know: {told}");
    assert_eq!(told[0]["diagnostics"], json!([]));
    assert_eq!(stub.seen().len(), 4);
}

#[tokio::test]
async fn what_was_fetched_must_describe_what_is_called() {
    let stub = HttpsStub::start(&["pets.example"], respond).await;
    for (right, wrong, hint, line) in [
        ("operationId: findPets", "operationId: findPet", "did you mean `findPets`?", 5),
        ("channel: pets.found", "channel: pets.lost", "`pets.found`", 8),
        ("method: SayHello", "method: SayBye", "`SayHello`", 14),
        ("/openapi.json", "/nothing.json", "404", 5),
        ("/input.json", "/nothing.json", "404", 2),
    ] {
        let ran = validated(&DOCUMENT.replace(right, wrong), &stub, &["--fetch"]).await;
        let finding = &ran.json()[0]["diagnostics"][0];
        assert_eq!((ran.code, ran.error_code().as_str()), (3, "SNW-5008"), "{ran:?}");
        assert_eq!((&finding["code"], &finding["line"]), (&json!("SNW-2022"), &json!(line)), "{finding}");
        assert!(finding["message"].as_str().unwrap().contains(hint), "{finding}");
    }
}
