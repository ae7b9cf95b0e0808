//! Voters of the model world: they do what their lease spec says, as a majority would in the end.
//!
//! No messages and no time here (`site-lease` has both): whoever answers the reconciler is up and
//! reaches the others, whoever does not is down.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use stead_schemas::desired::{LeaseDesired, SiteDesired};
use stead_schemas::lease::{
    LeasePart, LeaseReport, LeaseTiming, MemoryReport, VoterSpec, VotersReport,
};
use stead_schemas::names::{IdentityKind, ServerName};
use stead_schemas::observed::Contact;
use stead_schemas::wire::{Health, Program};

use super::host::Host;
use super::model::{Model, SiteExt as _, mk_service, name};
use crate::world::SITE_SERVER;

/// What the voters of a model need beside their reports.
#[derive(Clone, Default)]
pub(super) struct Voting {
    pub(super) replaced: BTreeSet<ServerName>,
    pub(super) witness: BTreeMap<ServerName, u64>,
    pub(super) manual: bool,
    /// How many ledgers were made.
    ledgers: u64,
    /// Ledgers of those that have no part in a lease now: never thrown away.
    kept: BTreeMap<ServerName, Box<LeaseReport>>,
    holder: Option<ServerName>,
    term: u64,
}

/// A site whose site server runs under a lease.
pub(super) fn leased(
    site: SiteDesired,
    active: &str,
    passive: &[&str],
    witnesses: &[&str],
) -> SiteDesired {
    let candidates = std::iter::once(&active).chain(passive);
    let ranked = (0u32..)
        .zip(candidates)
        .map(|(rank, name)| (*name, Some(rank)));
    let others = witnesses.iter().map(|name| (*name, None));
    let voters = ranked.chain(others).map(|(voter, rank)| {
        let server = site.servers.get(&name::<ServerName>(voter));
        let spec = VoterSpec {
            kind: server.map_or(IdentityKind::Reconciler, |_| IdentityKind::Server),
            address: server.map_or_else(
                || SocketAddr::from(([10, 0, 0, 5], 7443)),
                |server| SocketAddr::new(server.address, server.agent_port),
            ),
            rank,
            incarnation: None,
        };
        (name(voter), spec)
    });
    let lease = LeaseDesired {
        voters: voters.collect(),
        automatic: true,
        failback_after: None,
        failovers_per_hour: Some(3),
        timing: LeaseTiming::default(),
    };
    site.site_server(active, passive).with(|site| {
        let site_server = site.site_server.as_mut().unwrap();
        site_server.witnesses = witnesses.iter().map(|witness| name(witness)).collect();
        site_server.lease = Some(Box::new(lease));
        site_server.settings = serde_json::json!({"site": "P01"});
        let mut service = mk_service("1");
        service.program = Program::BuiltIn;
        site_server.service = Some(service);
    })
}

impl Host {
    fn is_up(&self) -> bool {
        self.contact == Contact::Heard
    }

    pub(super) fn lease(&self) -> &LeaseReport {
        self.real.lease.as_ref().unwrap()
    }

    /// Its vote ledger is lost; a new one is made.
    pub(super) fn forget(&mut self) {
        self.real.lease = None;
    }

    fn in_force(&self) -> Option<&VotersReport> {
        self.real.lease.as_ref()?.voters.as_ref()
    }

    /// It votes: its ledger is the one in force.
    fn votes(&self, voters: &VotersReport) -> bool {
        let lease = self.real.lease.as_ref();
        self.is_up()
            && self.real.assigned_lease.is_some()
            && lease.is_some_and(|lease| {
                voters.in_force.get(&self.real.server) == Some(&lease.incarnation)
            })
    }

