//! Tests of the planner as a whole: a model world, stories, and laws. Every plan in them is linted.

mod aliases;
mod budgets;
mod clashes;
mod drains;
mod host;
mod laws;
mod lints;
mod losses;
mod model;
mod offline;
mod prerequisites;
mod stories;
mod switchovers;
mod voters;
mod witness;
