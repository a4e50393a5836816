//! Identical requests at one time ask once: the first one goes on, the others wait for its answer.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use http_body_util::Full;
use hyper::body::{Body as _, Bytes, Incoming};
use tokio::sync::watch;

use super::key::Digest;
use crate::{
    Body, Edge, Response, config, exchange,
    exchange::Asked,
    observe::{Tally, tally::COALESCED},
    problem::Refusal,
    served::Served,
};

/// Places in [`COALESCED`].
const ASKED: usize = 0;
const SHARED: usize = 1;

/// Which requests are identical.
#[derive(Debug)]
pub(crate) struct Coalesce {
    route: String,
    fields: Vec<HeaderName>,
    tally: Tally,
}

/// What is asked just now. A lock, held to look a request up and never across an await.
#[derive(Debug, Default)]
pub(crate) struct Flights(Mutex<HashMap<Digest, watch::Receiver<Option<Answer>>>>);

/// An answer that several get.
#[derive(Clone, Debug)]
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Full<Bytes>,
}

/// The request that asks for all. When it is gone without an answer, the next one asks.
pub(super) struct Flight<'a> {
    flights: &'a Flights,
    key: Digest,
    answer: watch::Sender<Option<Answer>>,
}

impl Coalesce {
    pub(super) fn new(asked: &config::Coalesce, route: &str) -> Self {
        let mut fields = vec![header::ACCEPT];
        fields.extend(asked.vary.iter().filter_map(|name| HeaderName::try_from(name.as_str()).ok()));
        if !asked.across_credentials {
            fields.extend([header::AUTHORIZATION, header::COOKIE]);
        }
        Self { route: route.to_owned(), fields, tally: Tally::new(&COALESCED, route) }
    }

    /// Asks, or waits for the answer to whoever asks the same.
    ///
    /// # Errors
    /// As the target; 504 when the answer to the other one comes too late for this one.
    pub(crate) async fn ask(
        &self,
        edge: &Arc<Edge>,
        served: &Served,
        asked: Asked<'_>,
        body: Incoming,
    ) -> Result<Response, Refusal> {
        let safe = matches!(asked.head.method, Method::GET | Method::HEAD);
        if !safe || !body.is_end_stream() || asked.head.headers.contains_key(header::UPGRADE) {
            return exchange::reach(edge, served, asked, body).await;
        }
        let key = self.key(&asked);
        loop {
            match edge.policies.flights.join(key) {
                Err(flight) => {
                    self.tally.add(&edge.policies.tallies, ASKED);
                    let response = exchange::reach(edge, served, asked, body)
                        .await
                        .unwrap_or_else(Refusal::into_response);
                    return Ok(flight.land(response));
                }
                Ok(mut waiting) => {
                    let patience = asked.budget(edge);
                    let landed = tokio::time::timeout(patience, waiting.wait_for(Option::is_some)).await;
                    match landed.map_err(|_| waited())? {
                        Ok(answer) => {
                            let answer = answer.clone().ok_or_else(Refusal::internal)?;
                            self.tally.add(&edge.policies.tallies, SHARED);
                            return Ok(answer.into());
                        }
                        // Whoever asked is gone, or got a stream: this one asks itself.
                        Err(_) => continue,
                    }
                }
            }
        }
    }

    fn key(&self, asked: &Asked<'_>) -> Digest {
        let head = asked.head;
        let target = head.uri.path_and_query().map_or("", |target| target.as_str());
        let host = head.headers.get(header::HOST).map(|value| value.as_bytes());
        let mut parts = vec![Some(self.route.as_bytes()), Some(target.as_bytes()), host];
        for name in &self.fields {
            let values = head.headers.get_all(name).iter();
            // An absent part between: two fields of one value each are not one of two.
            parts.extend(values.map(|value| Some(value.as_bytes())).chain([None]));
        }
        Digest::of_parts(parts)
    }
}

impl Flights {
    /// Returns where to wait, or the flight that is to be made.
    pub(super) fn join(&self, key: Digest) -> Result<watch::Receiver<Option<Answer>>, Flight<'_>> {
        let mut flights = self.locked();
        if let Some(waiting) = flights.get(&key) {
            return Ok(waiting.clone());
        }
        let (answer, waiting) = watch::channel(None);
        flights.insert(key, waiting);
        Err(Flight { flights: self, key, answer })
    }

    fn locked(&self) -> MutexGuard<'_, HashMap<Digest, watch::Receiver<Option<Answer>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Flight<'_> {
    /// Ends it for all who wait, who look for themselves what came of it.
    pub(super) fn end(self) {}

    /// Gives the answer to all who wait. A stream cannot be had twice.
    fn land(self, response: Response) -> Response {
        let (parts, body) = response.into_parts();
        if let Body::Whole(whole) = &body {
            let answer = Answer { status: parts.status, headers: parts.headers.clone(), body: whole.clone() };
            // Nobody may wait.
            let _ = self.answer.send(Some(answer));
        }
        Response::from_parts(parts, body)
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.locked().remove(&self.key);
    }
}

impl From<Answer> for Response {
    fn from(answer: Answer) -> Self {
        let mut response = Response::new(Body::Whole(answer.body));
        (*response.status_mut(), *response.headers_mut()) = (answer.status, answer.headers);
        response
    }
}

fn waited() -> Refusal {
    let title = "the answer to an identical request did not come in time";
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "deadline-exceeded", title)
}
