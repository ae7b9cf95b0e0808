//! What the reconciler's HTTP API answers, and what people may ask of it.
//!
//! The command line shows these views; `docs/reference/openapi.json` describes them. They are made
//! from the state of the moment and hold no secret. Paths and methods are listed in
//! `docs/protocols.md`.

use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::desired::Place;
use crate::generation::Epoch;
use crate::names::{GroupName, InstanceName, ServerName, SiteCode};
use crate::observed::{Contact, RecordObserved};
use crate::plan::{Hold, Step};
use crate::record::{RecordKey, RecordSet};
use crate::role::{Role, SiteType};
use crate::time::WallMs;
use crate::wire::{Health, Phase};

mod drain;
mod lease;
mod plan;
mod promote;

pub use drain::{DrainPlanView, DrainRequest, DrainView, LeftView, UndrainRequest, VotesView};
pub use lease::{
    Asked, FailbackRequest, LeaseView, ParkedView, ReplaceRequest, SwitchoverRequest,
    SwitchoverState, SwitchoverView, TakeoverView, VoterView,
};
pub use plan::{PLAN_BYTES_MAX, PlanRequest, PlanView, SitePlanView};
pub use promote::PromotionRequest;

/// `GET /v1/status`, also with `?site=P01`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatusView {
    /// The reconciler that answers.
    pub reconciler: ReconcilerView,
    /// Where its desired state comes from.
    pub source: SourceView,
    /// What only a person can settle, most urgent first.
    pub needs_person: Vec<Need>,
    /// Sites, by code.
    pub sites: Vec<SiteView>,
}

/// The reconciler itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReconcilerView {
    /// Its declared name.
    pub name: String,
    /// The hierarchy; none before the first good revision.
    pub hierarchy: Option<String>,
    /// Its version.
    pub version: String,
    /// When it started.
    pub started_at: WallMs,
    /// What it may do.
    pub writer: WriterState,
    /// Its epoch, once claimed.
    pub epoch: Option<Epoch>,
}

/// Whether this reconciler acts (H7).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum WriterState {
    /// Another one with a higher epoch took over; this one only looks.
    Fenced {
        /// The higher epoch.
        by: Epoch,
    },
    /// It declares itself a standby.
    Standby,
    /// It is asking agents for the highest epoch.
    Starting,
    /// It acts.
    Writing,
}

/// The git source.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SourceView {
    /// Where from, without credentials.
    pub url: String,
    /// Branch or tag.
    pub reference: String,
    /// The newest commit seen.
    pub head: Option<String>,
    /// The revision in force: the newest that checks.
    pub in_force: Option<String>,
    /// When the source last answered.
    pub fetched_at: Option<WallMs>,
    /// What is wrong with it; none: in step.
    pub problem: Option<String>,
}

/// A line of NEEDS A PERSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Need {
    /// What it is about, in the address grammar; empty: the reconciler itself.
    pub about: String,
    /// What is the matter.
    pub text: String,
    /// The command that settles it.
    pub remedy: Option<String>,
}

/// One site.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SiteView {
    /// Its code.
    pub code: SiteCode,
    /// Its type.
    pub site_type: SiteType,
    /// The site above.
    pub parent: Option<SiteCode>,
    /// How it is.
    pub state: SiteState,
    /// The revision it is, or is being brought, to.
    pub revision: Option<String>,
    /// Its servers, declared and leaving.
    pub servers: Vec<ServerView>,
    /// Its role instances.
    pub instances: Vec<InstanceView>,
    /// The active site server: the holder of the lease, else the declared one.
    pub active: Option<ServerName>,
    /// The passive ones.
    pub passive: Vec<PassiveView>,
    /// The lease that says who is active; none: the declared one is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease: Option<Box<LeaseView>>,
    /// Steps of its road still to be taken.
    pub steps: Vec<Step>,
    /// What is not done now.
    pub holds: Vec<Hold>,
    /// Its suspension, if any.
    pub suspended: Option<SuspensionView>,
    /// Last failure of carrying something out, if it has not been overcome.
    pub failure: Option<String>,
}

/// How a site is, worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum SiteState {
    /// Something declared does not serve.
    Degraded,
    /// Something is held.
    Held,
    /// A server's state is not known.
    Unknown,
    /// A person stopped it.
    Suspended,
    /// Steps are being taken.
    Changing,
    /// As declared.
    Converged,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServerView {
    /// Its name.
    pub name: ServerName,
    /// Its agent.
    pub agent: SocketAddr,
    /// Its zone.
    pub zone: Option<String>,
    /// Whether it answers.
    pub contact: Contact,
    /// When it last did.
    pub heard_at: Option<WallMs>,
    /// Its agent's version.
    pub version: Option<String>,
    /// What its agent says is wrong with itself.
    pub problems: Vec<String>,
    /// Whether git still declares it.
    pub declared: bool,
    /// A person took it out of service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<DrainView>,
}

/// One role instance.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InstanceView {
    /// Its name.
    pub name: InstanceName,
    /// Its role.
    pub role: Role,
    /// What it is doing; none: not there yet, or not known.
    pub phase: Option<Phase>,
    /// How it is.
    pub health: Option<Health>,
    /// Since when.
    pub since: Option<WallMs>,
    /// Restarts.
    pub restarts: u32,
    /// Its process.
    pub pid: Option<u32>,
    /// Where it serves.
    pub endpoint: Option<SocketAddr>,
    /// Whether git asks for it here.
    pub wanted: bool,
    /// Whether clients find it by DNS now.
    pub published: bool,
    /// The last thing worth knowing.
    pub message: Option<String>,
    /// What declares it.
    pub place: Option<Place>,
}

