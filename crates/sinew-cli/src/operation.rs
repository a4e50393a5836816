//! What is typed: names such as `orders.place`, durations such as `500ms`, addresses such as `127.0.0.1:8080`.

use std::{fmt, net::SocketAddr, str::FromStr, time::Duration};

use sinew::wire::{InvalidSubject, Subject};

/// An operation, typed as `<service>.<operation>`. It may belong to another NATS client's service, whose names may
/// have letters that ours may not.
#[derive(Clone, Debug)]
pub(crate) struct OperationName {
    pub(crate) service: String,
    pub(crate) operation: String,
    subject: Subject,
}

/// An event, typed as `<domain>.<event>`.
#[derive(Clone, Debug)]
pub(crate) struct EventName {
    pub(crate) name: String,
    pub(crate) subject: Subject,
}

impl OperationName {
    /// Returns where a service of ours takes requests.
    pub(crate) fn subject(&self) -> &Subject {
        &self.subject
    }
}

impl FromStr for OperationName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts =
            text.split_once('.').filter(|(service, operation)| is_name(service) && is_name(operation));
        let (service, operation) = parts.ok_or_else(|| {
            "write <service>.<operation>, such as orders.place; `sinew services` lists them".to_owned()
        })?;
        let subject =
            Subject::parse(format!("svc.{text}")).map_err(|error: InvalidSubject| error.to_string())?;
        Ok(Self { service: service.to_owned(), operation: operation.to_owned(), subject })
    }
}

impl fmt::Display for OperationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.service, self.operation)
    }
}

impl FromStr for EventName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('.') {
            return Err("write <domain>.<event>, such as orders.placed".to_owned());
        }
        let subject = Subject::event(text).map_err(|error: InvalidSubject| error.to_string())?;
        Ok(Self { name: text.to_owned(), subject })
    }
}

/// Says whether a text is a name by the rules of NATS service discovery (ADR-32).
fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    !text.is_empty() && text.bytes().all(allowed)
}

/// Reads a duration: a number with `ms`, `s`, `m`, `h` or `d` behind it.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong_duration())?;
    let milliseconds = match unit {
        "ms" => Some(number),
        "s" | "" => number.checked_mul(1_000),
        "m" => number.checked_mul(60_000),
        "h" => number.checked_mul(3_600_000),
        "d" => number.checked_mul(86_400_000),
        _ => None,
    };
    milliseconds.filter(|&ms| ms > 0).map(Duration::from_millis).ok_or_else(wrong_duration)
}

/// Reads an address to listen on.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080".to_owned())
}

/// Reads the first token of reply inboxes.
pub(crate) fn inbox(text: &str) -> Result<String, String> {
    let parsed = Subject::parse(text).map_err(|error: InvalidSubject| error.to_string())?;
    Ok(parsed.to_string())
}

fn wrong_duration() -> String {
    "write a number and a unit, such as 500ms, 2s or 1m".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_number_and_a_known_unit() {
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2s"), duration("2"));
        assert_eq!(duration("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("24h"), duration("1d"));
        for bad in ["", "s", "0s", "1w", "-1s", "1.5s", "99999999999999999999s", "18446744073709551615m"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn operations_have_two_parts() {
        assert_eq!(
            "orders.place".parse::<OperationName>().map(|name| name.to_string()),
            Ok("orders.place".into())
        );
        assert!("Tally.addAll".parse::<OperationName>().is_ok(), "other clients' services have such names");
        for bad in ["orders", "orders.place.now", "orders.*", "or ders.place", ".", "orders."] {
            assert!(bad.parse::<OperationName>().is_err(), "{bad}");
        }
    }
}
