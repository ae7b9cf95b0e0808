//! Voters that change, rule by rule (H3). Whole sites whose voters change are in `random`.

use alloc::collections::BTreeSet;

use super::rules::{ACTIVE, ask, grant, holder, refused, renewed, sent, take, tell, witness};
use super::site::{Host, Site, configuration, timing, voter};
use crate::{
    Body, ChangeRefusal, Configuration, Epoch, Input, Memory, Message, Mono, Ms, Node, Note, Part,
    Saved, Term, Voters,
};

/// The answer to a renewal, from a voter that has stored the voters of this epoch.
fn renews(node: &mut Node<Host>, now: u64, from: Host, (sent, epoch): (u64, Epoch)) {
    let message = Message {
        memory: Memory::default(),
        epoch,
        body: renewed(sent, false),
    };
    let from = voter(from);
    take(node, now, Input::Received { from, message });
}

#[test]
fn h3_only_the_holder_changes_voters_and_one_change_at_a_time() {
    let alone = || Input::Change {
        members: BTreeSet::from([voter(0)]),
    };
    let refused = |refusal| [Note::ChangeRefused(refusal)];
    let mut other = witness(2, 0);
    let notes = take(&mut other, 0, alone()).notes;
    assert_eq!(notes, refused(ChangeRefusal::NotHolder));
    let mut node = holder();
    let without = Input::Change {
        members: BTreeSet::from([voter(1), voter(2)]),
    };
    let notes = take(&mut node, 1_100, without).notes;
    assert_eq!(notes, refused(ChangeRefusal::WithoutHolder));
    take(&mut node, 1_100, alone());
    let epoch = node.saved().configuration.epoch();
    let notes = take(&mut node, 1_200, alone()).notes;
    assert_eq!(notes, refused(ChangeRefusal::UnderWay(epoch)));
}

#[test]
fn r8_h3_voters_are_in_force_when_a_majority_of_both_sets_stored_them() {
    let mut node = holder();
    let members = BTreeSet::from([voter(0)]);
    take(&mut node, 1_100, Input::Change { members });
    let epoch = node.saved().configuration.epoch();
    // The new set alone has stored it, the old one has not.
    assert!(node.saved().configuration.pending.is_some());
    renews(&mut node, 1_150, 2, (1_100, Epoch::default()));
    assert!(node.saved().configuration.pending.is_some());
    renews(&mut node, 1_200, 2, (1_100, epoch));
    assert_eq!(node.saved().configuration.in_force.epoch, epoch);
    assert_eq!(node.saved().configuration.pending, None);
}

#[test]
fn r8_h3_a_deadline_that_was_given_out_is_not_taken_back_by_new_voters() {
    let mut node = holder();
    // Both renew at 1,500; then 1 and 2 make way for 1 and 3, and 3 only answers what is old.
    take(&mut node, 1_500, Input::Progress);
    tell(&mut node, 1_510, 2, renewed(1_500, false));
    let members = BTreeSet::from([voter(0), voter(1), voter(3)]);
    take(&mut node, 1_600, Input::Change { members });
    let epoch = node.saved().configuration.epoch();
    renews(&mut node, 1_700, 2, (1_600, epoch));
    assert_eq!(node.lease().unwrap().until, Mono(4_500));
    renews(&mut node, 1_700, 3, (1_400, epoch));
    assert!(node.saved().configuration.pending.is_some());
    renews(&mut node, 1_800, 3, (1_600, epoch));
    assert_eq!(node.saved().configuration.pending, None);
}

#[test]
fn h3_an_older_epoch_is_refused_with_the_newer_one_and_the_asker_learns_it() {
    let mut node = witness(2, 0);
    tell(&mut node, 0, 0, ask(1));
    let epoch = Epoch {
        number: 1,
        term: Term(1),
    };
    let configure = Body::Configure {
        term: Term(1),
        sent: Mono(7),
        promise: Ms(0),
        configuration: Configuration {
            pending: Some(Voters {
                epoch,
                members: BTreeSet::from([voter(0)]),
            }),
            ..configuration(&[0, 1, 2])
        },
    };
    let answers = tell(&mut node, 10, 0, configure);
    assert!(matches!(answers.as_slice(), [Body::Renewed { .. }]));
    let message = Message {
        memory: Memory::default(),
        epoch: Epoch::default(),
        body: ask(2),
    };
    let from = voter(1);
    let answers = sent(take(&mut node, 9_000, Input::Received { from, message }));
    assert!(refused(&answers));
    // The passive that learns of a pending solo needs the solo too, and waits.
    let saved = Saved::new(voter(1), configuration(&[0, 1, 2]));
    let mut passive = Node::start(saved, timing(), ACTIVE, Mono(9_000));
    take(&mut passive, 9_000, Input::Tick);
    tell(&mut passive, 9_010, 2, answers[0].clone());
    assert_eq!(passive.saved().configuration.epoch(), epoch);
    tell(&mut passive, 9_600, 2, Body::PreGrant { term: Term(2) });
    assert!(matches!(
        passive.part(),
        Part::Following | Part::Sounding(_)
    ));
    assert!(passive.lease().is_none());
}

