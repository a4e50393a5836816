//! Looking at dead letters.

use serde::Serialize;
use serde_json::{Map, Value};
use sinew::{
    Bus, Timestamp,
    dead_letters::{DeadLetters, Letter, Payload},
};

use super::choice::{Choice, Which, parted};
use crate::{
    error::{Error, code},
    filter::Filter,
    output::{Output, Style, columns},
    quantity,
    schemas::{Decoded, Schemas, Verdict, escaped},
    session::Session,
};

/// Letters read at once.
const PAGE: usize = 256;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  sinew dlq ls\n  sinew dlq ls orders/mailer --code busy --younger-than 1h\n  sinew dlq ls \
                  orders --filter 'total>100' --json | jq -r '.[].sequence' | xargs sinew dlq retry"
)]
pub(crate) struct Ls {
    /// Only of this group (SERVICE/GROUP) or service
    #[arg(value_name = "GROUP")]
    of: Option<Which>,
    #[command(flatten)]
    choice: Choice,
    /// Only letters whose data holds this: member=value, !=, ~ (contains), > or <; several must all hold
    #[arg(long, value_name = "CONDITION")]
    filter: Vec<Filter>,
    /// At most this many
    #[arg(long, default_value_t = 100, value_name = "NUMBER")]
    limit: usize,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  sinew dlq show 42\n  sinew dlq show 42 --json | jq .data")]
pub(crate) struct Show {
    /// The letter's sequence, as `sinew dlq ls` shows it
    sequence: u64,
}

/// A dead letter as programs see it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Shown {
    pub(super) sequence: u64,
    service: String,
    group: String,
    event: String,
    id: Option<String>,
    schema: Option<String>,
    code: String,
    reason: String,
    attempts: u32,
    time: Option<Timestamp>,
    trace: Option<String>,
    /// Where the event was published to, and its sequence there.
    stream: String,
    origin: u64,
    /// Whether its payload has to be read from there, or is gone.
    payload: &'static str,
    #[serde(flatten)]
    decoded: Decoded,
    raw: Option<String>,
    headers: Map<String, Value>,
    /// Where the first version of an edited letter is kept.
    original: Option<u64>,
}

pub(super) async fn list(args: Ls, session: &Session) -> Result<(), Error> {
    let shown = session.on_bus(async |bus| chosen(bus, &args).await).await?;
    session.output.show(&shown, |shown| table(shown, args.limit));
    Ok(())
}

pub(super) async fn one(args: Show, session: &Session) -> Result<(), Error> {
    let shown = session
        .on_bus(async |bus| {
            let letter = DeadLetters::new(bus).get(args.sequence).await;
            let letter = letter.or_else(nothing_died)?.ok_or_else(|| unknown(args.sequence))?;
            Ok(Shown::new(letter, &Schemas::load(bus).await))
        })
        .await?;
    session.output.show(&shown, |shown| shown.to_text(&session.output));
    Ok(())
}

/// Without its stream there are no letters.
fn nothing_died(error: sinew::Error) -> Result<Option<Letter>, Error> {
    if error.kind() == sinew::Kind::JetStream { Ok(None) } else { Err(error.into()) }
}

/// The error for a letter that is not there.
pub(super) fn unknown(sequence: u64) -> Error {
    Error::failed(code::UNKNOWN_LETTER, format!("there is no dead letter {sequence}"))
        .hint("`sinew dlq ls` lists them; somebody may have retried or dropped it")
}

async fn chosen(bus: &Bus, args: &Ls) -> Result<Vec<Shown>, Error> {
    if let Some(Which::Sequence(sequence)) = args.of {
        return Err(Error::usage(format!("a sequence is shown by `sinew dlq show {sequence}`")));
    }
    let (_, place) = parted(args.of.as_slice())?;
    let (letters, filter) = (DeadLetters::new(bus), args.choice.filter(place));
    let schemas = Schemas::load(bus).await;
    let (mut shown, mut after) = (Vec::new(), 0);
    loop {
        let page = letters.page(&filter, after, PAGE).await?;
        for letter in page.letters {
            let one = Shown::new(letter, &schemas);
            if one.meets(&args.filter) {
                shown.push(one);
            }
            if shown.len() >= args.limit {
                return Ok(shown);
            }
        }
        match page.next {
            Some(next) => after = next,
            None => return Ok(shown),
        }
    }
}

