//! Asking a server's agent what it lacks to be a site server, and the other voters whether they reach
//! it. Nothing is decided here: an answer is an observation, and so is that there was none.
//!
//! Who does not answer is unknown, which is not passed: nothing is installed then either.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{join, join_all};
use stead_schemas::names::{IdentityKind, SecretName, ServerName};
use stead_schemas::plan::PlannedCheck;
use stead_schemas::prerequisite::{
    Check, CheckAnswer, CheckQuestion, CheckRequest, Checked, Finding, Prerequisite,
};
use stead_schemas::wire::{ReachAnswer, ReachRequest, SecretMaterial};
use stead_wire::peer::{CallError, Peer};

use crate::commands::chain;
use crate::daemon::core::Core;
use crate::site::Site;

/// Everything an agent looks at has a deadline of its own, of 10 s at most.
const ASK: Duration = Duration::from_secs(15);
/// Another agent tries for 1 s.
const REACH: Duration = Duration::from_secs(3);
/// What every answer has to speak of.
const NEEDED: [Prerequisite; 4] = [
    Prerequisite::Clock,
    Prerequisite::Database,
    Prerequisite::Disk,
    Prerequisite::Ports,
];
/// More of anything is no answer of ours.
const CHECKS_MAX: usize = 16;
const TEXT_CHARS_MAX: usize = 500;

/// Asks; the answer wakes the site. The server is reserved in `checking`.
pub(crate) fn ask(
    core: &Arc<Core>,
    site: &Arc<Site>,
    planned: Box<PlannedCheck>,
    secrets: BTreeMap<SecretName, SecretMaterial>,
) {
    let (core, site) = (Arc::clone(core), Arc::clone(site));
    tokio::spawn(async move {
        let question = planned.question;
        let (peer, others) = callees(&site, &question);
        let checks = match peer {
            None => vec![unanswered(&question, "it is not known how it is called")],
            Some(peer) => {
                let answer = answer_of(&peer, &question, secrets);
                let (mut checks, unreached) =
                    join(answer, unreached_from(others, &question, peer.addr())).await;
                add_unreached(&mut checks, unreached);
                checks
            }
        };
        let checked = Checked {
            question,
            at: core.clock.now(),
            checks,
        };
        site.world().on_checked(&site.code, checked);
        site.wake();
    });
}

type Named = (ServerName, Arc<Peer>);

/// The server's agent, and those of the other voters that are servers.
fn callees(site: &Site, question: &CheckQuestion) -> (Option<Arc<Peer>>, Vec<Named>) {
    let world = site.world();
    let servers = question
        .peers
        .iter()
        .filter(|(_, peer)| peer.kind == IdentityKind::Server);
    let others = servers
        .filter_map(|(name, _)| Some((name.clone(), Arc::clone(world.peers.get(name)?))))
        .collect();
    (world.peers.get(&question.server).cloned(), others)
}

async fn answer_of(
    peer: &Peer,
    question: &CheckQuestion,
    secrets: BTreeMap<SecretName, SecretMaterial>,
) -> Vec<Check> {
    let request = CheckRequest {
        question: question.clone(),
        secrets,
    };
    let answer: Result<CheckAnswer, CallError> =
        peer.post_json_once("/v1/preflight", &request, ASK).await;
    match answer {
        Ok(answer) => believable(question, answer.checks),
        Err(CallError::Status { code: 404, .. }) => {
            let text = "its site-agent is of a version that can't look at prerequisites";
            vec![lack(Finding::fatal(
                text,
                format!(
                    "install this version's site-agent on {}, then site-agent reload",
                    question.server
                ),
            ))]
        }
        Err(error) => vec![unanswered(question, &chain(&error))],
    }
}

/// An answer within bounds, and about everything that is needed.
fn believable(question: &CheckQuestion, mut checks: Vec<Check>) -> Vec<Check> {
    checks.truncate(CHECKS_MAX);
    for check in &mut checks {
        check.findings.truncate(CHECKS_MAX);
        for finding in &mut check.findings {
            for text in [&mut finding.text, &mut finding.remedy] {
                *text = text.chars().take(TEXT_CHARS_MAX).collect();
            }
        }
    }
    for needed in NEEDED {
        if !checks.iter().any(|check| check.prerequisite == needed) {
            let why = format!("its answer says nothing of: {needed}");
            checks.push(unanswered(question, &why));
        }
    }
    checks
}

fn unanswered(question: &CheckQuestion, why: &str) -> Check {
    let server = &question.server;
    lack(Finding::fatal(
        format!("what it lacks is not known: {why}"),
        format!("site-agent status on {server}; it is asked again by itself"),
    ))
}

fn lack(finding: Finding) -> Check {
    Check {
        prerequisite: Prerequisite::Agent,
        measured: None,
        findings: vec![finding],
    }
}

/// The way back: which voters do not reach the server.
async fn unreached_from(
    others: Vec<Named>,
    question: &CheckQuestion,
    address: std::net::SocketAddr,
) -> Vec<Finding> {
    let request = ReachRequest {
        server: question.server.clone(),
        address,
    };
    let calls = others.iter().map(|(name, peer)| {
        let request = &request;
        async move {
            let answer: Result<ReachAnswer, CallError> =
                peer.post_json("/v1/reach", request, REACH).await;
            let why = match answer {
                Ok(ReachAnswer { reached: true, .. }) => return None,
                Ok(ReachAnswer { cause, .. }) => cause.unwrap_or_else(|| "no answer".to_owned()),
                Err(error) => format!("it does not say: {}", chain(&error)),
            };
            let server = &question.server;
            Some(Finding::fatal(
                format!("voter {name} does not reach {server} at {address}: {why}"),
                format!("open TCP port {} of {server} to {name}", address.port()),
            ))
        }
    });
    join_all(calls).await.into_iter().flatten().collect()
}

fn add_unreached(checks: &mut [Check], unreached: Vec<Finding>) {
    let ports = checks
        .iter_mut()
        .find(|check| check.prerequisite == Prerequisite::Ports);
    if let Some(ports) = ports {
        ports.findings.extend(unreached);
    }
}
