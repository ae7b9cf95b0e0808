//! Planning a revision against another without agents, and the plan's id (H38).

use std::collections::BTreeMap;
use std::sync::Arc;

use stead_schemas::desired::{Guards, HierarchyDesired, Placement, SiteDesired};
use stead_schemas::plan::{HoldReason, SitePlan};
use stead_schemas::role::Role;

use super::model::{Model, SiteExt, mk_dns, mk_generation, mk_service, mk_site, name};
use super::voters::leased;
use crate::offline_plans;
use crate::render::{counts, plan_id, report};

fn mk_hierarchy(sites: Vec<SiteDesired>) -> HierarchyDesired {
    HierarchyDesired {
        name: name("contoso"),
        reconcilers: BTreeMap::new(),
        dns: Some(Arc::new(mk_dns())),
        guards: Guards {
            max_sites_at_once: 1,
            max_removals: 3,
            max_failed_sites: 1,
        },
        sites: sites
            .into_iter()
            .map(|site| (site.code.clone(), Arc::new(site)))
            .collect(),
    }
}

fn fab() -> SiteDesired {
    mk_site("FAB")
        .servers("hq/room-1", &["fab-a", "fab-mp1"])
        .servers("hq/room-2", &["fab-mp2", "fab-mp3"])
        .site_server("fab-a", &[])
        .by_hand(
            "managementPoint",
            Role::ManagementPoint,
            &["fab-mp1", "fab-mp2"],
        )
        .by_count("distributionPoint", Role::DistributionPoint, 2)
}

#[test]
fn a_revision_against_itself_is_nothing_to_do() {
    let hierarchy = mk_hierarchy(vec![fab()]);
    assert!(offline_plans(Some(&hierarchy), &hierarchy, "r2").is_empty());
    let mut relabelled = fab();
    relabelled.labels.insert("region".into(), "west".into());
    let plans = offline_plans(Some(&hierarchy), &mk_hierarchy(vec![relabelled]), "r2");
    assert!(plans.is_empty(), "{plans:#?}");
}

#[test]
fn a_passive_that_is_added_and_made_active_is_planned_without_agents() {
    let base = mk_hierarchy(vec![fab()]);
    let pair = |active, passive| leased(fab(), active, &[passive], &["fab-mp3", "stead-1"]);
    let with = mk_hierarchy(vec![pair("fab-a", "fab-mp1")]);
    let text = |from: &HierarchyDesired, to: &HierarchyDesired| {
        let plans = offline_plans(Some(from), to, "r2");
        let site = to.sites.values().next().map(|site| &**site);
        let text = report(&[(site, &plans[0])]);
        let lines = text.lines().filter(|line| !line.contains("dns:"));
        lines.collect::<Vec<_>>().join("\n")
    };
    let added = text(&base, &with);
    assert!(
        added.contains("+ install  FAB/siteServer  fab-mp1"),
        "{added}"
    );
    assert!(
        added.contains("~ lease  FAB/siteServer  fab-mp3  votes;"),
        "{added}"
    );
    assert!(added.contains("1 to install, 1 to update"), "{added}");
    assert!(offline_plans(Some(&with), &with, "r3").is_empty());
    let switched = text(&with, &mk_hierarchy(vec![pair("fab-mp1", "fab-a")]));
    assert!(
        switched.contains("~ switch over  FAB/siteServer  fab-a -> fab-mp1"),
        "{switched}"
    );
    assert!(
        switched.contains("0 to install, 0 to update, 0 to move, 0 to remove, 1 to switch over")
    );
}

#[test]
fn a_first_revision_installs_all_and_a_move_is_one_line() {
    let base = mk_hierarchy(vec![fab()]);
    let first = offline_plans(None, &base, "r1");
    assert_eq!(counts(first.iter()).to_install, 5);
    let moved = fab().with(|site| {
        let servers = vec![name("fab-mp2"), name("fab-mp3")];
        site.groups
            .get_mut(&name("managementPoint"))
            .unwrap()
            .placement = Placement::ByHand(servers);
    });
    let target = mk_hierarchy(vec![moved]);
    let plans = offline_plans(Some(&base), &target, "r2");
    let text = report(&[(target.sites.values().next().map(|site| &**site), &plans[0])]);
    assert!(
        text.starts_with("~ move  FAB/managementPoint  fab-mp1 -> fab-mp3  install, healthy, publish, withdraw, drain 1m, remove"),
        "{text}"
    );
    assert_eq!(counts(plans.iter()).to_remove, 0);
}

#[test]
fn h39_an_emptied_revision_is_held() {
    let others = ["P01", "P02"].map(|code| {
        let (a, b) = (
            format!("{}-a", code.to_lowercase()),
            format!("{}-b", code.to_lowercase()),
        );
        mk_site(code).servers("a", &[&a, &b]).by_hand(
            "distributionPoint",
            Role::DistributionPoint,
            &[&a, &b],
        )
    });
    let base = mk_hierarchy(others.to_vec());
    let plans = offline_plans(Some(&base), &mk_hierarchy(Vec::new()), "r2");
    assert_eq!(counts(plans.iter()).to_remove, 0);
    let held = plans.iter().flat_map(|plan| &plan.holds);
    let reasons: Vec<&HoldReason> = held.map(|hold| &hold.reason).collect();
    assert!(
        reasons.contains(&&HoldReason::MostlyEmpty { removed: 8, of: 8 }),
        "{reasons:?}"
    );
}

#[test]
fn a_renamed_server_is_no_removal_offline_either() {
    let base = mk_hierarchy(vec![fab()]);
    let renamed = fab().with(|site| {
        let mut server = site.servers.remove(&name("fab-mp1")).unwrap();
        server.was = Some(name("fab-mp1"));
        site.servers.insert(name("fab-new"), server);
        let group = site.groups.get_mut(&name("managementPoint")).unwrap();
        group.placement = Placement::ByHand(vec![name("fab-new"), name("fab-mp2")]);
    });
    let plans = offline_plans(Some(&base), &mk_hierarchy(vec![renamed]), "r2");
    let sum = counts(plans.iter());
    assert_eq!(
        (sum.to_remove, sum.to_move, sum.to_install),
        (0, 0, 0),
        "{plans:#?}"
    );
}

#[test]
fn h38_the_plan_id_changes_with_facts_not_with_health_or_time() {
    let mut model = Model::new(fab());
    model.converge(20);
    model.change(|site| {
        site.groups
            .get_mut(&name("managementPoint"))
            .unwrap()
            .service = Some(mk_service("2"));
    });
    let id = |model: &Model| plan_id("1769dc9f3a", &[(&model.plan(), &model.observe())]);
    let first = id(&model);
    assert!(
        first.starts_with("1769dc9+") && first.len() == 14,
        "{first}"
    );
    model.now.0 += 5_000;
    model
        .host("fab-mp3")
        .broken
        .insert(name("distributionPoint"));
    assert_eq!(id(&model), first);
    let held = SitePlan {
        steps: Vec::new(),
        ..model.plan()
    };
    let (plan, observed) = (model.plan(), model.observe());
    let with_held = plan_id("1769dc9f3a", &[(&plan, &observed), (&held, &observed)]);
    assert_eq!(with_held, first, "what is only held somewhere is no fact");
    model.host("fab-mp1").real.generation = Some(mk_generation(99));
    assert_ne!(id(&model), first, "another assignment is in force");
}
