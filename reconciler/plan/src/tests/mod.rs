//! Tests of the planner as a whole: a model world, stories, and laws. Every plan in them is linted.

mod laws;
mod model;
mod stories;
