//! Which assignments and claims are taken (H7).

use super::*;
use crate::ledger::Owner;
use std::collections::BTreeMap;
use stead_schemas::generation::Generation;
use stead_schemas::names::SecretName;
use stead_schemas::role::Role;
use stead_schemas::wire::{Assignment, EnvValue, SecretMaterial, StopRule};

fn me() -> Me {
    Me {
        hierarchy: "contoso".parse().unwrap(),
        site: Some("P01".parse().unwrap()),
        server: "p01-a".parse().unwrap(),
    }
}

fn epoch(counter: u64, start: &str) -> Epoch {
    Epoch {
        counter,
        reconciler: "stead-1".to_owned(),
        start: start.to_owned(),
    }
}

fn generation(counter: u64, number: u64) -> Generation {
    Generation {
        epoch: epoch(counter, "a"),
        number,
    }
}

fn ledger() -> Ledger {
    Ledger::new(Owner {
        hierarchy: "contoso".parse().unwrap(),
        server: "p01-a".parse().unwrap(),
        machine: String::new(),
    })
}

fn request(generation: Generation, based_on: Option<Generation>) -> AssignRequest {
    AssignRequest {
        assignment: Assignment {
            lease: None,
            hierarchy: "contoso".parse().unwrap(),
            site: "P01".parse().unwrap(),
            server: "p01-a".parse().unwrap(),
            generation,
            revision: "abc".to_owned(),
            instances: BTreeMap::new(),
        },
        based_on,
        secrets: BTreeMap::new(),
    }
}

fn taken(ledger: &Ledger, request: &AssignRequest) -> Ledger {
    match judge(ledger, &me(), "stead-1", request) {
        Ok(Decision::Save(next)) => *next,
        other => panic!("not taken: {other:?}"),
    }
}

fn refused(ledger: &Ledger, request: &AssignRequest) -> Refusal {
    judge(ledger, &me(), "stead-1", request).unwrap_err()
}

fn spec(program: Program) -> InstanceSpec {
    InstanceSpec {
        role: Role::Custom,
        program,
        env: BTreeMap::new(),
        health: None,
        stop: StopRule::default(),
        address: "127.0.0.1".parse().unwrap(),
        port: 80,
        settings: serde_json::Value::Null,
    }
}

#[test]
fn h7_only_onwards_and_against_what_is_in_force() {
    let first = generation(1, 1);
    let ledger = taken(&ledger(), &request(first.clone(), None));
    let stale = Refusal::StaleGeneration {
        in_force: Some(first.clone()),
    };
    // Planned against nothing, although something is in force.
    assert_eq!(refused(&ledger, &request(generation(1, 2), None)), stale);
    // Planned against something else.
    assert_eq!(
        refused(&ledger, &request(generation(1, 3), Some(generation(1, 2)))),
        stale
    );
    // Backwards.
    assert_eq!(
        refused(&ledger, &request(generation(1, 0), Some(first.clone()))),
        stale
    );
    let next = taken(&ledger, &request(generation(1, 2), Some(first)));
    assert_eq!(next.generation(), Some(&generation(1, 2)));
}

#[test]
fn h7_the_same_again_is_fine_and_something_else_under_its_name_is_not() {
    let first = request(generation(1, 1), None);
    let ledger = taken(&ledger(), &first);
    assert_eq!(judge(&ledger, &me(), "stead-1", &first), Ok(Decision::Same));
    let mut other = first;
    other.assignment.revision = "def".to_owned();
    assert!(matches!(
        refused(&ledger, &other),
        Refusal::StaleGeneration { .. }
    ));
}

#[test]
fn h7_a_lower_epoch_is_refused_for_ever() {
    let claimed = judge_claim(&ledger(), "stead-1", &epoch(5, "a"))
        .unwrap()
        .unwrap();
    assert_eq!(judge_claim(&claimed, "stead-1", &epoch(5, "a")), Ok(None));
    let highest = epoch(5, "a");
    let stale = Refusal::StaleEpoch {
        highest: highest.clone(),
    };
    assert_eq!(
        judge_claim(&claimed, "stead-1", &epoch(4, "z")),
        Err(stale.clone())
    );
    assert_eq!(refused(&claimed, &request(generation(4, 9), None)), stale);
    // Two copies that started in the same second: one wins (by the start id).
    assert!(
        judge_claim(&claimed, "stead-1", &epoch(5, "b"))
            .unwrap()
            .is_some()
    );
    assert_eq!(
        judge_claim(&claimed, "stead-1", &epoch(5, "A")),
        Err(Refusal::StaleEpoch { highest })
    );
}

#[test]
fn another_server_site_or_hierarchy_is_not_for_me() {
    for change in [
        |a: &mut Assignment| a.server = "p01-b".parse().unwrap(),
        |a: &mut Assignment| a.site = "P02".parse().unwrap(),
        |a: &mut Assignment| a.hierarchy = "fabrikam".parse().unwrap(),
    ] {
        let mut wrong = request(generation(1, 1), None);
        change(&mut wrong.assignment);
        let refusal = refused(&ledger(), &wrong);
        assert!(matches!(refusal, Refusal::NotForMe { server } if server == me().server));
    }
}

#[test]
fn a_certificate_speaks_for_its_own_name_only() {
    let asked = request(generation(1, 1), None);
    assert!(matches!(
        judge(&ledger(), &me(), "stead-2", &asked),
        Err(Refusal::Invalid { .. })
    ));
}

#[test]
fn what_cannot_be_carried_out_is_refused_whole() {
    let cases: [(&str, InstanceSpec); 4] = [
        ("needs a program", spec(Program::Command(Vec::new()))),
        (
            "sha256",
            spec(Program::Archive {
                url: "file:///x".to_owned(),
                sha256: "../../etc".to_owned(),
                command: vec!["x".to_owned()],
            }),
        ),
        ("NUL", spec(Program::Command(vec!["a\0b".to_owned()]))),
        ("named and not sent", {
            let mut spec = spec(Program::BuiltIn);
            let secret = SecretName::new("k").unwrap();
            spec.env
                .insert("KEY".to_owned(), EnvValue::Secret { secret });
            spec
        }),
    ];
    for (want, spec) in cases {
        let mut asked = request(generation(1, 1), None);
        asked
            .assignment
            .instances
            .insert("web".parse().unwrap(), Box::new(spec));
        match refused(&ledger(), &asked) {
            Refusal::Invalid { reason } => assert!(reason.contains(want), "{reason}"),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn h30_a_secret_nobody_names_is_not_kept() {
    let mut asked = request(generation(1, 1), None);
    asked.secrets.insert(
        SecretName::new("k").unwrap(),
        SecretMaterial {
            version: "1".to_owned(),
            value: "very-secret".to_owned(),
        },
    );
    match refused(&ledger(), &asked) {
        Refusal::Invalid { reason } => {
            assert!(reason.contains("not named") && !reason.contains("very-secret"));
        }
        other => panic!("{other:?}"),
    }
}
