//! What travels between Sinew services. Pure: no I/O, no clock, no randomness, no async runtime.
//!
//! A message on the bus is a [`Subject`], a few [`Headers`] and a payload in one of two [`ContentType`]s.
//! A request type implements [`Request`], an event type [`Event`], an error type [`ServiceError`]; all three are
//! derived by the SDK's macros and describe themselves in a [`ServiceDescriptor`], which is what the catalogue holds.
//!
//! ```
//! use sinew_wire::{ContentType, Subject};
//!
//! let bytes = sinew_wire::encode(ContentType::MessagePack, &("tea", 2)).unwrap();
//! let (what, count): (String, u32) = sinew_wire::decode(ContentType::MessagePack, &bytes).unwrap();
//! assert_eq!((what.as_str(), count), ("tea", 2));
//! assert_eq!(Subject::operation(&"orders".parse().unwrap(), &"place".parse().unwrap()).as_str(), "svc.orders.place");
//! ```

mod codec;
mod contract;
mod event;
mod headers;
mod name;
mod problem;
mod subject;
mod trace;

pub use codec::{CodecError, ContentType, decode, encode, transcode};
pub use contract::{
    BatchDescriptor, BreakerDescriptor, DependencyDescriptor, Described, Event, EventDescriptor,
    GroupDescriptor, HttpBinding, LimitsDescriptor, OperationDescriptor, ProblemDescriptor, Request,
    RequirementDescriptor, ServiceDescriptor, ServiceError, StreamRequest, UploadRequest,
};
pub use event::CloudEvent;
pub use headers::{Headers, InvalidHeader, header};
pub use name::{InstanceId, InvalidName, OperationName, ServiceName};
pub use problem::Problem;
pub use subject::{InvalidSubject, Subject};
pub use trace::{InvalidTraceContext, SpanId, TraceContext, TraceId, TraceText};
