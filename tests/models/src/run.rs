//! Runs a model: to its end, or to the first thing that breaks.

use std::collections::BTreeSet;
use std::fmt;
use std::time::{Duration, Instant};

use stateright::{Checker, Expectation, HasDiscoveries, Model};

use super::rules::Variant;
use super::world::World;

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// Distinct states.
    pub states: usize,
    /// Steps of the longest of the shortest ways to a state.
    pub depth: usize,
    /// What broke, each with the steps that lead there. Nothing: these were all the states.
    pub broken: Vec<(&'static str, Vec<String>)>,
    /// What should be possible and was not seen.
    pub unseen: Vec<&'static str>,
    /// How long it took.
    pub took: Duration,
}

/// Follows every way there is, or stops at what breaks.
#[must_use]
pub fn exhaust(world: World) -> Outcome {
    run(world, HasDiscoveries::AnyFailures)
}

/// Follows every way there is until this one breaks.
#[must_use]
pub fn find(variant: Variant) -> Outcome {
    let breaks = BTreeSet::from([variant.breaks]);
    run(variant.world, HasDiscoveries::AnyOf(breaks))
}

fn run(world: World, until: HasDiscoveries) -> Outcome {
    let begun = Instant::now();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let properties = world.properties();
    let checker = world
        .checker()
        .threads(threads)
        .finish_when(until)
        .spawn_bfs()
        .join();
    let found = checker.discoveries();
    let of = |expectation: Expectation| {
        let all = properties
            .iter()
            .filter(move |p| p.expectation == expectation);
        all.map(|property| property.name)
    };
    let broken: Vec<(&'static str, Vec<String>)> = of(Expectation::Always)
        .filter_map(|name| {
            let path = found.get(name)?.clone();
            let steps = path
                .into_actions()
                .iter()
                .map(|step| format!("{step:?}"))
                .collect();
            Some((name, steps))
        })
        .collect();
    let seen = |name: &&'static str| found.contains_key(name);
    Outcome {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        unseen: of(Expectation::Sometimes)
            .filter(|name| !seen(name))
            .collect(),
        broken,
        took: begun.elapsed(),
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { states, depth, .. } = self;
        write!(
            f,
            "{states} states, depth {depth}, {:.0} s",
            self.took.as_secs_f64()
        )?;
        for (name, steps) in &self.broken {
            write!(f, "\n{name} is broken in {} steps", steps.len())?;
            for step in steps {
                write!(f, "\n    {step}")?;
            }
        }
        Ok(())
    }
}
