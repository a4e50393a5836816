//! The connection when servers misbehave: they die under load, greet strangely, send garbage, or send us away.

mod fake;

use std::collections::BTreeSet;
use std::time::Instant;

use nkeys::KeyPair;
use sinew::Kind;
use tempfile::TempDir;

use self::fake::Fake;
use super::*;
use crate::harness::{SOON, eventually};

/// Waits for what a working connection does in milliseconds.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(SOON, what).await.expect("it does not take this long")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_thousand_requests_in_flight_when_the_server_dies_none_hangs_and_none_gets_anothers_reply() {
    let mut stage = Stage::start().await;
    let _desk = stage.serve(slowly).await;
    let ask = |number: usize| {
        let caller = stage.caller.clone();
        async move {
            let text = number.to_string();
            let outcome = caller.call(echo(&text)).within(Duration::from_secs(4)).no_retry().await;
            outcome.map(|answer| assert_eq!(answer, text, "a reply is the requester's own"))
        }
    };
    let began = Instant::now();
    let asked: Vec<_> = (0..1_000).map(|number| tokio::spawn(ask(number))).collect();
    eventually(SOON, || std::future::ready(asked.iter().any(|asked| asked.is_finished()))).await;
    stage.harness.kill().await;
    stage.harness.revive().await;
    for asked in asked {
        // Unknown outcomes are to be expected; panics are not.
        let _ = asked.await.expect("no reply went astray");
    }
    assert!(began.elapsed() < SOON, "a deadline is a deadline");
    eventually(SOON, || async { ask(7).await.is_ok() }).await;
}

#[tokio::test]
async fn two_hundred_subscriptions_outlive_the_server_and_hear_everything_once() {
    let mut stage = Stage::start().await;
    let mut subscriptions = Vec::new();
    for number in 0..200 {
        let group = (number % 2 == 0).then_some("pair");
        subscriptions.push(stage.bus.subscribe(&format!("many.{number}"), group).await.unwrap());
    }
    for round in 0..3_u8 {
        stage.bus.barrier().await.unwrap();
        let caller = stage.caller.bus();
        for number in 0..200 {
            let payload = Bytes::from(vec![round, number]);
            caller.publish(&format!("many.{number}"), &Headers::new(), payload).await.unwrap();
        }
        for (number, subscription) in (0..200).zip(&mut subscriptions) {
            let message = soon(subscription.next()).await.expect("open");
            assert_eq!(message.payload().as_ref(), [round, number], "once, and in order");
        }
        stage.harness.kill().await;
        let gone = || !stage.bus.is_connected() && !caller.is_connected();
        eventually(SOON, || std::future::ready(gone())).await;
        stage.harness.revive().await;
        caller.connected(SOON).await.unwrap();
        stage.bus.connected(SOON).await.unwrap();
    }
}

#[tokio::test]
async fn what_is_subscribed_or_given_up_while_nobody_listens_is_so_on_the_next_connection() {
    let (fake, bus, mut peer) = connected().await;
    let given_up = bus.subscribe("given.up", None).await.unwrap();
    let mut drained = bus.subscribe("drained", None).await.unwrap();
    let _kept = bus.subscribe("kept", Some("group")).await.unwrap();
    peer.until(|line| line.starts_with("SUB kept group ")).await;
    drop(peer);
    eventually(SOON, || std::future::ready(!bus.is_connected())).await;
    drop(given_up);
    let mut fresh = bus.subscribe("fresh", None).await.unwrap();
    let (mut peer, ()) = tokio::join!(
        async {
            let mut peer = fake.accept().await;
            // The end of the drained one comes behind whatever the connection began with.
            peer.until(|line| line.starts_with("PUB ")).await;
            peer
        },
        drained.drain()
    );
    let mut made: Vec<String> =
        peer.heard.iter().filter_map(|line| line.strip_prefix("SUB ")).map(str::to_owned).collect();
    made.retain(|line| !line.starts_with("_INBOX."));
    made.sort();
    assert_eq!(made.len(), 2, "{made:?}");
    assert!(made[0].starts_with("fresh ") && made[1].starts_with("kept group "), "{made:?}");
    let number = made[0].trim_start_matches("fresh ").to_owned();
    peer.say(&format!("MSG fresh {number} 2\r\nhi\r\n")).await;
    assert_eq!(soon(fresh.next()).await.unwrap().payload().as_ref(), b"hi");
}

#[tokio::test]
async fn the_connection_ends_with_the_last_handle() {
    let (_fake, bus, mut peer) = connected().await;
    let clone = bus.clone();
    let subscription = bus.subscribe("held", None).await.unwrap();
    drop((bus, clone));
    peer.until(|line| line.starts_with("SUB held ")).await;
    drop(subscription);
    while soon(peer.line()).await.is_some() {}
}

