//! A site's lease as the planner sees it: what its voters report, and what each is to be told.
//!
//! Who is active is decided by the voters; nothing here is. The newest report speaks for the site:
//! what a majority stored outlives every reconciler (H7, H21). Steps and holds are drafted in
//! `lease_steps`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use stead_schemas::alias::AliasJob;
use stead_schemas::desired::{SiteDesired, SiteServerDesired};
use stead_schemas::lease::{
    DeclaredActive, LeasePart, LeaseReport, LeaseSpec, MemoryReport, VoterSpec, VotersReport,
};
use stead_schemas::names::{IdentityKind, ServerName};
use stead_schemas::observed::{Contact, SiteObserved};
use stead_schemas::wire::AgentReport;

use crate::world::{Server, World};

/// The declared active that is not honoured now: the site failed over, or was switched over by
/// hand, and git said nothing new since (H21).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// What git declares, and the site took note of.
    pub declared: ServerName,
    /// Who is active.
    pub holder: ServerName,
}

/// Whether the declared active of a site is parked. For `status`: it is no step and no hold.
#[must_use]
pub fn parked(desired: &SiteDesired, observed: &SiteObserved) -> Option<Parked> {
    let site_server = desired.site_server.as_ref().filter(|s| s.has_lease())?;
    let known = Known::of_site(observed);
    let (memory, holder) = (known.memory?, known.holder?);
    let parked = memory.declared.as_ref() == Some(&site_server.active)
        && memory.request.is_none()
        && *holder != site_server.active;
    parked.then(|| Parked {
        declared: site_server.active.clone(),
        holder: holder.clone(),
    })
}

/// What the voters of a site report, the newest of each.
#[derive(Debug, Clone, Copy, Default)]
pub struct Known<'a> {
    /// Voters as stored.
    pub voters: Option<&'a VotersReport>,
    /// What the site remembers.
    pub memory: Option<&'a MemoryReport>,
    /// Who holds the lease, by those that are heard.
    pub holder: Option<&'a ServerName>,
}

impl<'a> Known<'a> {
    /// From everything observed of a site.
    #[must_use]
    pub fn of_site(observed: &'a SiteObserved) -> Self {
        Self::of(observed.servers.values().filter_map(|server| {
            let report = server.report.as_deref()?;
            Some((report, server.contact == Contact::Heard))
        }))
    }

    /// From reports, and whether each is current.
    pub(crate) fn of(reports: impl Iterator<Item = (&'a AgentReport, bool)>) -> Self {
        let mut known = Self::default();
        // One that says it holds is believed before one that says whom it granted a term.
        let mut best = (false, 0);
        for (agent, heard) in reports {
            let Some(report) = agent.lease.as_deref() else {
                continue;
            };
            let of = |voters: &VotersReport| (voters.number, voters.term);
            known.voters = known
                .voters
                .into_iter()
                .chain(&report.voters)
                .max_by_key(|v| of(v));
            let newer = known.memory.is_none_or(|m| report.memory.number > m.number);
            if newer {
                known.memory = Some(&report.memory);
            }
            let claim = match (report.part, &report.holder) {
                (LeasePart::Holding, _) => Some((true, &agent.server)),
                (_, Some(holder)) => Some((false, holder)),
                (_, None) => None,
            };
            if let Some((own, holder)) = claim.filter(|_| heard)
                && (known.holder.is_none() || (own, report.term) > best)
            {
                best = (own, report.term);
                known.holder = Some(holder);
            }
        }
        known
    }

    /// Whether a server's vote counts, or is about to.
    pub(crate) fn has_vote(&self, server: &ServerName) -> bool {
        self.voters.is_some_and(|voters| {
            let pending = voters.pending.as_ref();
            voters.in_force.contains_key(server)
                || pending.is_some_and(|pending| pending.contains_key(server))
        })
    }

    /// The founding, where nothing was changed since.
    pub(crate) fn founding(&self) -> Option<&'a BTreeMap<ServerName, u64>> {
        let voters = self.voters.filter(|v| (v.number, v.term) == (1, 0))?;
        Some(&voters.in_force)
    }
}

/// What a site has to do with a lease.
#[derive(Clone, Copy)]
pub(crate) enum Rule<'a> {
    /// It is to have one.
    Leased(&'a SiteServerDesired),
    /// It had one, and its active is to go on without.
    Ending(&'a SiteServerDesired),
    /// It had one, and no site server any more.
    Over,
    /// It has none.
    None,
}

/// The lease of one site.
pub(crate) struct Lease<'a> {
    pub(crate) rule: Rule<'a>,
    pub(crate) known: Known<'a>,
}

