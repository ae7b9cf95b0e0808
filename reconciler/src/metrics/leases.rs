//! Figures of leases, read from a moment at each scrape: one series a site that has a lease.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use stead_schemas::names::SiteCode;

use super::OfSite;
use crate::api::{SiteSnapshot, lease_of, passives_of};

/// What is so of every lease.
#[derive(Debug, Default)]
pub(super) struct Leases {
    term: Family<OfSite, Gauge>,
    holder_heard: Family<OfSite, Gauge>,
    voters: Family<OfSite, Gauge>,
    silent: Family<OfSite, Gauge>,
    ready: Family<OfSite, Gauge>,
    failovers: Family<OfSite, Counter>,
    taken: Family<OfSite, Gauge<f64, AtomicU64>>,
}

impl Leases {
    pub(super) fn add_site(&self, code: &SiteCode, site: &SiteSnapshot) {
        let Some(view) = lease_of(site) else {
            return;
        };
        let of_site = OfSite {
            site: code.to_string(),
        };
        let set = |family: &Family<OfSite, Gauge>, value: usize| {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            family.get_or_create(&of_site).set(value);
        };
        let term = i64::try_from(view.term).unwrap_or(i64::MAX);
        self.term.get_or_create(&of_site).set(term);
        set(&self.holder_heard, usize::from(view.holder_heard));
        set(&self.voters, view.in_force().count());
        let silent = view.in_force().filter(|voter| voter.silent || !voter.heard);
        set(&self.silent, silent.count());
        let passives = passives_of(site);
        let ready = passives.iter().filter(|one| one.state == "ready").count();
        set(&self.ready, ready);
        self.failovers
            .get_or_create(&of_site)
            .inc_by(site.failovers);
        if let Some(last) = &view.last {
            #[expect(
                clippy::cast_precision_loss,
                reason = "milliseconds since 1970 fit 53 bits"
            )]
            let at = last.takeover.won_at.0 as f64 / 1_000.0;
            self.taken.get_or_create(&of_site).set(at);
        }
    }

    pub(super) fn register(self, registry: &mut Registry) {
        let Self {
            term,
            holder_heard,
            voters,
            silent,
            ready,
            failovers,
            taken,
        } = self;
        registry.register("lease_term", "The highest term granted", term);
        registry.register(
            "lease_holder_heard",
            "1 while the holder is heard and says that it holds",
            holder_heard,
        );
        registry.register("lease_voters", "Voters in force", voters);
        registry.register(
            "lease_voters_silent",
            "Voters in force that this reconciler or the holder does not hear",
            silent,
        );
        registry.register(
            "lease_ready_passives",
            "Passives that a takeover would succeed at",
            ready,
        );
        registry.register(
            "lease_failovers",
            "Takeovers because the holder was silent",
            failovers,
        );
        registry.register(
            "lease_last_takeover_timestamp_seconds",
            "When the lease was last taken up",
            taken,
        );
    }
}
