//! Which sites and agents have tasks: one a site, one a server, as desired and as remembered.
//!
//! A site or server that is gone from git keeps its task until nothing of it is left. Starting and
//! ending tasks is all that happens here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use stead_schemas::api::TakeoverView;
use stead_schemas::desired::SiteDesired;
use stead_schemas::names::{ServerName, SiteCode};
use stead_wire::peer::Peer;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::core::{Core, InForce, Retire};
use crate::observe::agent::Agent;
use crate::site::changes::Told;
use crate::site::takeovers::Takeovers;
use crate::site::{Site, task};
use crate::store::{ServerMemory, SiteMemory, Write};

/// All tasks of sites and servers.
#[derive(Debug)]
pub struct Fleet {
    core: Arc<Core>,
    remembered: BTreeMap<SiteCode, SiteMemory>,
    reports: BTreeMap<ServerName, ServerMemory>,
    told: BTreeMap<SiteCode, Told>,
    takeovers: BTreeMap<SiteCode, BTreeMap<u64, TakeoverView>>,
    crews: BTreeMap<SiteCode, Crew>,
    applied: Option<Arc<InForce>>,
    /// Where calls to agents leave from.
    from: Option<IpAddr>,
}

/// The tasks of one site.
#[derive(Debug)]
struct Crew {
    site: Arc<Site>,
    task: Ended,
    agents: BTreeMap<ServerName, (SocketAddr, Ended)>,
}

/// A task that ends when this is dropped.
#[derive(Debug)]
struct Ended(JoinHandle<()>);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// This reconciler's own address, where it is one of several programs on the loopback. Elsewhere the
/// system chooses: what is declared is where others find it, which need not be an address of this host.
fn own_address(force: &InForce, name: &ServerName) -> Option<IpAddr> {
    let declared = force.desired.reconcilers.get(name)?;
    Some(declared.address).filter(IpAddr::is_loopback)
}

impl Fleet {
    /// No task yet; what is remembered is taken up with the first revision.
    #[must_use]
    pub const fn new(
        core: Arc<Core>,
        remembered: BTreeMap<SiteCode, SiteMemory>,
        reports: BTreeMap<ServerName, ServerMemory>,
        told: BTreeMap<SiteCode, Told>,
        takeovers: BTreeMap<SiteCode, BTreeMap<u64, TakeoverView>>,
    ) -> Self {
        Self {
            core,
            remembered,
            reports,
            told,
            takeovers,
            crews: BTreeMap::new(),
            applied: None,
            from: None,
        }
    }

    /// Follows the revision in force until the task is ended.
    pub async fn run(mut self, mut retiring: mpsc::Receiver<Retire>) {
        let mut force = self.core.watch_in_force();
        loop {
            let now = force.borrow_and_update().clone();
            if let Some(now) = now {
                self.apply(&now);
            }
            // Both are cancel safe.
            tokio::select! {
                changed = force.changed() => if changed.is_err() { return },
                what = retiring.recv() => match what {
                    Some(what) => self.retire(&what),
                    None => return,
                },
            }
        }
    }

    fn apply(&mut self, force: &Arc<InForce>) {
        if self
            .applied
            .as_ref()
            .is_some_and(|applied| Arc::ptr_eq(applied, force))
        {
            return;
        }
        self.core
            .admissions
            .start_revision(&force.revision, &force.desired.guards);
        let codes: BTreeSet<SiteCode> = force
            .desired
            .sites
            .keys()
            .chain(self.crews.keys())
            .chain(self.remembered.keys())
            .cloned()
            .collect();
        let all = self
            .applied
            .as_ref()
            .is_none_or(|applied| applied.desired.dns != force.desired.dns);
        self.from = own_address(force, &self.core.config.name);
        for code in codes {
            self.apply_site(&code, force.desired.sites.get(&code), all);
        }
        self.applied = Some(Arc::clone(force));
    }

