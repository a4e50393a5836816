//! Contracts: what a type says about itself, and what a catalogue holds of it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::Problem;

/// A message that asks one operation for a reply. Derived, never written by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a request",
    note = "derive it: #[derive(Request, Serialize, Deserialize, JsonSchema)] with #[sinew(subject = \"service.operation\", reply = ..)]",
    note = "if it is declared with `stream = ..`: write `operation: stream {Self}` in the contract, and ask with `ctx.stream(..)`",
    note = "if it is declared with `upload = ..`: write `operation: upload {Self}` in the contract, and ask with `ctx.upload(.., items)`"
)]
pub trait Request: Serialize + DeserializeOwned + Send + 'static {
    /// What a successful call answers.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// What a refused call answers; [`Problem`] where nothing was declared.
    type Error: ServiceError;
    /// The service that answers.
    const SERVICE: &'static str;
    /// The operation within the service.
    const OPERATION: &'static str;
    /// `svc.<service>.<operation>`.
    const SUBJECT: &'static str;
    /// Whether repeating the request has no further effect.
    const IDEMPOTENT: bool;

    /// Describes the operation, schemas included.
    fn descriptor() -> OperationDescriptor;
}

/// A message that asks one operation for a stream of items. Derived, never written by hand.
///
/// The derive is the one of [`Request`]: `stream = Item` in the place of `reply = Reply` makes the difference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a request for a stream",
    note = "declare what the stream consists of: #[sinew(subject = \"service.operation\", stream = ..)]",
    note = "if it is declared with `reply = ..`: leave the word `stream` out of the contract, and ask with `ctx.call(..)`"
)]
pub trait StreamRequest: Serialize + DeserializeOwned + Send + 'static {
    /// What the stream consists of.
    type Item: Serialize + DeserializeOwned + Send + 'static;
    /// What a refused or failed stream ends with; [`Problem`] where nothing was declared.
    type Error: ServiceError;
    /// The service that answers.
    const SERVICE: &'static str;
    /// The operation within the service.
    const OPERATION: &'static str;
    /// `svc.<service>.<operation>`.
    const SUBJECT: &'static str;
    /// Whether repeating the request has no further effect.
    const IDEMPOTENT: bool;

    /// Describes the operation, schemas included; `reply` is the schema of an item.
    fn descriptor() -> OperationDescriptor;
}

/// A message that asks one operation for a reply, with a stream of items behind it. Derived, never written by hand.
///
/// The derive is the one of [`Request`]: `upload = Item` beside `reply = Reply` makes the difference.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a request with an upload",
    note = "declare what is sent behind it: #[sinew(subject = \"service.operation\", upload = .., reply = ..)]",
    note = "if it has no upload: leave the word `upload` out of the contract, and ask with `ctx.call(..)`"
)]
pub trait UploadRequest: Serialize + DeserializeOwned + Send + 'static {
    /// What is sent behind the request, in any number.
    type Item: Serialize + DeserializeOwned + Send + 'static;
    /// What a successful call answers.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// What a refused call answers; [`Problem`] where nothing was declared.
    type Error: ServiceError;
    /// The service that answers.
    const SERVICE: &'static str;
    /// The operation within the service.
    const OPERATION: &'static str;
    /// `svc.<service>.<operation>`.
    const SUBJECT: &'static str;
    /// Whether repeating the request has no further effect. The SDK repeats no upload all the same: what was sent is gone.
    const IDEMPOTENT: bool;

    /// Describes the operation, schemas included; `upload` is the schema of an item.
    fn descriptor() -> OperationDescriptor;
}

/// A message that says what happened. Derived, never written by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    note = "derive it: #[derive(Event, Serialize, Deserialize, JsonSchema)] with #[sinew(subject = \"domain.event\")]"
)]
pub trait Event: Serialize + DeserializeOwned + Send + 'static {
    /// `<domain>.<event>`.
    const NAME: &'static str;
    /// `evt.<domain>.<event>`.
    const SUBJECT: &'static str;
    /// Version of the schema.
    const VERSION: u32;
    /// `<domain>.<event>.v<version>`, the CloudEvents type.
    const TYPE: &'static str;

    /// Describes the event, schema included.
    fn descriptor() -> EventDescriptor;
}

