//! Judging a run from records (H26): the store's log, the site servers' intervals, and what the client
//! was told.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{CANDIDATES, Clocks, Pair, Write};

/// Where the embedded store listens.
pub const STORE_PORT: u16 = 7450;

/// One entry of the store's log.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Entry {
    /// Its number.
    pub sequence: u64,
    /// The term it was written under.
    pub term: u64,
    /// Who wrote it.
    pub holder: String,
    /// The writer's name for it; none: it has none, as the site server's own beats.
    #[serde(default)]
    pub id: Option<String>,
}

/// A time in which a site server worked, boot time in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interval {
    /// Who.
    pub server: &'static str,
    /// Under which term.
    pub term: u64,
    /// From when.
    pub from: u64,
    /// Until when; none: it was killed, or still works.
    pub to: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Page {
    next: u64,
    entries: Vec<Entry>,
}

/// How long a store may take to answer.
const ANSWER: Duration = Duration::from_secs(5);

/// What was read of a store's log. The store keeps the newest entries only.
#[derive(Debug)]
pub struct LogReader {
    store: SocketAddr,
    runtime: tokio::runtime::Runtime,
    client: reqwest::Client,
    from: u64,
    entries: Vec<Entry>,
}

impl LogReader {
    fn new(store: SocketAddr) -> Self {
        Self {
            store,
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime"),
            client: reqwest::Client::builder()
                .no_proxy()
                // A kept connection may be one to a store that was killed since.
                .pool_max_idle_per_host(0)
                .timeout(ANSWER)
                .build()
                .expect("fixed settings make a client"),
            from: 1,
            entries: Vec::new(),
        }
    }

