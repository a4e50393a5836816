//! What `call: human` asks here: answered by what was given, or by whoever sits at the terminal.

use std::{
    collections::{HashMap, VecDeque},
    io::IsTerminal as _,
};

use serde_json::Value;
use sinew_orchestrator::local::{Local, Question};
use tokio::sync::mpsc;

use super::events::standard_input;
use crate::{error::Error, output::Output, session::Session};

/// Answers by task, and whether somebody can be asked for more.
#[derive(Debug)]
pub(super) struct Answers {
    given: HashMap<String, VecDeque<Value>>,
    asks: bool,
}

impl Answers {
    /// Reads what was given; a person is asked for more where there is one, and standard input is `free`.
    pub(super) fn read(given: &[String], free: bool) -> Result<Self, Error> {
        let asks = free && std::io::stdin().is_terminal() && std::io::stderr().is_terminal();
        let mut answers = Self { given: HashMap::new(), asks };
        for answer in given {
            let Some((task, text)) = answer.split_once('=').filter(|(task, _)| !task.is_empty()) else {
                let message =
                    format!("--answer {answer}: write TASK=JSON, such as approve='{{\"approved\": true}}'");
                return Err(Error::usage(message));
            };
            answers.given.entry(task.to_owned()).or_default().push_back(value(text));
        }
        Ok(answers)
    }

    /// Answers whatever is asked, one question after the other.
    pub(super) async fn give(
        mut self,
        local: &Local,
        mut asked: mpsc::UnboundedReceiver<Question>,
        session: &Session,
    ) {
        let mut lines = None;
        while let Some(question) = asked.recv().await {
            let name = &question.name;
            loop {
                let Some(answer) = self.next(&question, &mut lines, &session.output).await else {
                    let hint = format!(
                        "nobody answers `{name}` as its schema asks: give --answer {name}=JSON, or run it at a terminal"
                    );
                    break local.decline(&question, &hint).await;
                };
                match local.answer(&question, answer).await {
                    Ok(()) => break,
                    Err(error) => session.output.note(&format!("{name}: {error}")),
                }
            }
        }
    }

    async fn next(
        &mut self,
        question: &Question,
        lines: &mut Option<mpsc::Receiver<String>>,
        output: &Output,
    ) -> Option<Value> {
        if let Some(answer) = self.given.get_mut(&question.name).and_then(VecDeque::pop_front) {
            return Some(answer);
        }
        if !self.asks {
            return None;
        }
        output.note(&prompt(question));
        lines.get_or_insert_with(standard_input).recv().await.map(|line| value(&line))
    }
}

/// Reads JSON; text that is none stays text.
fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::from(text))
}

fn prompt(question: &Question) -> String {
    let title = question.arguments.get("title").and_then(Value::as_str).unwrap_or("what is the answer?");
    let mut prompt = format!("{}: {title}", question.name);
    for (name, told) in
        question.arguments.as_object().into_iter().flatten().filter(|(name, _)| *name != "title")
    {
        prompt.push_str(&format!("\n  {name}: {told}"));
    }
    prompt + "\n  answer with JSON on one line:"
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn answers_are_json_or_text_and_kept_in_order() {
        let given = ["approve={\"approved\": true}", "name=Ada", "name=7"].map(str::to_owned);
        let answers = Answers::read(&given, false).unwrap();
        assert_eq!(answers.given["approve"], [json!({ "approved": true })]);
        assert_eq!(answers.given["name"], [json!("Ada"), json!(7)]);
        assert!(!answers.asks);
        assert!(Answers::read(&["=1".to_owned()], false).is_err());
    }
}
