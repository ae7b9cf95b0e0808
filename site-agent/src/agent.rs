//! The agent as one thing: who it is, what it remembers, what it runs, what it says.
//!
//! Commands come through here from the API: judged ([`accept`]), made durable, then carried out,
//! one at a time. Nothing is answered, and nothing done, before the ledger is on disk (I4).

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_schemas::generation::Epoch;
use stead_schemas::names::{Identity, IdentityKind, ObjectName, ServerName, SiteCode};
use stead_schemas::time::WallMs;
use stead_schemas::wire::{AgentReport, AssignRequest, ReachAnswer, ReachRequest, Refusal};
use stead_wire::clock::wall_now;
use stead_wire::peer::Peer;
use stead_wire::tls::ClientTls;
use tokio::sync::Mutex;

use crate::accept::{self, Decision, Me};
use crate::board::Board;
use crate::chain;
use crate::layout::Layout;
use crate::ledger::Ledger;
use crate::seat::Seat;
use crate::supervisor::Supervisor;

/// How long another agent has to answer (H8).
const REACH: Duration = Duration::from_secs(1);

/// A running agent.
#[derive(Debug)]
pub struct Agent {
    /// Who it is.
    pub me: Me,
    /// What it says of itself.
    pub board: Board,
    /// Its state folder.
    pub layout: Layout,
    /// What it calls others with.
    pub tls: Arc<ClientTls>,
    /// Where its calls leave from.
    pub from: Option<IpAddr>,
    /// The reconcilers it takes commands from; empty: any of the hierarchy.
    pub reconcilers: Vec<ServerName>,
    /// Its seat in the site's lease.
    pub seat: Seat,
    /// Its instances.
    pub supervisor: Supervisor,
    /// Locked while a command is carried out: commands come one after the other.
    pub ledger: Mutex<Ledger>,
}

/// What `site-agent status` shows: the report, and what it stands on.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LocalStatus {
    /// The hierarchy.
    pub hierarchy: ObjectName,
    /// The site, once it is known.
    pub site: Option<SiteCode>,
    /// The git revision of the assignment in force.
    pub revision: Option<String>,
    /// When that came.
    pub assigned_at: Option<WallMs>,
    /// The agent's process; none when it does not run.
    pub agent: Option<u32>,
    /// The report.
    pub report: AgentReport,
}

/// Answer to `GET /v1/alive`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Alive {
    /// The server.
    pub server: ServerName,
    /// Its clock; none: it is of a version that does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wall: Option<WallMs>,
}

impl Agent {
    /// Whether commands from this identity are taken.
    #[must_use]
    pub fn obeys(&self, caller: &Identity) -> bool {
        caller.kind == IdentityKind::Reconciler
            && (self.reconcilers.is_empty()
                || self
                    .reconcilers
                    .iter()
                    .any(|one| one.as_str() == caller.name))
    }

    /// Whether this identity may ask for a handover or a promotion: who commands, and operators with
    /// `operate` (H31). Every operator's certificate has that today; this is the one place that says so.
    #[must_use]
    pub fn may_operate(&self, caller: &Identity) -> bool {
        caller.kind == IdentityKind::Operator || self.obeys(caller)
    }

    /// Takes an assignment from the reconciler `sender`. When this returns `Ok`, it is durable and
    /// being carried out.
    ///
    /// # Errors
    /// [`Refusal`]; then nothing has changed.
    pub async fn assign(
        &self,
        sender: &str,
        request: AssignRequest,
    ) -> Result<Arc<AgentReport>, Refusal> {
        let mut ledger = self.ledger.lock().await;
        let mut next = match accept::judge(&ledger, &self.me, sender, &request)? {
            Decision::Same => return Ok(self.board.report()),
            Decision::Save(next) => *next,
        };
        next.assigned_at = Some(wall_now());
        let secrets = self.layout.secrets();
        let kept = ledger.secrets.clone();
        let stored = self.save(&next, Some(request)).await;
        if let Err(refusal) = stored {
            secrets.retain(&kept);
            return Err(refusal);
        }
        *ledger = next;
        self.publish(&ledger);
        if let Some(assignment) = &ledger.assignment {
            tracing::info!(
                generation = %assignment.generation,
                revision = assignment.revision,
                instances = assignment.instances.len(),
                "assigned"
            );
            self.supervisor.apply(assignment, &ledger.secrets);
            self.seat.apply(assignment);
        }
        secrets.retain(&ledger.secrets);
        Ok(self.board.report())
    }

