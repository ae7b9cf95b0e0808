//! What a keeper tells its agent, and what it is told: JSON, one object a line.
//!
//! A keeper sends its whole state when somebody connects and after each change; there are no
//! answers to match with questions. Unknown fields are ignored, so that an agent can be upgraded
//! while keepers of the old version go on.

use std::fmt;

use serde::{Deserialize, Serialize};
use stead_schemas::time::WallMs;
use stead_schemas::wire::StopSignal;

use super::spec::RunKey;

/// How an instance's run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KeeperState {
    /// What it was started from.
    pub run: RunKey,
    /// The keeper's own pid.
    pub keeper: u32,
    /// The instance's main process.
    pub pid: u32,
    /// When the main process was started.
    pub started: WallMs,
    /// What the keeper is doing.
    pub phase: KeeperPhase,
    /// How the main process ended, once it has.
    #[serde(default)]
    pub exit: Option<Exit>,
    /// Processes that were killed and are still there (H10: then nothing is over).
    #[serde(default)]
    pub survivors: Vec<u32>,
}

/// What a keeper is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum KeeperPhase {
    /// The main process runs.
    Running,
    /// It was asked to end and has time left.
    Stopping,
    /// Its whole tree is being killed.
    Killing,
    /// Nothing of the tree is left; the keeper ends now.
    Ended,
}

/// How a main process ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Exit {
    /// What it was started from.
    pub run: RunKey,
    /// Its exit status, if it ended by itself.
    #[serde(default)]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default)]
    pub signal: Option<i32>,
    /// When.
    pub at: WallMs,
    /// Whether the agent had asked for it.
    #[serde(default)]
    pub asked: bool,
    /// The last thing it said.
    #[serde(default)]
    pub last_line: Option<String>,
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.signal, self.code) {
            (Some(signal), _) => match signal_name(signal) {
                Some(name) => write!(f, "ended by {name}")?,
                None => write!(f, "ended by signal {signal}")?,
            },
            (None, Some(code)) => write!(f, "ended with exit status {code}")?,
            (None, None) => f.write_str("ended, nobody knows how")?,
        }
        match &self.last_line {
            Some(line) => write!(f, "; last line: {line}"),
            None => Ok(()),
        }
    }
}

/// What an agent asks of a keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum KeeperCommand {
    /// Kill the tree now.
    Kill,
    /// Signal to the process group, time to end, then kill of the tree.
    Stop {
        /// The signal.
        signal: StopSignal,
        /// The time, in milliseconds.
        grace_ms: u64,
    },
}

const SIGNALS: [(i32, &str); 12] = [
    (1, "SIGHUP"),
    (2, "SIGINT"),
    (3, "SIGQUIT"),
    (4, "SIGILL"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (9, "SIGKILL"),
    (11, "SIGSEGV"),
    (13, "SIGPIPE"),
    (15, "SIGTERM"),
    (31, "SIGSYS"),
];

fn signal_name(number: i32) -> Option<&'static str> {
    SIGNALS
        .iter()
        .find(|(known, _)| *known == number)
        .map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_reads_as_a_sentence() {
        let mut exit = Exit {
            run: RunKey("k".to_owned()),
            code: Some(3),
            signal: None,
            at: WallMs(0),
            asked: false,
            last_line: Some("port in use".to_owned()),
        };
        assert_eq!(
            exit.to_string(),
            "ended with exit status 3; last line: port in use"
        );
        exit.signal = Some(9);
        exit.last_line = None;
        assert_eq!(exit.to_string(), "ended by SIGKILL");
        exit.signal = Some(34);
        assert_eq!(exit.to_string(), "ended by signal 34");
    }

    #[test]
    fn a_newer_keeper_may_say_more() {
        let line = r#"{"run":"k","keeper":1,"pid":2,"started":3,"phase":"running","mood":"good"}"#;
        let state: KeeperState = serde_json::from_str(line).unwrap();
        assert_eq!(
            state.phase,
            KeeperPhase::Running,
            "H18: upgrades keep instances"
        );
    }
}
