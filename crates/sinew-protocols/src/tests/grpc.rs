//! `call: grpc`.

use serde_json::{Value, json};
use sinew_workflow::{Outcome, Protocol};

use super::server::{Answer, Server};
use super::{done, not_sent, outcome, protocols, refused, unknown};

const PROTO: &str = r#"
syntax = "proto3";
package shop.v1;
import "types/order.proto";
import "google/protobuf/empty.proto";
service Orders {
  rpc Place(shop.v1.Order) returns (shop.v1.Placed);
  rpc Watch(google.protobuf.Empty) returns (stream shop.v1.Placed);
  rpc Upload(stream shop.v1.Order) returns (shop.v1.Placed);
}
"#;
const IMPORTED: &str = r#"
syntax = "proto3";
package shop.v1;
message Order { string sku = 1; }
message Placed { string order_id = 1; int32 count = 2; }
"#;

/// A frame with a message whose first field is a text.
fn frame(text: &str) -> Vec<u8> {
    let length = u8::try_from(text.len()).unwrap();
    [&[0, 0, 0, 0, length + 2, 0x0a, length], text.as_bytes()].concat()
}

/// Serves the description, and answers calls with a status.
async fn serving(status: &'static str, message: &'static str) -> Server {
    Server::start(move |seen| match seen.path() {
        "/api/orders.proto" => Answer::with(200, &[], PROTO),
        "/api/types/order.proto" => Answer::with(200, &[], IMPORTED),
        "/shop.v1.Orders/Watch" => Answer::grpc([frame("o1"), frame("o2")].concat(), status, message),
        _ if status == "0" => Answer::grpc(frame("o1"), status, message),
        _ => Answer::grpc(Vec::new(), status, message),
    })
    .await
}

async fn called(server: &Server, service: &str, method: &str, arguments: Value) -> Outcome {
    let service = json!({ "name": service, "host": "127.0.0.1", "port": server.port, "authentication": { "bearer": { "token": "t" } } });
    let proto = json!({ "endpoint": server.url("/api/orders.proto") });
    let arguments = json!({ "proto": proto, "service": service, "method": method, "arguments": arguments });
    outcome(&protocols(), Protocol::Grpc, &arguments).await
}

#[tokio::test]
async fn a_method_is_called_as_its_description_says() {
    let server = serving("0", "").await;
    let output = done(called(&server, "shop.v1.Orders", "Place", json!({ "sku": "shoe" })).await);
    assert_eq!(output, json!({ "orderId": "o1", "count": 0 }));
    let seen = server.seen().pop().unwrap();
    assert_eq!((seen.path(), &seen.body[..]), ("/shop.v1.Orders/Place", &frame("shoe")[..]));
    assert_eq!(seen.header("content-type"), Some("application/grpc"));
    assert_eq!((seen.header("te"), seen.header("authorization")), (Some("trailers"), Some("Bearer t")));
    assert!(seen.header("grpc-timeout").unwrap().ends_with('m'));
}

#[tokio::test]
async fn streamed_replies_are_a_list_and_a_short_name_will_do() {
    let server = serving("0", "").await;
    let output = done(called(&server, "Orders", "Watch", json!({})).await);
    assert_eq!(output, json!([{ "orderId": "o1", "count": 0 }, { "orderId": "o2", "count": 0 }]));
}

#[tokio::test]
async fn what_the_description_does_not_have_is_not_called() {
    let server = serving("0", "").await;
    for (service, method, arguments, hint) in [
        ("Carts", "Place", json!({}), "`shop.v1.Orders`"),
        ("Orders", "Cancel", json!({}), "`Place`"),
        ("Orders", "Upload", json!({}), "stream"),
        ("Orders", "Place", json!({ "colour": "red" }), "colour"),
        ("Orders", "Place", json!({ "sku": 7 }), "shop.v1.Order"),
    ] {
        let fault = refused(called(&server, service, method, arguments).await);
        assert_eq!(fault.kind(), "configuration");
        assert!(fault.detail.as_ref().unwrap().contains(hint), "{fault}");
    }
    assert!(server.seen().iter().all(|seen| seen.method == "GET"));
}

#[tokio::test]
async fn a_status_says_what_was_done() {
    let place =
        async |status, message| called(&serving(status, message).await, "Orders", "Place", json!({})).await;
    let fault = refused(place("9", "sold%20out").await);
    assert_eq!(
        (fault.kind(), fault.status, fault.code.as_deref()),
        ("communication", 400, Some("failed-precondition"))
    );
    assert_eq!(fault.detail.as_deref(), Some("sold out"));
    assert_eq!(refused(place("16", "").await).kind(), "authentication");
    assert_eq!(refused(place("7", "").await).kind(), "authorization");
    assert_eq!(unknown(place("14", "").await).status, 503);
    assert_eq!(unknown(place("4", "").await).kind(), "timeout");
    assert_eq!(unknown(place("77", "").await).status, 500);
}

#[tokio::test]
async fn a_server_that_is_not_there_was_sent_nothing() {
    let server = serving("0", "").await;
    let proto = json!({ "endpoint": server.url("/api/orders.proto") });
    let service = json!({ "name": "Orders", "host": "127.0.0.1", "port": 1 });
    let arguments = json!({ "proto": proto, "service": service, "method": "Place" });
    not_sent(outcome(&protocols(), Protocol::Grpc, &arguments).await);
}
