//! What each official example is given, and how it must end; or why it is left.

use serde_json::{Value, json};

use super::notifications;

/// How an example is played.
pub(super) enum Play {
    /// It runs against stand-ins, to its end.
    Runs(Runs),
    /// It only waits.
    Waits,
    /// It never ends by itself: it is cancelled once enough has happened.
    Endless(Runs, Enough),
    /// It is run by the program, where a stand-in for this command is found first, with this output.
    Program(&'static str, Value),
}

/// What it is given, and how it must end.
pub(super) struct Runs {
    pub(super) input: Value,
    pub(super) events: Vec<Value>,
    /// Workflows it runs as children.
    pub(super) children: Vec<&'static str>,
    pub(super) status: &'static str,
    /// What it must end with; anything where nothing is said.
    pub(super) output: Option<Value>,
    /// What the container engine must be asked for, among other things.
    pub(super) asks: Vec<&'static str>,
    /// The program it takes; without it the example is left, and says so.
    pub(super) takes: Option<&'static str>,
}

/// What has to happen before an example that never ends is cancelled.
pub(super) enum Enough {
    /// A task has completed so often.
    Completed(&'static str, usize),
    /// Everything was sent to it, and it went on listening.
    Heard,
}

/// The child of `run-subflow`.
const REGISTER: &str = "
document: { dsl: '1.0.3', namespace: test, name: register-customer, version: '0.1.0' }
do:
  - register: { set: { registered: '${ .customer }' } }
";

impl Play {
    pub(super) fn on(input: Value) -> Self {
        Self::Runs(Runs {
            input,
            events: Vec::new(),
            children: Vec::new(),
            status: "completed",
            output: None,
            asks: Vec::new(),
            takes: None,
        })
    }

