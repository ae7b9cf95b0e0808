//! Decisions of the reconciler: what leads from what is observed to what is desired.
//!
//! Pure: no IO, no clock, no randomness; the same input gives the same plan. [`plan_site`] makes
//! the road of one site, [`admit`] decides which sites may start. Carrying out is `stead`'s work.
//!
//! A pass goes so: plan every changed site with [`Permits::all`], [`summarise`] each plan,
//! [`admit`] over all summaries, and plan those again that [`Admission::permits`] restricts. The
//! second plan keeps what is not permitted where it is and says so in a hold; taking steps out of
//! a finished plan would leave payloads that no longer fit.

mod admit;
mod agents;
mod context;
mod crowd;
mod drain;
mod lease;
mod lease_steps;
mod leave;
mod lint;
mod members;
mod offline;
mod payload;
mod place;
mod ports;
mod prerequisites;
mod publish;
mod readings;
mod recorded;
mod records;
pub mod render;
mod road;
mod server_names;
mod shortage;
mod site;
mod site_server;
mod spec;
mod updates;
mod witness;
mod world;

#[cfg(test)]
mod tests;

pub use admit::{Admission, InFlight, SiteSummary, admit, summarise};
pub use context::{Context, Drain, Permits, Policy, Scope, Suspension};
pub use drain::{Drained, Fate, drained};
pub use lease::{Known, Parked, parked};
pub use lint::{Note, NoteKind, lint};
pub use offline::{Offline, offline_plans, offline_site};
pub use place::placement;
pub use readings::{record_keys, served_instances, wanted_records};
pub use recorded::{objects, recorded_after};
pub use site::plan_site;
pub use witness::witness_spec;
