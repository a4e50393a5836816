//! Messages: who gets them, and who is told that nobody does.

use sinew::Kind;

use super::*;

pub(super) async fn a_request_is_answered(backend: Backend) {
    let subject = backend.subject("ask");
    let mut requests = backend.bus.subscribe(&subject, None).await.unwrap();
    backend.bus.barrier().await.unwrap();
    let answer = async {
        let request = requests.next().await.unwrap();
        assert_eq!(request.payload(), "question");
        let to = request.reply_to().unwrap().to_owned();
        backend.bus.publish(&to, &Headers::new(), "answer".into()).await.unwrap();
    };
    let headers = Headers::new();
    let ask = backend.other.request(&subject, &headers, "question".into(), PATIENCE);
    let (reply, ()) = tokio::join!(ask, answer);
    assert_eq!(reply.unwrap().payload(), "answer");
}

pub(super) async fn a_request_that_nobody_serves_says_so(backend: Backend) {
    let (subject, headers) = (backend.subject("void"), Headers::new());
    let asked = backend.bus.request(&subject, &headers, Bytes::new(), PATIENCE).await;
    assert_eq!(asked.unwrap_err().kind(), Kind::NoResponders);
}

pub(super) async fn one_of_a_queue_group_takes_a_message(backend: Backend) {
    let subject = backend.subject("work");
    let mut one = backend.bus.subscribe(&subject, Some("crew")).await.unwrap();
    let mut two = backend.other.subscribe(&subject, Some("crew")).await.unwrap();
    let mut all = backend.bus.subscribe(&subject, None).await.unwrap();
    backend.bus.barrier().await.unwrap();
    backend.other.barrier().await.unwrap();
    for _ in 0..20 {
        backend.bus.publish(&subject, &Headers::new(), Bytes::new()).await.unwrap();
    }
    for _ in 0..20 {
        assert!(all.next().await.is_some());
    }
    // Both have a share, and between them everything once.
    let mut taken = [0, 0];
    while taken[0] + taken[1] < 20 {
        tokio::select! {
            Some(_) = one.next() => taken[0] += 1,
            Some(_) = two.next() => taken[1] += 1,
        }
    }
    assert!(taken.iter().all(|share| *share > 0), "{taken:?}");
    let extra = async {
        tokio::select! { message = one.next() => message, message = two.next() => message }
    };
    backend.bus.barrier().await.unwrap();
    assert!(futures::poll!(std::pin::pin!(extra)).is_pending());
}

pub(super) async fn wildcards_take_what_they_match(backend: Backend) {
    let mut one = backend.bus.subscribe(&backend.subject("a.*"), None).await.unwrap();
    let mut rest = backend.bus.subscribe(&backend.subject("a.>"), None).await.unwrap();
    backend.bus.barrier().await.unwrap();
    for subject in ["a.b.c", "a", "b.a", "a.b"] {
        backend.bus.publish(&backend.subject(subject), &Headers::new(), Bytes::new()).await.unwrap();
    }
    assert_eq!(rest.next().await.unwrap().subject(), backend.subject("a.b.c"));
    assert_eq!(rest.next().await.unwrap().subject(), backend.subject("a.b"));
    assert_eq!(one.next().await.unwrap().subject(), backend.subject("a.b"));
}

pub(super) async fn several_replies_are_gathered(backend: Backend) {
    let subject = backend.subject("roll-call");
    let mut here = Vec::new();
    for _ in 0..3 {
        here.push(backend.bus.subscribe(&subject, None).await.unwrap());
    }
    backend.bus.barrier().await.unwrap();
    let answer = async {
        for subscription in &mut here {
            let request = subscription.next().await.unwrap();
            backend.bus.publish(request.reply_to().unwrap(), &Headers::new(), "here".into()).await.unwrap();
        }
    };
    let headers = Headers::new();
    let gather = backend.other.gather(&subject, &headers, Bytes::new(), Duration::from_millis(500));
    let (gathered, ()) = tokio::join!(gather, answer);
    assert_eq!(gathered.unwrap().len(), 3);
}

pub(super) async fn headers_arrive_as_they_were_sent(backend: Backend) {
    let subject = backend.subject("headers");
    let mut messages = backend.bus.subscribe(&subject, None).await.unwrap();
    backend.bus.barrier().await.unwrap();
    let mut headers = Headers::new();
    headers.set("X-Mark", "ä: ö; ü").unwrap();
    headers.set("empty", "").unwrap();
    backend.other.publish(&subject, &headers, Bytes::from_static(b"\0\xff")).await.unwrap();
    let message = messages.next().await.unwrap();
    assert_eq!(message.headers(), headers);
    assert_eq!((message.header("x-mark"), message.payload().as_ref()), (Some("ä: ö; ü"), &b"\0\xff"[..]));
}
