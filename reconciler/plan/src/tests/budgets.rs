//! Stories and laws of admission: budgets over many sites (design section 4, H39).

use std::collections::BTreeSet;

use proptest::prelude::*;
use stead_schemas::desired::Guards;
use stead_schemas::names::SiteCode;
use stead_schemas::plan::HoldReason;
use stead_schemas::role::Role;

use super::model::{Model, SiteExt, mk_site, name};
use crate::{InFlight, SiteSummary, admit, summarise};

const GUARDS: Guards = Guards {
    max_sites_at_once: 2,
    max_removals: 3,
    max_failed_sites: 1,
};

fn mk_summary(site: &str, changes: bool, removals: u32) -> SiteSummary {
    SiteSummary {
        site: name(site),
        changes,
        removals,
        dropped: removals,
        recorded: 10,
    }
}

#[test]
fn only_so_many_sites_change_at_once_and_those_begun_go_on() {
    let sites = ["P01", "P02", "P03", "P04"].map(|site| mk_summary(site, true, 0));
    let mut in_flight = InFlight::default();
    in_flight.sites.insert(name("P04"));
    let admission = admit(&sites, &in_flight, &GUARDS);
    let waiting: Vec<&str> = admission.waiting.keys().map(SiteCode::as_str).collect();
    assert_eq!(waiting, ["P02", "P03"]);
    assert_eq!(admission.permits(&name("P04")).changes, None);
    let reason = HoldReason::SitesAtOnce { limit: 2 };
    assert_eq!(admission.permits(&name("P02")).changes, Some(reason));
}

#[test]
fn a_failed_site_stops_the_revision_elsewhere() {
    let sites = ["P01", "P02"].map(|site| mk_summary(site, true, 0));
    let mut in_flight = InFlight::default();
    in_flight.sites.insert(name("P01"));
    in_flight.failed.insert(name("P01"));
    let admission = admit(&sites, &in_flight, &GUARDS);
    assert_eq!(admission.permits(&name("P01")).changes, None);
    let stopped = HoldReason::FailedSites {
        failed: vec![name("P01")],
    };
    assert_eq!(admission.permits(&name("P02")).changes, Some(stopped));
}

#[test]
fn removals_are_summed_over_sites_and_over_the_revision() {
    let sites = [mk_summary("P01", true, 2), mk_summary("P02", true, 1)];
    assert_eq!(admit(&sites, &InFlight::default(), &GUARDS).removals, None);
    let in_flight = InFlight {
        removals: 1,
        ..InFlight::default()
    };
    let spent = HoldReason::BudgetSpent {
        budget: "maxRemovals".into(),
        wanted: 4,
        limit: 3,
    };
    assert_eq!(admit(&sites, &in_flight, &GUARDS).removals, Some(spent));
}

#[test]
fn h39_a_mostly_empty_revision_is_held_whatever_is_left_to_remove() {
    let sites = [mk_summary("P01", true, 6), mk_summary("P02", true, 5)];
    let removals = admit(&sites, &InFlight::default(), &GUARDS).removals;
    assert_eq!(
        removals,
        Some(HoldReason::MostlyEmpty {
            removed: 11,
            of: 20
        })
    );
    let small = [
        mk_summary("P01", true, 3),
        SiteSummary {
            recorded: 0,
            ..mk_summary("P02", true, 0)
        },
    ];
    assert_eq!(
        admit(&small, &InFlight::default(), &GUARDS).removals,
        None,
        "not more than maxRemovals"
    );
}

#[test]
fn a_waiting_site_still_withdraws_what_is_sick() {
    let site = mk_site("P01")
        .servers("a", &["p01-a", "p01-b", "p01-c"])
        .by_hand(
            "distributionPoint",
            Role::DistributionPoint,
            &["p01-a", "p01-b"],
        );
    let mut model = Model::new(site);
    model.converge(6);
    model.permits.changes = Some(HoldReason::SitesAtOnce { limit: 2 });
    model.change(|site| {
        *site = site
            .clone()
            .by_hand("reportingPoint", Role::ReportingPoint, &["p01-c"])
    });
    model.host("p01-a").broken.insert(name("distributionPoint"));
    model.pass();
    model.pass();
    assert_eq!(
        model.served_as("distributionpoint.p01.cm.example/A"),
        ["10.1.0.12"]
    );
    assert!(model.at("reportingPoint").is_empty());
    let summary = summarise(&model.plan(), model.desired.as_ref(), &model.recorded);
    assert!(!summary.changes, "records that follow health are no change");
}

fn summaries() -> impl Strategy<Value = Vec<SiteSummary>> {
    let one = (any::<bool>(), 0u32..5, 0u32..5, 0u32..20);
    prop::collection::vec(one, 0..12).prop_map(|sites| {
        let mk =
            |(index, (changes, removals, dropped, recorded)): (usize, (bool, u32, u32, u32))| {
                SiteSummary {
                    site: name(&format!("P{index:02}")),
                    changes,
                    removals,
                    dropped,
                    recorded,
                }
            };
        sites.into_iter().enumerate().map(mk).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_budget_is_overspent(sites in summaries(), begun in 0usize..4, done in 0u32..4) {
        let begun: BTreeSet<SiteCode> = sites.iter().take(begun).map(|s| s.site.clone()).collect();
        let in_flight = InFlight { sites: begun.clone(), removals: done, ..InFlight::default() };
        let admission = admit(&sites, &in_flight, &GUARDS);
        let starting = sites
            .iter()
            .filter(|s| s.changes && !admission.waiting.contains_key(&s.site))
            .count();
        let begun = sites.iter().filter(|s| s.changes && begun.contains(&s.site)).count();
        prop_assert!(starting <= begun.max(2));
        let removed: u32 = sites.iter().map(|s| s.removals).sum();
        if admission.removals.is_none() && removed > 0 {
            prop_assert!(removed + done <= GUARDS.max_removals);
        }
        let dropped: u32 = sites.iter().map(|s| s.dropped).sum();
        let recorded: u32 = sites.iter().map(|s| s.recorded).sum();
        if dropped > 3 && dropped * 2 > recorded {
            prop_assert!(admission.removals.is_some());
        }
    }

    #[test]
    fn admission_does_not_depend_on_the_order_of_sites(sites in summaries()) {
        let mut reversed = sites.clone();
        reversed.reverse();
        let in_flight = InFlight::default();
        prop_assert_eq!(admit(&sites, &in_flight, &GUARDS), admit(&reversed, &in_flight, &GUARDS));
    }
}
