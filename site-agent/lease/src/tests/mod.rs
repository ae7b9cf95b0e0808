//! Tests: named rules, and random histories of a whole site with its invariants after every event.

mod changes;
mod duel;
mod memory;
mod pauses;
mod promote;
mod random;
mod rules;
mod site;
mod store;
mod table;