    /// Reads on to the end of what is there now. What was read stays when it fails: the store may be
    /// one of what was broken.
    ///
    /// # Errors
    /// When the store does not answer.
    pub fn read_on(&mut self) -> Result<(), reqwest::Error> {
        loop {
            let url = format!("http://{}/v1/log?from={}", self.store, self.from);
            let page: Page = self
                .runtime
                .block_on(async { self.client.get(&url).send().await?.json().await })?;
            if page.entries.is_empty() {
                return Ok(());
            }
            self.from = page.next;
            self.entries.extend(page.entries);
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Line {
    Begin { term: u64, from: u64 },
    End { term: u64, from: u64, to: u64 },
}

/// Where the records of a site are.
#[derive(Debug, Clone)]
pub struct Records {
    /// The store.
    pub store: SocketAddr,
    /// The data folder of each site server.
    pub folders: Vec<(&'static str, PathBuf)>,
    /// How far ahead of the kernel's clocks those are that they noted their times by.
    pub clocks: Clocks,
    /// Who was stopped in the middle of everything, and when: boot time, milliseconds.
    pub pauses: Vec<(&'static str, u64)>,
}

impl Records {
    /// The store's log, to be read while it grows.
    ///
    /// # Panics
    /// When the system gives no runtime.
    #[must_use]
    pub fn log(&self) -> LogReader {
        LogReader::new(self.store)
    }

    /// When each site server worked.
    ///
    /// # Panics
    /// When a record can't be read.
    #[must_use]
    pub fn intervals(&self) -> Vec<Interval> {
        let mut found: BTreeMap<(u64, u64, &'static str), Option<u64>> = BTreeMap::new();
        for (server, folder) in &self.folders {
            let ahead = 1_000 * self.clocks.get(server).copied().unwrap_or(0);
            for name in ["intervals.log.1", "intervals.log"] {
                let text = fs::read_to_string(folder.join(name)).unwrap_or_default();
                for line in text.lines() {
                    match serde_json::from_str(line).expect("a line of intervals") {
                        Line::Begin { term, from } => {
                            found.entry((from - ahead, term, *server)).or_default();
                        }
                        Line::End { term, from, to } => {
                            found.insert((from - ahead, term, *server), Some(to - ahead));
                        }
                    }
                }
            }
        }
        let interval = |((from, term, server), to)| Interval {
            server,
            term,
            from,
            to,
        };
        found.into_iter().map(interval).collect()
    }

    /// I5, I1b, S2: terms rise in the log, each has one holder, nothing acknowledged is lost or
    /// repeated, and no two intervals overlap.
    ///
    /// # Panics
    /// Where one of them does not hold.
    pub fn judge(&self, writes: &[Write]) {
        self.judge_by(self.log(), writes);
    }

    /// The same by a log that was read meanwhile: for runs in which the store forgets its beginning.
    ///
    /// # Panics
    /// Where one of them does not hold.
    pub fn judge_by(&self, mut log: LogReader, writes: &[Write]) {
        log.read_on().expect("the store answers");
        judge_log(&log.entries);
        judge_writes(&log.entries, writes);
        judge_intervals(&self.intervals(), writes, &self.pauses);
    }
}

impl Pair {
    /// Where its records are.
    #[must_use]
    pub fn records(&self) -> Records {
        let folder = |server| (server, self.state(server).join("data/siteServer"));
        Records {
            store: (self.hosts.address("p01-w"), STORE_PORT).into(),
            folders: CANDIDATES.map(folder).into(),
            clocks: self.machines.clocks.clone(),
            pauses: self.pauses(),
        }
    }

    /// See [`Records::judge`].
    pub fn judge(&self, writes: &[Write]) {
        self.records().judge(writes);
    }
}

fn judge_log(log: &[Entry]) {
    let mut holders: BTreeMap<u64, &str> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for pair in log.windows(2) {
        assert_eq!(pair[0].sequence + 1, pair[1].sequence, "a gap in the log");
        assert!(pair[0].term <= pair[1].term, "a stale write: {pair:?}");
    }
    for entry in log {
        let holder = holders.entry(entry.term).or_insert(&entry.holder);
        assert_eq!(*holder, entry.holder, "two holders of one term: {entry:?}");
        let new = entry.id.as_ref().is_none_or(|id| ids.insert(id));
        assert!(new, "written twice: {entry:?}");
    }
}

fn judge_writes(log: &[Entry], writes: &[Write]) {
    let by_sequence: BTreeMap<u64, &Entry> = log.iter().map(|e| (e.sequence, e)).collect();
    for write in writes {
        let entry = by_sequence.get(&write.sequence);
        let kept = entry.is_some_and(|entry| {
            entry.id.as_ref() == Some(&write.id)
                && entry.term == write.term
                && entry.holder == write.by
        });
        assert!(kept, "an acknowledged write is lost: {write:?}, {entry:?}");
    }
}

/// One that was killed worked at least until the last write that it acknowledged. One that stood still
/// works no more until it goes on; it notes its end then, whoever has begun meanwhile, and what it
/// may still send is the store's to refuse (I5), which the log shows.
fn judge_intervals(intervals: &[Interval], writes: &[Write], pauses: &[(&str, u64)]) {
    let end = |interval: &Interval| {
        let acknowledged = writes
            .iter()
            .filter(|write| write.by == interval.server && write.term == interval.term)
            .map(|write| write.sent)
            .max();
        let least = acknowledged.unwrap_or(interval.from).max(interval.from);
        let to = interval.to.unwrap_or(least);
        pauses
            .iter()
            .filter(|(server, at)| *server == interval.server && (interval.from..to).contains(at))
            .map(|(_, at)| *at)
            .min()
            .unwrap_or(to)
    };
    let mut sorted: Vec<&Interval> = intervals.iter().collect();
    sorted.sort_by_key(|interval| interval.from);
    for pair in sorted.windows(2) {
        let apart = pair[0].server == pair[1].server || end(pair[0]) <= pair[1].from;
        assert!(apart, "two worked at a time: {pair:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s2_an_interval_ends_where_its_server_was_stopped_and_nowhere_sooner() {
        let interval = |server, term, from, to| Interval {
            server,
            term,
            from,
            to: Some(to),
        };
        let overlap = [
            interval("p01-a", 3, 1_000, 5_025),
            interval("p01-b", 4, 5_000, 6_000),
        ];
        judge_intervals(&overlap, &[], &[("p01-a", 1_500)]);
        for pauses in [&[][..], &[("p01-b", 1_500)], &[("p01-a", 900)]] {
            let judged = std::panic::catch_unwind(|| judge_intervals(&overlap, &[], pauses));
            assert!(judged.is_err(), "{pauses:?}");
        }
    }
}