impl<'a> Lease<'a> {
    pub(crate) fn new(
        desired: Option<&'a SiteDesired>,
        servers: &BTreeMap<&'a ServerName, Server<'a>>,
    ) -> Self {
        let site_server = desired.and_then(|site| site.site_server.as_ref());
        let left = || {
            let mut reports = servers.values().filter_map(|server| server.report);
            reports.any(|report| report.assigned_lease.is_some())
        };
        let rule = match site_server {
            Some(site_server) if site_server.has_lease() => Rule::Leased(site_server),
            _ if !left() => Rule::None,
            Some(site_server) => Rule::Ending(site_server),
            None => Rule::Over,
        };
        let reports = servers
            .values()
            .filter_map(|server| Some((server.report?, server.is_heard())));
        Self {
            rule,
            known: match rule {
                Rule::None => Known::default(),
                Rule::Leased(_) | Rule::Ending(_) | Rule::Over => Known::of(reports),
            },
        }
    }

    /// The site server, while a lease says which one is active.
    pub(crate) const fn site_server(&self) -> Option<&'a SiteServerDesired> {
        match self.rule {
            Rule::Leased(site_server) | Rule::Ending(site_server) => Some(site_server),
            Rule::Over | Rule::None => None,
        }
    }

    pub(crate) fn is_holder(&self, server: &ServerName) -> bool {
        self.known.holder == Some(server)
    }

    /// Who shall vote in the end.
    pub(crate) fn declared(&self) -> BTreeSet<&'a ServerName> {
        match self.rule {
            Rule::Leased(site_server) => {
                let lease = site_server.lease.iter();
                lease.flat_map(|lease| lease.voters.keys()).collect()
            }
            Rule::Ending(site_server) => BTreeSet::from([&site_server.active]),
            Rule::Over | Rule::None => BTreeSet::new(),
        }
    }

    /// The declared voters vote, and nobody else.
    pub(crate) fn is_as_declared(&self) -> bool {
        self.known.voters.is_some_and(|voters| {
            voters.pending.is_none() && voters.in_force.keys().eq(self.declared())
        })
    }
}

/// Whether a lease that git asks for no more can be ended: the active votes alone, or nobody ever
/// did, or it was ended and only others have still to hear of it.
pub(crate) fn ends(world: &World<'_>) -> bool {
    let (lease, Rule::Ending(site_server)) = (&world.lease, world.lease.rule) else {
        return false;
    };
    let holds = |server: &Server<'_>| {
        report_of(server).is_some_and(|report| report.part == LeasePart::Holding)
    };
    let ended = || {
        let active = world.servers.get(&site_server.active);
        let report = active.and_then(|server| server.report);
        report.is_some_and(|report| report.assigned_lease.is_none())
            && !world.servers.values().any(holds)
    };
    lease.known.voters.is_none() || lease.is_as_declared() || ended()
}

/// Whether a lease says now who is active: then the alias is its holder's to write, too (H22).
pub(crate) fn decides(world: &World<'_>) -> bool {
    match world.lease.rule {
        Rule::Leased(_) => true,
        Rule::Ending(_) => !ends(world),
        Rule::Over | Rule::None => false,
    }
}

/// What a server is to be told; none: that it has no part in a lease. `founding`: a new site's
/// voters may begin.
pub(crate) fn spec_for(
    world: &World<'_>,
    server: &Server<'_>,
    founding: bool,
) -> Option<LeaseSpec> {
    let mut spec = declared_spec(world)?;
    if !spec.voters.contains_key(server.name)
        && !world.lease.known.has_vote(server.name)
        && !world.lease.is_holder(server.name)
    {
        return None;
    }
    complete(world, &mut spec);
    spec.founders = founders(world, server, &spec, founding);
    spec.alias = alias(world, server, &spec);
    Some(spec)
}

/// What git asks of the lease, the holder and the lives of ledgers left out.
pub(crate) fn declared_spec(world: &World<'_>) -> Option<LeaseSpec> {
    match world.lease.rule {
        Rule::Leased(site_server) => leased(site_server),
        Rule::Ending(site_server) if !ends(world) => ending(world, site_server),
        Rule::Ending(_) | Rule::Over | Rule::None => None,
    }
}

/// Adds what the voters report: the holder, the memory, the lives of ledgers.
pub(crate) fn complete(world: &World<'_>, spec: &mut LeaseSpec) {
    keep_holder(world, spec);
    if world.context.manual {
        make_manual(spec);
    }
    stand_down(world, spec);
    for (name, voter) in &mut spec.voters {
        voter.incarnation = incarnation(world, name, voter.kind);
    }
}

/// Nobody takes over, or back, by itself (H31).
fn make_manual(spec: &mut LeaseSpec) {
    spec.automatic = false;
    spec.failback_after = None;
}

