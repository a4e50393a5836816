//! Forms: fields coerced by the schema, and files that are stored before the request is sent.

use bytes::Bytes;
use serde_json::json;
use sinew::bus::Object;

use super::System;

const BOUNDARY: (&str, &str) = ("content-type", "multipart/form-data; boundary=xyz");

fn part(disposition: &str, content: &str) -> String {
    format!("--xyz\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{content}\r\n")
}

#[tokio::test]
async fn a_file_is_in_the_store_before_the_operation_is_asked() {
    let system = System::start().await;
    let title = part("name=\"title\"", "dawn");
    let photo = part("name=\"photo\"; filename=\"a.png\"", &"pixels".repeat(50_000));
    let body = format!("{title}{photo}--xyz--\r\n");
    let reply = system.client.send("POST", "/photos", &[BOUNDARY], body).await;
    assert_eq!(reply.json(), json!({ "title": "dawn", "bytes": 300_000, "begins": "pixels" }));
}

#[tokio::test]
async fn a_form_that_does_not_fit_is_told_every_violation_and_stores_nothing() {
    let system = System::start().await;
    let body = format!("{}{}--xyz--", part("name=\"photo\"", "no file"), part("name=other; filename=x", "y"));
    let told = system.client.send("POST", "/photos", &[BOUNDARY], body).await.problem(422, "invalid-request");
    let errors = told["errors"].as_array().unwrap();
    let mut pointers: Vec<&str> = errors.iter().map(|error| error["pointer"].as_str().unwrap()).collect();
    pointers.sort_unstable();
    assert_eq!(pointers, ["/photo", "/title"], "{told}");
    let broken = system.client.send("POST", "/photos", &[BOUNDARY], "--xyz\r\n").await;
    broken.problem(400, "malformed-request");
    assert!(system.bus.stream("OBJ_EDGE_FILES").await.unwrap().is_none(), "nothing was stored");
}

#[tokio::test]
async fn a_urlencoded_form_is_read_by_the_schema() {
    let system = System::start().await;
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let reply = system.client.send("POST", "/things", &form, "sku=green+tea&quantity=3").await;
    assert_eq!(
        (reply.status, &reply.json()["quantity"], &reply.json()["sku"]),
        (201, &json!(3), &json!("green tea"))
    );
    let told = system.client.send("POST", "/things", &form, "sku=tea&quantity=x").await;
    assert_eq!(told.problem(422, "invalid-request")["errors"][0]["pointer"], "/quantity");
}

#[tokio::test]
async fn a_file_that_a_client_names_itself_reaches_no_other() {
    let system = System::start().await;
    let body = format!("{}{}--xyz--\r\n", part("name=title", "a"), part("name=photo; filename=b", "others"));
    assert_eq!(system.client.send("POST", "/photos", &[BOUNDARY], body).await.status, 200);
    let files = system.bus.known_objects("EDGE_FILES");
    let stored = files.list().await.unwrap();
    assert_eq!(stored.len(), 1);
    for id in [">", "*", "", "a.b", "a b", "é"] {
        let other = Object { id: id.to_owned(), ..stored[0].clone() };
        assert_eq!(files.get(&other).await.unwrap(), None, "{id:?}");
        files.delete(&other).await.unwrap();
        files.put(&other, &Bytes::from_static(b"others")).await.unwrap_err();
    }
    assert_eq!(files.get(&stored[0]).await.unwrap().as_deref(), Some(&b"others"[..]));
}
