//! Documents and other resources that are fetched.

use std::time::Duration;

use serde_json::json;

use super::server::{Answer, Server};
use super::{LIMIT, protocols};
use crate::{Allow, Protocols, Settings};

#[tokio::test]
async fn a_resource_is_followed_where_it_moved_without_its_credentials() {
    let there = Server::start(|_| Answer::with(200, &[], "found")).await;
    let location = there.url("/new");
    let here = Server::start(move |_| Answer::with(301, &[("location", &location)], "")).await;
    let endpoint = json!({ "uri": here.url("/old"), "authentication": { "bearer": { "token": "t" } } });
    assert_eq!(protocols().fetch(&endpoint, LIMIT).await.unwrap(), "found");
    assert_eq!(here.only().header("authorization"), Some("Bearer t"));
    assert_eq!(there.only().header("authorization"), None);
}

#[tokio::test]
async fn circles_errors_and_silence_end() {
    let server = Server::start(|seen| match seen.path() {
        "/circle" => Answer::with(302, &[("location", "/circle")], ""),
        "/missing" => Answer::with(404, &[], ""),
        _ => Answer::Silence,
    })
    .await;
    let fetch =
        async |path: &str, limit| protocols().fetch(&json!(server.url(path)), limit).await.unwrap_err();
    assert_eq!(fetch("/circle", LIMIT).await.kind(), "communication");
    assert_eq!(fetch("/missing", LIMIT).await.status, 404);
    assert_eq!(fetch("/silence", Duration::from_millis(100)).await.kind(), "timeout");
}

#[tokio::test]
async fn files_are_read_below_allowed_directories_only() {
    let directory = tempfile::tempdir().unwrap();
    let (inside, outside) = (directory.path().join("in"), directory.path().join("out"));
    std::fs::create_dir_all(inside.join("app")).unwrap();
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(inside.join("app/a.txt"), "a").unwrap();
    std::fs::write(outside.join("b.txt"), "b").unwrap();
    std::os::unix::fs::symlink(outside.join("b.txt"), inside.join("link.txt")).unwrap();

    let allow = Allow { file: [inside.clone()].into(), ..Allow::default() };
    let allowing = Protocols::new(Settings { allow, max_body: 10, ..Settings::default() }).unwrap();
    let fetch = async |uri: String| allowing.fetch(&json!(uri), LIMIT).await;
    assert_eq!(fetch(format!("file://{}/app/a.txt", inside.display())).await.unwrap(), "a");
    // As the specification's example writes it: relative, though it looks like a host.
    assert_eq!(fetch("file://app/a.txt".to_owned()).await.unwrap(), "a");
    for refused in [
        format!("file://{}/b.txt", outside.display()),
        format!("file://{}/../out/b.txt", inside.display()),
        format!("file://{}/link.txt", inside.display()),
        "file://app/../../out/b.txt".to_owned(),
        "file:///etc/hostname".to_owned(),
    ] {
        assert_eq!(fetch(refused.clone()).await.unwrap_err().kind(), "configuration", "{refused}");
    }
    let anywhere = protocols().fetch(&json!(format!("file://{}/app/a.txt", inside.display())), LIMIT).await;
    assert!(anywhere.unwrap_err().detail.unwrap().contains("allow.file"));
    std::fs::write(inside.join("large.txt"), "0123456789x").unwrap();
    assert!(
        fetch(format!("file://{}/large.txt", inside.display()))
            .await
            .unwrap_err()
            .detail
            .unwrap()
            .contains("max_body")
    );
}
