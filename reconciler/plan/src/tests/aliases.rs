//! Stories of the alias of a site with a lease: its holder's agent writes it, the planner does not.

use std::collections::BTreeSet;

use stead_schemas::desired::SiteDesired;
use stead_schemas::record::{RecordData, RecordSet};
use stead_schemas::time::WallMs;

use super::model::{Model, SiteExt, mk_site, name};
use super::voters::leased;
use crate::render::road;
use crate::wanted_records;

const ALIAS: &str = "p01.cm.example/A";

fn pair(passive: &[&str]) -> Model {
    let site = mk_site("P01")
        .servers("a", &["p01-a"])
        .servers("b", &["p01-b"]);
    let mut model = Model::new(with(site, passive));
    model.converge(12);
    model
}

fn with(site: SiteDesired, passive: &[&str]) -> SiteDesired {
    if passive.is_empty() {
        site.site_server("p01-a", passive)
    } else {
        leased(site, "p01-a", passive, &[])
    }
}

/// An agent publishes, as it does without asking the reconciler.
fn publish(model: &mut Model, last: u8, mark: &str) {
    let set = RecordSet {
        ttl_s: 5,
        values: BTreeSet::from([RecordData::A([10, 1, 0, last].into())]),
    };
    model.write(&name(ALIAS), Some(set), mark);
}

fn agents_mark(term: u64) -> String {
    format!("v=1 h=contoso s=P01 t={term} g=1:stead-1:a.7")
}

#[test]
fn h22_the_alias_of_a_leased_site_is_neither_written_nor_healed_nor_withdrawn() {
    let mut model = pair(&["p01-b"]);
    assert!(model.served_as(ALIAS).is_empty(), "nobody else writes it");
    for (last, term) in [(11, 7), (12, 8), (99, 9)] {
        publish(&mut model, last, &agents_mark(term));
        let plan = model.plan();
        assert_eq!(road(&plan), "", "term {term}");
        assert!(plan.records.is_empty());
    }
    let observed = model.observe();
    let wanted = wanted_records(
        model.desired.as_ref(),
        &observed,
        &model.context(),
        WallMs(1),
    );
    let set = wanted[&name(ALIAS)].as_ref().unwrap();
    assert_eq!(set.values.len(), 1, "still shown as wanted");
}

#[test]
fn a_foreign_alias_in_the_agents_way_is_told() {
    let mut model = pair(&["p01-b"]);
    publish(&mut model, 99, "heritage=external-dns");
    let plan = model.plan();
    assert!(plan.records.is_empty());
    assert_eq!(plan.holds.len(), 1);
    assert_eq!(plan.holds[0].about, format!("dns:{ALIAS}"));
}

#[test]
fn with_its_first_passive_the_alias_passes_to_the_agents_and_with_its_last_back() {
    let mut model = pair(&[]);
    assert_eq!(model.served_as(ALIAS), ["10.1.0.11"]);
    model.change(|site| *site = with(site.clone(), &["p01-b"]));
    model.converge(8);
    assert_eq!(model.served_as(ALIAS), ["10.1.0.11"], "left as it was");
    publish(&mut model, 12, &agents_mark(8));
    model.converge(3);
    assert_eq!(model.served_as(ALIAS), ["10.1.0.12"]);
    model.change(|site| *site = with(site.clone(), &[]));
    assert!(model.plan().records.is_empty(), "not before the lease ends");
    let plans = model.converge(8);
    let mut planned = plans
        .iter()
        .filter_map(|plan| plan.records.get(&name(ALIAS)));
    assert_eq!(
        planned.next().unwrap().expect_mark.as_deref(),
        Some(&*agents_mark(8)),
        "the mark whose term the writer keeps"
    );
    assert_eq!(model.served_as(ALIAS), ["10.1.0.11"]);
}

#[test]
fn a_leased_site_that_goes_takes_its_alias_along() {
    let mut model = pair(&["p01-b"]);
    publish(&mut model, 12, &agents_mark(8));
    model.desired = None;
    model.converge(12);
    assert!(model.records.is_empty(), "{:?}", model.records);
}
