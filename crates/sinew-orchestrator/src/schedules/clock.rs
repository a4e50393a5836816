//! `every` and `cron`: one instance for each moment, whoever owns the shard when it comes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sinew_workflow::{Schedule, Timestamp};

use super::{Job, Missed, now, sleep_until};

pub(super) const KIND: &str = "clock";
/// Missed moments that are made up for.
const MOST: usize = 1_000;
/// Moments looked at before the older ones are given up.
const LOOKED_AT: usize = 100_000;

/// What the clock has done.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Done {
    digest: String,
    /// When the schedule came into force.
    since: Timestamp,
    /// The newest moment that was seen to.
    last: Timestamp,
}

/// Starts instances by the clock; returns where no clock starts any.
pub(super) async fn run(job: &Job, schedule: &Schedule) {
    let began = now();
    if schedule.next(began, began).is_none() {
        return;
    }
    let known = job.recall::<Done>(KIND).await.filter(|done| done.digest == job.newest.digest);
    let mut done = match known {
        Some(done) => done,
        None => {
            let done = Done { digest: job.newest.digest.clone(), since: began, last: began };
            job.note(KIND, &done).await;
            done
        }
    };
    let missed = schedule.missed().map_or(job.settings.missed, Missed::from);
    while let Some(next) = schedule.next(done.since, done.last) {
        sleep_until(next).await;
        let (fire, last) = due(schedule, &done, now(), missed, job.settings.grace_seconds);
        for moment in fire {
            job.starter.start(&job.wanted(&stamp(moment), json!({}))).await;
            done.last = moment;
            job.note(KIND, &done).await;
        }
        if done.last < last {
            tracing::warn!(workflow = job.newest.place, up_to = %last, "moments of a schedule were missed");
            done.last = last;
            job.note(KIND, &done).await;
        }
    }
}

/// Returns the moments to see to now, and the newest that has passed.
fn due(
    schedule: &Schedule,
    done: &Done,
    now: Timestamp,
    missed: Missed,
    grace_seconds: u64,
) -> (Vec<Timestamp>, Timestamp) {
    let (mut passed, mut last) = (VecDeque::new(), done.last);
    let mut looked_at = 0;
    while let Some(next) = schedule.next(done.since, last).filter(|next| *next <= now) {
        last = next;
        passed.push_back(next);
        if passed.len() > MOST {
            passed.pop_front();
        }
        looked_at += 1;
        if looked_at >= LOOKED_AT {
            // A clock that stood for long, or was set: what is left of the past is given up.
            passed.clear();
            last = now;
            break;
        }
    }
    let timely = |moment: &Timestamp| now.since(*moment) <= grace_seconds.saturating_mul(1_000);
    let fire = match missed {
        Missed::All => passed.into(),
        Missed::Once => passed.pop_back().into_iter().collect(),
        Missed::Skip => passed.pop_back().filter(timely).into_iter().collect(),
    };
    (fire, last)
}

/// Writes a moment as part of an instance's id.
fn stamp(moment: Timestamp) -> String {
    let text: String = moment.to_string().chars().filter(char::is_ascii_alphanumeric).collect();
    match text.strip_suffix("000Z") {
        Some(seconds) => format!("{seconds}Z"),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(text: &str) -> Schedule {
        let source = format!(
            "document: {{ dsl: '1.0.3', namespace: t, name: t, version: '1.0.0' }}\nschedule: {text}\ndo: [ {{ a: {{ set: {{ b: 1 }} }} }} ]"
        );
        sinew_workflow::Definition::parse(&source, "t.yaml").unwrap().schedule().unwrap().clone()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_millis(seconds * 1_000)
    }

    fn fired(text: &str, last: i64, now: i64, missed: Missed) -> (Vec<i64>, i64) {
        let done = Done { digest: "d".into(), since: at(0), last: at(last) };
        let (fire, last) = due(&schedule(text), &done, at(now), missed, 5);
        (fire.into_iter().map(|moment| moment.as_millis() / 1_000).collect(), last.as_millis() / 1_000)
    }

    #[test]
    fn what_was_missed_is_skipped_made_up_for_once_or_all_of_it() {
        let every = |now, missed| fired("{ every: PT10S }", 10, now, missed);
        for missed in [Missed::Skip, Missed::Once, Missed::All] {
            assert_eq!(every(15, missed), (vec![], 10), "nothing is due");
            assert_eq!(every(22, missed), (vec![20], 20), "a little late is in time");
        }
        assert_eq!(every(48, Missed::Skip), (vec![], 40));
        assert_eq!(every(41, Missed::Skip), (vec![40], 40), "the newest is in time");
        assert_eq!(every(48, Missed::Once), (vec![40], 40));
        assert_eq!(every(48, Missed::All), (vec![20, 30, 40], 40));
    }

    #[test]
    fn a_long_absence_is_bounded() {
        let (fire, last) = fired("{ every: PT1S }", 0, 50_000, Missed::All);
        assert_eq!((fire.len(), fire[0], last), (MOST, 49_001, 50_000));
        let year = 31_536_000;
        assert_eq!(fired("{ every: PT1S }", 0, year, Missed::All), (vec![], year));
        assert_eq!(fired("{ cron: '0 0 * * *' }", 0, 3 * 86_400 + 1, Missed::Once), (vec![259_200], 259_200));
    }

    #[test]
    fn a_moment_is_part_of_an_id() {
        assert_eq!(stamp(at(1_700_000_000)), "20231114T221320Z");
        assert_eq!(stamp(Timestamp::from_millis(1_700_000_000_250)), "20231114T221320250Z");
    }
}
