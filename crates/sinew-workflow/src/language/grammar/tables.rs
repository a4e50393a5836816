//! The tables of the language: Open Workflow 1.0.3, and what Sinew adds to it.

use super::{Field, Keyword, Shape};
use Shape::{
    Any, Boolean, Duration, Either, Integer, List, Map, Named, Object, OneOf, Open, Pattern, Task, Text, Word,
};

/// The workflow itself.
pub(super) const ROOT: &[Field] = &[
    need("document", &Object(DOCUMENT)),
    may("input", INPUT),
    may("use", &Object(USE)),
    need("do", LIST_OF_TASKS),
    may("timeout", TIMEOUT),
    may("output", OUTPUT),
    may("schedule", &Object(SCHEDULE)),
    may("evaluate", &Object(EVALUATE)),
    // Ours: the policy of undoing.
    may("saga", &Object(SAGA)),
];

/// What every task can have.
pub(super) const TASK_BASE: &[Field] = &[
    may("if", &Text),
    may("input", INPUT),
    may("output", OUTPUT),
    may("export", OUTPUT),
    may("timeout", TIMEOUT),
    may("then", &Text),
    may("metadata", &Open(PORTABLE)),
    // Ours, also spelled below `metadata`, where the official schema takes them.
    may("compensate", COMPENSATE),
    may("pivot", &Boolean),
    may("idempotencyKey", &Text),
];

/// The keywords that make a task.
pub(crate) const TASKS: &[Keyword] = &[
    Keyword { name: "call", fields: &[need("call", &Text), may("with", &Any)] },
    Keyword { name: "do", fields: &[need("do", LIST_OF_TASKS)] },
    Keyword { name: "emit", fields: &[need("emit", &Object(EMIT))] },
    Keyword {
        name: "for",
        fields: &[need("for", &Object(FOR)), may("while", &Text), need("do", LIST_OF_TASKS)],
    },
    Keyword { name: "fork", fields: &[need("fork", &Object(FORK))] },
    Keyword { name: "listen", fields: &[need("listen", &Object(LISTEN)), may("foreach", &Object(FOREACH))] },
    Keyword { name: "raise", fields: &[need("raise", &Object(RAISE))] },
    Keyword { name: "run", fields: &[need("run", &Object(RUN))] },
    Keyword { name: "set", fields: &[need("set", &Either(&[&Map(&Any), &Text]))] },
    Keyword { name: "switch", fields: &[need("switch", &Named(&Object(CASE)))] },
    Keyword { name: "try", fields: &[need("try", LIST_OF_TASKS), need("catch", &Object(CATCH))] },
    Keyword { name: "wait", fields: &[need("wait", &Duration)] },
];

/// The functions with known arguments: name, shape of `with`, and whether it must be there.
pub(super) const CALLS: &[(&str, &Shape, bool)] = &[
    ("asyncapi", &Object(ASYNCAPI), true),
    ("grpc", &Object(GRPC), true),
    ("http", &Object(HTTP), true),
    ("openapi", &Object(OPENAPI), true),
    ("a2a", &Object(A2A), true),
    ("mcp", &Object(MCP), true),
    // Ours.
    ("nats", &Object(NATS), true),
    ("human", &Open(&[]), false),
    ("saga.compensate", &Object(&[]), false),
];

/// The arguments of operations and functions: the specification has objects, we also take one expression for all.
pub(super) const ARGUMENTS: &Shape = &Either(&[&Map(&Any), &Text]);

/// The units of a duration.
pub(super) const UNITS: &[Field] = &[
    may("days", &Integer),
    may("hours", &Integer),
    may("minutes", &Integer),
    may("seconds", &Integer),
    may("milliseconds", &Integer),
];

const fn need(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, shape, required: true }
}

const fn may(name: &'static str, shape: &'static Shape) -> Field {
    Field { name, shape, required: false }
}

