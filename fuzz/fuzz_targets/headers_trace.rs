//! Names and values from anybody: what passes the parsers is safe on the wire and reads back as it was.
//!
//! Run it with `cargo +nightly fuzz run headers_trace`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sinew_wire::{CloudEvent, ContentType, Headers, Subject, TraceContext};

fuzz_target!(|texts: (&str, &str)| {
    let (name, value) = texts;
    headers(name, value);
    trace(value);
    event(name, value);
    let _ = ContentType::parse(value);
    if let Ok(subject) = Subject::parse(value) {
        assert!(!subject.as_str().contains([' ', '\r', '\n', '*', '>']));
    }
});

fn headers(name: &str, value: &str) {
    let mut headers = Headers::new();
    if headers.set(name.to_owned(), value).is_err() {
        assert!(headers.is_empty(), "a refused field leaves nothing behind");
        return;
    }
    assert_eq!(headers.get(&name.to_ascii_uppercase()), Some(value));
    let wire = format!("{name}: {value}");
    assert!(!wire.contains(['\r', '\n', '\0']), "{wire:?} would end the header block");
}

fn trace(text: &str) {
    let Ok(context) = text.parse::<TraceContext>() else { return };
    let again = context.to_string().parse::<TraceContext>();
    assert_eq!(again, Ok(context));
}

fn event(id: &str, kind: &str) {
    let (id, kind) = (id.to_owned(), kind.to_owned());
    let event = CloudEvent { subject: Some(id.clone()), source: kind.clone(), id, kind, time: None };
    let mut headers = Headers::new();
    assert!(event.write(&mut headers).is_ok(), "encoded attributes are safe");
    assert_eq!(CloudEvent::read(&headers).as_ref(), Some(&event));

    // Other publishers encode differently, or not at all: whatever stands there is read as text.
    let mut foreign = Headers::new();
    let set = ["ce-id", "ce-type", "ce-source"].map(|name| foreign.set(name, event.id.as_str()).is_ok());
    assert_eq!(CloudEvent::read(&foreign).is_some(), set == [true; 3]);
}