    fn stands_by(&self) -> bool {
        let spec = self.real.assigned.get(&*SITE_SERVER);
        let report = self.real.instances.get(&*SITE_SERVER);
        let told = self.real.assigned_lease.as_ref();
        told.is_some_and(|told| told.is_candidate(&self.real.server))
            && spec.is_some_and(|spec| !spec.settings.is_null())
            && report.is_some_and(|report| report.health == Health::Healthy)
    }
}

impl Model {
    pub(super) fn holder(&self) -> Option<&str> {
        self.voting.holder.as_ref().map(ServerName::as_str)
    }

    /// What the newest voter remembers.
    pub(super) fn memory(&self) -> MemoryReport {
        let leases = self.hosts.values().filter_map(|h| h.real.lease.as_ref());
        let newest = leases.map(|l| &l.memory).max_by_key(|memory| memory.number);
        newest.cloned().unwrap_or_default()
    }

    pub(super) fn in_force(&self) -> Vec<&str> {
        let voters = self.newest().into_iter().flat_map(|v| v.in_force.keys());
        voters.map(ServerName::as_str).collect()
    }

    fn newest(&self) -> Option<&VotersReport> {
        let voters = self.hosts.values().filter_map(Host::in_force);
        voters.max_by_key(|voters| (voters.number, voters.term))
    }

    /// All voters of the site until nothing follows any more.
    pub(super) fn vote(&mut self) {
        self.open_ledgers();
        for _ in 0..6 {
            self.elect();
            self.take_note();
            self.change_voters();
        }
        self.report();
    }

    fn open_ledgers(&mut self) {
        for host in self.hosts.values_mut().filter(|host| host.is_up()) {
            let Some(told) = &host.real.assigned_lease else {
                let kept = host.real.lease.take();
                let kept = kept.map(|ledger| (host.real.server.clone(), ledger));
                self.voting.kept.extend(kept);
                continue;
            };
            let kept = self.voting.kept.remove(&host.real.server);
            let lease = host.real.lease.get_or_insert_with(|| {
                self.voting.ledgers += 1;
                kept.unwrap_or_else(|| Box::new(mk_ledger(self.voting.ledgers)))
            });
            let founders = told
                .founders
                .as_ref()
                .filter(|founders| founders.get(&host.real.server) == Some(&lease.incarnation));
            if let (None, Some(founders)) = (&lease.voters, founders) {
                lease.voters = Some(VotersReport {
                    number: 1,
                    term: 0,
                    in_force: founders.clone(),
                    pending: None,
                });
            }
        }
    }

    /// Who is up and votes, with the voters in force; none where those are no majority.
    fn majority(&self) -> Option<(VotersReport, Vec<ServerName>)> {
        let voters = self.newest()?.clone();
        let up: Vec<ServerName> = self
            .hosts
            .iter()
            .filter(|(_, host)| host.votes(&voters))
            .map(|(name, _)| name.clone())
            .collect();
        let witness = |name: &&ServerName| self.voting.witness.contains_key(*name);
        let witnesses = voters.in_force.keys().filter(witness).count();
        ((up.len() + witnesses) * 2 > voters.in_force.len()).then_some((voters, up))
    }

    fn elect(&mut self) {
        let Some((voters, up)) = self.majority() else {
            self.voting.holder = None;
            return;
        };
        let rank = |name: &ServerName| {
            let told = self.hosts[name].real.assigned_lease.as_ref()?;
            Some((told.voters.get(name)?.rank?, name.clone()))
        };
        let held = self.voting.holder.clone();
        let mut memory = self.memory();
        let stays = held.as_ref().is_some_and(|held| up.contains(held));
        let asked = memory
            .request
            .clone()
            .filter(|to| up.contains(to) && self.hosts[to].stands_by());
        let next = match (stays, asked) {
            (true, None) => held.clone(),
            (true, Some(to)) => Some(to),
            (false, _) => up.iter().filter_map(rank).min().map(|(_, name)| name),
        };
        if next.is_none() || next == held && stays {
            self.share(&voters, &memory);
            return;
        }
        self.voting.term += 1;
        memory.number += 1;
        memory.request.take_if(|to| Some(&*to) == next.as_ref());
        if !stays && self.voting.term > 1 {
            memory.failovers.push(self.now);
        }
        self.voting.holder = next;
        self.share(&voters, &memory);
    }

