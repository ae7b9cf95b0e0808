//! Two groups that want one port: apart where there is room, held by name where there is none.

use stead_schemas::desired::SiteDesired;
use stead_schemas::plan::{Action, HoldReason};
use stead_schemas::role::Role;

use super::model::{Model, SiteExt, mk_site, name};

fn mk_room(servers: &[&str]) -> SiteDesired {
    mk_site("P01").servers("a", servers)
}

fn proxies(site: SiteDesired, count: u16) -> SiteDesired {
    site.by_count("proxy-a", Role::Custom, count)
        .by_count("proxy-b", Role::Custom, count)
}

fn clashes(model: &Model) -> Vec<(String, String)> {
    let holds = model.plan().holds;
    let clash = |hold: stead_schemas::plan::Hold| match &hold.reason {
        HoldReason::PortTaken { .. } => Some((hold.about.to_string(), hold.reason.to_string())),
        _ => None,
    };
    holds.into_iter().filter_map(clash).collect()
}

fn label(site: &mut SiteDesired, server: &str) {
    let server = site.servers.get_mut(&name(server)).unwrap();
    server.labels.insert("tier".into(), "front".into());
}

fn only_front(site: &mut SiteDesired, group: &str) {
    use stead_schemas::desired::Placement;
    let group = site.groups.get_mut(&name(group)).unwrap();
    let Placement::ByCount { among, .. } = &mut group.placement else {
        panic!("counted");
    };
    among.insert("tier".into(), "front".into());
}

#[test]
fn two_counted_groups_with_one_port_keep_apart() {
    // By load alone both groups of two would share a server of three.
    let site = proxies(mk_room(&["p01-a", "p01-b", "p01-c", "p01-d"]), 2);
    let mut model = Model::new(site);
    model.converge(12);
    let (a, b) = (model.at("proxy-a"), model.at("proxy-b"));
    assert_eq!((a.len(), b.len()), (2, 2));
    assert!(a.iter().all(|server| !b.contains(server)), "{a:?} {b:?}");
}

#[test]
fn load_gives_way_to_a_free_port() {
    let mut site = mk_room(&["p01-a", "p01-b"])
        .by_count("proxy-a", Role::Custom, 1)
        .by_count("proxy-b", Role::Custom, 1)
        .by_hand("other", Role::Custom, &["p01-b"])
        .by_hand("third", Role::Custom, &["p01-b"]);
    for (group, port) in [("other", 81), ("third", 82)] {
        site.groups.get_mut(&name(group)).unwrap().port = port;
    }
    let mut model = Model::new(site);
    model.converge(12);
    assert_eq!(model.at("proxy-a"), ["p01-a"]);
    assert_eq!(model.at("proxy-b"), ["p01-b"], "fuller, and free");
}

#[test]
fn who_has_fewer_servers_to_choose_from_chooses_first() {
    let mut site = proxies(mk_room(&["p01-a", "p01-b"]), 1);
    label(&mut site, "p01-a");
    only_front(&mut site, "proxy-b");
    let mut model = Model::new(site);
    model.converge(12);
    assert_eq!(model.at("proxy-b"), ["p01-a"]);
    assert_eq!(model.at("proxy-a"), ["p01-b"]);
    assert_eq!(clashes(&model), []);
}

#[test]
fn without_a_free_server_the_second_group_is_held_by_name_and_port() {
    let mut model = Model::new(proxies(mk_room(&["p01-a"]), 1));
    model.converge(12);
    assert_eq!(model.at("proxy-a"), ["p01-a"]);
    assert_eq!(model.at("proxy-b"), [""; 0]);
    let words =
        "proxy-b wants port 443, which proxy-a has on p01-a, and no other server can take it";
    assert_eq!(clashes(&model), [("P01/proxy-b".into(), words.into())]);

    model.change(|site| site.groups.get_mut(&name("proxy-b")).unwrap().port = 8443);
    model.converge(12);
    assert_eq!(model.at("proxy-b"), ["p01-a"], "another port settles it");
    assert_eq!(clashes(&model), []);
}

