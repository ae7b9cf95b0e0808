//! Two candidates that ask at once: one wins, and the other one's own grant must not keep it from ever
//! answering the winner.

use super::rules::{holder, sent, take, tell};
use super::site::{Host, configuration, timing, voter};
use crate::{Body, Input, Message, Mono, Node, Note, Saved, Standing, Term};

/// Host 1, which asked for term 1 while host 0 won it, and gave up.
fn loser() -> Node<Host> {
    let saved = Saved::new(voter(1), configuration(&[0, 1, 2]));
    let standing = Standing::Candidate {
        rank: 0,
        automatic: true,
    };
    let mut node = Node::start(saved, timing(), standing, Mono(1_000));
    take(&mut node, 1_000, Input::Tick);
    tell(&mut node, 1_000, 2, Body::PreGrant { term: Term(1) });
    assert_eq!(node.saved().granted, Some((Term(1), voter(1))));
    let no = refusal(1, Some(0), 1, &node);
    tell(&mut node, 1_050, 2, no);
    assert_eq!(node.saved().closed, Term(1));
    node
}

fn refusal(term: u64, held: Option<Host>, highest: u64, of: &Node<Host>) -> Body<Host> {
    Body::Refuse {
        term: Term(term),
        held: held.map(|host| (voter(host), crate::Ms(3_000))),
        highest: Term(highest),
        configuration: of.saved().configuration.clone(),
    }
}

#[test]
fn the_loser_of_a_duel_follows_once_the_winner_has_a_term_above() {
    let (mut winner, mut loser) = (holder(), loser());
    let renew = Body::Renew {
        term: Term(1),
        sent: Mono(1_500),
        promise: timing().promise(),
        in_force: winner.saved().configuration.epoch(),
    };
    let answers = tell(&mut loser, 1_500, 0, renew);
    let [no @ Body::Refuse { held: None, .. }] = answers.as_slice() else {
        panic!("one grant a term (I2): {answers:?}");
    };
    // The winner ends the term that can't be answered, keeps the place, and asks above.
    let message = Message {
        memory: winner.saved().memory.clone(),
        epoch: winner.saved().configuration.epoch(),
        body: no.clone(),
    };
    let from = voter(1);
    let heard = take(&mut winner, 1_510, Input::Received { from, message });
    assert_eq!(heard.notes, [Note::Lost(Term(1))]);
    let said = sent(take(&mut winner, 1_520, Input::Idle));
    let release = Body::Release {
        term: Term(1),
        successor: Some(voter(0)),
    };
    assert!(said.contains(&release), "{said:?}");
    let second = said
        .into_iter()
        .find(|body| matches!(body, Body::Ask { .. }));
    let second = second.expect("it asks at once");
    let answers = tell(&mut loser, 1_530, 0, second);
    assert!(matches!(
        answers.as_slice(),
        [Body::Grant { term: Term(2), .. }]
    ));
}

#[test]
fn a_holder_keeps_its_term_where_a_voter_has_another_reason_to_refuse() {
    // Promised to somebody else; knows of no term as high; speaks of another term; is no voter.
    let cases = [
        (1, Some(2), 5, 1),
        (1, None, 0, 1),
        (9, None, 9, 1),
        (1, None, 5, 7),
    ];
    for (term, held, highest, from) in cases {
        let mut node = holder();
        let no = refusal(term, held, highest, &node);
        tell(&mut node, 1_300, from, no);
        assert!(node.lease().is_some(), "{term} {held:?} {highest} {from}");
    }
    let mut node = holder();
    let no = refusal(1, None, 1, &node);
    tell(&mut node, 1_300, 1, no);
    assert!(node.lease().is_none(), "and gives it up for this one");
}
