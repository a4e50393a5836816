//! Extractors: what a handler may ask for behind its payload.

use sinew::{Attempt, Deadline, FromMessage, FromRef, IdempotencyKey, State};

use super::*;

#[derive(Clone)]
struct App {
    greeting: Greeting,
    punctuation: char,
}

#[derive(Clone)]
struct Greeting(&'static str);

/// Who asks; without a name nobody is let in.
struct Tenant(String);

impl FromRef<App> for Greeting {
    fn from_ref(app: &App) -> Self {
        app.greeting.clone()
    }
}

impl<S: Sync> FromMessage<S> for Tenant {
    async fn from_message(ctx: &Ctx, _: &S) -> Result<Self, Problem> {
        let tenant =
            ctx.header("x-tenant").ok_or_else(|| Problem::new(401, "no-tenant", "say who you are"))?;
        Ok(Self(tenant.to_owned()))
    }
}

const APP: App = App { greeting: Greeting("hello"), punctuation: '!' };

#[tokio::test]
async fn state_comes_whole_and_in_parts() {
    let stage = Stage::start().await;
    let greet = async |who: Echo, State(part): State<Greeting>, State(whole): State<App>| {
        Ok(format!("{} {}{}", part.0, who.text, whole.punctuation))
    };
    let _desk = stage.start_service(desk(APP, greet)).await;
    assert_eq!(stage.call("Ada").await.unwrap(), "hello Ada!");
}

#[tokio::test]
async fn the_message_tells_its_circumstances() {
    let stage = Stage::start().await;
    let tell =
        async |_: Echo, ctx: Ctx, deadline: Deadline, Attempt(attempt): Attempt, key: IdempotencyKey| {
            assert_eq!(deadline, ctx.deadline());
            let bounded = deadline
                .remaining()
                .is_some_and(|left| left > Duration::ZERO && left <= Duration::from_secs(9));
            Ok(format!("{} {bounded} {attempt} {}", ctx.service(), key.0.unwrap_or_default()))
        };
    let _desk = stage.serve(tell).await;
    let call = stage.caller.call(echo("")).within(Duration::from_secs(9)).idempotency_key("order-7/charge");
    assert_eq!(call.await.unwrap(), "desk true 1 order-7/charge");
}

#[tokio::test]
async fn a_request_without_budget_and_key_has_neither() {
    let stage = Stage::start().await;
    let tell = async |_: Echo, deadline: Deadline, key: IdempotencyKey| {
        Ok(format!("{:?} {:?}", deadline.remaining(), key.0))
    };
    let _desk = stage.serve(tell).await;
    let reply = stage.request(&[], r#"{"text":""}"#).await;
    assert_eq!(&reply.payload()[..], br#""None None""#);
}

#[tokio::test]
async fn a_users_own_extractor_may_refuse() {
    let stage = Stage::start().await;
    let tell = async |_: Echo, Tenant(tenant): Tenant| Ok(tenant);
    let _desk = stage.serve(tell).await;
    let error = stage.call("").await.unwrap_err();
    assert!(
        matches!(&error, CallError::Undeclared(told) if told.status == 401 && told.code == "no-tenant"),
        "{error:?}"
    );
    assert_eq!(stage.caller.call(echo("")).header("X-Tenant", "acme").await.unwrap(), "acme");
}

#[tokio::test]
async fn a_header_that_cannot_be_sent_fails_the_call() {
    let stage = Stage::start().await;
    let _desk = stage.serve(repeat).await;
    let error = stage.caller.call(echo("")).header("x-tenant", "acme\r\nx-admin: yes").await.unwrap_err();
    assert!(matches!(&error, CallError::NotSent(inner) if inner.kind() == sinew::Kind::Codec), "{error:?}");
}
