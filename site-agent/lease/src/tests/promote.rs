//! H32: a majority is gone for good, and a person says so.

use alloc::collections::BTreeSet;

use super::site::{Host, Site, timing, voter};
use crate::{How, Input, Note, Part, PromoteRefusal};

fn promote(site: &mut Site, lost: &[Host]) {
    let lost: BTreeSet<_> = lost.iter().map(|host| voter(*host)).collect();
    site.input(1, Input::Promote { lost });
}

fn refusals(site: &Site) -> usize {
    let refused = |note: &&(u64, Host, Note<Host>)| matches!(note.2, Note::PromoteRefused(_));
    site.notes.iter().filter(refused).count()
}

/// Host 0 held, then it and the witness died.
fn left_alone() -> Site {
    let mut site = Site::new(3, 11, timing());
    site.run_until(5_000);
    assert_eq!(site.holders(), [0]);
    site.kill(0);
    site.kill(2);
    site.run_until(30_000);
    assert_eq!(site.holders(), [0; 0], "the survivor rightly refuses");
    site
}

#[test]
fn h32_the_survivor_goes_on_alone_under_an_epoch_and_a_term_far_above() {
    let mut site = left_alone();
    let before = site.node(1).saved().clone();
    promote(&mut site, &[0, 2]);
    let after = site.node(1).saved().clone();
    assert_eq!(site.holders(), [1], "{:#?}", site.history);
    let number = before.configuration.epoch().number;
    assert_eq!(after.configuration.epoch().number, number + 1_000);
    assert!(after.highest().0 > before.highest().0 + 1_000);
    assert_eq!(after.configuration.everyone(), BTreeSet::from([voter(1)]));
    let from = Some(voter(0));
    let promoted = |note: &(u64, Host, Note<Host>)| matches!(&note.2, Note::Won(_, How::Promoted { from: was }) if *was == from);
    assert!(site.notes.iter().any(promoted), "{:#?}", site.notes);
    site.run_until(60_000);
    assert_eq!(site.holders(), [1], "and stays");
    // Durable: it goes on after a restart, in a new term.
    site.kill(1);
    site.start(1);
    site.run_until(90_000);
    assert_eq!(site.holders(), [1], "{:#?}", site.history);
}

#[test]
fn h32_voters_that_return_stay_out_until_they_are_let_in() {
    let mut site = left_alone();
    promote(&mut site, &[0, 2]);
    site.run_until(40_000);
    let term = site.node(1).saved().highest();
    // Both at once: a majority of the old voters, who might elect each other.
    site.start(0);
    site.start(2);
    site.run_until(80_000);
    assert_eq!(site.holders(), [1], "{:#?}", site.history);
    assert_eq!(
        site.node(1).saved().highest(),
        term,
        "nothing was disturbed"
    );
    for host in [0, 2] {
        let saved = site.node(host).saved();
        assert!(!saved.configuration.has(&voter(host)), "host {host}");
        assert!(saved.memory.lost.contains(&voter(host)), "host {host}");
        assert_eq!(*site.node(host).part(), Part::Following);
    }
    // Another life of the ledger, let in by the holder.
    site.kill(2);
    site.forget(2);
    site.start(2);
    let members = BTreeSet::from([voter(1), site.incarnation(2)]);
    site.input(1, Input::Change { members });
    site.run_until(90_000);
    let configuration = &site.node(1).saved().configuration;
    assert_eq!(configuration.pending, None, "{:#?}", site.history);
    assert!(configuration.has(&site.incarnation(2)));
}

#[test]
fn h32_one_that_learned_of_a_solo_holder_goes_on_once_that_is_lost() {
    let mut site = Site::new(3, 13, timing());
    site.run_until(5_000);
    let members = BTreeSet::from([voter(0)]);
    site.input(0, Input::Change { members });
    site.run_until(10_000);
    assert!(!site.node(1).saved().configuration.has(&voter(1)));
    site.kill(0);
    site.run_until(40_000);
    assert_eq!(site.holders(), [0; 0], "the others have no vote");
    promote(&mut site, &[]);
    assert_eq!(refusals(&site), 1, "the one that is alone has to be named");
    promote(&mut site, &[0]);
    assert_eq!(site.holders(), [1], "{:#?}", site.notes);
    site.start(0);
    site.run_until(80_000);
    assert_eq!(site.holders(), [1], "{:#?}", site.history);
    assert!(!site.node(0).saved().configuration.has(&voter(0)));
}

#[test]
fn h32_it_is_refused_where_it_is_not_needed_or_proves_nothing() {
    // A live holder, and a majority without the lost.
    let mut site = Site::new(3, 12, timing());
    site.run_until(5_000);
    promote(&mut site, &[0, 2]);
    let last = site.notes.last().cloned();
    let promised = PromoteRefusal::Promised(voter(0));
    assert_eq!(
        last.map(|note| note.2),
        Some(Note::PromoteRefused(promised))
    );
    let mut site = left_alone();
    promote(&mut site, &[0]);
    assert_eq!(refusals(&site), 1, "{:#?}", site.notes);
    promote(&mut site, &[]);
    promote(&mut site, &[0, 1, 2]);
    assert_eq!(refusals(&site), 3);
    // Restarted: a promise that was forgotten may still bind.
    site.kill(1);
    site.start(1);
    promote(&mut site, &[0, 2]);
    assert_eq!(refusals(&site), 4);
    assert_eq!(site.holders(), [0; 0]);
}
