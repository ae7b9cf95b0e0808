//! Tests of the API: its views over one moment, and its endpoints over a backend that records.

mod drains;
mod endpoints;
mod leases;
mod proposal;
mod views;
pub(crate) mod world;
