//! What each official example is given, and how it must end; or why it is left.

use serde_json::{Value, json};

/// How an example is played.
pub(super) enum Play {
    /// It runs against stand-ins.
    Runs {
        input: Value,
        events: Vec<Value>,
        /// Workflows it runs as children.
        children: Vec<&'static str>,
        status: &'static str,
        /// What it must end with; anything where nothing is said.
        output: Option<Value>,
    },
    /// It only waits.
    Waits,
    /// It is not run, and why.
    Left(&'static str),
}

const CONTAINER: &str = "needs a container engine";
const SUBSCRIPTION: &str = "subscribes to a server of messages";

/// The child of `run-subflow`.
const REGISTER: &str = "
document: { dsl: '1.0.3', namespace: test, name: register-customer, version: '0.1.0' }
do:
  - register: { set: { registered: '${ .customer }' } }
";

impl Play {
    fn on(input: Value) -> Self {
        Self::Runs { input, events: Vec::new(), children: Vec::new(), status: "completed", output: None }
    }

    fn hears(mut self, heard: Vec<Value>) -> Self {
        if let Self::Runs { events, .. } = &mut self {
            *events = heard;
        }
        self
    }

    fn with_child(mut self, text: &'static str) -> Self {
        if let Self::Runs { children, .. } = &mut self {
            children.push(text);
        }
        self
    }

    fn gives(mut self, value: Value) -> Self {
        if let Self::Runs { output, .. } = &mut self {
            *output = Some(value);
        }
        self
    }

    fn faults(mut self) -> Self {
        if let Self::Runs { status, .. } = &mut self {
            *status = "faulted";
        }
        self
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
        ("call-asyncapi-subscribe-consume-amount", Play::Left(SUBSCRIPTION)),
        ("call-asyncapi-subscribe-consume-forever-foreach", Play::Left(SUBSCRIPTION)),
        ("call-asyncapi-subscribe-consume-until", Play::Left(SUBSCRIPTION)),
        ("call-asyncapi-subscribe-consume-while", Play::Left(SUBSCRIPTION)),
        ("call-custom-function-cataloged", Play::on(json!({})).gives(json!({ "logged": "Hello, world!" }))),
        ("call-custom-function-inline", Play::on(json!({})).gives(pet(69))),
        ("call-grpc", Play::Left("reads file://app/greet.proto")),
        ("call-http-endpoint-interpolation", Play::on(one()).gives(pet(1))),
        ("call-http-endpoint-interpolation-shorthand", Play::on(one()).gives(pet(1))),
        ("call-http-query-headers-expressions", search()),
        ("call-http-query-parameters", search()),
        ("call-http-redirect", search()),
        ("call-mcp", Play::Left("starts a server with npx")),
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
        ("listen-to-any-forever-foreach", Play::Left("listens for ever")),
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
    let said = json!("STDIN was: Hello World\nARGS are Foo Bar\n");
    vec![
        ("run-container", Play::Left(CONTAINER)),
        ("run-container-cleanup-always", Play::Left(CONTAINER)),
        ("run-container-cleanup-eventually", Play::Left(CONTAINER)),
        ("run-container-stdin-and-arguments", Play::Left(CONTAINER)),
        ("run-container-with-name", Play::Left(CONTAINER)),
        ("run-container-with-pull-policy", Play::Left(CONTAINER)),
        ("run-return-all", Play::Left(CONTAINER)),
        ("run-return-code", Play::Left(CONTAINER)),
        ("run-return-none", Play::Left(CONTAINER)),
        ("run-return-stderr", Play::Left(CONTAINER)),
        ("run-script-with-stdin-and-arguments", Play::Left("needs node")),
        ("run-shell-stdin-and-arguments", Play::on(json!({})).gives(said)),
    ]
}