#[test]
fn a_counted_instance_moves_off_the_port_of_one_placed_by_hand() {
    let site = mk_room(&["p01-a", "p01-b"]).by_count("proxy-b", Role::Custom, 1);
    let mut model = Model::new(site);
    model.converge(12);
    assert_eq!(model.at("proxy-b"), ["p01-a"]);
    let desired = model.desired.clone().unwrap();
    model.commit(desired.by_hand("proxy-a", Role::Custom, &["p01-a"]));
    model.converge(20);
    assert_eq!(model.at("proxy-a"), ["p01-a"]);
    assert_eq!(model.at("proxy-b"), ["p01-b"]);
}

/// H16: the pass after it would see the port free, and place anew.
#[test]
fn h16_nobody_yields_to_an_instance_that_is_too_many_itself() {
    let site = mk_room(&["p01-a", "p01-b", "p01-c"])
        .by_hand("proxy-a", Role::Custom, &["p01-c"])
        .by_hand("proxy-b", Role::Custom, &["p01-b", "p01-c"]);
    let mut before = site.clone();
    before.groups.get_mut(&name("proxy-a")).unwrap().port = 8443;
    let mut model = Model::new(before);
    model.converge(12);
    model.commit(proxies(site, 1));
    let installs = |step: &stead_schemas::plan::Step| matches!(step.action, Action::Install { .. });
    assert!(!model.plan().steps.iter().any(installs));
    model.converge(20);
    assert_eq!(model.at("proxy-a"), ["p01-c"]);
    assert_eq!(model.at("proxy-b"), ["p01-b"]);
}

#[test]
fn what_has_no_other_place_is_not_taken_away_for_a_port() {
    let site = mk_room(&["p01-a"]).by_count("proxy-b", Role::Custom, 1);
    let mut model = Model::new(site);
    model.converge(12);
    let desired = model.desired.clone().unwrap();
    model.commit(desired.by_hand("proxy-a", Role::Custom, &["p01-a"]));
    let plan = model.plan();
    let removes = |step: &stead_schemas::plan::Step| matches!(step.action, Action::Remove { .. });
    assert!(!plan.steps.iter().any(removes));
    let words =
        "proxy-b wants port 443, which proxy-a has on p01-a, and no other server can take it";
    assert_eq!(
        clashes(&model),
        [("P01/proxy-b@p01-a".into(), words.into())]
    );
}

#[test]
fn an_instance_is_not_changed_to_a_port_that_is_taken_there() {
    let mut site = proxies(mk_room(&["p01-a"]), 1);
    site.groups.get_mut(&name("proxy-a")).unwrap().port = 8443;
    let mut model = Model::new(site);
    model.converge(12);
    model.change(|site| site.groups.get_mut(&name("proxy-a")).unwrap().port = 443);
    assert_eq!(model.plan().steps, []);
    let words =
        "proxy-a wants port 443, which proxy-b has on p01-a, and no other server can take it";
    assert_eq!(
        clashes(&model),
        [("P01/proxy-a@p01-a".into(), words.into())]
    );
}

#[test]
fn the_site_servers_and_the_agents_ports_are_theirs() {
    for port in [8443, 7443] {
        let mut site = mk_room(&["p01-a", "p01-b"])
            .site_server("p01-a", &[])
            .by_count("proxy-a", Role::Custom, 2);
        site.groups.get_mut(&name("proxy-a")).unwrap().port = port;
        for server in ["p01-b"].into_iter().filter(|_| port == 7443) {
            site.servers.get_mut(&name(server)).unwrap().agent_port = 7444;
        }
        let mut model = Model::new(site);
        model.converge(12);
        assert_eq!(model.at("proxy-a"), ["p01-b"], "{port}");
    }
}
