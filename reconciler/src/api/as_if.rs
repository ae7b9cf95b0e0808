//! The plan of a topology as if it were in force, against what is observed. Pure.
//!
//! Every site is planned alone, nothing restricted: which sites may start, and what guards allow,
//! depends on what else is under way by then. Sites that the topology leaves out are planned as
//! gone. A server that nobody has heard of yet counts as not joined, for that is what it is until
//! its agent answers; a renamed one as seen under its old name. Records that were never read stay
//! unknown unless they are taken in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stead_plan::render::plan_id;
use stead_plan::{Context, Permits, Policy, plan_site, record_keys};
use stead_schemas::api::PlanView;
use stead_schemas::desired::{DnsDesired, HierarchyDesired, ServerDesired, SiteDesired};
use stead_schemas::names::{SecretName, SiteCode};
use stead_schemas::observed::{Contact, RecordObserved, ServedBy, ServerObserved, SiteObserved};
use stead_schemas::plan::SitePlan;
use stead_schemas::record::RecordKey;
use stead_schemas::time::{DurationMs, WallMs};

use super::snapshot::{SiteSnapshot, Snapshot, is_manual, suspensions_of};
use crate::site::hold_without_secrets;

/// A topology, and what is known of each of its sites and of those it leaves out.
#[derive(Debug)]
pub(super) struct AsIf {
    sites: Vec<Site>,
    now: WallMs,
}

#[derive(Debug)]
struct Site {
    desired: Option<Arc<SiteDesired>>,
    observed: Arc<SiteObserved>,
    context: Context,
}

impl AsIf {
    /// As things are in the snapshot, which is not changed.
    pub(super) fn new(target: &HierarchyDesired, snapshot: &Snapshot) -> Self {
        let codes: BTreeSet<&SiteCode> = snapshot.sites.keys().chain(target.sites.keys()).collect();
        let sites = codes
            .into_iter()
            .map(|code| Site::new(code, target, snapshot))
            .collect();
        Self {
            sites,
            now: snapshot.now,
        }
    }

    /// Records that the topology has to do with and that were never read.
    pub(super) fn unread(&self) -> BTreeSet<RecordKey> {
        let unread = self.sites.iter().flat_map(|site| {
            let keys = record_keys(site.desired.as_deref(), &site.observed, &site.context);
            keys.into_iter()
                .filter(|key| !site.observed.records.contains_key(key))
        });
        unread.collect()
    }

    /// Takes in what was read of records that are not known yet.
    pub(super) fn take_in(&mut self, read: &BTreeMap<RecordKey, RecordObserved>) {
        for site in &mut self.sites {
            let keys = record_keys(site.desired.as_deref(), &site.observed, &site.context);
            let news = keys
                .into_iter()
                .filter(|key| !site.observed.records.contains_key(key))
                .filter_map(|key| Some((key.clone(), read.get(&key)?.clone())))
                .collect::<Vec<_>>();
            if !news.is_empty() {
                Arc::make_mut(&mut site.observed).records.extend(news);
            }
            site.fit(self.now);
        }
    }

    /// The plans of all sites and their id; what lacks a secret is held.
    pub(super) fn plan(
        &self,
        tree: &str,
        has_secret: impl Fn(&SiteCode, &SecretName) -> bool,
    ) -> PlanView {
        let policy = Policy::default();
        let plans: Vec<SitePlan> = self
            .sites
            .iter()
            .map(|site| {
                let desired = site.desired.as_deref();
                let mut plan = plan_site(desired, &site.observed, &site.context, self.now, &policy);
                hold_without_secrets(&mut plan, &has_secret);
                plan
            })
            .collect();
        let observed = self.sites.iter().map(|site| &*site.observed);
        let pairs: Vec<(&SitePlan, &SiteObserved)> = plans.iter().zip(observed).collect();
        PlanView::of(Some(plan_id(tree, &pairs)), &plans)
    }
}

impl Site {
    fn new(code: &SiteCode, target: &HierarchyDesired, snapshot: &Snapshot) -> Self {
        let desired = target.sites.get(code).cloned();
        let known: Option<&SiteSnapshot> = snapshot.sites.get(code).map(|site| &**site);
        let mut observed = known.map_or_else(Arc::default, |site| Arc::clone(&site.observed));
        for (name, server) in desired.iter().flat_map(|site| &site.servers) {
            if !observed.servers.contains_key(name) {
                let servers = &mut Arc::make_mut(&mut observed).servers;
                let former = server.was.as_ref().and_then(|was| servers.remove(was));
                let seen = former.unwrap_or_else(|| unjoined(server, snapshot.now));
                servers.insert(name.clone(), seen);
            }
        }
        let context = Context {
            site: code.clone(),
            hierarchy: target.name.clone(),
            revision: "".into(),
            dns: target.dns.clone(),
            recorded: known.map_or_else(Arc::default, |site| Arc::clone(&site.context.recorded)),
            suspended: suspensions_of(&snapshot.suspensions, code),
            drained: known.map_or_else(Default::default, |site| site.context.drained.clone()),
            permits: Permits::all(),
            replaced: known.map_or_else(Default::default, |site| site.context.replaced.clone()),
            witness: known.map_or_else(Default::default, |site| site.context.witness.clone()),
            manual: is_manual(&snapshot.suspensions, code),
        };
        let mut site = Self {
            desired,
            observed,
            context,
        };
        site.fit(snapshot.now);
        site
    }

    /// Readings by the topology's DNS servers, in its order; those it adds have not answered.
    fn fit(&mut self, now: WallMs) {
        let Some(dns) = self.context.dns.clone() else {
            return;
        };
        if self.observed.records.values().all(|one| fits(one, &dns)) {
            return;
        }
        for record in Arc::make_mut(&mut self.observed).records.values_mut() {
            let read = std::mem::take(&mut record.servers);
            let of = |server| read.iter().find(|one| one.server == server).cloned();
            let slots = dns.servers.iter().map(|server| {
                of(*server).unwrap_or(ServedBy {
                    server: *server,
                    at: now,
                    served: None,
                    cause: None,
                })
            });
            record.servers = slots.collect();
        }
    }
}

fn fits(record: &RecordObserved, dns: &DnsDesired) -> bool {
    record
        .servers
        .iter()
        .map(|one| &one.server)
        .eq(&dns.servers)
}

fn unjoined(server: &ServerDesired, now: WallMs) -> ServerObserved {
    ServerObserved {
        contact: Contact::Silent {
            since: now,
            confirmed_for: DurationMs(0),
        },
        report: None,
        heard_at: None,
        confirmed_lost: None,
        agent: (server.address, server.agent_port).into(),
        checked: None,
    }
}