const LIST_OF_TASKS: &Shape = &Named(&Task);
const INPUT: &Shape = &Object(&[may("schema", SCHEMA), may("from", &Either(&[&Text, &Map(&Any)]))]);
const OUTPUT: &Shape = &Object(&[may("schema", SCHEMA), may("as", &Either(&[&Text, &Map(&Any)]))]);
const SCHEMA: &Shape = &Object(&[may("format", &Text), may("document", &Any), may("resource", RESOURCE)]);
const TIMEOUT: &Shape = &Either(&[&Text, &Object(&[need("after", &Duration)])]);
const COMPENSATE: &Shape = &Either(&[&Boolean, &Task]);
const RETRY: &Shape = &Either(&[&Text, RETRY_POLICY]);
const RETRY_POLICY: &Shape = &Object(&[
    may("when", &Text),
    may("exceptWhen", &Text),
    may("delay", &Duration),
    may(
        "backoff",
        &OneOf(&[
            may("constant", &Open(BACKOFF)),
            may("exponential", &Open(BACKOFF)),
            may("linear", &Open(BACKOFF)),
        ]),
    ),
    may(
        "limit",
        &Object(&[
            may("attempt", &Object(&[may("count", &Integer), may("duration", &Duration)])),
            may("duration", &Duration),
        ]),
    ),
    may("jitter", &Object(&[need("from", &Duration), need("to", &Duration)])),
]);
const ERROR: &Shape = &Object(&[
    need("type", &Text),
    need("status", &Either(&[&Integer, &Text])),
    may("instance", &Text),
    may("title", &Text),
    may("detail", &Text),
]);
const ENDPOINT: &Shape =
    &Either(&[&Text, &Object(&[need("uri", &Text), may("authentication", AUTHENTICATION)])]);
const RESOURCE: &Shape = &Object(&[may("name", &Text), need("endpoint", ENDPOINT)]);
const TEXTS: &Shape = &List(&Text);
/// The arguments of a process. The catalogue of the specification also names them.
const PROCESS_ARGUMENTS: &Shape = &Either(&[TEXTS, OBJECT, &Text]);
const TEXT_MAP: &Shape = &Either(&[&Map(&Text), &Text]);
const OBJECT: &Shape = &Map(&Any);
const RESULT: &Shape = &Word(&["raw", "content", "response"]);
const CREDENTIALS: &Shape = &Object(&[may("username", &Text), may("password", &Text), may("use", &Text)]);
const TOKEN: &Shape = &Object(&[need("token", &Text), need("type", &Text)]);
/// A policy, or the name of one below `use.authentications`.
const AUTHENTICATION: &Shape = &Either(&[POLICY, &Text]);
const POLICY: &Shape = &OneOf(&[
    may("use", &Text),
    may("basic", CREDENTIALS),
    may("digest", CREDENTIALS),
    may("bearer", &Object(&[may("token", &Text), may("use", &Text)])),
    may("oauth2", OAUTH2),
    may("oidc", OAUTH2),
]);
const OAUTH2: &Shape = &Object(&[
    may("use", &Text),
    may("authority", &Text),
    may("grant", &Text),
    may(
        "client",
        &Object(&[
            may("id", &Text),
            may("secret", &Text),
            may("assertion", &Text),
            may("authentication", &Text),
        ]),
    ),
    may("request", &Object(&[may("encoding", &Text)])),
    may("endpoints", &Object(&[may("token", &Text), may("revocation", &Text), may("introspection", &Text)])),
    may("issuers", TEXTS),
    may("scopes", TEXTS),
    may("audiences", TEXTS),
    may("username", &Text),
    may("password", &Text),
    may("subject", TOKEN),
    may("actor", TOKEN),
]);
const EVENTS: &Shape = &Object(&[
    may("all", &List(FILTER)),
    may("any", &List(FILTER)),
    may("one", FILTER),
    may("until", &Either(&[&Text, &Boolean, LAST_EVENTS])),
]);
/// Listening can last until other events arrive, and no further.
const LAST_EVENTS: &Shape = &Object(&[
    may("all", &List(FILTER)),
    may("any", &List(FILTER)),
    may("one", FILTER),
    may("until", &Boolean),
]);
const FILTER: &Shape = &Object(&[
    need("with", OBJECT),
    may("correlate", &Map(&Object(&[need("from", &Text), may("expect", &Text)]))),
]);