/// A passive site server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PassiveView {
    /// The server.
    pub server: ServerName,
    /// `ready`, `not ready: …`, `lost`, or that it does not take over.
    pub state: String,
}

/// A suspension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuspensionView {
    /// Site, server, or empty for all.
    pub scope: String,
    /// Who.
    pub by: String,
    /// Why.
    pub why: String,
    /// When.
    pub at: WallMs,
    /// Until when.
    pub until: Option<WallMs>,
    /// It stops failover as well (H31).
    #[serde(default)]
    pub failover: bool,
}

/// A line of `GET /v1/records`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RecordView {
    /// The record.
    pub key: RecordKey,
    /// Its site.
    pub site: SiteCode,
    /// What is wanted; none: it should go.
    pub want: Option<RecordSet>,
    /// What is served.
    pub observed: RecordObserved,
    /// Whose mark it has, in words.
    pub owner: String,
    /// How it is, in words: `in step`, `differs`, `foreign record in the way`.
    pub state: String,
}

/// A line of `GET /v1/revisions`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionView {
    /// The commit.
    pub revision: String,
    /// When it was committed.
    pub when: WallMs,
    /// By whom.
    pub author: String,
    /// Its first line.
    pub subject: String,
    /// What became of it.
    pub state: RevisionState,
    /// More, in words.
    pub note: String,
}

/// What became of a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RevisionState {
    /// Sites are being brought to it, or are at it.
    InForce,
    /// A newer one is in force.
    Past,
    /// It does not check; never applied.
    Refused,
    /// Too many sites failed.
    Stopped,
}

/// An entry of `GET /v1/history`, newest first: `?site=`, `?limit=`, `?before=`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JournalEntry {
    /// Rises by one.
    pub id: i64,
    /// When.
    pub at: WallMs,
    /// The site; none: the whole hierarchy.
    pub site: Option<SiteCode>,
    /// The revision in force then.
    pub revision: Option<String>,
    /// What kind of thing happened.
    pub kind: JournalKind,
    /// What it is about, in the address grammar.
    pub about: String,
    /// What happened, in words.
    pub text: String,
}

/// What kind of thing a journal entry tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum JournalKind {
    /// Something a person did by command.
    Command,
    /// A server's contact changed.
    Contact,
    /// A step was refused or missed its deadline.
    Failed,
    /// A hold began.
    Held,
    /// An instance's phase or health changed.
    Instance,
    /// A site's plan changed.
    Plan,
    /// A record changed at the DNS servers.
    Record,
    /// The reconciler started, stopped or was fenced.
    Reconciler,
    /// A hold ended.
    Released,
    /// A revision came.
    Revision,
    /// A step was taken.
    Taken,
    /// A site's lease was taken up: by another than before, or again.
    Takeover,
}

/// `GET /v1/why?thing=…`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WhyView {
    /// What was asked about.
    pub thing: String,
    /// The answer in a line.
    pub answer: String,
    /// The chain of causes, from the thing down to git.
    pub because: Vec<Cause>,
    /// What the journal says of it, newest first.
    pub history: Vec<JournalEntry>,
}

/// One link of a chain of causes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cause {
    /// In words.
    pub text: String,
    /// In git.
    pub place: Option<Place>,
    /// The commit: short id, author, date, subject.
    pub commit: Option<String>,
}

/// A line of `GET /v1/secrets`; never a value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecretView {
    /// Its name.
    pub name: String,
    /// The site it is looked up for.
    pub site: SiteCode,
    /// What names it.
    pub used_by: Vec<String>,
    /// Whether the reconciler has it.
    pub present: bool,
    /// Servers that hold the current version.
    pub held_by: Vec<ServerName>,
}

/// `POST /v1/suspend`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SuspendRequest {
    /// `P01`, `P01/p01-a`, or nothing for all.
    #[serde(default)]
    pub scope: Option<String>,
    /// Why; shown wherever something is held for it.
    pub reason: String,
    /// Milliseconds since 1970 when it ends by itself.
    #[serde(default)]
    #[schemars(with = "Option<u64>")]
    pub until: Option<WallMs>,
    /// Stop failover as well: passives don't take over by themselves while it holds. Of sites only.
    #[serde(default)]
    pub failover: bool,
}

/// `POST /v1/resume`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResumeRequest {
    /// `P01`, `P01/p01-a`, or nothing for all.
    #[serde(default)]
    pub scope: Option<String>,
}

/// `POST /v1/confirm-lost`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ConfirmLostRequest {
    /// The server.
    pub server: ServerName,
    /// Why the caller is certain.
    pub reason: String,
}

/// The answer to a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommandAnswer {
    /// What was done.
    pub text: String,
    /// What follows from it, a line each.
    #[serde(default)]
    pub consequences: Vec<String>,
}

/// The body of every answer that is not 2xx.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ApiError {
    /// What is wrong.
    pub error: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// A group's name and server, as a key of maps in views.
#[must_use]
pub fn instance_of(site: &SiteCode, group: &GroupName, server: &ServerName) -> InstanceName {
    InstanceName {
        site: site.clone(),
        group: group.clone(),
        server: server.clone(),
    }
}
