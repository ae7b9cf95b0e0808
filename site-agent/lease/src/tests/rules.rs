//! Rules by name, each with the shortest history that it is about. A node is driven by hand here;
//! whole sites are in `site` and `random`.

use alloc::vec::Vec;

use super::site::{Host, Site, configuration, timing, voter};
use crate::{
    Action, Body, Committed, Epoch, HandoverRefusal, Input, Memory, Message, Mono, Ms, Node, Note,
    Part, Saved, Standing, Term, Timing, TimingError,
};

pub(super) const ACTIVE: Standing = Standing::Candidate {
    rank: 0,
    automatic: true,
};

pub(super) fn witness(me: Host, now: u64) -> Node<Host> {
    let saved = Saved::new(voter(me), configuration(&[0, 1, 2]));
    Node::start(saved, timing(), Standing::Witness, Mono(now))
}

pub(super) fn take(node: &mut Node<Host>, now: u64, input: Input<Host>) -> Committed<Host> {
    node.handle(Mono(now), input)
        .commit(|_| Ok::<(), ()>(()))
        .unwrap()
}

/// A message from somebody who has stored the same voters.
pub(super) fn told(node: &Node<Host>, from: Host, body: Body<Host>) -> Input<Host> {
    let message = Message {
        memory: Memory::default(),
        epoch: node.saved().configuration.epoch(),
        body,
    };
    let from = voter(from);
    Input::Received { from, message }
}

pub(super) fn tell(
    node: &mut Node<Host>,
    now: u64,
    from: Host,
    body: Body<Host>,
) -> Vec<Body<Host>> {
    let told = told(node, from, body);
    sent(take(node, now, told))
}

pub(super) fn sent(committed: Committed<Host>) -> Vec<Body<Host>> {
    let bodies = committed
        .actions
        .into_iter()
        .filter_map(|action| match action {
            Action::Send { message, .. } => Some(message.body),
            Action::Work { .. } | Action::Stop { .. } => None,
        });
    bodies.collect()
}

pub(super) fn ask(term: u64) -> Body<Host> {
    Body::Ask {
        term: Term(term),
        sent: Mono(7),
        promise: timing().promise(),
    }
}

pub(super) fn renew(term: u64) -> Body<Host> {
    Body::Renew {
        term: Term(term),
        sent: Mono(7),
        promise: timing().promise(),
        in_force: Epoch::default(),
    }
}

pub(super) fn release(term: u64, successor: Option<Host>) -> Body<Host> {
    Body::Release {
        term: Term(term),
        successor: successor.map(voter),
    }
}

fn granted(answers: &[Body<Host>]) -> bool {
    matches!(answers, [Body::Grant { .. }])
}

pub(super) fn refused(answers: &[Body<Host>]) -> bool {
    matches!(answers, [Body::Refuse { .. }])
}

/// Host 0, elected by 2 at 1,000 with term 1.
pub(super) fn holder() -> Node<Host> {
    let saved = Saved::new(voter(0), configuration(&[0, 1, 2]));
    let mut node = Node::start(saved, timing(), ACTIVE, Mono(1_000));
    take(&mut node, 1_000, Input::Progress);
    let yes = Body::PreGrant { term: Term(1) };
    tell(&mut node, 1_000, 2, yes);
    tell(&mut node, 1_000, 2, grant(1_000));
    assert!(node.lease().is_some());
    node
}

pub(super) fn grant(sent: u64) -> Body<Host> {
    Body::Grant {
        term: Term(1),
        sent: Mono(sent),
    }
}

pub(super) fn renewed(sent: u64, ready: bool) -> Body<Host> {
    Body::Renewed {
        term: Term(1),
        sent: Mono(sent),
        ready,
    }
}

#[test]
fn h15_the_promise_outlasts_the_lease_by_drift_and_margin() {
    assert_eq!(timing().promise(), Ms(3_500));
    let missing = Timing::new(Ms(1_000), Ms(400), Ms(200), 1);
    assert!(matches!(missing, Err(TimingError::TooFewRenewals { .. })));
    let wild = Timing::new(Ms(3_000), Ms(500), Ms(500), 11);
    assert_eq!(wild, Err(TimingError::Drift { percent: 11 }));
}

#[test]
fn i4_nothing_is_sent_where_the_save_failed() {
    let mut node = witness(2, 0);
    let message = Message {
        memory: Memory::default(),
        epoch: Epoch::default(),
        body: ask(1),
    };
    let from = voter(0);
    let effects = node.handle(Mono(0), Input::Received { from, message });
    assert_eq!(
        effects.commit(|_| Err("disk full")).unwrap_err(),
        "disk full"
    );
}

