//! What a reconciler that is a witness is told, and what is held for voters that were given up.

use stead_schemas::lease::LeaseSpec;
use stead_schemas::names::ServerName;
use stead_schemas::plan::HoldReason;

use super::model::{Model, SiteExt as _, mk_site, name};
use super::voters::leased;
use crate::witness_spec;

fn site(witnesses: &[&str]) -> Model {
    let servers = mk_site("P01")
        .servers("seattle/room-1", &["p01-a"])
        .servers("seattle/room-2", &["p01-b"])
        .servers("seattle/room-3", &["p01-w"]);
    Model::new(leased(servers, "p01-a", &["p01-b"], witnesses))
}

fn told(model: &Model) -> Option<LeaseSpec> {
    let observed = model.observe();
    let me: ServerName = name("stead-1");
    let desired = model.desired.as_ref();
    witness_spec(desired, &observed, &model.context(), model.now, &me)
}

#[test]
fn h4_a_witness_is_told_what_servers_are_and_founds_after_them() {
    let mut model = site(&["stead-1"]);
    let first = told(&model).unwrap();
    assert_eq!(first.voters.len(), 3);
    assert_eq!(first.founders, None);
    model.voting.witness.insert(name("stead-1"), 77);
    model.converge(8);
    let spec = told(&model).unwrap();
    let lives = spec.founders.as_ref().unwrap();
    assert_eq!(lives[&name::<ServerName>("stead-1")], 77);
    let told_there = model.host("p01-a").real.assigned_lease.clone().unwrap();
    assert_eq!(spec.voters, told_there.voters);
    // Another life of its ledger is no founder.
    model.voting.witness.insert(name("stead-1"), 78);
    assert_eq!(told(&model).unwrap().founders, None);
}

#[test]
fn h3_a_witness_that_git_names_no_more_votes_until_it_has_no_vote() {
    let mut model = site(&["stead-1"]);
    model.voting.witness.insert(name("stead-1"), 77);
    model.converge(8);
    model.commit(site(&["p01-w"]).desired.unwrap());
    let spec = told(&model).expect("it has a vote still");
    assert!(!spec.voters.contains_key(&name::<ServerName>("stead-1")));
    model.converge(8);
    assert_eq!(model.in_force(), ["p01-a", "p01-b", "p01-w"]);
    assert_eq!(told(&model), None);
}

#[test]
fn a_reconciler_that_is_no_witness_is_told_nothing() {
    let mut model = site(&["p01-w"]);
    model.converge(8);
    assert_eq!(told(&model), None);
}

#[test]
fn h32_a_voter_that_was_given_up_is_held_until_it_is_replaced() {
    let mut model = site(&["p01-w"]);
    model.converge(8);
    let life = model.host("p01-b").lease().incarnation;
    for host in model.hosts.values_mut() {
        if let Some(lease) = host.real.lease.as_mut() {
            lease.memory.lost.insert(name("p01-b"), life);
        }
    }
    let holds = model.plan().holds;
    let given_up = |reason: &HoldReason| match reason {
        HoldReason::VoterProblem { server, problem } => {
            server.as_str() == "p01-b" && problem.contains("stead replace p01-b")
        }
        _ => false,
    };
    assert!(
        holds.iter().any(|hold| given_up(&hold.reason)),
        "{holds:#?}"
    );
}
