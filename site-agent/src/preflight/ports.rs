//! The way from here to every other voter, and whether their clocks agree with this one.
//!
//! The same connections, over mutual TLS, that letters would take. The way back is asked of the others
//! by the reconciler. No clock is set, and none stops a lease (H20); but updates of the alias are signed
//! with the time, and people compare logs.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use stead_schemas::names::{Identity, ServerName};
use stead_schemas::prerequisite::{Check, CheckPeer, Finding, Prerequisite};
use stead_schemas::time::WallMs;
use stead_wire::clock::wall_now;
use stead_wire::peer::{CallError, Peer};

use crate::agent::{Agent, Alive};
use crate::chain;

/// Several times what a lease gives an answer.
const ANSWER: Duration = Duration::from_secs(2);
/// A signed update may be 300 s off (RFC 8945); this leaves a clock time to be noticed.
const OFFSET_MAX: Duration = Duration::from_secs(60);

/// How it was reached, and its clock there and then.
struct Reached {
    trip: Duration,
    ahead_ms: Option<i64>,
}

pub(super) async fn look(agent: &Agent, peers: &BTreeMap<ServerName, CheckPeer>) -> [Check; 2] {
    let calls = peers
        .iter()
        .map(|(name, peer)| async move { (name, peer, reach(agent, name, peer).await) });
    let answers = join_all(calls).await;
    let (mut worst, mut widest) = (Duration::ZERO, 0);
    let (mut unreached, mut clocks) = (Vec::new(), Vec::new());
    let me = &agent.me.server;
    for (name, peer, answer) in answers {
        match answer {
            Ok(reached) => {
                worst = worst.max(reached.trip);
                let ahead = reached.ahead_ms.unwrap_or(0);
                widest = widest.max(ahead.unsigned_abs());
                clocks.extend(judge(me, name, ahead));
            }
            Err(why) => {
                let (address, port) = (peer.address, peer.address.port());
                unreached.push(Finding::fatal(
                    format!("{me} does not reach voter {name} at {address}: {why}"),
                    format!("open TCP port {port} of {name} to {me}"),
                ));
            }
        }
    }
    let ports = Check {
        prerequisite: Prerequisite::Ports,
        measured: Some(format!(
            "{} of {} voters answer, worst round trip {:.1} ms",
            peers.len() - unreached.len(),
            peers.len(),
            worst.as_secs_f64() * 1_000.0
        )),
        findings: unreached,
    };
    let clock = Check {
        prerequisite: Prerequisite::Clock,
        measured: Some(format!("within {:.1} s of the others", seconds(widest))),
        findings: clocks,
    };
    [ports, clock]
}

async fn reach(agent: &Agent, name: &ServerName, peer: &CheckPeer) -> Result<Reached, String> {
    let expected = Identity {
        hierarchy: agent.me.hierarchy.clone(),
        kind: peer.kind,
        name: name.to_string(),
    };
    let called = Peer::new(peer.address, expected, Arc::clone(&agent.tls))
        .leaving_from(agent.from)
        .tolerant();
    let (begun, before) = (Instant::now(), wall_now());
    let answer = called.get_json::<Alive>("/v1/alive", ANSWER).await;
    let (trip, after) = (begun.elapsed(), wall_now());
    match answer {
        Ok(alive) => Ok(Reached {
            trip,
            ahead_ms: alive.wall.map(|wall| ahead(wall, before, after)),
        }),
        // Whose it is was proven before; a reconciler has nothing to say at that path.
        Err(CallError::Status { .. }) => Ok(Reached {
            trip,
            ahead_ms: None,
        }),
        Err(error) => Err(chain(&error)),
    }
}

/// How far its clock was ahead of ours, which showed `before` and `after` around it.
fn ahead(wall: WallMs, before: WallMs, after: WallMs) -> i64 {
    let middle = before.0 + after.0.saturating_sub(before.0) / 2;
    let difference = i128::from(wall.0) - i128::from(middle);
    i64::try_from(difference).unwrap_or(i64::MAX)
}

fn judge(me: &ServerName, other: &ServerName, ahead_ms: i64) -> Option<Finding> {
    let apart = ahead_ms.unsigned_abs();
    if Duration::from_millis(apart) <= OFFSET_MAX {
        return None;
    }
    let side = if ahead_ms > 0 { "behind" } else { "ahead of" };
    Some(Finding::fatal(
        format!(
            "the clock of {me} is {:.0} s {side} that of {other}",
            seconds(apart)
        ),
        "set the one that is wrong, and have it follow a time server",
    ))
}

fn seconds(ms: u64) -> f64 {
    Duration::from_millis(ms).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_middle_of_the_call() {
        let (before, after) = (WallMs(100_000), WallMs(100_400));
        assert_eq!(ahead(WallMs(100_200), before, after), 0);
        assert_eq!(ahead(WallMs(40_100), before, after), -60_100);
        let (me, other) = ("p01-b".parse().unwrap(), "p01-a".parse().unwrap());
        assert_eq!(judge(&me, &other, -60_000), None);
        let finding = judge(&me, &other, -61_000).unwrap();
        assert_eq!(
            finding.text,
            "the clock of p01-b is 61 s ahead of that of p01-a"
        );
        let finding = judge(&me, &other, 3_600_000).unwrap();
        assert!(finding.text.contains("3600 s behind"), "{}", finding.text);
    }
}
