//! What holds of the broker whatever is sent to it.

use proptest::prelude::*;

use super::*;

const INBOX: &str = "_INBOX.t.pull";
const API: Place = (0, 1);
const PULL: Place = (0, 2);
const LIMIT: u64 = 3;
const MAX_DELIVER: u64 = 4;

#[derive(Clone, Debug)]
enum Step {
    Publish(u8, Option<u8>),
    Ask(u8),
    Ack(usize),
    Nak(usize, u8),
    Term(usize),
    Progress(usize),
    Advance(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..4, proptest::option::of(0u8..4)).prop_map(|(subject, id)| Step::Publish(subject, id)),
        3 => (1u8..4).prop_map(Step::Ask),
        3 => any::<usize>().prop_map(Step::Ack),
        2 => (any::<usize>(), 0u8..5).prop_map(|(which, delay)| Step::Nak(which, delay)),
        1 => any::<usize>().prop_map(Step::Term),
        1 => any::<usize>().prop_map(Step::Progress),
        2 => (0u8..20).prop_map(Step::Advance),
    ]
}

/// A server with one stream and one consumer, and what came out of it.
struct Bench {
    server: Server,
    /// Every delivery: sequence, attempt and where to acknowledge.
    delivered: Vec<(u64, u64, String)>,
    answers: Vec<Value>,
}

impl Bench {
    fn new() -> Self {
        let mut server = Server::new("2030-01-01T00:00:00Z".parse().unwrap());
        server.subscribe(API, "_INBOX.t.api", None);
        server.subscribe(PULL, INBOX, None);
        let mut bench = Self { server, delivered: Vec::new(), answers: Vec::new() };
        bench.api("STREAM.CREATE.S", &json!({ "name": "S", "subjects": ["s.>"], "max_msgs_per_subject": 5 }));
        let config = json!({
            "filter_subject": "s.*", "ack_policy": "explicit", "ack_wait": 10_000_000_000_u64,
            "max_deliver": MAX_DELIVER, "max_ack_pending": LIMIT,
        });
        bench.api("CONSUMER.CREATE.S.c", &json!({ "stream_name": "S", "config": config }));
        assert!(bench.answers.iter().all(|answer| answer["error"].is_null()), "{:?}", bench.answers);
        bench
    }

    fn api(&mut self, operation: &str, body: &Value) {
        let mut packet = Packet::new(format!("$JS.API.{operation}"), body.to_string());
        packet.reply = Some("_INBOX.t.api".to_owned());
        self.send(packet);
    }

    fn send(&mut self, packet: Packet) {
        let deliveries = self.server.publish(packet);
        self.receive(deliveries);
    }

    fn receive(&mut self, deliveries: Vec<Delivery>) {
        for (place, packet) in deliveries {
            if place == API {
                self.answers.push(serde_json::from_slice(&packet.payload).unwrap());
                continue;
            }
            let Some(reply) = packet.reply else { continue };
            let tokens: Vec<u64> = reply.split('.').skip(4).map(|token| token.parse().unwrap()).collect();
            self.delivered.push((tokens[1], tokens[0], reply));
        }
    }

    fn answer(&mut self, which: usize, word: &str) {
        if let Some((_, _, reply)) = self.delivered.get(which % self.delivered.len().max(1)) {
            let packet = Packet::new(reply.clone(), word.to_owned());
            self.send(packet);
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Publish(subject, id) => {
                let mut packet = Packet::new(format!("s.{subject}"), "x");
                packet.reply = Some("_INBOX.t.api".to_owned());
                if let Some(id) = id {
                    packet.headers.set("Nats-Msg-Id", id.to_string()).unwrap();
                }
                self.send(packet);
            }
            Step::Ask(batch) => {
                let body = json!({ "batch": batch }).to_string();
                let packet = Packet::new("$JS.API.CONSUMER.MSG.NEXT.S.c", body);
                self.send(Packet { reply: Some(INBOX.to_owned()), ..packet });
            }
            Step::Ack(which) => self.answer(*which, "+ACK"),
            Step::Nak(which, delay) => {
                self.answer(*which, &format!("-NAK {{\"delay\":{}}}", u64::from(*delay) * 1_000_000_000));
            }
            Step::Term(which) => self.answer(*which, "+TERM"),
            Step::Progress(which) => self.answer(*which, "+WPI"),
            Step::Advance(seconds) => {
                let to = later(self.server.now(), Duration::from_secs(u64::from(*seconds)));
                let deliveries = self.server.advance(to);
                self.receive(deliveries);
            }
        }
    }

    fn info(&mut self, what: &str) -> Value {
        self.api(what, &Value::Null);
        self.answers.pop().unwrap()
    }
}

