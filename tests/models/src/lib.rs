//! Four exhaustive models of the lease over the very node that runs in agents (H17): *lease*,
//! *release*, *configuration* and *tokens*, and for each a way to go wrong that it must find.
//!
//! Around `site_lease::Node` stands what is no part of it: clocks, a network, processes, guards, a
//! database. A wrong variant is wrong there, never by a switch in the node. One model of everything
//! is out of reach; what lies beyond these bounds is left to the random histories in `site-lease`.
//!
//! - A tick is 1,000 ms; a lease lasts two. Times are kept relative to now and what has run out is
//!   left out ([`site_lease::Node::fold`]), so there is no last tick: any number of renewals.
//! - What was sent stays on its way and may come at any time, or never, or, if a question, again: loss, delay,
//!   disorder and repeats. Of one kind a channel holds the newest and at most one stale copy.
//! - A host's own vote is a call; so are sounding, which always finds a quorum, and refusals.
//! - A candidate whose next term would be above the bound finds no quorum: it is a witness from then on.
//! - What a site remembers (H21) is left out. Where voters never change, nobody is asked to store them.

mod configuration;
mod lease;
mod mail;
mod release;
mod rules;
mod run;
mod shared;
mod site;
mod tokens;
mod world;

pub use configuration::{configuration, configuration_bounds, configuration_variants};
pub use lease::{lease, lease_bounds, lease_variants};
pub use release::{release, release_bounds, release_variants};
pub use rules::{Faults, Invariant, Rules, Variant, Wrong};
pub use run::{Outcome, exhaust, find};
pub use shared::Shared;
pub use site::{Agent, Machine, Packet, Register, Session, Site, Work};
pub use tokens::{database_bounds, dns_bounds, tokens, tokens_variants};
pub use world::{Step, World};
