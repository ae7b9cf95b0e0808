//! H21: what a site remembers of the declared active, and H5: a term that a resource refuses.

use super::site::{Host, Site, timing, voter};
use crate::{Action, How, Input, Memory, Mono, Node, Note, Saved, Standing, Term};

fn declare(site: &mut Site, active: Host, above: u64) {
    for host in [0, 1, 2] {
        site.input(host, Input::Declared { active, above });
    }
}

/// The site after some time, its holder settled.
fn settled() -> Site {
    let mut site = Site::new(3, 1, timing());
    declare(&mut site, 0, 0);
    site.run_until(6_000);
    assert_eq!(site.holders(), [0]);
    site
}

fn memory(site: &Site, host: Host) -> Memory<Host> {
    site.node(host).saved().memory.clone()
}

#[test]
fn h21_the_first_value_ever_is_no_request() {
    let mut site = Site::new(3, 1, timing());
    site.cut.extend([(0, 1), (0, 2), (1, 0), (2, 0)]);
    declare(&mut site, 0, 0);
    site.run_until(6_000);
    // The declared active is not there: another one holds, and is not asked to leave.
    assert_eq!(site.holders(), [1]);
    site.cut.clear();
    site.run_until(30_000);
    assert_eq!(site.holders(), [1]);
    assert_eq!(memory(&site, 1).request, None);
}

#[test]
fn h21_a_changed_value_is_a_request_and_an_equal_one_never_is() {
    let mut site = settled();
    declare(&mut site, 0, 1);
    site.run_until(10_000);
    assert_eq!(memory(&site, 0).version.number, 1);
    declare(&mut site, 1, 1);
    site.run_until(14_000);
    assert_eq!(site.holders(), [1], "{:#?}", site.history);
    assert_eq!(memory(&site, 1).declared, Some(1));
    assert_eq!(memory(&site, 1).request, None);
    let handed = |note: &Note<Host>| matches!(note, Note::Won(_, How::Handover { from }) if *from == voter(0));
    assert!(site.notes.iter().any(|(_, _, note)| handed(note)));
}

#[test]
fn h21_git_is_parked_after_a_failover_and_the_memory_outlives_it() {
    let mut site = settled();
    site.kill(0);
    site.run_until(15_000);
    assert_eq!(site.holders(), [1]);
    site.input(1, Input::FailedOver(1_700_000_000_000));
    site.start(0);
    // Git still says 0, to every voter, again and again.
    for at in (16_000..40_000).step_by(1_000) {
        let known = memory(&site, 1).version.number;
        declare(&mut site, 0, known);
        site.run_until(at);
    }
    assert_eq!(site.holders(), [1], "an unasked failback");
    assert_eq!(memory(&site, 2), memory(&site, 1));
    assert_eq!(memory(&site, 2).failovers, [1_700_000_000_000]);
    let cause = |note: &Note<Host>| matches!(note, Note::Won(_, How::Failover { from }) if *from == Some(voter(0)));
    assert!(site.notes.iter().any(|(_, _, note)| cause(note)));
}

#[test]
fn h21_what_was_said_about_an_older_memory_is_stale() {
    let mut site = settled();
    let before = memory(&site, 0).version.number;
    declare(&mut site, 1, before);
    site.run_until(14_000);
    assert_eq!(site.holders(), [1]);
    // The new holder's agent was not reached yet: its assignment is of before the change.
    let stale = Input::Declared {
        active: 0,
        above: before,
    };
    site.input(1, stale);
    site.run_until(30_000);
    assert_eq!(site.holders(), [1]);
    // Asked again with what is known now, it is a request.
    let after = memory(&site, 1).version.number;
    declare(&mut site, 0, after);
    site.run_until(40_000);
    assert_eq!(site.holders(), [0], "{:#?}", site.history);
}

#[test]
fn h21_a_request_waits_until_its_target_is_ready_and_can_be_withdrawn() {
    let mut site = settled();
    site.input(1, Input::Ready(false));
    site.run_until(10_000);
    declare(&mut site, 1, 1);
    site.run_until(20_000);
    assert_eq!(site.holders(), [0]);
    assert_eq!(memory(&site, 2).request, Some(1));
    declare(&mut site, 0, 2);
    site.run_until(21_000);
    assert_eq!(memory(&site, 2).request, None);
    site.input(1, Input::Ready(true));
    site.run_until(30_000);
    assert_eq!(site.holders(), [0]);
}

#[test]
fn h5_a_term_that_is_refused_by_what_it_fences_is_given_up_and_asked_for_above() {
    let mut site = settled();
    site.input(0, Input::Outranked(Term(57)));
    site.run_until(14_000);
    let won = site.notes.iter().rev().find_map(|(_, _, note)| match note {
        Note::Won(term, _) => Some(*term),
        _ => None,
    });
    assert!(won.unwrap() > Term(57), "{:#?}", site.history);
    assert_eq!(site.holders().len(), 1);
}

#[test]
fn h18_a_process_replaced_in_place_goes_on_with_its_term_and_a_restarted_one_does_not() {
    let mut site = settled();
    let (saved, now) = (site.node(0).saved().clone(), Mono(5_000));
    let standing = Standing::Candidate {
        rank: 0,
        automatic: true,
    };
    let (term, until) = (Term(1), Mono(7_000));
    let resume = |saved: &Saved<Host>, term, until| {
        Node::resume(saved.clone(), timing(), standing, now, (term, until))
    };
    let node = resume(&saved, term, until).unwrap();
    assert_eq!(node.lease().unwrap().until, until);
    // The deadline has passed, the term is another's, or it was closed: it is a start like any other.
    assert!(resume(&saved, term, Mono(5_400)).is_none());
    assert!(resume(&saved, Term(2), until).is_none());
    let mut closed = saved.clone();
    closed.closed = term;
    assert!(resume(&closed, term, until).is_none());
    // Nothing that was asked before counts: without new answers it ends when it would have.
    let mut node = node;
    for now in (5_000..6_500).step_by(100) {
        let effects = node.handle(Mono(now), Input::Progress);
        drop(effects.commit(|_| Ok::<(), ()>(())));
    }
    assert_eq!(node.lease().unwrap().until, until);
    let effects = node.handle(Mono(6_500), Input::Tick);
    let done = effects.commit(|_| Ok::<(), ()>(())).unwrap();
    assert!(done.actions.contains(&Action::Stop { term }));
    site.run_until(7_000);
}

#[test]
fn h4_every_vote_is_counted_durably() {
    let mut site = settled();
    let before = site.node(2).saved().votes;
    site.kill(0);
    site.run_until(15_000);
    assert!(site.node(2).saved().votes > before);
}