/// A drained server votes and does not take over: it may be switched off at any moment. As it is no
/// candidate meanwhile, nobody goes solo for its silence, either (H3). Once its drain has ended it
/// stands by again; the active does not come back to it by itself before it is undrained.
fn stand_down(world: &World<'_>, spec: &mut LeaseSpec) {
    for (name, voter) in &mut spec.voters {
        let server = world.servers.get(name);
        if server.is_some_and(|server| server.is_away() && !holds(world, server)) {
            voter.rank = None;
        }
    }
    let active = world.servers.get(&spec.declared.active);
    if active.is_some_and(|active| active.drained.is_some()) {
        spec.failback_after = None;
    }
}

/// Whether a server holds the lease, by its own word or another's.
pub(crate) fn holds(world: &World<'_>, server: &Server<'_>) -> bool {
    let part = report_of(server).map(|report| report.part);
    world.lease.is_holder(server.name)
        || matches!(part, Some(LeasePart::Holding | LeasePart::Stopping))
}

/// What a server is told where nothing but failover may be stopped; none: it was, or has no part.
pub(crate) fn manual_for(world: &World<'_>, server: &Server<'_>) -> Option<LeaseSpec> {
    let mut spec = server.report?.assigned_lease.as_deref()?.clone();
    let goes_on = spec.automatic || spec.failback_after.is_some();
    make_manual(&mut spec);
    (world.context.manual && goes_on && server.is_heard()).then_some(spec)
}

/// How a server that may hold publishes the site's alias (H22).
fn alias(world: &World<'_>, server: &Server<'_>, spec: &LeaseSpec) -> Option<Box<AliasJob>> {
    spec.voters.get(server.name)?.rank?;
    let dns = world.context.dns.as_deref()?;
    let address = server.declared?.address;
    let job = AliasJob::new(dns, &world.context.hierarchy, world.code, address);
    // A secret's name that leaves no room for the site's code is an error of `check`.
    job.ok().map(Box::new)
}

fn leased(site_server: &SiteServerDesired) -> Option<LeaseSpec> {
    let lease = site_server.lease.as_ref()?;
    Some(LeaseSpec {
        voters: lease.voters.clone(),
        founders: None,
        declared: DeclaredActive {
            active: site_server.active.clone(),
            above: 0,
        },
        automatic: lease.automatic,
        failback_after: lease.failback_after,
        failovers_per_hour: lease.failovers_per_hour,
        timing: lease.timing,
        alias: None,
    })
}

/// As it was, with the active alone.
fn ending(world: &World<'_>, site_server: &SiteServerDesired) -> Option<LeaseSpec> {
    let told = |server: &Server<'_>| server.report?.assigned_lease.as_deref().cloned();
    let holder = world
        .lease
        .known
        .holder
        .and_then(|name| world.servers.get(name));
    let mut spec = holder
        .and_then(told)
        .or_else(|| world.servers.values().find_map(told))?;
    let voter = voter_of(world, &site_server.active, 0)?;
    spec.voters = BTreeMap::from([(site_server.active.clone(), voter)]);
    spec.declared.active = site_server.active.clone();
    Some(spec)
}

/// Only a holder that votes can change the voters: one that git no longer names goes on, last in
/// rank, until it has handed over.
fn keep_holder(world: &World<'_>, spec: &mut LeaseSpec) {
    spec.declared.above = world.lease.known.memory.map_or(0, |memory| memory.number);
    let Some(holder) = world.lease.known.holder else {
        return;
    };
    let last = spec.voters.values().filter_map(|voter| voter.rank).max();
    let rank = last.map_or(0, |last| last + 1);
    if !spec.voters.contains_key(holder)
        && world.lease.known.has_vote(holder)
        && let Some(voter) = voter_of(world, holder, rank)
    {
        spec.voters.insert(holder.clone(), voter);
    }
}

/// A server of the site as a voter: where it is declared, else where it was heard.
fn voter_of(world: &World<'_>, name: &ServerName, rank: u32) -> Option<VoterSpec> {
    let server = world.servers.get(name)?;
    let declared = server
        .declared
        .map(|declared| SocketAddr::new(declared.address, declared.agent_port));
    let seen = world.observed.servers.get(name).map(|seen| seen.agent);
    Some(VoterSpec {
        kind: IdentityKind::Server,
        address: declared.or(seen)?,
        rank: Some(rank),
        incarnation: None,
    })
}

/// The life of a voter's ledger that is let in: the one in force, unless a person replaced it; one
/// that does not vote yet says it itself (H4).
fn incarnation(world: &World<'_>, name: &ServerName, kind: IdentityKind) -> Option<u64> {
    let own = own_incarnation(world, name, kind);
    let in_force = world.lease.known.voters.map(|voters| &voters.in_force);
    match in_force.and_then(|in_force| in_force.get(name)) {
        Some(in_force) if world.context.replaced.contains(name) => own.or(Some(*in_force)),
        Some(in_force) => Some(*in_force),
        None => own,
    }
}

