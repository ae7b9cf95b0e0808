//! What the API shows, as plain data of one moment, and what it asks of the daemon.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use axum::body::Bytes;
use futures_util::Stream;
use stead_plan::{Context, Scope, Suspension};
use stead_schemas::api::{
    ApiError, CommandAnswer, ConfirmLostRequest, DrainPlanView, DrainRequest, FailbackRequest,
    JournalEntry, Need, ReconcilerView, ReplaceRequest, ResumeRequest, RevisionView, SecretView,
    SourceView, SuspendRequest, SuspensionView, SwitchoverRequest, SwitchoverView, TakeoverView,
    UndrainRequest,
};
use stead_schemas::desired::SiteDesired;
use stead_schemas::names::{InstanceName, SecretName, ServerName, SiteCode};
use stead_schemas::observed::{RecordObserved, SiteObserved};
use stead_schemas::plan::SitePlan;
use stead_schemas::record::RecordKey;
use stead_schemas::role::SiteType;
use stead_schemas::time::WallMs;
use tokio::sync::Semaphore;

use super::drain::DrainRefusal;
use super::switchover::SwitchoverRefusal;

/// The state of one moment. Cheap to make: sites are shared, not copied.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// When it was taken.
    pub now: WallMs,
    /// The reconciler itself.
    pub reconciler: ReconcilerView,
    /// The git source.
    pub source: SourceView,
    /// The commit in force in a line: short id, author, date, subject.
    pub commit: Option<String>,
    /// What is wrong with the reconciler itself: fenced, store full, source gone.
    pub needs: Vec<Need>,
    /// Suspensions in force.
    pub suspensions: Vec<SuspensionView>,
    /// Whether every declared agent was heard, or given up on, since the start.
    pub ready: bool,
    /// Sites: declared ones, and ones still being dismantled.
    pub sites: BTreeMap<SiteCode, Arc<SiteSnapshot>>,
}

/// One site of a [`Snapshot`].
#[derive(Debug, Clone)]
pub struct SiteSnapshot {
    /// What is declared; none: gone from git.
    pub desired: Option<Arc<SiteDesired>>,
    /// Its type, also when it is gone from git.
    pub site_type: SiteType,
    /// What is observed.
    pub observed: Arc<SiteObserved>,
    /// What it was last planned with.
    pub context: Context,
    /// The road; none before the first pass.
    pub plan: Option<Arc<SitePlan>>,
    /// The revision it is at or on the way to.
    pub revision: Option<String>,
    /// What this reconciler finds wrong with servers' agents.
    pub troubles: BTreeMap<ServerName, String>,
    /// How the lease was taken up, by term.
    pub takeovers: BTreeMap<u64, TakeoverView>,
    /// How often because the holder was silent.
    pub failovers: u64,
    /// The last failure of carrying something out, until it is overcome.
    pub failure: Option<String>,
}

/// Suspensions of one site and its servers, as the planner takes them; ended ones are not given.
#[must_use]
pub fn suspensions_of(views: &[SuspensionView], site: &SiteCode) -> Vec<Suspension> {
    let below = format!("{site}/");
    let suspensions = views.iter().filter_map(|view| {
        let scope = if view.scope.is_empty() {
            Scope::All
        } else if view.scope == site.as_str() {
            Scope::Site(site.clone())
        } else {
            Scope::Server(view.scope.strip_prefix(&below)?.parse().ok()?)
        };
        Some(Suspension {
            scope,
            by: view.by.clone(),
            why: view.why.clone(),
            // Steady time is not what people mean by their end.
            until: None,
        })
    });
    suspensions.collect()
}

/// Whether one of the suspensions stops failover of the site as well (H31).
#[must_use]
pub fn is_manual(views: &[SuspensionView], site: &SiteCode) -> bool {
    let of_site = |scope: &str| scope.is_empty() || scope == site.as_str();
    views
        .iter()
        .any(|view| view.failover && of_site(&view.scope))
}

/// The answer to something asked of the daemon.
pub type Answer<T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send>>;
/// What a switchover came to.
pub type Switched = Pin<Box<dyn Future<Output = Result<SwitchoverView, SwitchoverRefusal>> + Send>>;
/// What a drain came to.
pub type Drained = Pin<Box<dyn Future<Output = Result<DrainPlanView, DrainRefusal>> + Send>>;
/// What was read of records; those that were not are left out.
pub type RecordsRead = Pin<Box<dyn Future<Output = BTreeMap<RecordKey, RecordObserved>> + Send>>;
/// Lines of an instance's log as the agent sends them.
pub type LogStream = Pin<Box<dyn Stream<Item = Result<Bytes, std::io::Error>> + Send>>;

/// Which log, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRequest {
    /// The instance.
    pub instance: InstanceName,
    /// Lines from the end.
    pub lines: u32,
    /// Go on as lines come.
    pub follow: bool,
}

/// What the API needs of the daemon. Every answer has a deadline of its own.
pub trait Backend: Send + Sync + 'static {
    /// The state of the moment.
    fn snapshot(&self) -> Arc<Snapshot>;
    /// Journal entries, newest first, older than `before`.
    fn history(
        &self,
        site: Option<SiteCode>,
        limit: u32,
        before: Option<i64>,
    ) -> Answer<Vec<JournalEntry>>;
    /// Journal entries about one thing, newest first.
    fn history_of(&self, about: String, limit: u32) -> Answer<Vec<JournalEntry>>;
    /// Revisions, newest first.
    fn revisions(&self) -> Answer<Vec<RevisionView>>;
    /// Secrets by name and version; never a value.
    fn secrets(&self) -> Answer<Vec<SecretView>>;
    /// Stops changes of a site, a server or all.
    fn suspend(&self, request: SuspendRequest, by: String) -> Answer<CommandAnswer>;
    /// Ends a suspension.
    fn resume(&self, request: ResumeRequest, by: String) -> Answer<CommandAnswer>;
    /// Takes a person's word that a server is gone for good.
    fn confirm_lost(&self, request: ConfirmLostRequest, by: String) -> Answer<CommandAnswer>;
    /// Lets a voter in whose ledger is new.
    fn replace(&self, request: ReplaceRequest, by: String) -> Answer<CommandAnswer>;
    /// Takes a server out of service.
    fn drain(&self, request: DrainRequest, by: String) -> Drained;
    /// Puts it back.
    fn undrain(&self, request: UndrainRequest, by: String) -> Answer<CommandAnswer>;
    /// Changes the active of a site.
    fn switchover(&self, request: SwitchoverRequest, by: String) -> Switched;
    /// Changes it to the one that git declares.
    fn failback(&self, request: FailbackRequest, by: String) -> Switched;
    /// An instance's log, from its agent.
    fn logs(&self, request: LogRequest) -> Answer<LogStream>;
    /// The turn to plan a topology that is sent; there is one.
    fn plan_turn(&self) -> Arc<Semaphore>;
    /// What the DNS servers in force serve for keys that nobody reads else. Nothing is kept of it.
    fn read_records(&self, keys: BTreeSet<RecordKey>) -> RecordsRead;
    /// Whether there is a secret of the name for the site.
    fn has_secret(&self, site: &SiteCode, name: &SecretName) -> bool;
    /// The figures in Prometheus' text format.
    fn metrics(&self) -> String;
}
