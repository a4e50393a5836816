//! Authentication policies.
