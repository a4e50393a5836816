//! Who a connection is to the server: token, user, credentials file, certificate; and what the account may not do.

use std::path::Path;
use std::process::Stdio;

use data_encoding::BASE64URL_NOPAD;
use nkeys::KeyPair;
use serde_json::{Value, json};
use sinew::Kind;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};

use super::*;
use crate::harness::{SOON, eventually, server};

/// A server with settings of its own, stopped when dropped.
pub(super) struct Guarded {
    _process: Child,
    address: String,
    dir: TempDir,
}

impl Guarded {
    pub(super) async fn start(settings: &str) -> Self {
        Self::start_in(TempDir::with_prefix("sinew-test-").unwrap(), settings).await
    }

    async fn start_in(dir: TempDir, settings: &str) -> Self {
        let config = dir.path().join("nats.conf");
        let text = format!("listen: \"127.0.0.1:-1\"\nports_file_dir: {:?}\n{settings}", dir.path());
        std::fs::write(&config, text).unwrap();
        let process = Command::new(server().await)
            .arg("-c")
            .arg(&config)
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let ports = dir.path().join(format!("nats-server_{}.ports", process.id().unwrap()));
        let address = eventually(SOON, || std::future::ready(listening(&ports))).await;
        Self { _process: process, address, dir }
    }

    pub(super) fn config(&self, identity: &str) -> Config {
        Config::new(format!("nats://{identity}{}", self.address), "guest")
    }

