//! Laws of planning as properties (design section 4, H16): random sites, commits and faults.

use std::collections::BTreeSet;

use proptest::prelude::*;
use stead_schemas::desired::{GroupDesired, Placement, SiteDesired};
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::observed::Contact;
use stead_schemas::plan::{Action, StepId};
use stead_schemas::role::Role;
use stead_schemas::time::DurationMs;
use stead_schemas::wire::Health;

use super::model::{Model, SiteExt, mk_service, mk_site, name};
use super::voters::leased;
use crate::render::road;

const SERVERS: [(&str, &str); 6] = [
    ("seattle/room-1", "p01-f1"),
    ("seattle/room-2", "p01-f2"),
    ("seattle/room-3", "p01-f3"),
    ("seattle/room-1", "p01-f4"),
    ("seattle/room-2", "p01-f5"),
    ("tacoma/room-1", "p01-f6"),
];

/// One group as drawn: absent, by hand on some servers, or counted.
#[derive(Debug, Clone)]
enum Drawn {
    Absent,
    ByHand(Vec<usize>),
    ByCount(u16),
}

/// One revision as drawn.
#[derive(Debug, Clone)]
struct Revision {
    /// Which of [`SERVERS`] are declared.
    servers: Vec<bool>,
    mp: Drawn,
    dp: Drawn,
    proxy: Drawn,
    reporting: Drawn,
    active: Option<usize>,
    /// Passives; with any the site has a lease, and a witness.
    passives: usize,
    version: u8,
    /// Every group wants the same port.
    one_port: bool,
}

fn drawn() -> impl Strategy<Value = Drawn> {
    prop_oneof![
        1 => Just(Drawn::Absent),
        3 => prop::collection::vec(0..SERVERS.len(), 1..4).prop_map(Drawn::ByHand),
        3 => (1u16..4).prop_map(Drawn::ByCount),
    ]
}

fn revision() -> impl Strategy<Value = Revision> {
    let servers = prop::collection::vec(prop::bool::weighted(0.8), SERVERS.len());
    let groups = (drawn(), drawn(), drawn(), drawn());
    let active = prop::option::of((0..SERVERS.len(), prop_oneof![2 => Just(0), 1 => 1usize..3]));
    let one_port = prop::bool::weighted(0.3);
    let drawn = (servers, groups, active, 1u8..3, one_port);
    drawn.prop_map(|(mut servers, groups, active, version, one_port)| {
        servers[0] = true;
        let (mp, dp, proxy, reporting) = groups;
        let (active, passives) = active.unzip();
        Revision {
            servers,
            mp,
            dp,
            proxy,
            reporting,
            active,
            passives: passives.unwrap_or(0),
            version,
            one_port,
        }
    })
}

fn mk(revision: &Revision) -> SiteDesired {
    let mut site = mk_site("P01");
    for (zone, server) in SERVERS {
        site = site.servers(zone, &[server]);
    }
    let known: Vec<&str> = SERVERS
        .iter()
        .zip(&revision.servers)
        .filter(|(_, declared)| **declared)
        .map(|((_, server), _)| *server)
        .collect();
    site.servers
        .retain(|server, _| known.contains(&server.as_str()));
    let groups = [
        ("managementPoint", Role::ManagementPoint, &revision.mp),
        ("distributionPoint", Role::DistributionPoint, &revision.dp),
        ("intranet-proxy", Role::Custom, &revision.proxy),
        ("reportingPoint", Role::ReportingPoint, &revision.reporting),
    ];
    for (group, role, drawn) in groups {
        let picked = |i: &usize| known[i % known.len()];
        site = match drawn {
            Drawn::Absent => site,
            Drawn::ByHand(on) => {
                site.by_hand(group, role, &on.iter().map(picked).collect::<Vec<_>>())
            }
            Drawn::ByCount(count) => site.by_count(group, role, (*count).min(known.len() as u16)),
        };
    }
    if let Some(group) = site.groups.get_mut(&name::<GroupName>("intranet-proxy")) {
        group.publish = false;
        group.port = 8080;
    }
    for group in site.groups.values_mut() {
        group.service = Some(mk_service(&revision.version.to_string()));
        if revision.one_port {
            group.port = 443;
        }
    }
    let at = |index: usize| known[index % known.len()];
    match revision.active {
        Some(active) if revision.passives > 0 && known.len() > revision.passives + 1 => {
            let passives: Vec<&str> = (1..=revision.passives).map(|i| at(active + i)).collect();
            leased(
                site,
                at(active),
                &passives,
                &[at(active + revision.passives + 1)],
            )
        }
        Some(active) => site.site_server(at(active), &[]),
        None => site,
    }
}