const DOCUMENT: &[Field] = &[
    need("dsl", &Pattern(is_version, "a version such as '1.0.3'")),
    need("namespace", &Pattern(is_label, "a name of up to 63 letters, digits and inner dashes")),
    need("name", &Pattern(is_label, "a name of up to 63 letters, digits and inner dashes")),
    need("version", &Pattern(is_version, "a semantic version such as '1.0.0'")),
    may("title", &Text),
    may("summary", &Text),
    may("tags", OBJECT),
    may("metadata", OBJECT),
];
const USE: &[Field] = &[
    may("authentications", &Map(POLICY)),
    may("errors", &Map(ERROR)),
    may("extensions", &Named(&Object(EXTENSION))),
    may("functions", &Map(&Task)),
    may("retries", &Map(RETRY_POLICY)),
    may("secrets", TEXTS),
    may("timeouts", &Map(&Object(&[need("after", &Duration)]))),
    may("catalogs", &Map(&Object(&[need("endpoint", ENDPOINT)]))),
];
const EXTENSION: &[Field] = &[
    need(
        "extend",
        &Word(&[
            "call",
            "composite",
            "emit",
            "for",
            "fork",
            "do",
            "listen",
            "raise",
            "run",
            "set",
            "switch",
            "try",
            "wait",
            "all",
        ]),
    ),
    may("when", &Text),
    may("before", LIST_OF_TASKS),
    may("after", LIST_OF_TASKS),
];
const SCHEDULE: &[Field] = &[
    may("every", &Duration),
    may("cron", &Text),
    may("after", &Duration),
    may("on", EVENTS),
    may("read", &Word(&["data", "envelope", "raw"])),
    // Ours: whose clock a calendar follows, and what becomes of moments nobody saw to.
    may("timezone", &Text),
    may("missed", &Word(&["skip", "once", "all"])),
];
const EVALUATE: &[Field] = &[may("language", &Word(&["jq"])), may("mode", &Word(&["strict", "loose"]))];
const SAGA: &[Field] = &[
    may("on", &List(&Word(&["fault", "timeout", "cancel"]))),
    may("order", &Word(&["reverse", "parallel"])),
    may("retry", RETRY),
    may("timeout", TIMEOUT),
    may("onStuck", &Word(&["park", "continue"])),
];
const PORTABLE: &[Field] =
    &[may("compensate", COMPENSATE), may("pivot", &Boolean), may("idempotencyKey", &Text)];
const BACKOFF: &[Field] =
    &[may("max", &Duration), may("factor", &Either(&[&Integer, &Any])), may("increment", &Duration)];
const EMIT: &[Field] = &[need("event", &Open(&[need("with", &Open(&[need("type", &Text)]))]))];
const FOR: &[Field] = &[may("each", &Text), need("in", &Either(&[&Text, &List(&Any)])), may("at", &Text)];
const FORK: &[Field] = &[need("branches", LIST_OF_TASKS), may("compete", &Boolean)];
const LISTEN: &[Field] = &[need("to", EVENTS), may("read", &Word(&["data", "envelope", "raw"]))];
const FOREACH: &[Field] = &[
    may("item", &Text),
    may("at", &Text),
    may("do", LIST_OF_TASKS),
    may("output", OUTPUT),
    may("export", OUTPUT),
];
const RAISE: &[Field] = &[need("error", &Either(&[&Text, ERROR]))];
const CASE: &[Field] = &[may("when", &Text), need("then", &Text)];
const CATCH: &[Field] = &[
    may("errors", &Object(&[may("with", &Object(ERROR_FILTER))])),
    may("as", &Text),
    may("when", &Text),
    may("exceptWhen", &Text),
    may("retry", RETRY),
    may("do", LIST_OF_TASKS),
    may("then", &Text),
];
const ERROR_FILTER: &[Field] = &[
    may("type", &Text),
    may("status", &Integer),
    may("instance", &Text),
    may("title", &Text),
    may("detail", &Text),
];
const RUN: &[Field] = &[
    may("await", &Boolean),
    may("return", &Word(&["stdout", "stderr", "code", "all", "none"])),
    may("container", &Object(CONTAINER)),
    may("script", &Object(SCRIPT)),
    may("shell", &Object(SHELL)),
    may("workflow", &Object(WORKFLOW)),
];
const CONTAINER: &[Field] = &[
    need("image", &Text),
    may("name", &Text),
    may("command", &Text),
    may("ports", OBJECT),
    may("volumes", OBJECT),
    may("environment", OBJECT),
    may("stdin", &Text),
    may("arguments", PROCESS_ARGUMENTS),
    may(
        "lifetime",
        &Object(&[need("cleanup", &Word(&["always", "never", "eventually"])), may("after", &Duration)]),
    ),
    may("pullPolicy", &Word(&["ifNotPresent", "always", "never"])),
];
const SCRIPT: &[Field] = &[
    need("language", &Text),
    may("code", &Text),
    may("source", RESOURCE),
    may("stdin", &Text),
    may("arguments", PROCESS_ARGUMENTS),
    may("environment", OBJECT),
];
const SHELL: &[Field] = &[
    need("command", &Text),
    may("stdin", &Text),
    may("arguments", PROCESS_ARGUMENTS),
    may("environment", OBJECT),
];
const WORKFLOW: &[Field] =
    &[need("namespace", &Text), need("name", &Text), need("version", &Text), may("input", &Any)];
