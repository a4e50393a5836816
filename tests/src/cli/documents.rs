//! Documents: workflows that are checked, configurations that are refused, both with positions.

use std::path::PathBuf;

use tempfile::TempDir;

use super::program::sinew;

#[tokio::test]
async fn a_valid_workflow_is_said_to_be_valid() {
    let (_dir, file) = document(checkout::PLACE_ORDER);
    let ran = sinew(&["workflow", "validate", &file]).await.succeeded();
    assert!(ran.stdout.contains("valid  shop/place-order@1.0.0"), "{}", ran.stdout);
    let told = sinew(&["--json", "workflow", "validate", &file]).await.succeeded().json();
    assert_eq!((told[0]["valid"].as_bool(), told[0]["runnable"].as_bool()), (Some(true), Some(true)));
}

#[tokio::test]
async fn an_invalid_workflow_ends_with_3_and_every_finding_has_its_place() {
    let source = "document: { dsl: '1.0.3', namespace: shop, name: broken, version: '1.0.0' }\n\
                  do:\n  - first: { cal: inventory.reserve }\n  - second: { wait: { second: 1 } }\n";
    let (_dir, file) = document(source);
    let ran = sinew(&["--json", "workflow", "validate", &file]).await;
    assert_eq!((ran.code, ran.error_code()), (3, "SNW-5008".into()), "{ran:?}");
    let told = ran.json();
    let findings = told[0]["diagnostics"].as_array().expect("findings are listed");
    let lines: Vec<_> = findings.iter().map(|finding| finding["line"].as_u64().unwrap()).collect();
    assert!(lines.contains(&3) && lines.contains(&4), "{lines:?}");
    assert!(findings.iter().all(|finding| finding["column"].as_u64().unwrap() > 1), "{findings:?}");

    let ran = sinew(&["workflow", "validate", &file]).await;
    assert!(ran.stdout.contains(" 3 |   - first: { cal: inventory.reserve }"), "{}", ran.stdout);
}

#[tokio::test]
async fn an_unknown_setting_is_refused_with_its_position() {
    let (_dir, file) = document("max_headers: 10\nmax_haeders: 20\n");
    let ran = sinew(&["--json", "edge", "--config", &file]).await;
    assert_eq!((ran.code, ran.error_code()), (3, "SNW-5004".into()), "{ran:?}");
    let message = ran.error()["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with(&format!("{file}:2:1: ")) && message.contains("max_haeders"), "{message}");
}

#[tokio::test]
async fn check_shows_the_values_a_good_file_puts_in_force() {
    let (_edge_dir, edge) = document("max_headers: 10\n");
    let (_dir, orchestrator) = document("# two for the cluster\nshards: 2\n");
    let arguments = [
        "--json",
        "--nats-url",
        "nats://127.0.0.1:1",
        "check",
        "--edge",
        &edge,
        "--orchestrator",
        &orchestrator,
    ];
    let ran = sinew(&arguments).await;
    assert_eq!(ran.code, 4, "the settings are shown although there is no bus: {ran:?}");
    let report = ran.json();
    let of = |name: &str| {
        let rows = report["settings"].as_array().expect("settings are listed");
        let row = rows.iter().find(|row| row["name"] == name).unwrap_or_else(|| panic!("{name} is missing"));
        (row["value"].clone(), row["source"].as_str().unwrap().to_owned())
    };
    assert_eq!(of("edge.max_headers"), (10.into(), edge.clone()));
    assert_eq!(of("edge.max_streams"), (128.into(), "default".to_owned()));
    assert_eq!(of("orchestrator.shards"), (2.into(), orchestrator.clone()));
    assert_eq!(of("orchestrator.replicas"), (1.into(), "default".to_owned()));
}

#[tokio::test]
async fn a_missing_file_is_a_failure() {
    let ran = sinew(&["--json", "workflow", "validate", "no-such-file.yaml"]).await;
    assert_eq!((ran.code, ran.error_code()), (1, "SNW-5003".into()), "{ran:?}");
}

fn document(source: &str) -> (TempDir, String) {
    let dir = tempfile::tempdir().expect("a directory for the document");
    let file: PathBuf = dir.path().join("document.yaml");
    std::fs::write(&file, source).expect("write the document");
    let name = file.to_str().expect("a path in UTF-8").to_owned();
    (dir, name)
}
