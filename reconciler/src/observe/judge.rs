//! When a server is silent, cut off, or only quiet for a moment: hazard H8 as a state machine.
//!
//! Pure: time and what happened come in, the verdict comes out. Who asks whom, and how, is
//! `agent.rs`; what a verdict means for publishing and moving is the planner's.

use stead_schemas::observed::Contact;
use stead_schemas::time::{DurationMs, WallMs};

/// Other agents whose word confirms a silence, where there are so many.
pub const WITNESSES: usize = 2;
/// A confirmation is asked for again this often.
pub const ASK_AGAIN: DurationMs = DurationMs(2_000);
/// A confirmation that could not be renewed for this long counts no more.
const STALE: DurationMs = DurationMs(8_000);

/// What the other agents of a site answered when asked to reach a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Round {
    /// When the last one answered.
    pub at: WallMs,
    /// So many reach it.
    pub reached: usize,
    /// So many don't.
    pub not_reached: usize,
    /// Nobody else of the site was there to ask.
    pub all_asked: bool,
}

impl Round {
    /// Whether the answers are enough to call the server silent.
    #[must_use]
    pub const fn confirms(&self) -> bool {
        self.reached == 0
            && (self.not_reached >= WITNESSES || (self.all_asked && self.not_reached > 0))
    }
}

/// What is known about contact with one server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Watch {
    /// When this reconciler first tried.
    trying: WallMs,
    /// When it last said something.
    heard: Option<WallMs>,
    /// Since when somebody else, or nothing of ours, answers in its place.
    refused: Option<WallMs>,
    /// When the last failed fresh connection was begun.
    failed: Option<WallMs>,
    /// What other agents said last.
    round: Option<Round>,
    /// Since when every round confirmed.
    confirmed: Option<WallMs>,
}

impl Watch {
    /// Nothing known yet.
    #[must_use]
    pub const fn new(now: WallMs) -> Self {
        Self {
            trying: now,
            heard: None,
            refused: None,
            failed: None,
            round: None,
            confirmed: None,
        }
    }

    /// It said something.
    pub const fn on_heard(&mut self, now: WallMs) {
        *self = Self {
            trying: self.trying,
            heard: Some(now),
            refused: None,
            failed: None,
            round: None,
            confirmed: None,
        };
    }

    /// A fresh connection, begun then, was refused or unanswered.
    pub const fn on_failed(&mut self, begun: WallMs) {
        self.failed = Some(begun);
        self.refused = None;
    }

    /// Something answers that is not this server's agent, or makes no sense.
    pub const fn on_refused(&mut self, now: WallMs) {
        if self.refused.is_none() {
            self.refused = Some(now);
        }
        self.round = None;
        self.confirmed = None;
    }

    /// Other agents were asked.
    pub fn on_round(&mut self, round: Round) {
        let unbroken = self
            .round
            .is_some_and(|last| round.at.since(last.at) <= STALE);
        self.confirmed = match (round.confirms(), self.confirmed) {
            (false, _) => None,
            (true, Some(since)) if unbroken => Some(since),
            (true, _) => Some(round.at),
        };
        self.round = Some(round);
    }

    /// The verdict. `others_heard`: any agent of the site is heard at all.
    #[must_use]
    pub fn judge(&self, now: WallMs, after: DurationMs, others_heard: bool) -> Contact {
        if let Some(since) = self.refused {
            return Contact::Refused { since };
        }
        let since = self.heard.unwrap_or(self.trying);
        if now.since(since) < after {
            return match self.heard {
                Some(_) => Contact::Heard,
                None => Contact::Connecting,
            };
        }
        match self.round {
            Some(round) if self.tried_since(since) && now.since(round.at) <= STALE => {
                self.by_round(round, since, others_heard)
            }
            _ => Contact::Unsure { since },
        }
    }

    /// Whether the other agents should be asked now.
    #[must_use]
    pub fn wants_round(&self, now: WallMs, after: DurationMs) -> bool {
        let since = self.heard.unwrap_or(self.trying);
        self.refused.is_none()
            && now.since(since) >= after
            && self.tried_since(since)
            && self
                .round
                .is_none_or(|round| now.since(round.at) >= ASK_AGAIN)
    }

    fn by_round(&self, round: Round, since: WallMs, others_heard: bool) -> Contact {
        match self.confirmed {
            _ if round.reached > 0 => Contact::CutOff { since },
            Some(confirmed) if others_heard => Contact::Silent {
                since,
                confirmed_for: round.at.since(confirmed),
            },
            _ => Contact::Unsure { since },
        }
    }

    /// A fresh connection was tried, and failed, after it fell quiet.
    fn tried_since(&self, since: WallMs) -> bool {
        self.failed.is_some_and(|failed| failed >= since)
    }
}

/// In which order other agents are asked: those of zones farthest from the server's first; among
/// equals each server begins elsewhere, so that a dead zone's questions spread.
#[must_use]
pub fn order_of_witnesses<'a, T: AsRef<str> + Ord>(
    server: &str,
    zone: Option<&str>,
    others: impl Iterator<Item = (&'a T, Option<&'a str>)>,
) -> Vec<&'a T> {
    let mut ranked: Vec<_> = others
        .map(|(other, their)| {
            let near = shared_prefix(zone, their);
            ((near, spread(server, other.as_ref())), other)
        })
        .collect();
    ranked.sort();
    ranked.into_iter().map(|(_, other)| other).collect()
}

/// How many leading parts two zones share; a server without a zone is near nobody.
fn shared_prefix(one: Option<&str>, other: Option<&str>) -> usize {
    match (one, other) {
        (Some(one), Some(other)) => one
            .split('/')
            .zip(other.split('/'))
            .take_while(|(a, b)| a == b)
            .count(),
        _ => 0,
    }
}

