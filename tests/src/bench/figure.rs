//! A figure: what was measured, in several runs, beside its budget; and a bench's list of them.
//!
//! The value is the median; the spread is the lowest and the highest run. A budget that is missed
//! is said, not punished.

use serde_json::json;

use super::machine::Machine;

/// One figure of a bench.
#[derive(Debug)]
pub(super) struct Figure {
    name: &'static str,
    unit: &'static str,
    budget: Option<Budget>,
    runs: Vec<f64>,
}

/// What the median has to keep to.
#[derive(Debug, Clone, Copy)]
enum Budget {
    /// This is the least it may be.
    Least(f64),
    /// This is the most it may be.
    Most(f64),
}

impl Budget {
    const fn bound(self) -> f64 {
        match self {
            Self::Least(bound) | Self::Most(bound) => bound,
        }
    }

    /// By how much it is missed; nothing or less: it is met.
    fn missed_by(self, value: f64) -> f64 {
        match self {
            Self::Least(bound) => bound - value,
            Self::Most(bound) => value - bound,
        }
    }
}

impl Figure {
    fn value(&self) -> f64 {
        median(&self.runs)
    }

    fn lowest(&self) -> f64 {
        self.runs.iter().copied().fold(f64::INFINITY, f64::min)
    }

    fn highest(&self) -> f64 {
        self.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max)
    }

    fn verdict(&self) -> String {
        match self.budget {
            None => String::new(),
            Some(budget) => match budget.missed_by(self.value()) {
                missed if missed <= 0.0 => "met".to_owned(),
                missed => format!("MISSED by {}", short(missed)),
            },
        }
    }
}

/// What one bench found.
#[derive(Debug)]
pub(super) struct Report {
    bench: &'static str,
    figures: Vec<Figure>,
    notes: Vec<String>,
}

impl Report {
    pub(super) const fn new(bench: &'static str) -> Self {
        Self {
            bench,
            figures: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// A figure with a budget: the most that the median may be.
    pub(super) fn budgeted(
        &mut self,
        name: &'static str,
        unit: &'static str,
        budget: f64,
        runs: Vec<f64>,
    ) {
        self.add(name, unit, Some(Budget::Most(budget)), runs);
    }

    /// A figure with a budget that is the least that the median may be.
    pub(super) fn at_least(
        &mut self,
        name: &'static str,
        unit: &'static str,
        budget: f64,
        runs: Vec<f64>,
    ) {
        self.add(name, unit, Some(Budget::Least(budget)), runs);
    }

    /// A figure that only explains others.
    pub(super) fn plain(&mut self, name: &'static str, unit: &'static str, runs: Vec<f64>) {
        self.add(name, unit, None, runs);
    }

    /// A sentence about how it was measured, or what could not be.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    fn add(
        &mut self,
        name: &'static str,
        unit: &'static str,
        budget: Option<Budget>,
        runs: Vec<f64>,
    ) {
        assert!(!runs.is_empty(), "{name} was not measured");
        let figure = Figure {
            name,
            unit,
            budget,
            runs,
        };
        // As it comes, too: a long bench that is cut off has told what it had.
        let (low, high) = (figure.lowest(), figure.highest());
        let (median, runs) = (figure.value(), figure.runs.len());
        eprintln!("{name}: {median} {unit}, {low} to {high}, {runs} runs");
        self.figures.push(figure);
    }

    /// JSON lines to stdout, the table to stderr.
    pub(super) fn print(&self, machine: &Machine) {
        for figure in &self.figures {
            let line = json!({
                "bench": self.bench,
                "figure": figure.name,
                "value": rounded(figure.value()),
                "unit": figure.unit,
                "low": rounded(figure.lowest()),
                "high": rounded(figure.highest()),
                "runs": figure.runs.len(),
                "budget": figure.budget.map(Budget::bound),
                "profile": machine.profile,
                "machine": machine.to_string(),
                "commit": machine.commit,
            });
            println!("{line}");
        }
        self.table();
    }

    fn table(&self) {
        eprintln!(
            "\n{:<8} {:<44} {:>10} {:>9} {:>22} {:<6} ",
            "bench", "figure", "median", "budget", "low..high (runs)", "unit"
        );
        for figure in &self.figures {
            let budget = figure.budget.map(Budget::bound);
            let budget = budget.map_or_else(|| "-".to_owned(), short);
            let spread = format!(
                "{}..{} ({})",
                short(figure.lowest()),
                short(figure.highest()),
                figure.runs.len()
            );
            eprintln!(
                "{:<8} {:<44} {:>10} {budget:>9} {spread:>22} {:<6} {}",
                self.bench,
                figure.name,
                short(figure.value()),
                figure.unit,
                figure.verdict()
            );
        }
        for note in &self.notes {
            eprintln!("note: {note}");
        }
    }
}

/// The middle run; between the two middle ones of an even number.
pub(super) fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
    f64::midpoint(sorted[low], sorted[high])
}

/// Four digits are more than any run repeats.
fn rounded(value: f64) -> f64 {
    short(value).parse().unwrap_or(value)
}

fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 1_000.0 => format!("{value:.0}"),
        large if large >= 10.0 => format!("{value:.1}"),
        large if large >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_of_the_sorted_runs() {
        assert!((median(&[9.0, 1.0, 2.0]) - 2.0).abs() < f64::EPSILON);
        assert!((median(&[4.0, 1.0, 2.0, 9.0]) - 3.0).abs() < f64::EPSILON);
    }

    #[test]
    fn a_budget_is_met_by_the_median_and_missed_with_the_difference() {
        let figure = |budget| Figure {
            name: "x",
            unit: "ms",
            budget,
            runs: vec![1.0, 3.0, 50.0],
        };
        assert_eq!(figure(Some(Budget::Most(3.0))).verdict(), "met");
        assert_eq!(figure(Some(Budget::Most(2.0))).verdict(), "MISSED by 1.00");
        assert_eq!(figure(Some(Budget::Least(3.0))).verdict(), "met");
        assert_eq!(figure(Some(Budget::Least(4.0))).verdict(), "MISSED by 1.00");
        assert_eq!(figure(None).verdict(), "");
    }
}