impl Shown {
    pub(super) fn new(letter: Letter, schemas: &Schemas) -> Self {
        let subject = format!("evt.{}", letter.event);
        let (payload, bytes) = match &letter.payload {
            Payload::Here(bytes) => ("here", Some(bytes)),
            Payload::Left => ("left", None),
            Payload::Gone => ("gone", None),
        };
        let decoded = match bytes {
            Some(bytes) => schemas.decode(&subject, &letter.headers, bytes),
            None => Decoded { data: None, verdict: Verdict::Unknown, reason: None },
        };
        let raw = bytes.filter(|_| decoded.verdict == Verdict::Undecodable).map(|bytes| escaped(bytes));
        let headers = letter.headers.iter().map(|(name, value)| (name.to_owned(), value.into())).collect();
        let Letter { sequence, service, group, event, id, schema, .. } = letter;
        let Letter { code, reason, attempts, time, trace, stream, origin, original, .. } = letter;
        let trace = trace.map(|trace| trace.to_string());
        Self {
            sequence,
            service,
            group,
            event,
            id,
            schema,
            code,
            reason,
            attempts,
            time,
            trace,
            stream,
            origin,
            payload,
            decoded,
            raw,
            headers,
            original,
        }
    }

    fn meets(&self, filters: &[Filter]) -> bool {
        let data = self.decoded.data.as_ref().unwrap_or(&Value::Null);
        let subject = format!("evt.{}", self.event);
        let header = |name: &str| {
            let own = self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name));
            own.and_then(|(_, value)| value.as_str()).map(str::to_owned)
        };
        filters.iter().all(|filter| filter.takes(data, &subject, header))
    }

    fn age(&self) -> String {
        let age = self.time.map(|time| Timestamp::now().duration_since(time).unsigned_abs());
        age.map_or_else(|| "-".to_owned(), quantity::duration)
    }

    fn cells(&self) -> Vec<String> {
        let mut reason: String = self.reason.chars().take(80).collect();
        if reason.len() < self.reason.len() {
            reason.push('…');
        }
        let group = format!("{}/{}", self.service, self.group);
        let attempts = self.attempts.to_string();
        vec![
            self.sequence.to_string(),
            group,
            self.event.clone(),
            self.code.clone(),
            attempts,
            self.age(),
            reason,
        ]
    }

    fn to_text(&self, output: &Output) -> String {
        let title = format!("dead letter {} of {}/{}", self.sequence, self.service, self.group);
        let or_none = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
        let row = |name: &str, value: String| vec![format!("  {name}"), value];
        let rows = columns(&[
            row("event", format!("{} {}", or_none(&self.schema), or_none(&self.id))),
            row("reason", format!("{} ({})", self.reason, self.code)),
            row("attempts", self.attempts.to_string()),
            row("died", format!("{} ago", self.age())),
            row("trace", or_none(&self.trace)),
            row("origin", format!("{} #{}", self.stream, self.origin)),
            row("edited", self.original.map_or_else(|| "no".to_owned(), |kept| format!("yes, was #{kept}"))),
        ]);
        let headers: Vec<Vec<String>> = self
            .headers
            .iter()
            .map(|(name, value)| row(name, value.as_str().unwrap_or_default().to_owned()))
            .collect();
        let strong = |text: &str| output.paint(Style::Strong, text);
        let data = match (&self.decoded.data, &self.raw, self.payload) {
            (Some(data), ..) => serde_json::to_string_pretty(data).unwrap_or_default(),
            (None, Some(raw), _) => raw.clone(),
            (None, None, "gone") => "gone: the stream does not hold the event any more".to_owned(),
            (None, None, _) => "(empty)".to_owned(),
        };
        let wrong =
            self.decoded.reason.as_ref().map(|reason| format!("\n{}", output.paint(Style::Doubtful, reason)));
        format!(
            "{}\n{rows}\n\n{}\n{}\n\n{}\n{data}{}",
            strong(&title),
            strong("headers"),
            columns(&headers),
            strong("payload"),
            wrong.unwrap_or_default()
        )
    }
}

fn table(shown: &[Shown], limit: usize) -> String {
    if shown.is_empty() {
        return "no dead letters".to_owned();
    }
    let head =
        ["SEQUENCE", "GROUP", "EVENT", "CODE", "ATTEMPTS", "AGE", "REASON"].map(str::to_owned).to_vec();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(shown.iter().map(Shown::cells)).collect();
    let more = if shown.len() >= limit { "\n\nthere may be more: raise --limit" } else { "" };
    format!("{}{more}", columns(&rows))
}
