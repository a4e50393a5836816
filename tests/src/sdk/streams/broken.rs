//! A service that breaks the rules, or a connection that loses messages: never a hole nobody notices.

use super::*;

/// Stands in for a service and says what it is told to.
struct Fake {
    bus: Bus,
    requests: sinew::bus::Subscription,
}

impl Fake {
    async fn start(stage: &Stage) -> Self {
        let bus = connect(&stage.harness, "fake").await;
        let requests = bus.subscribe(Count::SUBJECT, None).await.unwrap();
        bus.barrier().await.unwrap();
        Self { bus, requests }
    }

    /// Answers one request with messages of these headers; an item is the number 7.
    async fn answer(&mut self, messages: &[&[(&'static str, &str)]]) {
        let request = self.requests.next().await.unwrap();
        for fields in messages {
            let mut headers = Headers::new();
            headers.set(header::CONTENT_TYPE, "application/json").unwrap();
            for (name, value) in *fields {
                headers.set(*name, *value).unwrap();
            }
            let is_item = fields.iter().any(|(name, value)| *name == header::SEQ && *value != "0");
            let payload = Bytes::from_static(if is_item { br#"{"value":7}"# } else { b"" });
            self.bus.publish(request.reply_to().unwrap(), &headers, payload).await.unwrap();
        }
    }
}

async fn outcome(messages: &[&[(&'static str, &str)]]) -> (usize, Option<CallError<CounterError>>) {
    let stage = Stage::start().await;
    let mut fake = Fake::start(&stage).await;
    let call = stage.caller.stream(Count { to: 0 }).idle(Duration::from_millis(600)).credit(3).into_future();
    let (opened, ()) = tokio::join!(call, fake.answer(messages));
    let mut numbers = match opened {
        Ok(numbers) => numbers,
        Err(error) => return (0, Some(error)),
    };
    let mut taken = 0;
    while let Some(number) = numbers.next().await {
        match number {
            Ok(_) => taken += 1,
            Err(error) => return (taken, Some(error)),
        }
    }
    (taken, None)
}

#[tokio::test]
async fn a_whole_stream_is_taken_from_anybody() {
    let (taken, error) =
        outcome(&[&[(header::SEQ, "1")], &[(header::SEQ, "2")], &[(header::END, "2")]]).await;
    assert!(taken == 2 && error.is_none(), "{taken} {error:?}");
}

#[tokio::test]
async fn an_item_that_was_lost_is_an_error() {
    let (taken, error) =
        outcome(&[&[(header::SEQ, "1")], &[(header::SEQ, "3")], &[(header::END, "3")]]).await;
    assert!(taken == 1 && matches!(error, Some(CallError::Interrupted(_))), "{taken} {error:?}");
}

#[tokio::test]
async fn a_last_item_that_was_lost_is_an_error() {
    let (taken, error) = outcome(&[&[(header::SEQ, "1")], &[(header::END, "2")]]).await;
    assert!(taken == 1 && matches!(error, Some(CallError::Interrupted(_))), "{taken} {error:?}");
}

#[tokio::test]
async fn an_end_that_never_comes_is_an_error() {
    let (taken, error) = outcome(&[&[(header::SEQ, "1")]]).await;
    assert!(taken == 1 && matches!(error, Some(CallError::TimedOut)), "{taken} {error:?}");
}

#[tokio::test]
async fn more_than_was_asked_for_is_an_error() {
    let items: Vec<[(&str, &str); 1]> =
        ["1", "2", "3", "4", "5"].map(|number| [(header::SEQ, number)]).to_vec();
    let items: Vec<&[(&str, &str)]> = items.iter().map(|item| item.as_slice()).collect();
    // A caller that takes nothing asks for nothing more.
    let stage = Stage::start().await;
    let mut fake = Fake::start(&stage).await;
    let call = stage.caller.stream(Count { to: 0 }).credit(3).into_future();
    let (opened, ()) = tokio::join!(call, fake.answer(&items));
    let mut numbers = opened.unwrap();
    fake.bus.barrier().await.unwrap();
    stage.caller.bus().barrier().await.unwrap();
    let mut items = Vec::new();
    while let Some(number) = numbers.next().await {
        items.push(number.map(|number| number.value));
    }
    assert!(matches!(items.last(), Some(Err(CallError::Interrupted(_)))), "{items:?}");
    assert!(items.len() <= 5);
}

#[tokio::test]
async fn a_refusal_in_the_middle_is_told_as_it_is() {
    let refusal =
        [(header::SERVICE_ERROR_CODE, "503"), (header::SERVICE_ERROR, "closed"), (header::END, "1")];
    let (taken, error) = outcome(&[&[(header::SEQ, "1")], &refusal]).await;
    assert!(taken == 1, "{taken}");
    assert!(matches!(&error, Some(CallError::Undeclared(told)) if told.title == "closed"), "{error:?}");
}
