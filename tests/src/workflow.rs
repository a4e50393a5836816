//! The orchestrator on a real server: what a saga does, what bad requests get, what survives which kill.

mod faults;
mod lab;
mod log;
mod ownership;
mod requests;
mod sagas;

pub(crate) use faults::Orchestrator;
