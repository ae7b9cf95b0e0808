//! How a site's lease was taken up, once a term: what is told of it, and what is kept.
//!
//! A server's report says how it last took up the lease. The first report of a term is journalled,
//! whether it came about before this reconciler's eyes or while it was dead; what becomes known later
//! (the first write, DNS) is added to what is kept and told to nobody again.

use std::collections::BTreeMap;

use stead_schemas::api::{Asked, JournalKind, TakeoverView};
use stead_schemas::lease::{Takeover, TakeoverCause};
use stead_schemas::names::SiteCode;
use stead_schemas::time::WallMs;
use stead_schemas::wire::AgentReport;

use super::changes::Happened;

/// Terms that are kept, the newest.
pub const KEPT: usize = 100;

/// The takeovers of one site.
#[derive(Debug, Clone, Default)]
pub struct Takeovers {
    known: BTreeMap<u64, TakeoverView>,
    failovers: u64,
    fresh: Vec<Fresh>,
}

/// Something to be kept, and to be told.
pub type Fresh = (TakeoverView, Option<Happened>);

impl Takeovers {
    /// Those that are remembered.
    #[must_use]
    pub fn remembered(known: BTreeMap<u64, TakeoverView>) -> Self {
        let failovers = known.values().filter(|view| is_failover(view)).count();
        Self {
            known,
            failovers: failovers as u64,
            fresh: Vec::new(),
        }
    }

    /// What a report says of a takeover. At most one a term is believed: the first.
    pub fn note(&mut self, site: &SiteCode, report: &AgentReport, now: WallMs) {
        let lease = report.lease.as_deref();
        let Some(takeover) = lease.and_then(|lease| lease.takeover.as_ref()) else {
            return;
        };
        if let Some(view) = self.known.get_mut(&takeover.term) {
            if view.server == report.server && learn(&mut view.takeover, takeover) {
                self.fresh.push((view.clone(), None));
            }
            return;
        }
        let oldest = self.known.keys().next();
        let is_full = self.known.len() >= KEPT;
        if is_full && oldest.is_some_and(|oldest| takeover.term < *oldest) {
            return;
        }
        let view = TakeoverView {
            site: site.clone(),
            server: report.server.clone(),
            takeover: takeover.clone(),
            seen_at: now,
            asked: None,
        };
        self.failovers += u64::from(is_failover(&view));
        let about = format!("{site}/siteServer");
        let told = Happened::new(JournalKind::Takeover, about, words(&view));
        self.known.insert(takeover.term, view.clone());
        if self.known.len() > KEPT {
            self.known.pop_first();
        }
        self.fresh.push((view, Some(told)));
    }

    /// Somebody asked for the takeover of a term by command.
    pub fn asked(&mut self, term: u64, asked: Asked) -> Option<TakeoverView> {
        let view = self.known.get_mut(&term)?;
        view.asked = Some(asked);
        self.fresh.push((view.clone(), None));
        Some(view.clone())
    }

    /// What was not saved yet.
    pub fn take_fresh(&mut self) -> Vec<Fresh> {
        std::mem::take(&mut self.fresh)
    }

    /// All that are kept, by term.
    #[must_use]
    pub const fn known(&self) -> &BTreeMap<u64, TakeoverView> {
        &self.known
    }

    /// Unplanned ones that this store ever met, those no longer kept left out after a restart.
    #[must_use]
    pub const fn failovers(&self) -> u64 {
        self.failovers
    }
}

fn is_failover(view: &TakeoverView) -> bool {
    view.takeover.cause == TakeoverCause::Failover
}

/// Takes over what became known since.
fn learn(known: &mut Takeover, told: &Takeover) -> bool {
    let first_write = known.first_write_at.is_none() && told.first_write_at.is_some();
    let published = known.published_at.is_none() && told.published_at.is_some();
    if first_write {
        known.first_write_at = told.first_write_at;
    }
    if published {
        known.published_at = told.published_at;
    }
    first_write || published
}

/// A takeover in a line.
fn words(view: &TakeoverView) -> String {
    let Takeover {
        term,
        from,
        cause,
        granted_by,
        ..
    } = &view.takeover;
    let server = &view.server;
    let from = from
        .as_ref()
        .map_or_else(String::new, |from| format!("from {from} "));
    let what = match cause {
        TakeoverCause::Again => format!("{server} holds the lease again"),
        TakeoverCause::Failover => format!("failed over {from}to {server}"),
        TakeoverCause::First => format!("{server} is the first active site server"),
        TakeoverCause::Handover => format!("handed over {from}to {server}"),
        TakeoverCause::Promoted => format!("{server} was promoted by a person {from}"),
    };
    let granted: Vec<&str> = granted_by.iter().map(|name| name.as_str()).collect();
    let written = view.interrupted().map_or_else(String::new, |length| {
        format!("; {:.3} s without writes", length.std().as_secs_f64())
    });
    format!(
        "{what}: term {term}, granted by {}{written}",
        granted.join(", ")
    )
}

#[cfg(test)]
mod tests {
    use stead_schemas::lease::{LeasePart, LeaseReport};

    use super::*;

    fn report(term: u64, first_write_at: Option<WallMs>) -> AgentReport {
        let takeover = Takeover {
            term,
            from: Some("p01-a".parse().unwrap()),
            cause: TakeoverCause::Failover,
            heard_at: Some(WallMs(3_214)),
            won_at: WallMs(7_114),
            granted_by: vec!["p01-b".parse().unwrap(), "p01-w".parse().unwrap()],
            first_write_at,
            published_at: None,
        };
        let lease = LeaseReport {
            part: LeasePart::Holding,
            term,
            holder: Some("p01-b".parse().unwrap()),
            ready: true,
            takeover: Some(takeover),
            ..LeaseReport::new(2)
        };
        AgentReport {
            sequence: 1,
            lease: Some(Box::new(lease)),
            ..AgentReport::new("p01-b".parse().unwrap(), WallMs(1))
        }
    }

    fn note(takeovers: &mut Takeovers, report: &AgentReport) -> Vec<Option<String>> {
        takeovers.note(&"P01".parse().unwrap(), report, WallMs(9));
        let fresh = takeovers.take_fresh().into_iter();
        fresh.map(|(_, told)| told.map(|told| told.text)).collect()
    }

    #[test]
    fn a_term_is_told_once_and_what_comes_later_is_kept() {
        let mut takeovers = Takeovers::default();
        let told = note(&mut takeovers, &report(7, None));
        let line = "failed over from p01-a to p01-b: term 7, granted by p01-b, p01-w";
        assert_eq!(told, [Some(line.to_owned())]);
        assert!(note(&mut takeovers, &report(7, None)).is_empty());
        assert_eq!(
            note(&mut takeovers, &report(7, Some(WallMs(7_120)))),
            [None]
        );
        let interrupted = takeovers.known()[&7].interrupted().unwrap();
        assert_eq!(interrupted.0, 3_906);
        // A restart: what was kept is not told again.
        let mut later = Takeovers::remembered(takeovers.known().clone());
        assert!(note(&mut later, &report(7, Some(WallMs(7_120)))).is_empty());
        assert_eq!(later.failovers(), 1);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_was_dropped_is_not_told_again() {
        let mut takeovers = Takeovers::default();
        for term in 1..=150 {
            assert_eq!(note(&mut takeovers, &report(term, None)).len(), 1);
        }
        assert_eq!(takeovers.known().len(), KEPT);
        assert_eq!(takeovers.failovers(), 150);
        assert!(note(&mut takeovers, &report(7, None)).is_empty());
    }
}