/// A type with a JSON Schema. Holds for all that implement [`JsonSchema`], and says to the others what to do.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no JSON Schema",
    label = "the schema of this type is missing",
    note = "the catalogue describes every message: derive it with #[derive(schemars::JsonSchema)]",
    note = "a type of another crate: switch on the feature of `schemars` that is named like the crate, or wrap it in a type of your own"
)]
pub trait Described {
    /// Returns the schema (2020-12).
    fn described() -> Value;
}

// The text above is of more help than the list of types that have a schema. It is also why `JsonSchema` is no
// supertrait, here or of what is derived: the compiler would complain about that instead, and everywhere.
#[diagnostic::do_not_recommend]
impl<T: JsonSchema> Described for T {
    fn described() -> Value {
        schemars::schema_for!(T).to_value()
    }
}

/// An error a service declares. Derived from an enum with `#[derive(Problem)]`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a declared service error",
    note = "derive it: #[derive(Problem)] on an enum whose variants carry #[problem(status = 409, code = \"..\")]"
)]
pub trait ServiceError: Sized + Send + 'static {
    /// Returns what the caller gets to see.
    fn to_problem(&self) -> Problem;
    /// Recognises a problem this type declared; `None` leaves it undeclared.
    fn from_problem(problem: &Problem) -> Option<Self>;
    /// Lists what can be answered.
    fn declared() -> Vec<ProblemDescriptor>;
}

impl ServiceError for Problem {
    fn to_problem(&self) -> Problem {
        self.clone()
    }

    fn from_problem(problem: &Problem) -> Option<Self> {
        Some(problem.clone())
    }

    fn declared() -> Vec<ProblemDescriptor> {
        Vec::new()
    }
}

/// One service as the catalogue and `$SRV.INFO` show it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceDescriptor {
    /// The service's name.
    pub name: String,
    /// Semantic version of the contract.
    pub version: String,
    /// What the service is for.
    #[serde(default)]
    pub description: String,
    /// What can be asked of it.
    #[serde(default)]
    pub operations: Vec<OperationDescriptor>,
    /// Its consumer groups.
    #[serde(default)]
    pub groups: Vec<GroupDescriptor>,
    /// The events it says it publishes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub publishes: Vec<EventDescriptor>,
    /// The operations of others it says it calls.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub requires: Vec<RequirementDescriptor>,
    /// How it calls other services.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dependencies: Vec<DependencyDescriptor>,
    /// How much it takes on at once. A contract alone says nothing of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<LimitsDescriptor>,
}

/// One operation that a service needs another one to serve.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RequirementDescriptor {
    /// The service that answers.
    pub service: String,
    /// The operation within it.
    pub operation: String,
    /// Where requests go.
    pub subject: String,
    /// Whether it is answered with a stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Whether a stream of items is sent behind the request.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub upload: bool,
}

/// How much one instance of a service takes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LimitsDescriptor {
    /// Requests in work at once; further ones wait.
    pub concurrency: u64,
    /// Requests that may wait; what comes on top is turned away.
    pub queue: u64,
    /// Longest time draining takes, in milliseconds.
    pub drain_ms: u64,
    /// Commands in work at once; zero for a service that takes none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub commands: u64,
}