/// What a voter says itself of its ledger, now or when last heard.
fn own_incarnation(world: &World<'_>, name: &ServerName, kind: IdentityKind) -> Option<u64> {
    match kind {
        IdentityKind::Reconciler => world.context.witness.get(name).copied(),
        _ => Some(report_of(world.servers.get(name)?)?.incarnation),
    }
}

pub(crate) fn report_of<'a>(server: &Server<'a>) -> Option<&'a LeaseReport> {
    server.report?.lease.as_deref()
}

/// A voter whose ledger is not the one in force: it lost it, or came back with an older one.
pub(crate) fn has_new_ledger(world: &World<'_>, name: &ServerName, kind: IdentityKind) -> bool {
    let heard =
        kind == IdentityKind::Reconciler || world.servers.get(name).is_some_and(Server::is_heard);
    let Some(voters) = world.lease.known.voters.filter(|_| heard) else {
        return false;
    };
    let own = own_incarnation(world, name, kind);
    let pending = voters.pending.as_ref().and_then(|p| p.get(name)).copied();
    let in_force = voters.in_force.get(name).copied();
    in_force.is_some()
        && own.is_some_and(|own| Some(own) != in_force && Some(own) != pending)
        && !world.context.replaced.contains(name)
}

/// A voter whose ledger a person gave up (`stead promote --lost`, H32): it is not let in again.
pub(crate) fn is_given_up(world: &World<'_>, name: &ServerName, kind: IdentityKind) -> bool {
    let lost = world.lease.known.memory.and_then(|m| m.lost.get(name));
    lost.is_some_and(|lost| own_incarnation(world, name, kind).is_none_or(|own| own == *lost))
}

/// The founders, for a voter that has no voters yet: all of a new site once every one is heard, or
/// the same ones again where others took them (H4).
fn founders(
    world: &World<'_>,
    server: &Server<'_>,
    spec: &LeaseSpec,
    founding: bool,
) -> Option<BTreeMap<ServerName, u64>> {
    let known = &world.lease.known;
    let own = report_of(server)?;
    if own.voters.is_some() {
        return None;
    }
    if known.voters.is_some() {
        let founding = known.founding()?;
        let is_in = founding.get(server.name) == Some(&own.incarnation);
        return is_in.then(|| founding.clone());
    }
    let all = spec.voters.iter().filter(|_| founding);
    let all: Option<BTreeMap<_, _>> = all
        .map(|(name, voter)| Some((name.clone(), voter.incarnation?)))
        .collect();
    all.filter(|all| !all.is_empty())
}

/// A voter that a new site's lease waits for: not heard, or not able to vote.
pub(crate) fn founding_waits<'a>(world: &World<'a>) -> Option<&'a ServerName> {
    let Rule::Leased(site_server) = world.lease.rule else {
        return None;
    };
    let voters = site_server.lease.iter().flat_map(|lease| &lease.voters);
    let mut waits = voters.filter(|(name, voter)| match voter.kind {
        IdentityKind::Reconciler => !world.context.witness.contains_key(*name),
        _ => world.servers.get(*name).is_none_or(|server| {
            let problem = report_of(server).is_some_and(|report| report.problem.is_some());
            !server.is_heard() || problem
        }),
    });
    waits.next().map(|(name, _)| name)
}

/// Whether a voter is told what it should be. What only matters once is not compared after it: the
/// founders to one that has voters, the memory to one that is not asked to change anything.
pub(crate) fn is_told(server: &Server<'_>, want: Option<&LeaseSpec>) -> bool {
    let told = server.report.and_then(|r| r.assigned_lease.as_deref());
    let (Some(told), Some(want)) = (told, want) else {
        return told.is_none() && want.is_none();
    };
    let LeaseSpec {
        voters,
        founders,
        declared,
        automatic,
        failback_after,
        failovers_per_hour,
        timing,
        alias,
    } = told;
    let report = report_of(server);
    let founded = report.is_some_and(|report| report.voters.is_some());
    let asks = report.is_some_and(|report| {
        let before = report.memory.declared.as_ref();
        report.part == LeasePart::Holding
            && before.is_some_and(|before| *before != want.declared.active)
    });
    *voters == want.voters
        && (founded || *founders == want.founders)
        && declared.active == want.declared.active
        && (!asks || declared.above == want.declared.above)
        && *automatic == want.automatic
        && *failback_after == want.failback_after
        && *failovers_per_hour == want.failovers_per_hour
        && *timing == want.timing
        && *alias == want.alias
}