    fn write(&self, name: &str, text: &str) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

/// Returns `host:port` once the server has written its ports file.
fn listening(ports: &Path) -> Option<String> {
    let ports: Value = serde_json::from_slice(&std::fs::read(ports).ok()?).ok()?;
    let url = ports["nats"].as_array()?.iter().find_map(|url| url.as_str()?.split_once("://127.0.0.1:"))?;
    Some(format!("127.0.0.1:{}", url.1))
}

async fn refusal(config: Config) -> sinew::Error {
    Bus::connect(config).await.expect_err("the server refuses it")
}

#[tokio::test]
async fn a_token_opens_the_door_and_a_wrong_one_does_not() {
    let server = Guarded::start("authorization { token: \"s3cret!\" }").await;
    let with = |token: &str| Config { token: Some(token.to_owned()), ..server.config("") };
    assert!(Bus::connect(with("s3cret!")).await.is_ok());
    assert!(Bus::connect(server.config("s3cret%21@")).await.is_ok());
    for wrong in [with("secret"), server.config("")] {
        let error = refusal(wrong).await;
        assert_eq!(error.kind(), Kind::Permission, "{error}");
    }
}

#[tokio::test]
async fn user_and_password_are_read_from_the_address_and_never_shown() {
    let server = Guarded::start("authorization { user: \"ada\", password: \"p@ss:word\" }").await;
    assert!(Bus::connect(server.config("ada:p%40ss%3Aword@")).await.is_ok());
    let error = refusal(server.config("ada:wr0ng@")).await;
    assert_eq!(error.kind(), Kind::Permission);
    assert!(!format!("{error} {error:?}").contains("wr0ng"), "{error:?}");
}

#[tokio::test]
async fn a_credentials_file_signs_the_servers_nonce() {
    let (operator, account, user) = (KeyPair::new_operator(), KeyPair::new_account(), KeyPair::new_user());
    let operator_jwt = jwt(&operator, &operator, json!({ "type": "operator", "version": 2 }));
    let limits = json!({ "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1, "wildcards": true });
    let account_jwt = jwt(&operator, &account, json!({ "type": "account", "version": 2, "limits": limits }));
    let claims = json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 });
    let user_jwt = jwt(&account, &user, claims);
    let settings = format!(
        "operator: {operator_jwt}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt} }}\n",
        account.public_key()
    );
    let server = Guarded::start(&settings).await;
    let creds = |seed: &str| {
        format!(
            "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )
    };
    let with = |path| Config { credentials: Some(path), ..server.config("") };
    let good = server.write("good.creds", &creds(&user.seed().unwrap()));
    assert!(Bus::connect(with(good)).await.is_ok());
    let stolen = server.write("stolen.creds", &creds(&KeyPair::new_user().seed().unwrap()));
    assert_eq!(refusal(with(stolen)).await.kind(), Kind::Permission);
    let empty = server.write("empty.creds", "nothing\n");
    assert_eq!(refusal(with(empty)).await.kind(), Kind::Config);
    let error = refusal(with("/nowhere.creds".into())).await;
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("/nowhere.creds"), "{error}");
}

#[tokio::test]
async fn an_encrypted_connection_checks_the_certificate_and_shows_its_own() {
    let dir = TempDir::with_prefix("sinew-test-").unwrap();
    let path = |name: &str| dir.path().join(name);
    let authority = certificate(&path("ca"), "authority", None).await;
    certificate(&path("server"), "127.0.0.1", Some(&authority)).await;
    certificate(&path("client"), "client", Some(&authority)).await;
    let stranger = certificate(&path("stranger"), "stranger", None).await;
    let (ca, cert, key) = (path("ca.pem"), path("client.pem"), path("client.key"));
    let settings = format!(
        "tls {{ cert_file: {:?}, key_file: {:?}, ca_file: {ca:?}, verify: true }}",
        path("server.pem"),
        path("server.key"),
    );
    let server = Guarded::start_in(dir, &settings).await;
    let good = Config { tls_ca: Some(ca), tls_cert: Some(cert), tls_key: Some(key), ..server.config("") };
    let bus = Bus::connect(good.clone()).await.expect("connect with a certificate");
    let large = Bytes::from(vec![7; 500_000]);
    let mut own = bus.subscribe("large", None).await.unwrap();
    bus.publish("large", &Headers::new(), large.clone()).await.unwrap();
    assert_eq!(own.next().await.map(|message| message.payload().clone()), Some(large));
    let unknown = Config { tls_ca: Some(stranger.into()), ..good.clone() };
    assert_eq!(refusal(unknown).await.kind(), Kind::Disconnected);
    let nobody = Config { tls_cert: None, tls_key: None, ..good.clone() };
    assert!(Bus::connect(nobody).await.is_err());
    let half = refusal(Config { tls_key: None, ..good }).await;
    assert_eq!(half.kind(), Kind::Config);
    assert!(half.to_string().contains("tls_key"), "{half}");
}

#[tokio::test]
async fn what_the_account_may_not_do_is_said_at_once() {
    let may = r#"{ publish: ["_INBOX.>", "open.>"], subscribe: ["_INBOX.>"] }"#;
    let server = Guarded::start(&format!(
        "authorization {{ users: [ {{ user: low, password: x, permissions: {may} }} ] }}"
    ))
    .await;
    let bus = Bus::connect(server.config("low:x@")).await.unwrap();
    let began = std::time::Instant::now();
    let asked = bus.request("closed.door", &Headers::new(), Bytes::new(), PATIENCE).await;
    assert_eq!(asked.unwrap_err().kind(), Kind::Permission);
    let call = Ctx::detached(&bus, "low").call(echo("")).within(PATIENCE).await.unwrap_err();
    assert!(matches!(&call, CallError::NotSent(error) if error.kind() == Kind::Permission), "{call:?}");
    assert!(!call.is_unknown());
    assert!(began.elapsed() < PATIENCE, "nobody waits for an answer that cannot come");
    let open = bus.request("open.door", &Headers::new(), Bytes::new(), PATIENCE).await;
    assert_eq!(open.unwrap_err().kind(), Kind::NoResponders);
    let refused = bus.subscribe("closed.window", None).await.unwrap();
    bus.barrier().await.unwrap();
    assert!(refused.is_denied());
    let started = desk((), repeat).start(&bus).await.map(|_| ()).unwrap_err();
    assert_eq!(started.kind(), Kind::Permission, "{started}");
    assert!(started.to_string().contains("svc.desk.echo"), "{started}");
}

#[tokio::test]
async fn an_account_that_may_not_hear_replies_is_told_so_at_once() {
    let may = r#"{ publish: ">", subscribe: ["open.>"] }"#;
    let server = Guarded::start(&format!(
        "authorization {{ users: [ {{ user: deaf, password: x, permissions: {may} }} ] }}"
    ))
    .await;
    let began = std::time::Instant::now();
    let error = refusal(server.config("deaf:x@")).await;
    assert_eq!(error.kind(), Kind::Permission, "{error}");
    assert!(error.to_string().contains("inbox"), "{error}");
    assert!(began.elapsed() < Duration::from_secs(4), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn who_may_hear_but_not_say_keeps_what_is_heard() {
    let may = r#"{ publish: { deny: "half" }, subscribe: ">" }"#;
    let server = Guarded::start(&format!(
        "authorization {{ users: [ {{ user: low, password: x, permissions: {may} }} ] }}"
    ))
    .await;
    let bus = Bus::connect(server.config("low:x@")).await.unwrap();
    let half = bus.subscribe("half", None).await.unwrap();
    let asked = bus.request("half", &Headers::new(), Bytes::new(), PATIENCE).await;
    assert_eq!(asked.unwrap_err().kind(), Kind::Permission);
    bus.barrier().await.unwrap();
    assert!(!half.is_denied(), "only publishing is refused");
}

#[tokio::test]
async fn what_somebody_on_the_way_writes_before_the_encryption_is_not_taken_for_the_servers() {
    let dir = TempDir::with_prefix("sinew-test-").unwrap();
    let path = |name: &str| dir.path().join(name);
    let authority = certificate(&path("ca"), "authority", None).await;
    certificate(&path("server"), "127.0.0.1", Some(&authority)).await;
    let settings =
        format!("tls {{ cert_file: {:?}, key_file: {:?} }}", path("server.pem"), path("server.key"));
    let server = Guarded::start_in(dir, &settings).await;
    let between = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tls://{}", between.local_addr().unwrap());
    let config = Config { tls_ca: Some(authority.into()), ..Config::new(url, "guest") };
    for (injected, passes) in [("", true), ("PONG\r\n", false), ("PO", false)] {
        let carry = async {
            let (mut client, _) = between.accept().await.unwrap();
            let mut behind = tokio::net::TcpStream::connect(&server.address).await.unwrap();
            let mut greeting = Vec::new();
            while !greeting.ends_with(b"\r\n") {
                greeting.push(behind.read_u8().await.unwrap());
            }
            greeting.extend_from_slice(injected.as_bytes());
            client.write_all(&greeting).await.unwrap();
            let _ = tokio::io::copy_bidirectional(&mut client, &mut behind).await;
        };
        let connected = tokio::select! {
            connected = Bus::connect(config.clone()) => connected,
            () = async { carry.await; std::future::pending().await } => unreachable!("it never ends"),
        };
        assert_eq!(connected.is_ok(), passes, "{injected:?}: {connected:?}");
    }
}

/// Makes `<path>.pem` and `<path>.key`, signed by an authority or by itself; returns the certificate's path.
async fn certificate(path: &Path, name: &str, authority: Option<&str>) -> String {
    let (pem, key) = (format!("{}.pem", path.display()), format!("{}.key", path.display()));
    let subject = format!("/CN={name}");
    let mut arguments = vec!["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    arguments.extend(["-nodes", "-days", "2", "-subj", &subject, "-keyout", &key, "-out", &pem]);
    let authority_key = authority.map(|pem| pem.replace(".pem", ".key"));
    match (authority, &authority_key) {
        (Some(pem), Some(key)) => {
            let names = "subjectAltName=IP:127.0.0.1";
            arguments.extend(["-CA", pem, "-CAkey", key, "-addext", names]);
            arguments.extend(["-addext", "basicConstraints=critical,CA:FALSE"]);
        }
        _ => arguments.extend(["-addext", "keyUsage=keyCertSign,cRLSign"]),
    }
    let made = Command::new("openssl").args(&arguments).stdin(Stdio::null()).output().await;
    let made = made.expect("these tests make certificates with openssl");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    pem
}

/// Signs claims as NATS wants them (ADR-14): ed25519 over header and body.
fn jwt(issuer: &KeyPair, subject: &KeyPair, nats: Value) -> String {
    let body = json!({
        "jti": "test", "iat": 1_700_000_000, "iss": issuer.public_key(), "sub": subject.public_key(),
        "name": "test", "nats": nats,
    });
    let encoded = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", encoded(&json!({ "typ": "JWT", "alg": "ed25519-nkey" })), encoded(&body));
    let signature = issuer.sign(signed.as_bytes()).unwrap();
    format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature))
}
