//! The table of `docs/lease-protocol.md`, "What a node does, and on what", row by row: from which part
//! to which, and what is sent, worked and stopped on the way.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use std::string::{String, ToString};
use std::{format, vec};

use super::rules::{ACTIVE, grant, holder, release, renew, renewed, take, tell, told};
use super::site::{Host, configuration, timing, voter};
use crate::{Action, Body, Committed, Input, Mono, Ms, Node, Part, Saved, Term};

const DOC: &str = include_str!("../../../../docs/lease-protocol.md");

/// A way through a row: the node before, when, and what it is given then.
type Way = (Node<Host>, u64, Input<Host>);
/// What is in the columns `doing` and `on` of a row, and the ways through it.
type Row = (&'static str, &'static str, fn() -> Vec<Way>);

const ROWS: [Row; 13] = [
    ("following", "its turn to ask", || {
        vec![(following(), 1_000, Input::Tick)]
    }),
    ("following", "Release naming it the successor", || {
        let mut node = following();
        tell(&mut node, 10, 0, renew(1));
        let named = told(&node, 0, release(1, Some(1)));
        vec![(node, 20, named)]
    }),
    ("sounding", "a quorum would grant", || {
        let node = sounding();
        let yes = told(&node, 2, Body::PreGrant { term: Term(1) });
        vec![(node, 1_010, yes)]
    }),
    (
        "sounding",
        "a refusal by someone who hears a holder",
        || {
            let node = sounding();
            let refusal = told(&node, 2, refuse());
            vec![(node, 1_010, refusal), (sounding(), 1_500, Input::Tick)]
        },
    ),
    ("asking", "a quorum granted", || {
        let node = asking();
        let granted = told(&node, 2, grant(1_010));
        vec![(node, 1_020, granted)]
    }),
    ("asking", "refused, or one renewal interval", || {
        let node = asking();
        let refusal = told(&node, 2, refuse());
        vec![(node, 1_020, refusal), (asking(), 1_510, Input::Tick)]
    }),
    ("holding", "a renewal is due", || {
        let mut node = holder();
        take(&mut node, 1_500, Input::Progress);
        let stored = told(&node, 2, renewed(1_500, false));
        take(&mut node, 1_510, stored);
        vec![(node, 2_000, Input::Progress)]
    }),
    ("holding", "answers of a quorum", || {
        let mut node = holder();
        take(&mut node, 1_500, Input::Progress);
        let answer = told(&node, 2, renewed(1_500, false));
        vec![(node, 1_510, answer)]
    }),
    ("holding", "`stopBefore` ahead of the lease's end", || {
        vec![(holder(), 3_500, Input::Tick)]
    }),
    ("holding", "refused for the term itself", || {
        let node = holder();
        let refusal = Body::Refuse {
            term: Term(1),
            held: None,
            highest: Term(1),
            configuration: configuration(&[0, 1, 2]),
        };
        let refused = told(&node, 1, refusal);
        vec![(node, 1_300, refused)]
    }),
    ("holding", "a handover", || {
        let mut node = holder();
        tell(&mut node, 1_200, 1, renewed(1_000, true));
        vec![(node, 1_300, Input::HandOver { to: voter(1) })]
    }),
    ("holding, handing over", "no work is left", || {
        let mut node = holder();
        tell(&mut node, 1_200, 1, renewed(1_000, true));
        take(&mut node, 1_300, Input::HandOver { to: voter(1) });
        vec![(node, 1_350, Input::Idle)]
    }),
    ("stopping", "no work is left", || {
        let mut node = holder();
        take(&mut node, 3_500, Input::Tick);
        vec![(node, 3_600, Input::Idle)]
    }),
];

fn following() -> Node<Host> {
    let saved = Saved::new(voter(1), configuration(&[0, 1, 2]));
    Node::start(saved, timing(), ACTIVE, Mono(0))
}

fn sounding() -> Node<Host> {
    let mut node = following();
    take(&mut node, 1_000, Input::Tick);
    node
}

fn asking() -> Node<Host> {
    let mut node = sounding();
    let yes = told(&node, 2, Body::PreGrant { term: Term(1) });
    take(&mut node, 1_010, yes);
    node
}

fn refuse() -> Body<Host> {
    Body::Refuse {
        term: Term(1),
        held: Some((voter(0), Ms(2_000))),
        highest: Term(0),
        configuration: configuration(&[0, 1, 2]),
    }
}

fn part(node: &Node<Host>) -> &'static str {
    match node.part() {
        Part::Following => "following",
        Part::Sounding(_) => "sounding",
        Part::Asking(_) => "asking",
        Part::Holding(_) => "holding",
        Part::Stopping(_) => "stopping",
    }
}

const PARTS: [&str; 5] = ["following", "sounding", "asking", "holding", "stopping"];

/// What was sent and told to the work, by name.
fn done(committed: &Committed<Host>) -> BTreeSet<String> {
    let name = |action: &Action<Host>| match action {
        Action::Send { message, .. } => format!("{:?}", message.body),
        Action::Work { .. } | Action::Stop { .. } => format!("{action:?}"),
    };
    let first = |name: String| name.split([' ', '{', '(']).next().unwrap().to_string();
    committed.actions.iter().map(name).map(first).collect()
}

/// The rows of the table in the document: doing, on, then.
fn documented() -> Vec<[&'static str; 3]> {
    let (_, from) = DOC.split_once("| doing | on | then |\n").unwrap();
    let (table, _) = from.split_once("\n\n").unwrap();
    let cells = |row: &'static str| -> [&'static str; 3] {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        cells.try_into().unwrap()
    };
    table.lines().skip(1).map(cells).collect()
}

#[test]
fn every_row_of_the_documented_table_is_what_a_node_does() {
    let documented = documented();
    assert_eq!(documented.len(), ROWS.len());
    for ([doing, on, then], (doing_here, on_here, ways)) in documented.into_iter().zip(ROWS) {
        assert_eq!(doing, doing_here);
        assert!(on.starts_with(on_here), "{on:?} is not {on_here:?}");
        let words = || then.split(|c: char| !c.is_alphanumeric());
        let acts: BTreeSet<String> = words()
            .filter(|word| word.starts_with(|c: char| c.is_uppercase()))
            .map(ToString::to_string)
            .collect();
        let leads = words().find(|word| PARTS.contains(word));
        for (mut node, now, input) in ways() {
            let row = format!("{doing} | {on} | {then}, at {now}");
            assert_eq!(part(&node), doing.split(',').next().unwrap(), "{row}");
            let committed = take(&mut node, now, input);
            let leads = leads.unwrap_or(doing);
            assert_eq!(part(&node), leads, "{row}");
            assert_eq!(done(&committed), acts, "{row}");
        }
    }
}