/// FNV-1a over both names: any fixed mixing does.
fn spread(server: &str, other: &str) -> u64 {
    server
        .bytes()
        .chain(other.bytes())
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: DurationMs = DurationMs(3_000);

    fn quiet(heard_at: u64, failed: Option<u64>) -> Watch {
        let mut watch = Watch::new(WallMs(0));
        watch.on_heard(WallMs(heard_at));
        if let Some(at) = failed {
            watch.on_failed(WallMs(at));
        }
        watch
    }

    fn round(at: u64, reached: usize, not_reached: usize, all_asked: bool) -> Round {
        Round {
            at: WallMs(at),
            reached,
            not_reached,
            all_asked,
        }
    }

    #[test]
    fn h8_each_of_the_three_conditions_is_needed() {
        let since = WallMs(1_000);
        let silent = Contact::Silent {
            since,
            confirmed_for: DurationMs(0),
        };
        let unsure = Contact::Unsure { since };
        let both = Some(round(5_000, 0, 2, false));
        // heartbeat late, fresh connection failed, what others say, any other heard, verdict
        let table = [
            (3_900, Some(2_000), None, true, Contact::Heard),
            (5_000, None, None, true, unsure),
            (5_000, Some(900), both, true, unsure),
            (5_000, Some(2_000), None, true, unsure),
            (5_000, Some(2_000), both, true, silent),
            (5_000, Some(2_000), both, false, unsure),
            (
                5_000,
                Some(2_000),
                Some(round(5_000, 0, 1, false)),
                true,
                unsure,
            ),
            (
                5_000,
                Some(2_000),
                Some(round(5_000, 0, 1, true)),
                true,
                silent,
            ),
            (
                5_000,
                Some(2_000),
                Some(round(5_000, 0, 0, true)),
                true,
                unsure,
            ),
            (
                5_000,
                Some(2_000),
                Some(round(5_000, 1, 1, false)),
                true,
                Contact::CutOff { since },
            ),
        ];
        for (now, failed, asked, others, verdict) in table {
            let mut watch = quiet(1_000, failed);
            if let Some(asked) = asked {
                watch.on_round(asked);
            }
            let found = watch.judge(WallMs(now), AFTER, others);
            assert_eq!(found, verdict, "{now} {failed:?} {asked:?} {others}");
        }
    }

    #[test]
    fn h8_move_after_counts_only_while_confirmations_go_on() {
        let mut watch = quiet(0, Some(1_000));
        let confirmed = |watch: &Watch, now: u64| match watch.judge(WallMs(now), AFTER, true) {
            Contact::Silent { confirmed_for, .. } => Some(confirmed_for.0),
            _ => None,
        };
        watch.on_round(round(4_000, 0, 2, false));
        watch.on_round(round(6_000, 0, 2, false));
        watch.on_round(round(8_000, 0, 2, false));
        assert_eq!(confirmed(&watch, 8_500), Some(4_000));
        assert_eq!(confirmed(&watch, 16_001), None, "nobody confirmed for 8 s");
        watch.on_round(round(20_000, 0, 2, false));
        assert_eq!(confirmed(&watch, 20_000), Some(0), "it begins anew");
        watch.on_round(round(22_000, 1, 1, false));
        assert_eq!(confirmed(&watch, 22_000), None);
        watch.on_round(round(24_000, 0, 2, false));
        assert_eq!(confirmed(&watch, 24_000), Some(0));
    }

    #[test]
    fn a_word_from_it_ends_everything() {
        let mut watch = quiet(0, Some(1_000));
        watch.on_round(round(4_000, 0, 2, false));
        watch.on_heard(WallMs(5_000));
        assert_eq!(watch.judge(WallMs(5_001), AFTER, true), Contact::Heard);
        assert!(!watch.wants_round(WallMs(9_000), AFTER), "try it first");
    }

    #[test]
    fn a_server_that_was_never_heard_is_connecting_before_it_is_judged() {
        let mut watch = Watch::new(WallMs(100));
        assert_eq!(watch.judge(WallMs(3_099), AFTER, true), Contact::Connecting);
        let since = WallMs(100);
        assert_eq!(
            watch.judge(WallMs(3_100), AFTER, true),
            Contact::Unsure { since }
        );
        watch.on_failed(WallMs(3_100));
        assert!(watch.wants_round(WallMs(3_200), AFTER));
        watch.on_round(round(3_300, 0, 2, false));
        assert!(!watch.wants_round(WallMs(5_200), AFTER));
        assert!(watch.wants_round(WallMs(5_300), AFTER));
    }

    #[test]
    fn somebody_else_in_its_place_is_refused_and_nobody_is_asked() {
        let mut watch = quiet(0, Some(1_000));
        watch.on_refused(WallMs(2_000));
        watch.on_refused(WallMs(9_000));
        let since = WallMs(2_000);
        assert_eq!(
            watch.judge(WallMs(9_000), AFTER, true),
            Contact::Refused { since }
        );
        assert!(!watch.wants_round(WallMs(9_000), AFTER));
    }

    #[test]
    fn h8_witnesses_of_other_zones_are_asked_first() {
        let others = [
            ("p01-b".to_owned(), Some("seattle/room-1")),
            ("p01-c".to_owned(), Some("seattle/room-2")),
            ("p01-d".to_owned(), Some("dublin/room-1")),
            ("p01-e".to_owned(), None),
        ];
        let order = order_of_witnesses(
            "p01-a",
            Some("seattle/room-1"),
            others.iter().map(|(name, zone)| (name, *zone)),
        );
        assert_eq!(order[3], "p01-b", "its own zone last: {order:?}");
        assert_eq!(order[2], "p01-c");
    }
}