#[test]
fn h15_one_grant_a_term_and_terms_rise() {
    let mut node = witness(2, 0);
    assert!(granted(&tell(&mut node, 0, 0, ask(3))));
    // The promise is over; the term is still spent, and so are those below.
    assert!(refused(&tell(&mut node, 9_000, 1, ask(3))));
    assert!(refused(&tell(&mut node, 9_000, 1, ask(2))));
    assert!(granted(&tell(&mut node, 9_000, 1, ask(4))));
}

#[test]
fn h12_a_live_promise_is_kept_and_its_holder_is_named() {
    let mut node = witness(2, 0);
    tell(&mut node, 0, 0, ask(1));
    let answers = tell(&mut node, 1_000, 1, ask(2));
    let [Body::Refuse { held, .. }] = answers.as_slice() else {
        panic!("{answers:?}");
    };
    assert_eq!(*held, Some((voter(0), Ms(2_500))));
    assert!(refused(&tell(&mut node, 3_499, 1, ask(3))));
    assert!(granted(&tell(&mut node, 3_500, 1, ask(3))));
}

#[test]
fn r2_r1_an_answer_counts_once_and_from_when_it_was_asked() {
    let mut node = holder();
    let first = node.lease().unwrap().until;
    assert_eq!(first, Mono(4_000));
    take(&mut node, 1_500, Input::Progress);
    // The same grant again, late: not from when it came.
    tell(&mut node, 2_400, 2, grant(1_000));
    tell(&mut node, 2_400, 2, grant(1_000));
    assert_eq!(node.lease().unwrap().until, first);
    tell(&mut node, 2_400, 2, renewed(1_500, false));
    assert_eq!(node.lease().unwrap().until, Mono(4_500));
    // One that speaks of a question not asked yet extends nothing beyond the last that was.
    tell(&mut node, 2_450, 1, renewed(999_999, false));
    assert!(node.lease().unwrap().until <= Mono(2_450 + 3_000));
}

#[test]
fn r1_a_grant_after_the_attempt_is_too_late() {
    let saved = Saved::new(voter(0), configuration(&[0, 1, 2]));
    let mut node = Node::start(saved, timing(), ACTIVE, Mono(1_000));
    take(&mut node, 1_000, Input::Tick);
    tell(&mut node, 1_000, 2, Body::PreGrant { term: Term(1) });
    tell(&mut node, 6_000, 2, grant(1_000));
    assert!(node.lease().is_none());
}

#[test]
fn r3_a_release_of_another_or_of_an_older_term_changes_nothing() {
    let mut node = witness(2, 0);
    tell(&mut node, 0, 0, ask(5));
    for (from, term) in [(1, 5), (0, 4), (1, 6)] {
        tell(&mut node, 100, from, release(term, None));
        assert!(refused(&tell(&mut node, 100, 1, ask(7))), "{from} {term}");
    }
    tell(&mut node, 200, 0, release(5, None));
    assert!(granted(&tell(&mut node, 200, 1, ask(7))));
}

#[test]
fn r4_a_renewal_is_of_its_very_term_and_of_its_holder() {
    let mut node = witness(2, 0);
    tell(&mut node, 0, 0, ask(5));
    assert!(refused(&tell(&mut node, 100, 0, renew(4))));
    assert!(refused(&tell(&mut node, 100, 1, renew(5))));
    let renewed_by = tell(&mut node, 100, 0, renew(5));
    assert!(matches!(renewed_by.as_slice(), [Body::Renewed { .. }]));
    // Nor does an answer about another term extend what a holder has.
    let mut node = holder();
    take(&mut node, 1_500, Input::Progress);
    let other = Body::Renewed {
        term: Term(2),
        sent: Mono(1_500),
        ready: false,
    };
    tell(&mut node, 1_510, 2, other);
    assert_eq!(node.lease().unwrap().until, Mono(4_000));
}

