//! Placeholder of the skeleton commit.

pub mod commands;