#[test]
fn h3_of_two_changes_with_one_number_the_later_term_counts() {
    let theirs = |term| {
        let mut configuration = configuration(&[0, 1, 2]);
        configuration.pending = Some(Voters {
            epoch: Epoch {
                number: 1,
                term: Term(term),
            },
            members: BTreeSet::from([voter(0)]),
        });
        configuration
    };
    let learned = theirs(5).learned(&theirs(7)).unwrap();
    assert_eq!(learned.epoch().term, Term(7));
    assert_eq!(theirs(7).learned(&theirs(5)), None);
}

/// Whoever learns of newer voters while it holds does not take for stored what was answered before.
#[test]
fn h3_answers_about_older_voters_put_no_newer_ones_in_force() {
    let saved = Saved::new(voter(0), configuration(&[0, 1, 2, 3, 4]));
    let mut node = Node::start(saved, timing(), ACTIVE, Mono(1_000));
    take(&mut node, 1_000, Input::Progress);
    for from in [2, 3] {
        tell(&mut node, 1_000, from, Body::PreGrant { term: Term(1) });
    }
    for from in [2, 3] {
        tell(&mut node, 1_000, from, grant(1_000));
    }
    take(&mut node, 1_500, Input::Progress);
    for from in [2, 3] {
        renews(&mut node, 1_510, from, (1_500, Epoch::default()));
    }
    // An earlier holder asked 1 alone for these.
    let epoch = Epoch {
        number: 1,
        term: Term(0),
    };
    let mut known = configuration(&[0, 1, 2, 3, 4]);
    known.pending = Some(Voters {
        epoch,
        members: [0, 1, 4].map(voter).into(),
    });
    let refusal = Body::Refuse {
        term: Term(1),
        held: None,
        highest: Term(0),
        configuration: known,
    };
    tell(&mut node, 1_520, 1, refusal);
    take(&mut node, 2_000, Input::Progress);
    renews(&mut node, 2_010, 1, (2_000, epoch));
    // 0 and 1 have stored them: of the old five no majority.
    assert!(node.saved().configuration.pending.is_some());
    renews(&mut node, 2_020, 2, (2_000, epoch));
    assert_eq!(node.saved().configuration.pending, None);
}

/// Whoever missed that other voters came into force, and is asked to store the next, hears of both:
/// those in between may have a majority without it.
#[test]
fn h3_with_voters_to_store_come_those_in_force() {
    let epoch = |number| Epoch {
        number,
        term: Term(1),
    };
    let voters = |number, members: &[Host]| Voters {
        epoch: epoch(number),
        members: members.iter().copied().map(voter).collect(),
    };
    // Asked by 0: of 0 to 4 have become 0, 1 and 2, and shall become 0, 3 and 4.
    let between = Configuration {
        in_force: voters(1, &[0, 1, 2]),
        pending: Some(voters(2, &[0, 3, 4])),
    };
    let mut saved = Saved::new(voter(0), between);
    saved.granted = Some((Term(1), voter(0)));
    let until = (Term(1), Mono(4_000));
    let mut asks = Node::resume(saved, timing(), ACTIVE, Mono(1_000), until).unwrap();
    let asked = sent(take(&mut asks, 1_000, Input::Progress));
    let is_configure = |body: &&Body<Host>| matches!(body, Body::Configure { .. });
    let configure = asked.iter().find(is_configure).unwrap().clone();
    let saved = Saved::new(voter(3), configuration(&[0, 1, 2, 3, 4]));
    let mut node = Node::start(saved, timing(), ACTIVE, Mono(0));
    let answers = tell(&mut node, 1_000, 0, configure);
    assert!(matches!(answers.as_slice(), [Body::Renewed { .. }]));
    take(&mut node, 10_000, Input::Tick);
    assert!(matches!(node.part(), Part::Sounding(_)));
    // Of the first five and of the last three these are majorities. 1 and 2 may have elected one of them.
    for from in [0, 4] {
        tell(&mut node, 10_000, from, Body::PreGrant { term: Term(2) });
    }
    assert!(matches!(node.part(), Part::Sounding(_)));
    tell(&mut node, 10_000, 2, Body::PreGrant { term: Term(2) });
    assert!(matches!(node.part(), Part::Asking(_)));
}

#[test]
fn h3_solo_goes_on_alone_and_takes_the_others_back() {
    let mut site = Site::new(3, 4, timing());
    site.run_until(5_000);
    let members = BTreeSet::from([voter(0)]);
    site.input(0, Input::Change { members });
    site.run_until(6_000);
    site.kill(1);
    site.kill(2);
    site.run_until(60_000);
    assert_eq!(site.holders(), [0], "{:#?}", site.history);
    site.start(1);
    site.start(2);
    site.run_until(70_000);
    let members = BTreeSet::from([voter(0), voter(1), voter(2)]);
    site.input(0, Input::Change { members });
    site.run_until(75_000);
    assert_eq!(site.node(0).saved().configuration.pending, None);
    site.kill(0);
    site.run_until(85_000);
    assert_eq!(site.holders(), [1], "{:#?}", site.history);
}