#[test]
fn r6_terms_are_unique_across_restarts_and_a_refusal_tells_the_highest() {
    let asks = |node: &mut Node<Host>, now: u64, term| {
        let sounded = sent(take(node, now, Input::Tick));
        assert!(sounded.contains(&Body::PreAsk { term: Term(term) }));
    };
    let saved = Saved::new(voter(0), configuration(&[0, 1, 2]));
    let mut node = Node::start(saved, timing(), ACTIVE, Mono(0));
    asks(&mut node, 0, 1);
    // It asks for nothing that its own ledger does not say.
    let input = told(&node, 2, Body::PreGrant { term: Term(1) });
    let mut disk = None;
    let effects = node.handle(Mono(10), input);
    let committed = effects.commit(|saved| {
        disk = Some(saved.clone());
        Ok::<(), ()>(())
    });
    assert!(matches!(
        sent(committed.unwrap())[..],
        [Body::Ask { .. }, _]
    ));
    let disk = disk.unwrap();
    assert_eq!(disk.granted, Some((Term(1), voter(0))));
    let mut again = Node::start(disk, timing(), ACTIVE, Mono(20));
    asks(&mut again, 5_000, 2);
    let refusal = Body::Refuse {
        term: Term(2),
        held: None,
        highest: Term(41),
        configuration: configuration(&[0, 1, 2]),
    };
    tell(&mut again, 5_010, 2, refusal);
    asks(&mut again, 6_000, 42);
}

#[test]
fn r7_a_voter_knows_whom_it_promised_and_only_the_holder_until_when_it_is_active() {
    let mut node = holder();
    let until = node.lease().unwrap().until;
    let mut voter_2 = witness(2, 1_000);
    tell(&mut voter_2, 1_000, 0, ask(1));
    assert!(voter_2.lease().is_none());
    let after = until.plus(Ms(1));
    take(&mut node, after.0, Input::Tick);
    assert!(node.lease().is_none());
    assert_eq!(voter_2.promised(after), Some((&voter(0), Ms(499))));
}

#[test]
fn r9_a_term_is_durable_at_a_majority_before_any_work() {
    let works = |committed: &Committed<Host>| {
        let mut actions = committed.actions.iter();
        actions.any(|action| matches!(action, Action::Work { .. }))
    };
    let saved = Saved::new(voter(0), configuration(&[0, 1, 2]));
    let mut node = Node::start(saved, timing(), ACTIVE, Mono(1_000));
    take(&mut node, 1_000, Input::Tick);
    let yes = told(&node, 2, Body::PreGrant { term: Term(1) });
    let asked = take(&mut node, 1_000, yes);
    assert!(!works(&asked) && node.lease().is_none());
    // A voter whose ledger can't be written grants nothing, also where it has promised as long before.
    let mut voter_2 = witness(2, 0);
    tell(&mut voter_2, 0, 1, ask(1));
    tell(&mut voter_2, 10, 1, release(1, None));
    let asked = told(&voter_2, 0, ask(2));
    let effects = voter_2.handle(Mono(1_000), asked);
    let full = |saved: &Saved<Host>| Err::<(), _>(saved.granted.clone());
    let unsaved = effects.commit(full).unwrap_err();
    assert_eq!(unsaved, Some((Term(2), voter(0))));
    let granted = told(&node, 2, grant(1_000));
    assert!(works(&take(&mut node, 1_010, granted)));
}

/// I1b: of the enforcers the first, which the others only follow.
#[test]
fn h6_no_deadline_is_ever_given_out_that_has_passed_on_the_own_clock() {
    let mut node = holder();
    let answer = told(&node, 2, renewed(1_000, false));
    let late = take(&mut node, 3_500, answer);
    assert_eq!(late.actions, [Action::Stop { term: Term(1) }]);
    let saved = Saved::new(voter(0), configuration(&[0, 1, 2]));
    let mut node = Node::start(saved, timing(), ACTIVE, Mono(1_000));
    take(&mut node, 1_000, Input::Tick);
    tell(&mut node, 1_000, 2, Body::PreGrant { term: Term(1) });
    // The clock went on and nobody looked: the answer comes after work would have to stop.
    let answer = told(&node, 2, grant(1_000));
    let late = take(&mut node, 3_500, answer);
    let sent = sent(late);
    assert!(matches!(sent[..], [Body::Release { .. }, _]), "{sent:?}");
}

#[test]
fn r11_h1_a_release_ends_its_term_for_good() {
    let mut node = witness(2, 0);
    tell(&mut node, 0, 0, ask(1));
    tell(&mut node, 100, 0, release(1, None));
    // A renewal that was under way, or an agent that woke up: the term is over.
    assert!(refused(&tell(&mut node, 101, 0, renew(1))));
    assert_eq!(node.saved().closed, Term(1));
}

