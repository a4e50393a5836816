//! Extractors: what a handler may ask for behind its payload.

use sinew::{Attempt, Caller, Deadline, FromHeader, FromMessage, FromRef, Header, IdempotencyKey, State};

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

/// In which language; a header with a few good values.
#[derive(Debug, PartialEq)]
enum Language {
    English,
    German,
}

impl FromHeader for Language {
    const NAME: &'static str = "x-language";

    fn from_header(value: &str) -> Result<Self, Problem> {
        match value {
            "en" => Ok(Self::English),
            "de" => Ok(Self::German),
            _ => Err(Problem::new(400, "bad-language", "say en or de")),
        }
    }
}

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

#[tokio::test]
async fn a_header_comes_as_a_type_and_is_asked_for() {
    let stage = Stage::start().await;
    let _desk =
        stage.serve(async |_: Echo, Header(language): Header<Language>| Ok(format!("{language:?}"))).await;
    let code = async |call: sinew::Call<Echo>| match call.await {
        Ok(text) => text,
        Err(CallError::Undeclared(told)) => format!("{} {}", told.status, told.code),
        Err(error) => panic!("{error:?}"),
    };
    let call = || stage.caller.call(echo(""));
    assert_eq!(code(call().header(Language::NAME, "de")).await, "German");
    assert_eq!(code(call().header("X-Language", "en")).await, "English");
    assert_eq!(code(call().header(Language::NAME, "fr")).await, "400 bad-language");
    assert_eq!(code(call()).await, "400 header-missing");
}

#[tokio::test]
async fn an_optional_header_may_be_absent_and_not_wrong() {
    let stage = Stage::start().await;
    let tell = async |_: Echo, language: Option<Header<Language>>, tenant: Option<Tenant>| {
        Ok(format!("{:?} {:?}", language.map(|language| language.0), tenant.map(|tenant| tenant.0)))
    };
    let _desk = stage.serve(tell).await;
    assert_eq!(stage.call("").await.unwrap(), "None None");
    let both = stage.caller.call(echo("")).header(Language::NAME, "de").header("x-tenant", "acme");
    assert_eq!(both.await.unwrap(), r#"Some(German) Some("acme")"#);
    let error = stage.caller.call(echo("")).header(Language::NAME, "fr").await.unwrap_err();
    assert!(matches!(&error, CallError::Undeclared(told) if told.code == "bad-language"), "{error:?}");
}

#[tokio::test]
async fn a_refusal_of_an_extractor_can_be_looked_at() {
    let stage = Stage::start().await;
    let tell = async |_: Echo, tenant: Result<Tenant, Problem>| {
        Ok(tenant.map_or_else(|told| told.code, |tenant| tenant.0))
    };
    let _desk = stage.serve(tell).await;
    assert_eq!(stage.call("").await.unwrap(), "no-tenant");
    assert_eq!(stage.caller.call(echo("")).header("x-tenant", "acme").await.unwrap(), "acme");
}

#[tokio::test]
async fn a_caller_goes_by_the_name_of_its_context() {
    let stage = Stage::start().await;
    let _desk = stage.serve(async |_: Echo, Caller(caller): Caller| Ok(format!("{caller:?}"))).await;
    assert_eq!(stage.call("").await.unwrap(), r#"Some("caller")"#);
    assert_eq!(
        &stage.request(&[], r#"{"text":""}"#).await.payload()[..],
        br#""None""#,
        "other clients say nothing"
    );
}

#[tokio::test]
async fn the_caller_of_a_reaction_is_who_published() {
    let stage = Stage::start().await;
    let (told, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let note = async |_: Noted,
                      Caller(caller): Caller,
                      State(told): State<tokio::sync::mpsc::UnboundedSender<_>>| {
        let _ = told.send(caller);
        Ok::<_, Problem>(())
    };
    let service = Service::new("clerk", told).on("clerk", note, |group| group);
    let _clerk = stage.start_service(service).await;
    stage.publish(1).await;
    assert_eq!(heard.recv().await.unwrap().as_deref(), Some("caller"));
}
