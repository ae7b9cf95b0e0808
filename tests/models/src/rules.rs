//! The bounds of a model, and in which way its surroundings are wrong.

use site_lease::{Incarnation, Ms, Timing, Voter};

use super::world::World;

/// One tick: the step of time of every model.
pub(super) const TICK: u64 = 1_000;

/// What must hold, by the names of design section 6 and of the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Invariant {
    /// At most one holds an unexpired lease by true time.
    OneHolds,
    /// At most one works.
    OneWorks,
    /// Nothing starts past its deadline.
    InTime,
    /// Terms rise, and one is held by one.
    TermsRise,
    /// No voter breaks a promise.
    PromisesKept,
    /// Durable before answered.
    Durable,
    /// A released term is never answered yes again.
    Over,
    /// No write of an older term is accepted once a newer one was claimed.
    Fenced,
}

/// What is wrong, if something is: failover-anchors section 2.7 and H1's 11 to 13.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Wrong {
    /// A lease counted from the answer, not from the question (R1).
    LateTimer,
    /// Answers counted, not voters (R2).
    ScalarCounting,
    /// A release taken for whatever its sender was last granted (R3).
    OwnerOnlyRelease,
    /// A grant of an attempt that was given up counts for the next (R4).
    UnqualifiedGrant,
    /// A quarantine one tick too short (R5).
    ShortQuarantine,
    /// A clock that steps back.
    WallClock,
    /// A promise that leaves drift out.
    ShortPromise,
    /// Grants that are not on the disk after a restart (I4).
    DroppedSave,
    /// No guard, and the agent is killed.
    NoGuard,
    /// The guard releases and lets the agent live (H1, 11).
    GuardSparesAgent,
    /// A release that a voter does not keep (H1, 12).
    ReleaseLeavesOpen,
    /// A guard that starts and neither kills nor knows a deadline (H1, 13).
    GuardForgets,
    /// Solo without anybody's word.
    AloneWithoutWitness,
    /// A voter that forgot and votes under its old incarnation (H4).
    OldIncarnation,
    /// DNS takes any writer.
    NoTokenAtDns,
    /// A claim on a new connection that rests on nothing newer (H5).
    StaleClaim,
}

/// A way to go wrong, with the least bounds that find it.
#[derive(Debug)]
pub struct Variant {
    /// What is wrong.
    pub wrong: Wrong,
    /// The property that breaks.
    pub breaks: &'static str,
    /// The model, with that.
    pub world: World,
}

/// What may happen, and how often.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Faults {
    /// Agents that hang.
    pub hangs: u8,
    /// Agents that die.
    pub deaths: u8,
    /// Guards that start again.
    pub guard_restarts: u8,
    /// Changes of the voters.
    pub changes: u8,
    /// Ledgers lost.
    pub amnesias: u8,
    /// Machines that stand still, their clocks too.
    pub pauses: u8,
    /// Databases that fall back to a stale replica.
    pub database_failovers: u8,
    /// Clocks that step back.
    pub steps: u8,
}

/// The bounds of a model.
#[derive(Debug, Clone)]
pub struct Rules {
    /// How fast each host's clock may run, in thousandths, the same for ever; one entry a voter, of
    /// whom the first two are candidates.
    pub rates: Vec<Vec<u64>>,
    /// The lengths.
    pub timing: Timing,
    /// The highest term.
    pub terms: u64,
    /// Messages of one kind in one channel: the newest, and stale ones.
    pub copies: usize,
    /// Whether a question may come again after it came.
    pub repeats: bool,
    /// The voter that may restart, as often as it likes.
    pub restarts: Option<u8>,
    /// Begins with the first host elected by the last; else with nobody.
    pub elected: bool,
    /// Whether there is work, and guards.
    pub works: bool,
    /// Whether there is a database.
    pub database: bool,
    /// Whether there is a name.
    pub dns: bool,
    /// What may happen at most.
    pub faults: Faults,
    /// What is wrong.
    pub wrong: Option<Wrong>,
}

impl Rules {
    /// Three voters in step, two terms, no faults.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            rates: vec![vec![TICK]; 3],
            timing: timing(2 * TICK),
            terms: 2,
            copies: 1,
            repeats: true,
            restarts: None,
            elected: false,
            works: false,
            database: false,
            dns: false,
            faults: Faults::default(),
            wrong: None,
        }
    }

    pub(super) fn is(&self, wrong: Wrong) -> bool {
        self.wrong == Some(wrong)
    }

    pub(super) fn hosts(&self) -> std::ops::Range<u8> {
        0..u8::try_from(self.rates.len()).unwrap_or(u8::MAX)
    }
}

/// A lease of two ticks, renewed every tick, and worked under to its end.
pub(super) fn timing(promise: u64) -> Timing {
    Timing::unchecked(Ms(2 * TICK), Ms(TICK), Ms(0), Ms(promise))
}

pub(super) fn voter(name: u8) -> Voter<u8> {
    Voter {
        name,
        incarnation: Incarnation(1),
    }
}

pub(super) fn variants<const N: usize>(
    model: fn(Rules) -> World,
    all: [(Wrong, &'static str, Rules); N],
) -> Vec<Variant> {
    let variant = |(wrong, breaks, rules): (Wrong, &'static str, Rules)| Variant {
        wrong,
        breaks,
        world: model(Rules {
            wrong: Some(wrong),
            ..rules
        }),
    };
    all.into_iter().map(variant).collect()
}