#[test]
fn r13_h1_a_started_node_never_goes_on_with_a_term_of_an_earlier_process() {
    let before = holder();
    let again = Node::start(before.saved().clone(), timing(), ACTIVE, Mono(1_500));
    assert_eq!(*again.part(), Part::Following);
    let mut again = again;
    tell(&mut again, 1_600, 2, renewed(1_000, false));
    assert!(again.lease().is_none());
}

#[test]
fn r5_a_restarted_voter_is_silent_for_the_longest_promise_it_gave() {
    let mut node = witness(2, 0);
    let long = Body::Ask {
        term: Term(1),
        sent: Mono(7),
        promise: Ms(8_000),
    };
    assert!(granted(&tell(&mut node, 0, 0, long)));
    let mut again = Node::start(node.saved().clone(), timing(), Standing::Witness, Mono(50));
    assert!(tell(&mut again, 8_049, 1, ask(2)).is_empty());
    assert!(tell(&mut again, 8_049, 0, renew(1)).is_empty());
    assert!(granted(&tell(&mut again, 8_050, 1, ask(2))));
    // One that never promised has nothing to be silent about.
    assert!(granted(&tell(&mut witness(2, 0), 0, 0, ask(1))));
}

#[test]
fn h15_a_renewal_is_answered_by_a_voter_that_was_not_asked_for_the_term() {
    let mut node = witness(2, 0);
    let answers = tell(&mut node, 0, 0, renew(4));
    assert!(matches!(answers.as_slice(), [Body::Renewed { .. }]));
    assert_eq!(node.saved().granted, Some((Term(4), voter(0))));
    // Going on needs no save; the first did.
    let message = Message {
        memory: Memory::default(),
        epoch: Epoch::default(),
        body: renew(4),
    };
    let from = voter(0);
    let effects = node.handle(Mono(500), Input::Received { from, message });
    effects.commit(|_| Err::<(), _>("saved")).unwrap();
}

#[test]
fn r10_sounding_changes_nothing_and_one_voter_that_hears_the_holder_is_enough_to_wait() {
    let mut site = Site::new(3, 1, timing());
    site.run_until(5_000);
    let before = site.notes.len();
    // Active and passive cannot see each other, both see the witness: no reason.
    site.cut.extend([(0, 1), (1, 0)]);
    site.run_until(60_000);
    assert_eq!(site.holders(), [0]);
    assert_eq!(site.notes.len(), before, "{:#?}", site.history);
}

#[test]
fn h12_a_holder_past_its_deadline_sends_no_more_renewals_of_that_term() {
    let mut node = holder();
    for now in (1_500..3_500).step_by(500) {
        assert!(!sent(take(&mut node, now, Input::Progress)).is_empty());
    }
    let last = take(&mut node, 3_500, Input::Progress);
    assert!(last.actions.contains(&Action::Stop { term: Term(1) }));
    assert!(sent(last).is_empty());
    assert!(sent(take(&mut node, 4_000, Input::Progress)).is_empty());
}

#[test]
fn h12_a_half_deaf_holder_does_not_keep_the_site() {
    let mut site = Site::new(3, 2, timing());
    site.run_until(5_000);
    assert_eq!(site.holders(), [0]);
    // It is heard and hears nothing.
    site.cut.extend([(1, 0), (2, 0)]);
    site.run_until(13_000);
    assert_eq!(site.holders(), [1], "{:#?}", site.history);
}

#[test]
fn renewal_proves_progress_a_stalled_disk_lets_the_lease_run_out() {
    let mut node = holder();
    assert!(!sent(take(&mut node, 1_500, Input::Tick)).is_empty());
    // The last progress is of 1,000; nothing rests on it any more.
    assert!(sent(take(&mut node, 2_100, Input::Tick)).is_empty());
    assert!(!sent(take(&mut node, 2_700, Input::Progress)).is_empty());
}