#[tokio::test]
async fn closing_without_a_connection_is_quick_and_ends_what_waits() {
    let (_fake, bus, mut peer) = connected().await;
    let asking = tokio::spawn({
        let bus = bus.clone();
        async move { bus.request("asked", &Headers::new(), Bytes::new(), PATIENCE).await }
    });
    peer.until(|line| line.starts_with("PUB asked ")).await;
    drop(peer);
    eventually(SOON, || std::future::ready(!bus.is_connected())).await;
    let publishing = tokio::spawn({
        let bus = bus.clone();
        async move { bus.publish("said", &Headers::new(), Bytes::new()).await }
    });
    let began = Instant::now();
    bus.close().await;
    assert_eq!(asking.await.unwrap().unwrap_err().kind(), Kind::Closed);
    assert_eq!(publishing.await.unwrap().unwrap_err().kind(), Kind::Closed);
    assert!(began.elapsed() < Duration::from_secs(2), "it took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_server_that_sends_us_away_as_soon_as_we_are_there_is_not_run_over() {
    let (fake, _bus, peer) = connected().await;
    drop(peer);
    let mut visits = 0;
    let visiting = async {
        loop {
            drop(fake.accept().await);
            visits += 1;
        }
    };
    let _ = tokio::time::timeout(Duration::from_secs(1), visiting).await;
    assert!((2..=15).contains(&visits), "it came {visits} times in a second");
}

#[tokio::test]
async fn garbage_ends_a_connection_and_not_the_bus() {
    for garbage in ["WHAT?\r\n", "MSG a 1 3\r\nmore than three\r\n", "HMSG a 1 9 4\r\n", "INFO {\r\n"] {
        let (fake, bus, mut peer) = connected().await;
        let mut subscription = bus.subscribe("kept", None).await.unwrap();
        peer.say(garbage).await;
        let mut next = soon(fake.accept()).await;
        let line = next.until(|line| line.starts_with("SUB kept ")).await;
        let number = line.rsplit(' ').next().unwrap().to_owned();
        next.say(&format!("MSG kept {number} 2\r\nok\r\n")).await;
        assert_eq!(soon(subscription.next()).await.unwrap().payload().as_ref(), b"ok", "after {garbage:?}");
    }
}

#[tokio::test]
async fn messages_for_nobody_and_replies_to_nobody_are_passed_over() {
    let (_fake, bus, mut peer) = connected().await;
    peer.say("MSG no.such 999 1\r\nx\r\nMSG short 1 0\r\n\r\nMSG _INBOX.ä.r.1 1 0\r\n\r\n+OK\r\n-ERR\r\n")
        .await;
    tokio::join!(
        async { bus.barrier().await.expect("still there") },
        peer.until(|line| line.starts_with("PUB "))
    );
    assert!(bus.is_connected());
}

#[tokio::test]
async fn small_messages_that_come_one_by_one_and_stay_share_their_memory() {
    let (_fake, bus, mut peer) = connected().await;
    let mut subscription = bus.subscribe("drip", None).await.unwrap();
    let line = peer.until(|line| line.starts_with("SUB drip ")).await;
    let number = line.rsplit(' ').next().unwrap().to_owned();
    let mut kept = Vec::new();
    for _ in 0..200 {
        peer.say(&format!("MSG drip {number} 2\r\nhi\r\n")).await;
        kept.push(soon(subscription.next()).await.unwrap());
    }
    let places: Vec<usize> = kept.iter().map(|message| message.payload().as_ptr().addr()).collect();
    let apart = places.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) > 1_024).count();
    assert!(apart < 20, "{apart} of 200 messages keep memory of their own");
}