    /// Everybody who votes stores what the newest remembers.
    fn share(&mut self, voters: &VotersReport, memory: &MemoryReport) {
        for host in self.hosts.values_mut().filter(|host| host.votes(voters)) {
            let lease = host.real.lease.as_mut().unwrap();
            lease.voters = Some(voters.clone());
            lease.memory = memory.clone();
        }
    }

    /// The holder takes note of the declared active: a changed value, of what it knows (H21).
    fn take_note(&mut self) {
        let Some((voters, holder)) = self.voters_and_holder() else {
            return;
        };
        let told = self.hosts[&holder].real.assigned_lease.as_ref().unwrap();
        let declared = told.declared.clone();
        let mut memory = self.memory();
        let known = memory.declared.is_none() || declared.above == memory.number;
        if !known || memory.declared.as_ref() == Some(&declared.active) {
            return;
        }
        let first = memory.declared.is_none();
        memory.request = (!first && declared.active != holder).then(|| declared.active.clone());
        memory.declared = Some(declared.active);
        memory.number += 1;
        self.share(&voters, &memory);
    }

    fn voters_and_holder(&self) -> Option<(VotersReport, ServerName)> {
        let (voters, _) = self.majority()?;
        Some((voters, self.voting.holder.clone()?))
    }

    /// Asked for by hand (`stead switchover`).
    pub(super) fn ask_for(&mut self, to: &str) {
        let (voters, _) = self.voters_and_holder().unwrap();
        let mut memory = self.memory();
        memory.request = Some(name(to));
        memory.number += 1;
        self.share(&voters, &memory);
        self.vote();
    }

    /// The holder brings in the declared voters, once every ledger is known and it is one of them.
    fn change_voters(&mut self) {
        let Some((mut voters, holder)) = self.voters_and_holder() else {
            return;
        };
        let told = self.hosts[&holder].real.assigned_lease.as_ref().unwrap();
        let members: Option<BTreeMap<ServerName, u64>> = told
            .voters
            .iter()
            .map(|(name, voter)| Some((name.clone(), voter.incarnation?)))
            .collect();
        let Some(members) =
            members.filter(|members| *members != voters.in_force && members.contains_key(&holder))
        else {
            return;
        };
        let votes = |name: &&ServerName| {
            let host = self.hosts.get(*name);
            host.is_none_or(|host| {
                let lease = host.real.lease.as_ref();
                host.is_up() && lease.is_some_and(|l| members[*name] == l.incarnation)
            })
        };
        if members.keys().filter(votes).count() * 2 <= members.len() {
            return;
        }
        voters.number += 1;
        voters.term = self.voting.term;
        voters.in_force = members;
        let memory = self.memory();
        self.share(&voters, &memory);
    }

    fn report(&mut self) {
        let voters = self.newest().cloned();
        for host in self.hosts.values_mut().filter(|host| host.is_up()) {
            let votes = voters.as_ref().is_some_and(|voters| host.votes(voters));
            let ready = host.stands_by();
            let Some(lease) = host.real.lease.as_mut() else {
                continue;
            };
            lease.part = match &self.voting.holder {
                Some(holder) if *holder == host.real.server => LeasePart::Holding,
                _ if votes => LeasePart::Following,
                _ => LeasePart::Out,
            };
            if votes {
                lease.term = self.voting.term;
                lease.holder.clone_from(&self.voting.holder);
            }
            lease.ready = ready;
            lease.not_ready = (!ready).then(|| "its site server is not healthy".to_owned());
        }
    }
}

fn mk_ledger(incarnation: u64) -> LeaseReport {
    LeaseReport::new(incarnation)
}
