//! A service in thirty lines: a request, a contract, a handler, and a `main` that serves until it is asked to stop.
//!
//! ```sh
//! sinew dev                                      # first terminal: a broker and every role of Sinew
//! cargo run -p hello                             # second terminal: this service
//! sinew call greeter.hello '{"name":"Ada"}'      # third: {"text": "hello, Ada"}
//! curl http://127.0.0.1:8080/hello/Ada           # the same over HTTP, through the edge
//! ```

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sinew::{Config, Problem, Request, Service, contract};

/// Greets somebody.
#[derive(Request, Serialize, Deserialize, JsonSchema)]
#[sinew(subject = "greeter.hello", reply = Greeting, idempotent, http = "GET /hello/{name}")]
struct Hello {
    name: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Greeting {
    text: String,
}

contract! {
    /// Says hello.
    Greeter = "greeter" @ "1.0.0" { hello: Hello }
}

async fn hello(request: Hello) -> Result<Greeting, Problem> {
    Ok(Greeting { text: format!("hello, {}", request.name) })
}

#[tokio::main]
#[expect(clippy::print_stderr, reason = "says to whoever started it what to do next")]
async fn main() -> Result<(), sinew::Error> {
    let url = std::env::var("NATS_URL").unwrap_or_else(|_| "nats://127.0.0.1:4222".to_owned());
    eprintln!(r#"connecting to {url}; then try: sinew call greeter.hello '{{"name":"Ada"}}'"#);
    Service::new("greeter", ())
        .serve(Greeter, |routes| routes.hello(hello))
        .run(Config::new(url, "greeter"))
        .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everybody_is_greeted_by_name() {
        let app = Service::new("greeter", ()).serve(Greeter, |routes| routes.hello(hello)).test().await;
        let greeting = app.call(Hello { name: "Ada".to_owned() }).await.unwrap();
        assert_eq!(greeting.text, "hello, Ada");
    }
}
