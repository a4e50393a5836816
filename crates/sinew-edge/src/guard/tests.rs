//! What passes the guard, however the bytes are cut.

use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

const LIMITS: Limits = Limits { head_bytes: 8 * 1024, fields: 10, head_time: Duration::from_secs(1) };

/// Returns what passes of bytes that come in pieces of this size, and what was refused.
async fn passed(bytes: &[u8], piece: usize) -> (Vec<u8>, Option<(u64, u16)>) {
    let (mut client, server) = tokio::io::duplex(64 * 1024);
    let line = Arc::new(Line::default());
    let mut guard = Guard::new(server, line.clone(), LIMITS);
    let mut seen = Vec::new();
    for piece in bytes.chunks(piece) {
        client.write_all(piece).await.unwrap();
        // Nothing more to read is no end: the guard waits for the other bytes of a head.
        let mut buffer = [0; 1024];
        while let Some(read) = futures::FutureExt::now_or_never(guard.read(&mut buffer)) {
            match read {
                Ok(length) => seen.extend_from_slice(&buffer[..length]),
                Err(_) => return (seen, None),
            }
        }
    }
    (seen, line.refused.get().map(|(number, fault)| (*number, fault.status.as_u16())))
}

#[tokio::test]
async fn whole_requests_pass_unchanged_one_behind_another() {
    let two =
        b"POST /a?b=%20 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabcGET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for piece in [1, 7, 24, 1024] {
        assert_eq!(passed(two, piece).await, (two.to_vec(), None), "{piece}");
    }
}

#[tokio::test]
async fn half_a_head_does_not_pass() {
    assert_eq!(passed(b"GET / HTTP/1.1\r\nhost: a\r\n", 1024).await, (Vec::new(), None));
}

#[tokio::test]
async fn a_refused_head_is_replaced_and_nothing_behind_it_passes() {
    let good = "GET / HTTP/1.1\r\nhost: a\r\n\r\n";
    for (bad, status, instead) in [
        ("GET / HTTP/1.1\nhost: a\r\n\r\n", 400, GET),
        ("HEAD / HTTP/1.1\r\nhost : a\r\n\r\n", 400, HEAD),
        ("GET / HTTP/3.0\r\n\r\n", 505, GET),
        ("GET / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501, GET),
    ] {
        for piece in [1, 24, 1024] {
            let expected = [good.as_bytes(), instead].concat();
            let (seen, refused) = passed(format!("{good}{bad}{good}").as_bytes(), piece).await;
            assert_eq!((seen, refused), (expected, Some((2, status))), "{bad:?} {piece}");
        }
    }
}

#[tokio::test]
async fn what_comes_behind_an_upgrade_waits_for_the_decision() {
    let (mut client, server) = tokio::io::duplex(1024);
    let line = Arc::new(Line::default());
    let mut guard = Guard::new(server, line.clone(), LIMITS);
    let ask = b"GET / HTTP/1.1\r\nhost: a\r\nupgrade: websocket\r\n\r\n";
    client.write_all(&[&ask[..], b"\x81\x00"].concat()).await.unwrap();
    let mut seen = vec![0; ask.len()];
    guard.read_exact(&mut seen).await.unwrap();
    assert!(futures::FutureExt::now_or_never(guard.read(&mut [0; 8])).is_none(), "nothing passes yet");
    line.decide(1, true);
    client.write_all(b"\x00").await.unwrap();
    let mut frames = [0; 3];
    guard.read_exact(&mut frames).await.unwrap();
    assert_eq!(&frames, b"\x81\x00\x00");
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_and_never_pass_as_half_a_head(
        bytes in proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b' '), Just(b':'), any::<u8>()], 0..200),
        piece in 1..50_usize,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let (seen, _) = runtime.block_on(passed(&bytes, piece));
        let ends = seen.is_empty() || seen.windows(4).any(|end| end == b"\r\n\r\n");
        prop_assert!(ends, "{seen:?}");
    }
}

#[tokio::test]
async fn a_head_that_stays_half_is_refused_in_its_time_and_an_idle_connection_is_not() {
    let (mut client, server) = tokio::io::duplex(1024);
    let line = Arc::new(Line::default());
    let limits = Limits { head_time: Duration::from_millis(100), ..LIMITS };
    let mut guard = Guard::new(server, line.clone(), limits);
    let mut seen = vec![0; GET.len()];
    let idle = tokio::time::timeout(3 * limits.head_time, guard.read(&mut seen)).await;
    assert!(idle.is_err(), "nothing came, so nothing is late");
    let began = Instant::now();
    client.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    guard.read_exact(&mut seen).await.unwrap();
    assert!(began.elapsed() >= limits.head_time);
    let (number, fault) = line.refused.get().unwrap();
    assert_eq!((&seen[..], *number, fault.status), (GET, 1, StatusCode::REQUEST_TIMEOUT));
}
