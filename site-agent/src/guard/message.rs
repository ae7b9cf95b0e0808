//! What agent and guard say to each other over `guard.sock`: one JSON object a line.
//!
//! Unknown fields are ignored in both directions: an agent is upgraded while its guard goes on.
//! Times are milliseconds of this machine's `CLOCK_BOOTTIME`.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use stead_schemas::names::Identity;

/// Longest line, either way.
pub const LINE_BYTES: usize = 64 * 1024;
/// Most voters a release goes to.
pub const PEERS: usize = 16;

/// From the agent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ToGuard {
    /// First of all: the guard looks who speaks, and watches it from then on.
    Hello {},
    /// Work of this term is allowed until then.
    Allow(Allow),
    /// The agent has proven that no work of this term is left.
    Ended {
        /// The term; it is never allowed again.
        term: u64,
    },
}

/// A deadline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Allow {
    /// The term.
    pub term: u64,
    /// When the guard kills. Only ever rises within a term.
    pub until: u64,
    /// What is sent once everything of the term is proven gone.
    pub release: Release,
}

/// A release, ready to be sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Release {
    /// Where it is posted to.
    pub path: String,
    /// To whom.
    pub peers: Vec<GuardPeer>,
}

/// One voter.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GuardPeer {
    /// Where it is.
    pub address: SocketAddr,
    /// Who it must prove to be, `stead://HIERARCHY/server/NAME`.
    #[serde(serialize_with = "show", deserialize_with = "parse")]
    pub identity: Identity,
    /// The body of its request. The guard does not look into it.
    pub body: serde_json::Value,
}

/// From the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FromGuard {
    /// Answer to `hello`.
    Welcome(Welcome),
    /// The deadline is armed.
    Allowed {
        /// The term.
        term: u64,
        /// The deadline in force: the latest there was.
        until: u64,
    },
    /// The deadline is off, and the term over.
    Ended {
        /// The term.
        term: u64,
    },
    /// Nothing has changed.
    Refused {
        /// Why, in words.
        reason: String,
    },
    /// At any time: the workload was killed.
    Killed(Killed),
}

/// How the guard stands towards an agent that says hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Welcome {
    /// The term whose deadline is armed.
    pub term: Option<u64>,
    /// That deadline.
    pub until: Option<u64>,
    /// Whether this very process has been watched since before and never died (H18).
    pub pid_lived: bool,
    /// The highest term it knows, allowed or over; 0 after a start.
    pub highest: u64,
    /// Work of an earlier term is not proven gone yet: nothing is allowed until it is.
    pub killing: bool,
}

/// A workload was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Killed {
    /// Its term; 0 for what a starting guard found.
    pub term: u64,
    /// Proven: the cgroup is empty. False means `fence incomplete`, or that there is no cgroup.
    pub empty: bool,
}

impl Release {
    /// Why this can't be sent, if it can't.
    pub(super) fn flaw(&self) -> Option<&'static str> {
        if self.peers.len() > PEERS {
            return Some("the release has too many peers");
        }
        (!self.path.starts_with('/')).then_some("the release's path does not begin with `/`")
    }
}

fn show<S: Serializer>(identity: &Identity, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(identity)
}

fn parse<'de, D: Deserializer<'de>>(from: D) -> Result<Identity, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

/// A message as it goes over the socket.
pub(super) fn line<T: Serialize>(message: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(message).expect("messages have string keys only");
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_read_as_documented() {
        let text = r#"{"allow":{"term":7,"until":9000,"mood":1,"release":{"path":"/v1/lease","peers":[{"address":"127.0.0.1:7443","body":{"a":1},"identity":"stead://contoso/server/p01-b"}]}}}"#;
        let ToGuard::Allow(allow) = serde_json::from_str(text).unwrap() else {
            panic!("not an allow");
        };
        assert_eq!((allow.term, allow.until), (7, 9000));
        assert_eq!(allow.release.peers[0].identity.name, "p01-b");
        assert_eq!(line(&ToGuard::Hello {}), b"{\"hello\":{}}\n");
        let welcome = FromGuard::Welcome(Welcome {
            term: None,
            until: None,
            pid_lived: true,
            highest: 3,
            killing: false,
        });
        assert_eq!(
            String::from_utf8(line(&welcome)).unwrap(),
            "{\"welcome\":{\"term\":null,\"until\":null,\"pidLived\":true,\"highest\":3,\"killing\":false}}\n"
        );
    }

    #[test]
    fn a_release_to_nowhere_is_flawed() {
        let release = Release {
            path: "v1/lease".to_owned(),
            peers: Vec::new(),
        };
        assert!(release.flaw().is_some());
    }
}
