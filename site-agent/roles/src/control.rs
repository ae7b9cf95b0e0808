//! What the agent and the built-in site server say to each other, and the agent's end of it.
//!
//! JSON, one object a line, over a Unix socket that the site server listens on (`STEAD_CONTROL`):
//! orders go in, states come out. Every instant is CLOCK_BOOTTIME of this machine in milliseconds. Who
//! may be active is not decided here, nor does the end of a connection stop work: the deadline does.

mod lines;
mod link;
pub(crate) mod socket;

use serde::{Deserialize, Serialize};

pub use link::{ControlError, ControlLink};

/// Longest line either way.
pub const LINE_MAX: usize = 64 * 1024;
/// The longest silence of a site server that is well.
pub const STATE_EVERY: std::time::Duration = std::time::Duration::from_millis(250);
/// What is in flight has this long to end once work is stopped (H11).
pub const DRAIN: std::time::Duration = std::time::Duration::from_millis(150);

/// From the agent to the site server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Order {
    /// Work, until a deadline. Sent again with each renewal that a majority has answered.
    Work(Work),
    /// Finish or refuse what is in flight within [`DRAIN`], then say idle. Final for the term and
    /// all below it.
    Stop(Stop),
}

/// Leave to work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Work {
    /// The term of the lease.
    pub term: u64,
    /// When the renewal or grant was *sent* that a majority has answered (H5).
    pub proved: u64,
    /// No unit of work starts at or after this.
    pub until: u64,
}

/// No more work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stop {
    /// The term that ends.
    pub term: u64,
}

/// From the site server to the agent: at each change, and each [`STATE_EVERY`] without one.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The store answered within the last 2 s, over the connection that a takeover would use.
    pub ready: bool,
    /// Why it is not ready, or does not work although it is told to.
    #[serde(default)]
    pub reason: Option<String>,
    /// The term under which work is, or may be, in flight. None: idle, the proof for a handover. A
    /// write that was given up may still be decided at the store; there the token rules (H5).
    #[serde(default)]
    pub working: Option<u64>,
    /// The highest term that it was told to stop: a state that names it was said afterwards.
    #[serde(default)]
    pub stopped: Option<u64>,
    /// The store refused our token because of this term: ask again above it.
    #[serde(default)]
    pub outranked: Option<u64>,
    /// The newest sequence number the store gave to this process.
    #[serde(default)]
    pub sequence: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_and_states_are_written_as_documented() {
        let work = Order::Work(Work {
            term: 7,
            proved: 123_000,
            until: 125_500,
        });
        let text = r#"{"work":{"term":7,"proved":123000,"until":125500}}"#;
        assert_eq!(serde_json::to_string(&work).unwrap(), text);
        assert_eq!(serde_json::from_str::<Order>(text).unwrap(), work);
        let stop = Order::Stop(Stop { term: 7 });
        assert_eq!(
            serde_json::to_string(&stop).unwrap(),
            r#"{"stop":{"term":7}}"#
        );
        assert_eq!(
            serde_json::to_string(&State::default()).unwrap(),
            r#"{"ready":false,"reason":null,"working":null,"stopped":null,"outranked":null,"sequence":null}"#
        );
        // A newer site server may say more.
        let more = r#"{"ready":true,"load":3}"#;
        assert!(serde_json::from_str::<State>(more).unwrap().ready);
    }
}