const HTTP: &[Field] = &[
    need("method", &Text),
    need("endpoint", ENDPOINT),
    may("headers", TEXT_MAP),
    may("body", &Any),
    may("query", &Either(&[OBJECT, &Text])),
    may("output", RESULT),
    may("redirect", &Boolean),
];
const OPENAPI: &[Field] = &[
    need("document", RESOURCE),
    need("operationId", &Text),
    may("parameters", OBJECT),
    may("authentication", AUTHENTICATION),
    may("output", RESULT),
    may("redirect", &Boolean),
];
const GRPC: &[Field] = &[
    need("proto", RESOURCE),
    need(
        "service",
        &Object(&[
            need("name", &Text),
            need("host", &Text),
            may("port", &Integer),
            may("authentication", AUTHENTICATION),
        ]),
    ),
    need("method", &Text),
    may("arguments", OBJECT),
];
const ASYNCAPI: &[Field] = &[
    need("document", RESOURCE),
    may("channel", &Text),
    may("operation", &Text),
    may("server", &Object(&[need("name", &Text), may("variables", OBJECT)])),
    may("protocol", &Text),
    may("message", &Object(&[may("payload", OBJECT), may("headers", OBJECT)])),
    may(
        "subscription",
        &Object(&[may("filter", &Text), need("consume", &Object(CONSUME)), may("foreach", &Object(FOREACH))]),
    ),
    may("authentication", AUTHENTICATION),
];
const CONSUME: &[Field] =
    &[may("for", &Duration), may("amount", &Integer), may("while", &Text), may("until", &Text)];
const A2A: &[Field] = &[
    may("agentCard", RESOURCE),
    may("server", ENDPOINT),
    need("method", &Text),
    may("parameters", &Either(&[OBJECT, &Text])),
];
const MCP: &[Field] = &[
    may("protocolVersion", &Text),
    need("method", &Text),
    may("parameters", &Either(&[OBJECT, &Text])),
    may("timeout", &Duration),
    need(
        "transport",
        &Object(&[may("http", &Object(MCP_HTTP)), may("stdio", &Object(MCP_STDIO)), may("options", OBJECT)]),
    ),
    may("client", &Object(&[need("name", &Text), need("version", &Text)])),
];
const MCP_HTTP: &[Field] = &[need("endpoint", ENDPOINT), may("headers", OBJECT)];
const MCP_STDIO: &[Field] = &[need("command", &Text), may("arguments", TEXTS), may("environment", OBJECT)];
const NATS: &[Field] = &[
    need("service", &Text),
    need("endpoint", &Text),
    may("subject", &Text),
    may("body", &Any),
    may("headers", &Map(&Any)),
    may("timeout", &Duration),
    may("delivery", &Word(&["request", "command"])),
];

fn is_label(text: &str) -> bool {
    let inner = |c: char| c.is_ascii_alphanumeric() || c == '-';
    (1..=63).contains(&text.len())
        && text.chars().all(inner)
        && !text.starts_with('-')
        && !text.ends_with('-')
}

fn is_version(text: &str) -> bool {
    let (core, rest) = text.split_at(text.find(['-', '+']).unwrap_or(text.len()));
    let number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|b| b.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    core.split('.').count() == 3
        && core.split('.').all(number)
        && rest != "-"
        && rest.chars().skip(1).all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'))
}