/// One operation of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationDescriptor {
    /// The operation's name.
    pub name: String,
    /// Where requests go.
    pub subject: String,
    /// The first paragraph of the request type's documentation.
    #[serde(default)]
    pub description: String,
    /// Whether repeating a request has no further effect.
    #[serde(default)]
    pub idempotent: bool,
    /// Whether it answers with a stream of items instead of one reply.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stream: bool,
    /// Whether it may take work on and bring the result later. Callers that can wait for that send a token along.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub accepts: bool,
    /// How HTTP reaches it, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpBinding>,
    /// JSON Schema (2020-12) of the request.
    pub request: Value,
    /// JSON Schema (2020-12) of one item that is sent behind the request, where it takes a stream of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upload: Option<Value>,
    /// JSON Schema (2020-12) of the reply, or of one item where `stream` is set.
    pub reply: Value,
    /// Declared errors.
    #[serde(default)]
    pub errors: Vec<ProblemDescriptor>,
}

/// How an HTTP request becomes a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HttpBinding {
    /// The HTTP method.
    pub method: String,
    /// Path template: `{field}` stands for a field of the request.
    pub path: String,
    /// The field that takes the whole body; without it the body's members are the request's fields.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// Status of a success; 200 where nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// One error an operation declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ProblemDescriptor {
    /// HTTP status.
    pub status: u16,
    /// Stable code.
    pub code: String,
    /// Short text.
    #[serde(default)]
    pub title: String,
    /// Whether the same request may succeed later.
    #[serde(default)]
    pub retry: bool,
}

/// One event type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EventDescriptor {
    /// `<domain>.<event>`.
    pub name: String,
    /// Where it is published.
    pub subject: String,
    /// Version of the schema.
    pub version: u32,
    /// The first paragraph of the type's documentation.
    #[serde(default)]
    pub description: String,
    /// JSON Schema (2020-12) of the data.
    pub schema: Value,
}

/// One consumer group of a service, with the policy that is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GroupDescriptor {
    /// The group's name.
    pub name: String,
    /// The event it takes.
    pub event: EventDescriptor,
    /// Whether events of one key are handled one after the other, in the order of the stream.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub ordered: bool,
    /// How many messages are handled at once.
    pub concurrency: u32,
    /// Attempts before the message becomes a dead letter.
    pub attempts: u32,
    /// Longest time between the first attempt and the last, in milliseconds.
    pub retry_budget_ms: u64,
    /// How events are gathered, where the group takes many at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<BatchDescriptor>,
}

/// How a consumer group gathers events.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BatchDescriptor {
    /// Events handed over at once, at most.
    pub max: u32,
    /// How long the first waits for more, in milliseconds.
    pub linger_ms: u64,
}

/// How a service calls another one, with the policy that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DependencyDescriptor {
    /// The service that is called; `*` stands for every other one.
    pub service: String,
    /// How often an idempotent call is tried again.
    pub retries: u32,
    /// Longest time all pauses between the attempts of a call take together, in milliseconds.
    pub retry_pause_ms: u64,
    /// Longest time one attempt may take, in milliseconds; without it, as long as the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt_ms: Option<u64>,
    /// Retries and hedges allowed on top of a hundred calls.
    pub retry_percent: u32,
    /// Retries and hedges allowed per second where calls are few.
    pub retry_per_second: u32,
    /// Attempts that may be under way at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bulkhead: Option<u64>,
    /// When it stops asking a service that keeps failing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub breaker: Option<BreakerDescriptor>,
}

/// When a circuit breaker opens, and when it asks again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BreakerDescriptor {
    /// It opens when so many of a hundred calls failed.
    pub percent: u32,
    /// Calls within the window below which it never opens.
    pub calls: u32,
    /// Length of the window, in milliseconds.
    pub window_ms: u64,
    /// Pause before it asks again, in milliseconds; doubled each time that fails.
    pub pause_ms: u64,
    /// Longest pause, in milliseconds.
    pub longest_pause_ms: u64,
    /// Good answers after which it closes.
    pub probes: u32,
}

impl HttpBinding {
    /// Goes through the fields the path template names, in order.
    pub fn path_fields(&self) -> impl Iterator<Item = &str> {
        self.path.split('{').skip(1).filter_map(|rest| rest.split('}').next())
    }
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
