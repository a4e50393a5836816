//! The orchestrator on a real server: what a saga does, what bad requests get, what survives which kill.

mod children;
mod commands;
mod conformance;
mod examples;
mod faults;
mod features;
mod hosts;
mod lab;
mod large;
mod later;
mod lifecycle;
mod limits;
mod listen;
mod log;
mod ownership;
mod parking;
mod people;
mod protocols;
mod requests;
mod sagas;
mod schedules;

pub(crate) use faults::Orchestrator;
pub(crate) use lab::{Lab, timeline};