proptest! {
    #[test]
    fn a_consumer_keeps_its_limits_and_the_order_of_first_deliveries(steps in proptest::collection::vec(step(), 0..80)) {
        let mut bench = Bench::new();
        for step in &steps {
            bench.take(step);
            let info = bench.info("CONSUMER.INFO.S.c");
            prop_assert!(info["num_ack_pending"].as_u64().unwrap() <= LIMIT);
        }
        let firsts: Vec<u64> =
            bench.delivered.iter().filter(|(_, attempt, _)| *attempt == 1).map(|(sequence, ..)| *sequence).collect();
        prop_assert!(firsts.is_sorted_by(|a, b| a < b), "{:?}", firsts);
        for (sequence, attempt, _) in &bench.delivered {
            prop_assert!(*attempt <= MAX_DELIVER, "#{sequence} came for the {attempt}th time");
        }
    }

    #[test]
    fn whatever_happened_every_message_comes_to_an_end(steps in proptest::collection::vec(step(), 0..80)) {
        let mut bench = Bench::new();
        steps.iter().for_each(|step| bench.take(step));
        // A member that acknowledges what it gets.
        let mut seen = 0;
        for _ in 0..60 {
            bench.take(&Step::Ask(3));
            for which in seen..bench.delivered.len() {
                bench.answer(which, "+ACK");
            }
            seen = bench.delivered.len();
            bench.take(&Step::Advance(11));
        }
        let info = bench.info("CONSUMER.INFO.S.c");
        prop_assert_eq!((&info["num_pending"], &info["num_ack_pending"]), (&json!(0), &json!(0)));
        prop_assert!(bench.server.unsettled().is_empty(), "{:?}", bench.server.unsettled());
    }

    #[test]
    fn the_same_steps_have_the_same_outcome(steps in proptest::collection::vec(step(), 0..60)) {
        let run = || {
            let mut bench = Bench::new();
            steps.iter().for_each(|step| bench.take(step));
            (bench.delivered, bench.answers)
        };
        prop_assert_eq!(run(), run());
    }

    #[test]
    fn a_stream_keeps_its_limits_and_its_numbers(steps in proptest::collection::vec(step(), 0..80)) {
        let mut bench = Bench::new();
        steps.iter().for_each(|step| bench.take(step));
        let sequences: Vec<u64> = bench.server.stored("S").map(|(sequence, _)| sequence).collect();
        prop_assert!(sequences.is_sorted_by(|a, b| a < b));
        for subject in 0..4 {
            let subject = format!("s.{subject}");
            let kept = bench.server.stored("S").filter(|(_, entry)| entry.subject == subject).count();
            prop_assert!(kept <= 5, "{subject} keeps {kept}");
        }
        let fresh = |answer: &&Value| answer["stream"] == "S" && answer["duplicate"].is_null() && answer["seq"].is_u64();
        let numbers: Vec<u64> = bench.answers.iter().filter(fresh).filter_map(|answer| answer["seq"].as_u64()).collect();
        prop_assert_eq!(&numbers, &(1..=numbers.len() as u64).collect::<Vec<_>>());
    }
}

#[test]
fn time_moves_in_steps_and_never_back() {
    let mut bench = Bench::new();
    let now = bench.server.now();
    assert_eq!(bench.server.next_due(), None);
    bench.take(&Step::Publish(0, None));
    bench.take(&Step::Ask(1));
    assert_eq!(
        bench.server.next_due(),
        Some(later(now, Duration::from_secs(10))),
        "the member has ten seconds"
    );
    bench.server.advance(later(now, Duration::from_secs(5)));
    bench.server.advance(now);
    assert_eq!(bench.server.now(), later(now, Duration::from_secs(5)));
}

#[test]
fn a_recurring_schedule_fires_each_time_and_once_per_subject() {
    let mut bench = Bench::new();
    let config = json!({ "name": "E", "subjects": ["e.>"], "allow_msg_schedules": true });
    bench.api("STREAM.CREATE.E", &config);
    for every in ["@every 5s", "@every 10s"] {
        let mut packet = Packet::new("e.plan", "tick");
        packet.headers.set("Nats-Schedule", every).unwrap();
        packet.headers.set("Nats-Schedule-Target", "e.tick").unwrap();
        bench.send(packet);
    }
    for _ in 0..3 {
        let due = bench.server.next_due().unwrap();
        bench.server.advance(due);
    }
    let fired: Vec<String> = bench
        .server
        .stored("E")
        .filter(|(_, entry)| entry.subject == "e.tick")
        .map(|(_, entry)| entry.stored.to_string())
        .collect();
    assert_eq!(fired, ["2030-01-01T00:00:10Z", "2030-01-01T00:00:20Z", "2030-01-01T00:00:30Z"]);
    assert_eq!(bench.server.waiting("E").len(), 1);
}
