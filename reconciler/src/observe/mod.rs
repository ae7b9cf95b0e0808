//! Observation: what agents say, and what it means when they don't.
//!
//! [`agent`] is the task that watches one server; [`judge`] decides, purely, when a silence is one.

pub mod agent;
pub mod judge;
