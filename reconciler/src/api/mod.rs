//! The reconciler's HTTP API: what it shows and what people may ask of it.
//!
//! Handlers turn a [`Snapshot`] into the views of `stead_schemas::api`; commands go to the
//! [`Backend`], which journals and wakes. Nothing here observes or acts; what is planned here is
//! only shown. The same router
//! serves the unix socket (same user) and mutual TLS (operators); who may call is `access`.

mod access;
mod as_if;
mod drain;
mod endpoints;
mod lease;
mod openapi;
mod prerequisites;
mod proposal;
mod records;
mod snapshot;
mod status;
mod switchover;
#[cfg(test)]
pub(crate) mod tests;
mod why;

pub use access::Access;
pub(crate) use access::By;
pub use drain::{DrainRefusal, needs_successor, outlook};
pub use endpoints::{health_router, router};
pub(crate) use lease::{lease as lease_of, passive as passives_of};
pub use openapi::openapi;
pub use snapshot::{
    Answer, Backend, Drained, LogRequest, LogStream, RecordsRead, SiteSnapshot, Snapshot, Switched,
    is_manual, suspensions_of,
};
pub use switchover::{SwitchoverRefusal, Way, failback, way};