#[test]
fn h11_a_handover_goes_to_the_one_that_was_asked_for() {
    let mut node = holder();
    let to = voter(1);
    let refusals = |node: &mut Node<Host>, now, to: Host| {
        let to = voter(to);
        take(node, now, Input::HandOver { to }).notes
    };
    let not_ready = Note::HandoverRefused(HandoverRefusal::NotReady(to.clone()));
    assert_eq!(
        refusals(&mut node, 1_100, 1),
        std::slice::from_ref(&not_ready)
    );
    tell(&mut node, 1_200, 1, renewed(1_000, true));
    assert_eq!(
        refusals(&mut node, 3_201, 1),
        std::slice::from_ref(&not_ready)
    );
    // Ready a moment ago, and not any more: its store went with the holder's.
    let mut node = holder();
    tell(&mut node, 1_200, 1, renewed(1_000, true));
    tell(&mut node, 1_250, 1, renewed(1_000, false));
    assert_eq!(refusals(&mut node, 1_260, 1), [not_ready]);
    let mut node = holder();
    tell(&mut node, 1_200, 1, renewed(1_000, true));
    let begun = take(&mut node, 1_300, Input::HandOver { to: to.clone() });
    assert_eq!(begun.actions, [Action::Stop { term: Term(1) }]);
    let first = Note::HandoverRefused(HandoverRefusal::UnderWay(to.clone()));
    assert_eq!(refusals(&mut node, 1_310, 2), [first]);
    // Not before no work is left.
    assert_eq!(node.saved().closed, Term(0));
    let released = sent(take(&mut node, 1_350, Input::Idle));
    let expected = Body::Release {
        term: Term(1),
        successor: Some(to),
    };
    assert_eq!(released, [expected.clone(), expected]);
    // Here first: this node never goes on with it either.
    assert_eq!(node.saved().closed, Term(1));
}

#[test]
fn h36_four_voters_need_three_and_two_need_both() {
    for (hosts, enough) in [(2_u8, 2), (3, 2), (4, 3), (5, 3)] {
        let all: Vec<Host> = (0..hosts).collect();
        let configuration = configuration(&all);
        for count in 0..=hosts {
            let yes = || (0..count).map(voter);
            let reached = configuration.reached(&yes().map(|one| (one, Mono(1))).collect());
            assert_eq!(reached.is_some(), count >= enough, "{count} of {hosts}");
            assert_eq!(configuration.is_quorum(&yes().collect()), count >= enough);
        }
    }
}

#[test]
fn h11_for_a_second_a_voter_grants_to_the_successor_only() {
    let mut node = witness(2, 0);
    tell(&mut node, 0, 0, ask(1));
    tell(&mut node, 100, 0, release(1, Some(1)));
    assert!(refused(&tell(&mut node, 1_000, 3, ask(2))));
    assert!(refused(&tell(&mut node, 1_099, 0, ask(2))));
    assert!(granted(&tell(&mut node, 1_099, 1, ask(2))));
    let mut node = witness(2, 0);
    tell(&mut node, 0, 0, ask(1));
    tell(&mut node, 100, 0, release(1, Some(1)));
    assert!(granted(&tell(&mut node, 1_100, 0, ask(2))));
}

#[test]
fn h11_the_successor_asks_at_once_and_the_gap_is_short() {
    let mut site = Site::new(3, 3, timing());
    site.run_until(5_000);
    let to = voter(1);
    site.input(0, Input::HandOver { to });
    site.run_until(5_060);
    assert_eq!(site.holders(), [1], "{:#?}", site.history);
    site.run_until(20_000);
    assert_eq!(site.holders(), [1]);
}

#[test]
fn h4_another_incarnation_has_no_vote() {
    let mut site = Site::new(3, 5, timing());
    site.run_until(5_000);
    site.kill(1);
    site.forget(2);
    site.start(2);
    site.run_until(30_000);
    assert_eq!(site.holders(), [0; 0], "{:#?}", site.history);
}

#[test]
fn h31_manual_only_the_last_holder_comes_back_by_itself() {
    let manual = Standing::Candidate {
        rank: 1,
        automatic: false,
    };
    let mut saved = Saved::new(voter(1), configuration(&[0, 1, 2]));
    saved.granted = Some((Term(3), voter(0)));
    let mut node = Node::start(saved.clone(), timing(), manual, Mono(0));
    assert!(sent(take(&mut node, 60_000, Input::Tick)).is_empty());
    saved.granted = Some((Term(3), voter(1)));
    let mut node = Node::start(saved, timing(), manual, Mono(0));
    assert!(!sent(take(&mut node, 60_000, Input::Tick)).is_empty());
}

#[test]
fn h10_a_voter_with_work_left_past_its_deadline_does_not_vote() {
    let mut node = holder();
    take(&mut node, 3_500, Input::Tick);
    assert_eq!(*node.part(), Part::Stopping(Term(1)));
    assert!(tell(&mut node, 60_000, 1, ask(2)).is_empty());
    assert!(sent(take(&mut node, 60_000, Input::Tick)).is_empty());
    take(&mut node, 60_100, Input::Idle);
    assert!(granted(&tell(&mut node, 60_200, 1, ask(2))));
}