    /// Notes the new life of the reconciler `sender`; lower epochs are refused from then on (H7).
    ///
    /// # Errors
    /// [`Refusal`]; then nothing has changed.
    pub async fn claim(&self, sender: &str, epoch: &Epoch) -> Result<Arc<AgentReport>, Refusal> {
        let mut ledger = self.ledger.lock().await;
        if let Some(next) = accept::judge_claim(&ledger, sender, epoch)? {
            self.save(&next, None).await?;
            *ledger = next;
            self.publish(&ledger);
        }
        Ok(self.board.report())
    }

    /// Tries another server's agent over a fresh connection (H8).
    pub async fn reach(&self, asked: ReachRequest) -> ReachAnswer {
        let expected = Identity {
            hierarchy: self.me.hierarchy.clone(),
            kind: IdentityKind::Server,
            name: asked.server.to_string(),
        };
        let peer = Peer::new(asked.address, expected, Arc::clone(&self.tls))
            .leaving_from(self.from)
            .tolerant();
        match peer.get_json::<Alive>("/v1/alive", REACH).await {
            Ok(_) => ReachAnswer {
                reached: true,
                cause: None,
            },
            Err(error) => ReachAnswer {
                reached: false,
                cause: Some(chain(&error)),
            },
        }
    }

    /// What `site-agent status` shows.
    pub async fn status(&self) -> LocalStatus {
        let ledger = self.ledger.lock().await;
        status_of(
            &ledger,
            AgentReport::clone(&self.board.report()),
            Some(std::process::id()),
        )
    }

    /// Secrets first: an assignment on disk never names one that is not there.
    async fn save(&self, next: &Ledger, request: Option<AssignRequest>) -> Result<(), Refusal> {
        let (next, layout) = (next.clone(), self.layout.clone());
        let saved = tokio::task::spawn_blocking(move || {
            if let Some(request) = request {
                layout.secrets().store(&request.secrets)?;
            }
            next.save(layout.root())
        });
        let saved = match saved.await {
            Ok(saved) => saved,
            Err(error) => Err(std::io::Error::other(error)),
        };
        let problem = saved.as_ref().err().map(|error| {
            let root = self.layout.root().display();
            format!("can't write to {root}: {error}; commands are refused until that works")
        });
        self.board.problem("ledger", problem.clone());
        problem.map_or(Ok(()), |reason| Err(Refusal::NotDurable { reason }))
    }

    fn publish(&self, ledger: &Ledger) {
        self.board.change(|report| show(report, ledger));
    }
}

/// What of the ledger is reported.
pub fn show(report: &mut AgentReport, ledger: &Ledger) {
    report.highest_epoch.clone_from(&ledger.highest_epoch);
    report.generation = ledger.generation().cloned();
    report.secrets.clone_from(&ledger.secrets);
    let assignment = ledger.assignment.as_ref();
    report.assigned_lease = assignment.and_then(|assignment| assignment.lease.clone());
    report.assigned = ledger
        .assignment
        .as_ref()
        .map(|assignment| assignment.instances.clone())
        .unwrap_or_default();
}

/// The status that a ledger and a report make.
#[must_use]
pub fn status_of(ledger: &Ledger, report: AgentReport, agent: Option<u32>) -> LocalStatus {
    let assignment = ledger.assignment.as_ref();
    LocalStatus {
        hierarchy: ledger.owner.hierarchy.clone(),
        site: assignment.map(|one| one.site.clone()),
        revision: assignment.map(|one| one.revision.clone()),
        assigned_at: ledger.assigned_at,
        agent,
        report,
    }
}

/// A report before anything is known.
#[must_use]
pub fn first_report(server: ServerName, ledger: &Ledger) -> AgentReport {
    let mut report = AgentReport {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        boot_id: crate::processes::procfs::boot_id(),
        ..AgentReport::new(server, wall_now())
    };
    show(&mut report, ledger);
    report
}