    fn apply_site(&mut self, code: &SiteCode, desired: Option<&Arc<SiteDesired>>, all: bool) {
        let site = self.crew(code);
        let now = self.core.clock.now();
        let mut world = site.world();
        let same = match (&world.desired, desired) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            _ => false,
        };
        if !same {
            world.desired = desired.cloned();
            world.site_type = desired.map(|d| d.site_type).or(world.site_type);
            world.taken.start_revision(now);
            world.version += 1;
        }
        for (name, server) in desired.into_iter().flat_map(|d| &d.servers) {
            world.add_server(
                name,
                SocketAddr::new(server.address, server.agent_port),
                now,
            );
        }
        let wanted: BTreeMap<ServerName, SocketAddr> = world
            .observed
            .servers
            .iter()
            .map(|(name, server)| (name.clone(), server.agent))
            .collect();
        for name in wanted.keys() {
            if let Some(memory) = self.reports.remove(name)
                && let Some(server) = world.observed.servers.get_mut(name)
            {
                server.heard_at = Some(memory.heard_at);
                server.report = Some(memory.report);
            }
            if let Some(server) = world.observed.servers.get_mut(name) {
                server.confirmed_lost = self.core.lost(name).map(|lost| lost.at);
            }
        }
        if !same {
            let memory = world.memory();
            self.core
                .store
                .write(Write::Site(code.clone(), Some(memory)));
        }
        drop(world);
        self.observe(code, &site, wanted);
        if !same || all {
            site.wake();
        }
    }

    fn crew(&mut self, code: &SiteCode) -> Arc<Site> {
        if let Some(crew) = self.crews.get(code) {
            return Arc::clone(&crew.site);
        }
        let memory = self.remembered.remove(code).unwrap_or_default();
        let told = self.told.remove(code).unwrap_or_default();
        let now = self.core.clock.now();
        let takeovers = self.takeovers.remove(code).unwrap_or_default();
        let site = Arc::new(Site::new(code.clone(), memory, told, now));
        site.world().takeovers = Takeovers::remembered(takeovers);
        self.core.place_site(code, Some(Arc::clone(&site)));
        let task = tokio::spawn(task::run(Arc::clone(&self.core), Arc::clone(&site)));
        let crew = Crew {
            site: Arc::clone(&site),
            task: Ended(task),
            agents: BTreeMap::new(),
        };
        self.crews.insert(code.clone(), crew);
        site
    }

    /// A task for each server, begun anew where the address is another.
    fn observe(
        &mut self,
        code: &SiteCode,
        site: &Arc<Site>,
        wanted: BTreeMap<ServerName, SocketAddr>,
    ) {
        let Some(crew) = self.crews.get_mut(code) else {
            return;
        };
        crew.agents.retain(|name, _| wanted.contains_key(name));
        for (server, addr) in wanted {
            if crew.agents.get(&server).is_some_and(|(at, _)| *at == addr) {
                continue;
            }
            let identity = self.core.agent_identity(&server);
            let peer = |identity| {
                let peer = Peer::new(addr, identity, Arc::clone(&self.core.tls));
                peer.leaving_from(self.from)
            };
            let commands = Arc::new(peer(identity.clone()));
            site.world().peers.insert(server.clone(), commands);
            // It only reads: no server looks dead for a date (H20).
            let peer = Arc::new(peer(identity).tolerant());
            let agent = Agent {
                core: Arc::clone(&self.core),
                site: Arc::clone(site),
                server: server.clone(),
                peer,
            };
            let task = tokio::spawn(agent.run());
            crew.agents.insert(server, (addr, Ended(task)));
        }
    }

    fn retire(&mut self, what: &Retire) {
        match what {
            Retire::Server(code, server) => {
                let declared = self.applied.as_ref().is_some_and(|force| {
                    force
                        .desired
                        .sites
                        .get(code)
                        .is_some_and(|site| site.servers.contains_key(server))
                });
                if let Some(crew) = self.crews.get_mut(code)
                    && !declared
                    && crew.agents.remove(server).is_some()
                {
                    let mut world = crew.site.world();
                    world.forget_server(server);
                    let memory = world.memory();
                    drop(world);
                    self.core.store.write(Write::Server(server.clone(), None));
                    self.core.store.write(Write::Lost(server.clone(), None));
                    self.core.set_lost(server, None);
                    self.core.store.write(Write::Drain(server.clone(), None));
                    self.core.set_drain(server, None);
                    let write = Write::Site(code.clone(), Some(memory));
                    self.core.store.write(write);
                    crew.site.wake();
                }
            }
            Retire::Site(code) => {
                let declared = self
                    .applied
                    .as_ref()
                    .is_some_and(|force| force.desired.sites.contains_key(code));
                if !declared && let Some(crew) = self.crews.remove(code) {
                    self.core.place_site(code, None);
                    self.core.admissions.forget(code);
                    self.core.store.write(Write::Site(code.clone(), None));
                    crew.task.0.abort();
                }
            }
        }
    }
}
