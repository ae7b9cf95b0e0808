//! A voter's report in words, the same at the server and from elsewhere (task 12). Pure.

use super::{LeasePart, LeaseReport, TakeoverCause, VotersReport};
use crate::names::ServerName;
use crate::time::{DurationMs, WallMs};

impl LeaseReport {
    /// A line for each thing that it says: its name, and what there is to say.
    #[must_use]
    pub fn lines(&self, now: WallMs) -> Vec<(&'static str, String)> {
        let mut lines = vec![("lease", self.part_in_words(now))];
        lines.push(("voters", self.voters_in_words()));
        lines.push(match &self.not_ready {
            None => ("ready", "a promotion here would succeed".to_owned()),
            Some(why) => ("ready", format!("no: {why}")),
        });
        lines.push(("memory", self.memory_in_words()));
        lines.extend(self.problem.clone().map(|problem| ("problem", problem)));
        lines
    }

    fn part_in_words(&self, now: WallMs) -> String {
        let holder = self.holder.as_ref().map_or("nobody", ServerName::as_str);
        let term = self.term;
        match self.part {
            LeasePart::Holding => {
                let took = self.takeover.as_ref().filter(|took| took.term == term);
                let took = took.map_or_else(String::new, |took| {
                    let age = seconds(now.since(took.won_at));
                    let from = took.from.as_ref();
                    let from = from.map_or_else(String::new, |from| format!(" from {from}"));
                    format!(" for {age}, {}{from}", word(took.cause))
                });
                format!("held here, term {term}{took}")
            }
            LeasePart::Following => {
                format!("follows; the highest term granted is {term}, to {holder}")
            }
            LeasePart::Asking => "asks for it".to_owned(),
            LeasePart::Out => "does not vote".to_owned(),
            LeasePart::Stopping => format!("term {term} is over, its work is not proven ended"),
        }
    }

    fn voters_in_words(&self) -> String {
        let Some(voters) = &self.voters else {
            return "none known".to_owned();
        };
        let mut text = voters.in_words();
        for (names, what) in [
            (&self.ready_voters, "ready"),
            (&self.silent_voters, "silent"),
        ] {
            if !names.is_empty() {
                text.push_str(&format!("; {what}: {}", joined(names.iter())));
            }
        }
        text
    }

    fn memory_in_words(&self) -> String {
        let memory = &self.memory;
        let mut said = Vec::new();
        said.extend(
            memory
                .declared
                .as_ref()
                .map(|d| format!("git declares {d}")),
        );
        said.extend(memory.request.as_ref().map(|to| format!("asked for: {to}")));
        if !memory.failovers.is_empty() {
            said.push(format!("failovers lately: {}", memory.failovers.len()));
        }
        if !memory.lost.is_empty() {
            said.push(format!("given up: {}", joined(memory.lost.keys())));
        }
        if said.is_empty() {
            return "nothing".to_owned();
        }
        said.join("; ")
    }
}

impl VotersReport {
    /// The one that votes alone, where there is one.
    #[must_use]
    pub fn solo(&self) -> Option<&ServerName> {
        let mut names = self.in_force.keys();
        names.next().filter(|_| names.next().is_none())
    }

    fn in_words(&self) -> String {
        let names = joined(self.in_force.keys());
        let pending = self.pending.as_ref().map_or_else(String::new, |pending| {
            format!("; shall be: {}", joined(pending.keys()))
        });
        format!("{names} (configuration {}){pending}", self.number)
    }
}

const fn word(cause: TakeoverCause) -> &'static str {
    match cause {
        TakeoverCause::Again => "again",
        TakeoverCause::Failover => "failed over",
        TakeoverCause::First => "the first",
        TakeoverCause::Handover => "handed over",
        TakeoverCause::Promoted => "promoted by hand",
    }
}

fn joined<'a>(names: impl Iterator<Item = &'a ServerName>) -> String {
    let names: Vec<&str> = names.map(ServerName::as_str).collect();
    names.join(", ")
}

fn seconds(length: DurationMs) -> DurationMs {
    DurationMs(length.0 / 1_000 * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_term_holder_age_voters_and_memory() {
        let report: LeaseReport = serde_json::from_value(serde_json::json!({
            "incarnation": 5,
            "voters": {"number": 1001, "term": 1007, "inForce": {"p01-b": 5}},
            "part": "holding", "term": 1008, "holder": "p01-b", "ready": true,
            "memory": {"number": 4, "declared": "p01-a", "request": null, "lost": {"p01-a": 3, "stead-1": 9}},
            "takeover": {"term": 1008, "from": "p01-a", "cause": "promoted", "wonAt": 1_000, "grantedBy": ["p01-b"]},
        }))
        .unwrap();
        let lines = report.lines(WallMs(43_500));
        let text: Vec<String> = lines
            .iter()
            .map(|(name, said)| format!("{name}: {said}"))
            .collect();
        assert_eq!(
            text,
            [
                "lease: held here, term 1008 for 42s, promoted by hand from p01-a",
                "voters: p01-b (configuration 1001)",
                "ready: a promotion here would succeed",
                "memory: git declares p01-a; given up: p01-a, stead-1",
            ]
        );
        let solo = report.voters.as_ref().and_then(VotersReport::solo);
        assert_eq!(solo.map(ServerName::as_str), Some("p01-b"));
    }
}