/// A revision that can follow: a lease isn't ended in favour of a server that does not stand by, which
/// is a hold for a person.
fn mk_after(before: &SiteDesired, revision: &Revision) -> SiteDesired {
    let mut after = mk(revision);
    let site_server = before.site_server.as_ref();
    let candidates = site_server
        .filter(|before| before.has_lease())
        .map(|before| {
            let passive = before.passive.iter();
            passive.chain([&before.active]).cloned().collect::<Vec<_>>()
        });
    let stands_by = |active| candidates.as_ref().is_none_or(|list| list.contains(active));
    if after
        .site_server
        .as_ref()
        .is_some_and(|s| !s.has_lease() && !stands_by(&s.active))
    {
        after.site_server = None;
    }
    after
}

/// What can go wrong with one server.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Silent,
    Unsure,
    Connecting,
    CutOff,
    Broken,
    Drained,
}

fn faults() -> impl Strategy<Value = Vec<(usize, Fault)>> {
    let fault = prop_oneof![
        Just(Fault::Silent),
        Just(Fault::Unsure),
        Just(Fault::Connecting),
        Just(Fault::CutOff),
        Just(Fault::Broken),
        Just(Fault::Drained),
    ];
    prop::collection::vec((0..SERVERS.len(), fault), 0..4)
}

fn inflict(model: &mut Model, faults: &[(usize, Fault)]) {
    let since = model.now;
    for (index, fault) in faults {
        let server: ServerName = name(SERVERS[*index].1);
        let Some(host) = model.hosts.get_mut(&server) else {
            continue;
        };
        match fault {
            Fault::Silent => {
                host.contact = Contact::Silent {
                    since,
                    confirmed_for: DurationMs(0),
                }
            }
            Fault::Unsure => host.contact = Contact::Unsure { since },
            Fault::Connecting => host.contact = Contact::Connecting,
            Fault::CutOff => host.contact = Contact::CutOff { since },
            Fault::Broken => {
                host.broken.insert(name("distributionPoint"));
                host.broken.insert(name("managementPoint"));
            }
            Fault::Drained => model.drain(server.as_str()),
        }
    }
}

fn repair(model: &mut Model) {
    model.drained.clear();
    for host in model.hosts.values_mut() {
        host.contact = Contact::Heard;
        host.broken.clear();
    }
}

fn converged(revision: &Revision) -> Model {
    let mut model = Model::new(mk(revision));
    model.converge(100);
    model
}

/// A counted group that found fewer servers than it asks for: what it has elsewhere may stay.
fn is_short(desired: &SiteDesired, group: &GroupName, placed: usize) -> bool {
    let group = desired.groups.get(group);
    group.is_some_and(|group| match &group.placement {
        Placement::ByCount { instances, .. } => placed < usize::from(*instances),
        Placement::ByHand(_) => false,
    })
}

/// What runs is what is wanted, and DNS hands out exactly that.
fn assert_as_declared(model: &Model) {
    let desired = model.desired.as_ref().unwrap();
    let observed = model.observe();
    let placed = crate::placement(desired, &observed, &model.context(), model.now);
    for (group, servers) in &placed {
        let wanted: Vec<String> = servers.iter().map(ToString::to_string).collect();
        let at = model.at(group.as_str());
        if is_short(desired, group, servers.len()) {
            assert!(wanted.iter().all(|server| at.contains(server)), "{group}");
            continue;
        }
        assert_eq!(at, wanted, "{group}");
        let declared = desired.groups.get(group);
        if let Some(declared) = declared.filter(|declared| declared.publish) {
            let key = format!("{}.p01.cm.example/A", declared.name.dns_label());
            let addresses: BTreeSet<String> = servers
                .iter()
                .map(|s| desired.servers[s].address.to_string())
                .collect();
            let served: BTreeSet<String> = model.served_as(&key).into_iter().collect();
            assert_eq!(served, addresses, "{key}");
        }
    }
    for host in model.hosts.values() {
        for group in host.real.instances.keys() {
            assert!(placed.contains_key(group), "{group} is left over");
        }
    }
    let site_server = desired.site_server.as_ref();
    let lease = site_server.and_then(|site_server| site_server.lease.as_ref());
    let voters = lease.into_iter().flat_map(|lease| lease.voters.keys());
    let voters: Vec<&str> = voters.map(ServerName::as_str).collect();
    let told = model.hosts.iter();
    let told = told.filter(|(_, host)| host.real.assigned_lease.is_some());
    let told: Vec<&str> = told.map(|(server, _)| server.as_str()).collect();
    assert_eq!(told, voters);
    if let Some(site_server) = site_server.filter(|_| lease.is_some()) {
        assert_eq!(model.in_force(), voters);
        let holder = model.holder().unwrap();
        let parked = crate::parked(desired, &observed).map(|parked| parked.declared);
        assert!(parked.is_some() || site_server.active.as_str() == holder);
    }
}