    /// The container every example runs, with what it must end with and what its engine must be asked for.
    fn container(output: Value, asks: &[&'static str]) -> Self {
        Self::on(json!({})).gives(output).with(|runs| runs.asks = asks.to_vec())
    }

    fn with(mut self, change: impl FnOnce(&mut Runs)) -> Self {
        if let Self::Runs(runs) = &mut self {
            change(runs);
        }
        self
    }

    fn hears(self, heard: Vec<Value>) -> Self {
        self.with(|runs| runs.events = heard)
    }

    fn with_child(self, text: &'static str) -> Self {
        self.with(|runs| runs.children.push(text))
    }

    fn gives(self, value: Value) -> Self {
        self.with(|runs| runs.output = Some(value))
    }

    fn faults(self) -> Self {
        self.with(|runs| runs.status = "faulted")
    }

    fn takes(self, program: &'static str) -> Self {
        self.with(|runs| runs.takes = Some(program))
    }

    fn never_ends_before(self, enough: Enough) -> Self {
        match self.with(|runs| runs.status = "cancelled") {
            Self::Runs(runs) => Self::Endless(runs, enough),
            other => other,
        }
    }
}

/// Returns every example with its play, by file name.
pub(super) fn plays() -> Vec<(&'static str, Play)> {
    [calls(), flow(), events(), processes()].into_iter().flatten().collect()
}

fn calls() -> Vec<(&'static str, Play)> {
    let one = || json!({ "petId": 1, "token": "t" });
    let pet = |id: u64| json!({ "id": id, "name": "Rex", "status": "available" });
    let search =
        || Play::on(json!({ "searchQuery": "luke" })).gives(json!({ "count": 1, "search": "search=luke" }));
    let pets = || Play::on(json!({})).gives(json!([pet(1), pet(2)]));
    vec![
        ("authentication-bearer", Play::on(one()).gives(pet(1))),
        ("authentication-bearer-uri-format", Play::on(one()).gives(pet(1))),
        ("authentication-oauth2", Play::on(one()).gives(pet(1))),
        ("authentication-oauth2-secret", Play::on(one()).gives(pet(1))),
        ("authentication-oidc", Play::on(one()).gives(pet(1))),
        ("authentication-oidc-secret", Play::on(one()).gives(pet(1))),
        ("authentication-reusable", Play::on(one()).gives(pet(1))),
        ("call-asyncapi-publish", Play::on(json!({ "pet": { "id": 1 }, "token": "t" }))),
        ("call-asyncapi-subscribe-consume-amount", Play::on(json!({})).gives(all_notifications())),
        (
            "call-asyncapi-subscribe-consume-forever-foreach",
            Play::on(json!({})).never_ends_before(Enough::Completed("publishCloudEvent", 5)),
        ),
        // Both count messages in a context that they never write to.
        ("call-asyncapi-subscribe-consume-until", Play::on(json!({})).never_ends_before(Enough::Heard)),
        ("call-asyncapi-subscribe-consume-while", Play::on(json!({})).never_ends_before(Enough::Heard)),
        ("call-custom-function-cataloged", Play::on(json!({})).gives(json!({ "logged": "Hello, world!" }))),
        ("call-custom-function-inline", Play::on(json!({})).gives(pet(69))),
        (
            "call-grpc",
            Play::on(json!({ "user": { "preferredDisplayName": "Ada" } }))
                .gives(json!({ "message": "Hello Ada" })),
        ),
        ("call-http-endpoint-interpolation", Play::on(one()).gives(pet(1))),
        ("call-http-endpoint-interpolation-shorthand", Play::on(one()).gives(pet(1))),
        ("call-http-query-headers-expressions", search()),
        ("call-http-query-parameters", search()),
        ("call-http-redirect", search()),
        (
            "call-mcp",
            Play::Program(
                "npx",
                json!({ "content": [{ "type": "text", "text": "conversations_add_message C1234567890 xoxp-" }] }),
            ),
        ),
        ("call-openapi", pets()),
        ("call-openapi-redirect", pets()),
        ("do-multiple", Play::on(one()).gives(json!({ "id": 1, "name": "Rex", "status": "sold" }))),
        ("do-single", Play::on(one()).gives(pet(1))),
        ("star-wars-homeworld", Play::on(json!({ "id": 1 })).gives(json!({ "name": "Tatooine" }))),
    ]
}

fn flow() -> Vec<(&'static str, Play)> {
    let pet = || json!({ "id": 1, "name": "Rex", "status": "available" });
    let colour = |name: &str, hex: &str| json!({ "name": name, "hex": hex });
    let colours = [("red", "#FF0000"), ("green", "#00FF00"), ("blue", "#0000FF")];
    let colours: Vec<Value> = colours.map(|(name, hex)| colour(name, hex)).into();
    let alarm = json!({ "patient": { "fullName": "Ada" }, "room": { "number": 7 } });
    vec![
        ("conditional-task", Play::on(json!({ "customer": { "age": 20 }, "bet": {} }))),
        ("for-inline-array", Play::on(json!({})).gives(json!({ "processed": colours }))),
        ("fork", Play::on(alarm)),
        // Its condition asks an object for its first letters.
        ("mock-service-extension", Play::on(json!({})).faults()),
        ("raise-inline", Play::on(json!({})).faults()),
        ("raise-reusable", Play::on(json!({})).faults()),
        (
            "run-subflow",
            Play::on(json!({ "user": "Ada" })).with_child(REGISTER).gives(json!({ "registered": ".user" })),
        ),
        (
            "switch-then-string",
            Play::on(json!({ "orderType": "physical" }))
                .gives(json!({ "inventory": "clear", "items": 1, "address": "Elmer St" })),
        ),
        ("try-catch", Play::on(json!({ "petId": "nobody" }))),
        ("try-catch-retry-inline", Play::on(json!({ "petId": 1 })).gives(pet())),
        ("try-catch-retry-reusable", Play::on(json!({ "petId": 1 })).gives(pet())),
        ("try-catch-then", Play::on(json!({ "petId": "nobody" }))),
        ("try-catch-then-directive", Play::on(json!({})).gives(json!({ "status": "failed" }))),
        ("wait-duration-inline", Play::Waits),
        ("wait-duration-iso8601", Play::Waits),
    ]
}

fn events() -> Vec<(&'static str, Play)> {
    let event =
        |kind: &str, data: Value| json!({ "type": kind, "source": "https://a.example", "data": data });
    let vitals =
        |name: &str, data: Value| event(&format!("com.fake-hospital.vitals.measurements.{name}"), data);
    let hot = || vitals("temperature", json!({ "temperature": 39 }));
    let fast = || vitals("bpm", json!({ "bpm": 120 }));
    let cool = || vitals("temperature", json!({ "temperature": 37 }));
    let started = event("com.virtual-wf-powered-race.events.race.started.v1", json!({ "carId": 4 }));
    let reading = |kind: &str| {
        json!({ "type": format!("my.home.sensors.{kind}"), "source": "https://my.home.com/sensor", "roomid": 1,
                "data": { "roomid": 1, "reading": 20 } })
    };
    let patient = json!({ "id": 1, "name": "Ada", "room": { "number": 7 }, "vitals": { "bpm": 30 } });
    let low = json!([{ "data": { "patient": patient, "timestamp": "2026-01-01T00:00:00Z" } }]);
    let trigger = || event("io.serverlessworkflow.samples.events.trigger.v1", json!({}));
    let checkup = || event("com.fake.petclinic.pets.checkup.completed.v2", json!({}));
    // The outputs of two of them ask the events they heard, an array, for members by name.
    vec![
        (
            "accumulate-room-readings",
            Play::on(json!({})).hears(vec![reading("temperature"), reading("humidity")]).faults(),
        ),
        ("emit", Play::on(json!({}))),
        ("for", Play::on(json!({ "pets": [{ "id": 1 }], "vet": "Bo" })).hears(vec![checkup()]).faults()),
        ("listen-to-all", Play::on(json!({})).hears(vec![cool(), hot(), fast()])),
        ("listen-to-all read-envelope", Play::on(json!({})).hears(vec![cool(), hot(), fast()])),
        ("listen-to-any", Play::on(json!({})).hears(vec![hot()])),
        ("listen-to-any-filter", Play::on(json!({})).hears(vec![cool(), fast()])),
        (
            "listen-to-any-forever-foreach",
            Play::on(json!({ "roomId": 7 }))
                .hears(vec![hot(), fast()])
                .never_ends_before(Enough::Completed("postToChatApi", 2)),
        ),
        ("listen-to-any-until-condition", Play::on(json!({})).hears(vec![hot(), hot(), hot(), hot()])),
        (
            "listen-to-any-until-consumed",
            Play::on(json!({})).hears(vec![hot(), event("com.fake-hospital.patient.checked-out", json!({}))]),
        ),
        ("listen-to-one", Play::on(json!({ "carId": 4 })).hears(vec![started])),
        ("schedule-cron", Play::on(json!({}))),
        ("schedule-event-driven", Play::on(low)),
        ("set", Play::on(json!([trigger()])).gives(json!({ "startEvent": trigger() }))),
        ("set-expression", Play::on(json!([trigger()])).gives(trigger())),
    ]
}

fn processes() -> Vec<(&'static str, Play)> {
    let (greeting, goodbye) = ("Hello from Docker!\n", "and goodbye\n");
    let greets = |asks: &[&'static str]| Play::container(json!(greeting), asks);
    let said = json!("STDIN was: Hello World\nARGS are Foo Bar\n");
    let all = json!({ "code": 0, "stdout": greeting, "stderr": goodbye });
    let script = json!("stdin >  Hello Workflow\narg >  hello\nenv >  bar\n");
    vec![
        ("run-container", greets(&["--pull=missing", "hello-world"])),
        ("run-container-cleanup-always", greets(&["rm --force sinew-i-do-0-runContainer-"])),
        ("run-container-cleanup-eventually", greets(&["--label=io.sinew.keep-ms=1800000"])),
        ("run-container-stdin-and-arguments", Play::container(said.clone(), &["--interactive", "alpine"])),
        // Its expression asks the input for what only `$workflow` and `$task` know.
        ("run-container-with-name", greets(&["--name=hello-null-null-null"])),
        ("run-container-with-pull-policy", greets(&["--pull=always"])),
        ("run-return-all", Play::container(all, &[])),
        ("run-return-code", Play::container(json!(0), &[])),
        ("run-return-none", Play::container(Value::Null, &[])),
        ("run-return-stderr", Play::container(json!(goodbye), &[])),
        ("run-script-with-stdin-and-arguments", Play::on(json!({})).gives(script).takes("node")),
        ("run-shell-stdin-and-arguments", Play::on(json!({})).gives(said)),
    ]
}

/// What a task leaves that heard each notification once.
pub(super) fn all_notifications() -> Value {
    (1..=notifications::COUNT).map(notifications::notification).collect()
}
