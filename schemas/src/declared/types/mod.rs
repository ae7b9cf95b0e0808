//! The documents as written: one Rust type a kind, from which schema, help and editor hover come.
//!
//! Doc comments here are what `stead explain` prints and what an editor shows. The types hold the
//! form only; what a reference must point to is `declared::checks`.

mod database;
mod document;
mod hierarchy;
mod partial;
mod role_settings;
mod service;
mod site;
mod site_set;

pub use database::*;
pub use document::*;
pub use hierarchy::*;
pub use partial::*;
pub use role_settings::*;
pub use service::*;
pub use site::*;
pub use site_set::*;
