//! What a check found: errors and warnings with place, cause and remedy.
//!
//! Messages are complete without a terminal; snippets, colours and annotations are the business of
//! whoever prints them. A message never holds a secret's content.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::Serialize;

use super::tree::{Sources, Spot};
use crate::desired::Place;
use crate::names::SiteCode;

/// More problems than this are counted, not listed.
pub const PROBLEMS_MAX: usize = 1_000;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Severity {
    /// Nothing of the revision is applied.
    Error,
    /// Applied all the same.
    Warning,
}

/// One thing that is wrong, or doubtful, in what was declared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Problem {
    /// How bad it is.
    pub severity: Severity,
    /// What kind of problem, in kebab case; stable.
    pub code: &'static str,
    /// The requirement or hazard behind it, `SR-2`, `H13`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<&'static str>,
    /// What is wrong.
    pub message: String,
    /// What would be right, where the message doesn't say so already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Where.
    pub place: Place,
    /// The bytes of the file it is about: first, and behind the last.
    pub bytes: (u32, u32),
    /// Other places that have to do with it, and what is there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub related: Vec<(Place, String)>,
    /// The line may hold a secret by mistake: don't print it.
    pub sensitive: bool,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}: {severity}: {}", self.place, self.message)?;
        if let Some(tag) = self.tag {
            write!(f, " [{tag}]")?;
        }
        for (place, what) in &self.related {
            write!(f, "\n  {place}: {what}")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

/// A problem while it is being told; spots become places at the end.
#[derive(Debug, Clone)]
pub(super) struct Finding {
    severity: Severity,
    code: &'static str,
    tag: Option<&'static str>,
    message: String,
    hint: Option<String>,
    spot: Spot,
    related: Vec<(Spot, String)>,
    sensitive: bool,
    site: Option<SiteCode>,
}

impl Finding {
    pub(super) fn error(code: &'static str, spot: Spot, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            code,
            tag: None,
            message: message.into(),
            hint: None,
            spot,
            related: Vec::new(),
            sensitive: false,
            site: None,
        }
    }

    pub(super) fn warning(code: &'static str, spot: Spot, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Warning,
            ..Self::error(code, spot, message)
        }
    }

    pub(super) fn tag(self, tag: &'static str) -> Self {
        Self {
            tag: Some(tag),
            ..self
        }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self {
            hint: Some(hint.into()),
            ..self
        }
    }

    pub(super) fn related(mut self, spot: Spot, what: impl Into<String>) -> Self {
        self.related.push((spot, what.into()));
        self
    }

    /// The same finding, saying how often it holds.
    pub(super) fn counted(mut self, count: u32) -> Self {
        if count > 1 {
            self.message += &format!(" ({count} places)");
            self.related.clear();
        }
        Self { site: None, ..self }
    }

    pub(super) fn sensitive(self, sensitive: bool) -> Self {
        Self { sensitive, ..self }
    }

    pub(super) fn of_site(self, site: &SiteCode) -> Self {
        Self {
            site: Some(site.clone()),
            ..self
        }
    }
}

/// Findings of one check. Sites share lines of defaults and templates: what is wrong there is told
/// once and counted.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<(Finding, u32)>,
    by_spot: BTreeMap<(Spot, &'static str), Vec<usize>>,
    errors_at: BTreeSet<Spot>,
    told_before: BTreeSet<Spot>,
    dropped: usize,
    flooded: bool,
}

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) {
        let same = self
            .by_spot
            .entry((finding.spot, finding.code))
            .or_default();
        for at in same.iter() {
            let (first, more) = &mut self.list[*at];
            if first.message == finding.message {
                return;
            }
            if first.site.is_some() && finding.site.is_some() && first.site != finding.site {
                *more += 1;
                return;
            }
        }
        if self.list.len() >= PROBLEMS_MAX && finding.severity == Severity::Warning {
            self.dropped += 1;
            return;
        }
        if self.list.len() >= 2 * PROBLEMS_MAX {
            self.dropped += 1;
            return;
        }
        if finding.severity == Severity::Error {
            self.errors_at.insert(finding.spot);
        }
        same.push(self.list.len());
        self.list.push((finding, 0));
    }

    /// Ends a stage: what later stages find at the spots of its errors only follows from them.
    pub(super) fn end_stage(&mut self) {
        self.told_before.clone_from(&self.errors_at);
    }

    /// Adds a finding unless an earlier stage found an error at exactly that spot.
    pub(super) fn add_unless_told(&mut self, finding: Finding) {
        if !self.told_before.contains(&finding.spot) {
            self.add(finding);
        }
    }

    /// Says that a document has more errors than are told.
    pub(super) const fn flood(&mut self) {
        self.flooded = true;
    }

    /// Whether a document had more errors than are told: going on would only cost time.
    pub(super) const fn is_flooded(&self) -> bool {
        self.flooded
    }

    pub(super) fn any_error(&self) -> bool {
        !self.errors_at.is_empty()
    }

    /// All problems, errors and warnings together, by file and line.
    pub(super) fn finish(self, sources: &Sources) -> Vec<Problem> {
        let mut problems: Vec<Problem> = self
            .list
            .into_iter()
            .map(|(finding, more)| finding.into_problem(more, sources))
            .collect();
        problems.sort_by(|a, b| {
            (&a.place, a.severity, a.code, &a.message)
                .cmp(&(&b.place, b.severity, b.code, &b.message))
        });
        let dropped = self.dropped + problems.len().saturating_sub(PROBLEMS_MAX);
        problems.sort_by_key(|problem| problem.severity);
        problems.truncate(PROBLEMS_MAX);
        problems.sort_by(|a, b| a.place.cmp(&b.place));
        if dropped > 0
            && let Some(last) = problems.last_mut()
        {
            last.message += &format!(" (and {dropped} more problems, not listed)");
        }
        problems
    }
}

impl Finding {
    fn into_problem(self, more: u32, sources: &Sources) -> Problem {
        let mut message = self.message;
        if let (Some(site), true) = (&self.site, more > 0) {
            let sites = if more == 1 { "site" } else { "sites" };
            message += &format!(" (seen at {site} and {more} more {sites})");
        }
        Problem {
            severity: self.severity,
            code: self.code,
            tag: self.tag,
            message,
            hint: self.hint,
            place: sources.place(self.spot),
            bytes: (self.spot.start, self.spot.end),
            related: self
                .related
                .into_iter()
                .map(|(spot, what)| (sources.place(spot), what))
                .collect(),
            sensitive: self.sensitive,
        }
    }
}
