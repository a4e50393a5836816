//! Why an order was not placed: turns what the workflow says into what a customer understands.

use serde_json::Value;
use sinew::{Problem, workflow::FAULTED};

/// Why an order was not placed. Whatever had been done for it is undone; `saga` says how far that got.
#[derive(Debug, Problem)]
pub enum PlaceError {
    /// the order id cannot be used
    #[problem(status = 400)]
    InvalidId(String),
    /// the payment was refused
    #[problem(status = 402)]
    PaymentRefused {
        /// The order.
        order: String,
        /// How its saga stands.
        saga: String,
    },
    /// something is out of stock
    #[problem(status = 409)]
    OutOfStock {
        /// The order.
        order: String,
        /// How its saga stands.
        saga: String,
    },
    /// the order could not be shipped
    #[problem(status = 504)]
    ShippingFailed {
        /// The order.
        order: String,
        /// How its saga stands.
        saga: String,
    },
    /// Anything else the workflow or the bus answered.
    #[problem(transparent)]
    Other(Problem),
}

impl PlaceError {
    /// Reads the answer to a start that did not complete.
    pub(super) fn from_workflow(order: &str, problem: Problem) -> Self {
        if problem.code != FAULTED {
            return Self::Other(problem);
        }
        let fault = |member: &str| problem.extensions.get("fault")?.get(member)?.as_str();
        let saga = problem.extensions.get("saga").and_then(Value::as_str).unwrap_or("none").to_owned();
        let order = order.to_owned();
        match fault("code") {
            Some("card-declined") => Self::PaymentRefused { order, saga },
            Some("out-of-stock") => Self::OutOfStock { order, saga },
            // A carrier that does not answer gives no code; the task that failed tells.
            _ if fault("instance").is_some_and(|task| task.contains("/ship")) => {
                Self::ShippingFailed { order, saga }
            }
            _ => Self::Other(problem),
        }
    }

    /// The workflow completed, but this process was restarted meanwhile and keeps its book in memory.
    pub(super) fn forgotten(order: &str) -> Self {
        let problem =
            Problem::new(500, "forgotten-order", "the order was placed, but this process forgot it");
        Self::Other(problem.detail("the example keeps its book in memory").with("order", order))
    }
}

/// Says whether the workflow has ended, so that nothing more will be done for the order.
pub(super) fn is_final(problem: &Problem) -> bool {
    problem.code == FAULTED
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faulted(fault: Value) -> Problem {
        Problem::new(422, FAULTED, "the workflow faulted").with("fault", fault).with("saga", "compensated")
    }

    #[test]
    fn a_fault_becomes_what_a_customer_understands() {
        let status =
            |fault| sinew::ServiceError::to_problem(&PlaceError::from_workflow("o-1", faulted(fault))).status;
        assert_eq!(status(json!({ "code": "card-declined", "status": 402 })), 402);
        assert_eq!(status(json!({ "code": "out-of-stock", "status": 409 })), 409);
        assert_eq!(status(json!({ "instance": "/do/2/sendParcel/try/0/ship", "status": 408 })), 504);
        assert_eq!(status(json!({ "instance": "/do/1/takePayment", "status": 500 })), 422);
    }

    #[test]
    fn what_is_no_fault_of_the_workflow_is_handed_on() {
        let problem = Problem::new(503, "no-responders", "nobody there").retriable();
        let error = PlaceError::from_workflow("o-1", problem.clone());
        assert!(!is_final(&problem));
        assert_eq!(sinew::ServiceError::to_problem(&error), problem);
    }
}