/// Nobody else wants the group's port.
fn has_room(site: &SiteDesired, group: &GroupDesired) -> bool {
    let mut others = site.groups.values().filter(|g| g.name != group.name);
    others.all(|other| other.port != group.port)
}

/// Published groups that may overlap, are declared before and after, and serve now.
fn guarded(model: &Model, after: &SiteDesired) -> Vec<String> {
    let before = model.desired.as_ref().unwrap();
    let one = |placement: &Placement| match placement {
        Placement::ByHand(servers) => servers.iter().collect::<BTreeSet<_>>().len() == 1,
        Placement::ByCount { instances, .. } => *instances == 1,
    };
    after
        .groups
        .values()
        .filter(|group| group.publish && group.role.rules().may_overlap)
        .filter(|group| {
            // An only instance that changes in place restarts; that is said in its step.
            before.groups.get(&group.name).is_some_and(|was| {
                let same = was.service == group.service && was.port == group.port;
                let several = !one(&was.placement) && !one(&group.placement);
                same || several && model.at(group.name.as_str()).len() > 1 && has_room(after, group)
            })
        })
        .map(|group| group.name.to_string())
        .filter(|group| model.serves(group))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn planning_twice_gives_the_same_plan(a in revision(), b in revision(), faults in faults()) {
        let mut model = converged(&a);
        model.commit(mk_after(&mk(&a), &b));
        inflict(&mut model, &faults);
        prop_assert_eq!(model.plan(), model.plan());
    }

    #[test]
    fn the_order_of_servers_in_a_list_does_not_matter(a in revision(), b in revision()) {
        let mut model = converged(&a);
        model.commit(mk_after(&mk(&a), &b));
        let plan = model.plan();
        model.change(|site| {
            for group in site.groups.values_mut() {
                if let Placement::ByHand(servers) = &mut group.placement {
                    servers.reverse();
                }
            }
        });
        prop_assert_eq!(plan, model.plan());
    }

    #[test]
    fn h16_the_road_ends_in_as_many_rounds_as_it_has_steps_and_leaves_nothing_out(
        a in revision(),
        b in revision(),
    ) {
        let mut model = converged(&a);
        model.commit(mk_after(&mk(&a), &b));
        let first = model.plan();
        let ids: BTreeSet<StepId> = first.steps.iter().map(|step| step.id.clone()).collect();
        for step in model.taken(first.steps.len()) {
            prop_assert!(ids.contains(&step.id), "{} is not on\n{}", step.id, road(&first));
        }
        assert_as_declared(&model);
    }

    #[test]
    fn no_intermediate_state_is_without_a_healthy_published_instance(
        a in revision(),
        b in revision(),
    ) {
        let mut model = converged(&a);
        let after = mk_after(&mk(&a), &b);
        let guarded = guarded(&model, &after);
        model.commit(after);
        for _ in 0..100 {
            let plan = model.plan();
            if plan.is_empty() {
                break;
            }
            model.remember(&plan);
            model.carry_out(&plan);
            for group in &guarded {
                prop_assert!(model.serves(group), "{group} after\n{}", road(&plan));
            }
            model.pass();
            for group in &guarded {
                prop_assert!(model.serves(group), "{group} later, after\n{}", road(&plan));
            }
        }
    }

    #[test]
    fn what_is_not_known_is_not_destroyed(a in revision(), b in revision(), faults in faults()) {
        let mut model = converged(&a);
        model.commit(mk_after(&mk(&a), &b));
        inflict(&mut model, &faults);
        let served = model.records.clone();
        for _ in 0..12 {
            let plan = model.round();
            for server in plan.assignments.keys() {
                prop_assert_eq!(model.hosts[server].contact, Contact::Heard);
            }
        }
        for (key, before) in served {
            let data = before.set.into_iter().flat_map(|set| set.values);
            let now = model.records.get(&key).and_then(|served| served.set.as_ref());
            for value in data.filter(|_| key.name.starts_with("distributionpoint.")) {
                let owner = SERVERS.iter().enumerate().find(|(i, _)| {
                    value.to_string() == format!("10.1.0.{}", i + 11)
                });
                let server: ServerName = name(owner.unwrap().1.1);
                let unclear = !matches!(
                    model.hosts[&server].contact,
                    Contact::Heard | Contact::Silent { .. }
                );
                if unclear {
                    let still = now.is_some_and(|set| set.values.contains(&value));
                    prop_assert!(still, "{key} lost {value}, whose server is not judged");
                }
            }
        }
    }

    #[test]
    fn h8_a_reconciler_that_hears_nobody_does_nothing(a in revision(), b in revision()) {
        let mut model = converged(&a);
        model.commit(mk_after(&mk(&a), &b));
        for host in model.hosts.values_mut() {
            host.contact = Contact::Unsure { since: model.now };
        }
        model.suspect = true;
        let plan = model.plan();
        prop_assert!(plan.is_empty() && plan.records.is_empty() && plan.assignments.is_empty());
    }

    #[test]
    fn commits_and_faults_in_any_order_end_as_declared(
        first in revision(),
        storm in prop::collection::vec((revision(), faults(), 0usize..6), 1..5),
    ) {
        let mut model = Model::new(mk(&first));
        let mut leased = first.passives > 0;
        let mut ended = false;
        for (revision, faults, rounds) in &storm {
            repair(&mut model);
            let mut site = mk(revision);
            // In the midst of changes nobody can say who stands by when a lease is ended.
            let lease = site.site_server.as_ref().is_some_and(|s| s.has_lease());
            leased |= lease;
            // Nor is there a way from a lease that was ended half way to one of other candidates yet
            // (docs/lease-protocol.md, End).
            ended |= leased && !lease;
            if ended {
                site.site_server = None;
            }
            model.commit(site);
            inflict(&mut model, faults);
            for _ in 0..*rounds {
                model.pass();
            }
        }
        repair(&mut model);
        model.converge(150);
        assert_as_declared(&model);
    }

    #[test]
    fn no_two_targets_on_one_port_where_there_is_room_for_both(a in revision(), b in revision()) {
        let mut model = converged(&a);
        model.commit(mk_after(&mk(&a), &b));
        model.converge(150);
        let desired = model.desired.as_ref().unwrap();
        let placed = crate::placement(desired, &model.observe(), &model.context(), model.now);
        let held = model.plan().holds;
        let on = |server: &ServerName, port: u16| {
            let groups = desired.groups.values().map(|group| &**group).filter(move |group| group.port == port);
            let counted = |g: &&GroupDesired| matches!(g.placement, Placement::ByCount { .. });
            groups.filter(|g| placed[&g.name].contains(server)).partition::<Vec<_>, _>(counted)
        };
        for server in desired.servers.keys() {
            for port in desired.groups.values().map(|group| group.port).collect::<BTreeSet<_>>() {
                let (counted, by_hand) = on(server, port);
                if counted.is_empty() || counted.len() + by_hand.len() < 2 {
                    continue;
                }
                // What ran there and has no other place stays, and says so.
                let named = held.iter().filter(|hold| hold.reason.kind() == "portTaken").count();
                prop_assert!(named > 0, "{server}:{port}");
                for group in counted {
                    let free = desired.servers.keys().find(|other| {
                        let (counted, by_hand) = on(other, port);
                        counted.is_empty() && by_hand.is_empty()
                    });
                    prop_assert_eq!(free, None, "{} has room", group.name);
                }
            }
        }
    }

    #[test]
    fn a_new_server_moves_nothing(a in revision(), spare in 0..SERVERS.len()) {
        let mut a = a;
        for drawn in [&mut a.mp, &mut a.dp, &mut a.proxy, &mut a.reporting] {
            *drawn = match drawn {
                Drawn::ByHand(servers) => Drawn::ByCount(servers.len() as u16),
                Drawn::Absent | Drawn::ByCount(_) => drawn.clone(),
            };
        }
        a.servers[spare] = spare == 0;
        a.active = None;
        // Where the port is short, a new server is what an instance waits for.
        a.one_port = false;
        let mut model = converged(&a);
        let full = model.desired.as_ref().unwrap().groups.clone();
        let mut more = a;
        more.servers[spare] = true;
        let mut after = mk(&more);
        after.groups = full;
        model.commit(after);
        let plan = model.plan();
        prop_assert!(plan.is_empty(), "{}", road(&plan));
    }

    #[test]
    fn a_lost_server_moves_only_its_own(a in revision(), lost in 1..SERVERS.len()) {
        let mut a = a;
        a.active = None;
        let mut model = converged(&a);
        let server: ServerName = name(SERVERS[lost].1);
        let Some(host) = model.hosts.get_mut(&server) else {
            return Ok(());
        };
        let theirs: BTreeSet<GroupName> = host.real.instances.keys().cloned().collect();
        host.confirmed_lost = true;
        host.contact = Contact::Silent { since: model.now, confirmed_for: DurationMs(0) };
        let plan = model.plan();
        for step in &plan.steps {
            if let Action::Install { group, .. } = &step.action {
                prop_assert!(theirs.contains(group), "{}", step.id);
            }
            let removes = matches!(step.action, Action::Remove { .. } | Action::SwitchOver { .. });
            prop_assert!(!removes, "{}", step.id);
        }
    }

    #[test]
    fn a_drain_takes_its_road_keeps_every_group_served_and_is_taken_back(
        a in revision(),
        away in 0..SERVERS.len(),
    ) {
        let mut model = converged(&a);
        let desired = model.desired.clone().unwrap();
        let guarded = guarded(&model, &desired);
        let server = SERVERS[away].1;
        model.drain(server);
        let first = model.plan();
        let ids: BTreeSet<StepId> = first.steps.iter().map(|step| step.id.clone()).collect();
        for plan in model.converge(first.steps.len()) {
            for step in plan.ready() {
                prop_assert!(ids.contains(&step.id), "{} is not on\n{}", step.id, road(&first));
            }
            for group in &guarded {
                prop_assert!(model.serves(group), "{group} after\n{}", road(&plan));
            }
        }
        for (group, declared) in &desired.groups {
            let counted = matches!(declared.placement, Placement::ByCount { .. });
            let at = model.at(group.as_str());
            let roomy = desired.servers.len() > at.len() && has_room(&desired, declared);
            if counted && roomy && declared.role.rules().may_overlap {
                prop_assert!(!at.iter().any(|at| at == server), "{group} is still on {server}");
            }
        }
        model.undrain(server);
        model.converge(100);
        assert_as_declared(&model);
    }

    #[test]
    fn a_sick_instance_leaves_dns_unless_it_is_the_last(a in revision(), faults in faults()) {
        let mut model = converged(&a);
        if model.at("distributionPoint").is_empty() {
            return Ok(());
        }
        inflict(&mut model, &faults);
        for _ in 0..4 {
            model.pass();
        }
        let Some(group) = model.desired.as_ref().unwrap().groups.get(&name::<GroupName>("distributionPoint"))
        else {
            return Ok(());
        };
        let served = model.served_as("distributionpoint.p01.cm.example/A");
        prop_assert!(!served.is_empty(), "never emptied by sickness");
        let well = |address: &String| model.hosts.values().any(|host| {
            let instance = host.real.instances.get(&group.name);
            instance.is_some_and(|i| i.endpoint.ip().to_string() == *address && i.health == Health::Healthy)
                && host.contact == Contact::Heard
        });
        let sick = |address: &String| model.hosts.values().any(|host| {
            let instance = host.real.instances.get(&group.name);
            instance.is_some_and(|i| {
                i.endpoint.ip().to_string() == *address
                    && (matches!(host.contact, Contact::Silent { .. })
                        || host.contact == Contact::Heard && i.health == Health::Unhealthy)
            })
        });
        if served.iter().any(well) {
            prop_assert!(!served.iter().any(sick), "{served:?}");
        }
    }
}