#[tokio::test]
async fn a_server_about_to_stop_is_left_in_order() {
    let (fake, other) = (Fake::bind().await, Fake::bind().await);
    let config = Config::new(format!("{},{}", fake.url(), other.url()), "guest");
    let (bus, mut peer) = tokio::join!(Bus::connect(config), fake.accept_served());
    let bus = bus.unwrap();
    let mut subscription = bus.subscribe("work", Some("group")).await.unwrap();
    let line = peer.until(|line| line.starts_with("SUB work ")).await;
    let number = line.rsplit(' ').next().unwrap().to_owned();
    peer.say(&fake::info(r#","ldm":true"#)).await;
    assert_eq!(
        soon(peer.line()).await.unwrap(),
        format!("UNSUB {number}"),
        "others get what comes from now on"
    );
    eventually(SOON, || std::future::ready(!bus.is_connected())).await;
    // What it had sent us before it heard that is not lost.
    peer.say(&format!("MSG work {number} 4\r\nlast\r\n")).await;
    assert_eq!(soon(subscription.next()).await.unwrap().payload().as_ref(), b"last");
    peer.until(|line| line == "PING").await;
    assert!(soon(peer.line()).await.is_none(), "confirmed, so we are gone");
    let mut next = soon(other.accept()).await;
    next.until(|line| line.starts_with("SUB work group ")).await;
    assert!(bus.is_connected());
}

#[tokio::test]
async fn servers_told_of_are_gone_to_and_those_not_told_of_any_more_forgotten() {
    let (fake, second, third) = (Fake::bind().await, Fake::bind().await, Fake::bind().await);
    let config = Config::new(fake.url(), "guest");
    let (bus, mut peer) = tokio::join!(Bus::connect(config), fake.accept_served());
    let bus = bus.unwrap();
    let told = |other: &Fake| fake::info(&format!(r#","connect_urls":["{}","nonsense:x"]"#, other.address()));
    for told in [told(&third), told(&second)] {
        peer.say(&told).await;
        // Its word to itself comes behind what it was told.
        tokio::join!(async { bus.barrier().await.unwrap() }, peer.until(|line| line.starts_with("PUB ")));
    }
    drop((fake, peer));
    tokio::select! {
        _ = soon(second.accept()) => {}
        _ = third.accept() => panic!("it has left the cluster"),
    }
}

#[tokio::test]
async fn the_limit_of_the_server_of_now_counts() {
    let (fake, bus, peer) = connected().await;
    let large = Bytes::from(vec![0; 1_000]);
    bus.publish("large", &Headers::new(), large.clone()).await.unwrap();
    drop(peer);
    let mut peer = soon(fake.accept_with(&fake::info(r#","max_payload":999"#))).await;
    peer.until(|line| line.starts_with("SUB ")).await;
    bus.connected(SOON).await.unwrap();
    assert_eq!(bus.max_payload(), 999);
    let error = bus.publish("large", &Headers::new(), large).await.unwrap_err();
    assert_eq!(error.kind(), Kind::TooLarge);
}

#[tokio::test]
async fn an_expired_identity_is_read_anew() {
    let dir = TempDir::with_prefix("sinew-test-").unwrap();
    let path = dir.path().join("user.creds");
    let seed = KeyPair::new_user().seed().unwrap();
    let write = |jwt: &str| {
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        std::fs::write(&path, text).unwrap();
    };
    write("first");
    let fake = Fake::bind().await;
    let config = Config { credentials: Some(path.clone()), ..Config::new(fake.url(), "guest") };
    let (bus, mut peer) = tokio::join!(Bus::connect(config), fake.accept_served());
    let _bus = bus.unwrap();
    assert!(peer.connect.contains(r#""jwt":"first""#), "{}", peer.connect);
    write("second");
    peer.say("-ERR 'User Authentication Expired'\r\n").await;
    drop(peer);
    let peer = soon(fake.accept()).await;
    assert!(peer.connect.contains(r#""jwt":"second""#), "{}", peer.connect);
    std::fs::write(&path, "half wri").unwrap();
    drop(peer);
    assert!(soon(fake.accept()).await.connect.contains(r#""jwt":"second""#), "the last good one is kept");
}

#[tokio::test]
async fn a_handshake_that_hangs_ends_with_the_time_for_connecting() {
    for greeting in ["", "INFO", &fake::info(r#","tls_required":true"#), &fake::info("")] {
        let fake = Fake::bind().await;
        let config = Config { connect_timeout_ms: 200, ..Config::new(fake.url(), "guest") };
        let (connected, _held) =
            tokio::join!(soon(Bus::connect(config)), async { fake.accept_mute(greeting).await });
        assert_eq!(connected.unwrap_err().kind(), Kind::Disconnected, "after {greeting:?}");
    }
}

#[tokio::test]
async fn a_subject_no_line_can_hold_is_refused_here_and_costs_nobody_the_connection() {
    let stage = Stage::start().await;
    let bus = &stage.bus;
    let none = Headers::new();
    for subject in ["x".repeat(3_600), "a.".repeat(3_000) + "b"] {
        for error in [
            bus.publish(&subject, &none, Bytes::new()).await.unwrap_err(),
            bus.request(&subject, &none, Bytes::new(), PATIENCE).await.unwrap_err(),
            bus.subscribe(&subject, None).await.map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(error.kind(), Kind::Config);
        }
    }
    let long = "x".repeat(3_400);
    let mut subscription = bus.subscribe(&long, Some("group")).await.unwrap();
    bus.publish(&long, &none, Bytes::from_static(b"fits")).await.unwrap();
    assert_eq!(soon(subscription.next()).await.unwrap().payload().as_ref(), b"fits");
    for malformed in ["a..b", ".a", "a.", "a.>.b"] {
        assert_eq!(bus.subscribe(malformed, None).await.map(|_| ()).unwrap_err().kind(), Kind::Config);
    }
}

#[tokio::test]
async fn a_flood_that_the_server_does_not_read_waits_for_room_and_then_says_so() {
    let (_fake, bus, peer) = connected().await;
    let flood = async {
        let payload = Bytes::from(vec![0; 64 << 10]);
        loop {
            if let Err(error) = bus.publish("flood", &Headers::new(), payload.clone()).await {
                return error;
            }
        }
    };
    let error = soon(flood).await;
    assert_eq!(error.kind(), Kind::Disconnected);
    drop(peer);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn who_comes_behind_a_handler_that_blocks_does_not_wait_for_it() {
    let stage = Stage::start().await;
    let (began, heard) = std::sync::mpsc::channel();
    let heard = std::sync::Arc::new(std::sync::Mutex::new(heard));
    let _desk = stage
        .serve(move |request: Echo| {
            let (began, heard) = (began.clone(), heard.clone());
            async move {
                match request.text.as_str() {
                    "first" => compute_for(Duration::from_millis(20)),
                    // Blocks its thread until the last one is at work, which only another task can be.
                    "second" => {
                        heard.lock().unwrap().recv_timeout(PATIENCE / 3).expect("the third has begun")
                    }
                    _ => began.send(()).unwrap(),
                }
                Ok::<_, DeskError>(request.text)
            }
        })
        .await;
    let (first, second, third) = tokio::join!(stage.call("first"), stage.call("second"), stage.call("third"));
    let answers: BTreeSet<_> = [first, second, third].into_iter().map(Result::unwrap).collect();
    assert_eq!(answers.len(), 3);
}

#[tokio::test]
async fn a_handler_that_panics_before_it_waits_takes_no_other_request_with_it() {
    let stage = Stage::start().await;
    let _desk = stage
        .serve(|request: Echo| {
            assert_ne!(request.text, "now", "before there is even a future");
            async move {
                assert_ne!(request.text, "first poll", "at the first poll");
                Ok::<_, DeskError>(request.text)
            }
        })
        .await;
    let texts = ["good", "now", "first poll", "good", "now", "good"];
    let answers = futures::future::join_all(texts.map(|text| stage.call(text))).await;
    for (text, answer) in texts.iter().zip(answers) {
        assert_eq!(answer.is_ok(), *text == "good", "{text}: {answer:?}");
    }
    assert_eq!(stage.call("still there").await.unwrap(), "still there");
}

/// A bus on a server of ours.
async fn connected() -> (Fake, Bus, fake::Peer) {
    let fake = Fake::bind().await;
    let (bus, peer) = tokio::join!(Bus::connect(Config::new(fake.url(), "guest")), fake.accept_served());
    (fake, bus.unwrap(), peer)
}

async fn slowly(request: Echo) -> Result<String, DeskError> {
    let number: u64 = request.text.parse().unwrap_or_default();
    // why: the work of a slow handler.
    tokio::time::sleep(Duration::from_millis(number % 50)).await;
    Ok(request.text)
}

/// Keeps its thread busy, as a handler that computes does.
fn compute_for(time: Duration) {
    let began = Instant::now();
    while began.elapsed() < time {
        std::hint::spin_loop();
    }
}

/// What a server says where nobody listens, and what a stream says that has it.
const NOBODY: &str = "NATS/1.0 503\r\n\r\n";
const STORED: &str = r#"{"stream":"JOBS","seq":7}"#;

#[tokio::test]
async fn a_message_that_no_stream_takes_for_a_moment_is_offered_again_and_stored_once() {
    let (_server, bus, mut peer) = connected().await;
    let storing = {
        let bus = bus.clone();
        tokio::spawn(
            async move { bus.publish_acked("jobs.print", &Headers::new(), "now".into(), SOON).await },
        )
    };
    for nobody in [true, true, false] {
        let offered = peer.until(|line| line.contains("PUB jobs.print ")).await;
        let reply = offered.split(' ').nth(2).unwrap().to_owned();
        let length = NOBODY.len();
        peer.say(&match nobody {
            true => format!("HMSG {reply} 1 {length} {length}\r\n{NOBODY}\r\n"),
            false => format!("MSG {reply} 1 {}\r\n{STORED}\r\n", STORED.len()),
        })
        .await;
    }
    let stored = soon(storing).await.unwrap().unwrap();
    assert_eq!((stored.stream.as_str(), stored.sequence), ("JOBS", 7));
    assert_eq!(peer.heard.iter().filter(|line| line.contains("PUB jobs.print ")).count(), 3);
}
