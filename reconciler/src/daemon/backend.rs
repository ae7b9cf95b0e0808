//! The daemon behind the API: snapshots, the journal, commands.
//!
//! Commands are made durable before they are answered, journalled with who gave them, and wake the
//! sites they concern. How anything is shown is `crate::api`'s business.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stead_schemas::api::{
    ApiError, CommandAnswer, ConfirmLostRequest, DrainRequest, FailbackRequest, JournalEntry,
    JournalKind, Need, ReconcilerView, ReplaceRequest, ResumeRequest, RevisionState, RevisionView,
    SecretView, SuspendRequest, SuspensionView, SwitchoverRequest, UndrainRequest, WriterState,
};
use stead_schemas::names::{SecretName, ServerName, SiteCode, Thing};
use stead_schemas::observed::Contact;
use stead_schemas::plan::HoldReason;
use stead_schemas::record::RecordKey;
use stead_wire::clock::wall_now;
use tokio::sync::Semaphore;

use super::core::{Core, InForce};
use super::drain::{drain, undrain};
use super::logs::logs;
use super::replace::replace;
use super::switchover::{Kind, switch_over};
use crate::api::{
    Answer, Backend, Drained, LogRequest, LogStream, RecordsRead, Snapshot, Switched,
};
use crate::commands::chain;
use crate::publish;
use crate::site::Site;
use crate::site::changes::{Happened, short};
use crate::store::{HistoryQuery, LostMemory, StoreError, Write};
use crate::witness;

/// Revisions that are listed.
const REVISIONS: u32 = 200;

/// The API's way to the daemon.
#[derive(Debug, Clone)]
pub struct Desk(pub Arc<Core>);

impl Backend for Desk {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::new(snapshot(&self.0))
    }

    fn history(
        &self,
        site: Option<SiteCode>,
        limit: u32,
        before: Option<i64>,
    ) -> Answer<Vec<JournalEntry>> {
        let store = self.0.store.clone();
        let query = HistoryQuery {
            site,
            before,
            limit,
            ..HistoryQuery::default()
        };
        Box::pin(async move { store.history(query).await.map_err(of_store) })
    }

    fn history_of(&self, about: String, limit: u32) -> Answer<Vec<JournalEntry>> {
        let store = self.0.store.clone();
        let mut query = HistoryQuery {
            limit,
            ..HistoryQuery::default()
        };
        match about.strip_prefix("hold:") {
            Some(id) => query.hold = Some(id.to_owned()),
            None => query.about = Some(about),
        }
        Box::pin(async move { store.history(query).await.map_err(of_store) })
    }

    fn revisions(&self) -> Answer<Vec<RevisionView>> {
        let core = Arc::clone(&self.0);
        Box::pin(async move {
            let mut views = core.store.revisions(REVISIONS).await.map_err(of_store)?;
            let stopped = stopped_by(&core);
            for view in &mut views {
                if view.state == RevisionState::InForce
                    && let Some(note) = &stopped
                {
                    view.state = RevisionState::Stopped;
                    view.note.clone_from(note);
                }
            }
            Ok(views)
        })
    }

    fn secrets(&self) -> Answer<Vec<SecretView>> {
        let core = Arc::clone(&self.0);
        Box::pin(async move { Ok(secrets(&core)) })
    }

    fn suspend(&self, request: SuspendRequest, by: String) -> Answer<CommandAnswer> {
        let core = Arc::clone(&self.0);
        Box::pin(async move { suspend(&core, request, by).await })
    }

    fn resume(&self, request: ResumeRequest, by: String) -> Answer<CommandAnswer> {
        let core = Arc::clone(&self.0);
        Box::pin(async move { resume(&core, request, &by).await })
    }

    fn confirm_lost(&self, request: ConfirmLostRequest, by: String) -> Answer<CommandAnswer> {
        let core = Arc::clone(&self.0);
        Box::pin(async move { confirm_lost(&core, request, by).await })
    }

    fn replace(&self, request: ReplaceRequest, by: String) -> Answer<CommandAnswer> {
        let core = Arc::clone(&self.0);
        Box::pin(async move { replace(&core, request, by).await })
    }

    fn drain(&self, request: DrainRequest, by: String) -> Drained {
        let core = Arc::clone(&self.0);
        Box::pin(async move { drain(&core, request, by).await })
    }

    fn undrain(&self, request: UndrainRequest, by: String) -> Answer<CommandAnswer> {
        let core = Arc::clone(&self.0);
        Box::pin(async move { undrain(&core, request, &by).await })
    }

    fn switchover(&self, request: SwitchoverRequest, by: String) -> Switched {
        let core = Arc::clone(&self.0);
        Box::pin(async move { switch_over(&core, request, Kind::Switchover, by).await })
    }

    fn failback(&self, request: FailbackRequest, by: String) -> Switched {
        let core = Arc::clone(&self.0);
        let request = SwitchoverRequest {
            site: request.site,
            to: None,
            reason: request.reason,
            dry_run: request.dry_run,
        };
        Box::pin(async move { switch_over(&core, request, Kind::Failback, by).await })
    }

    fn logs(&self, request: LogRequest) -> Answer<LogStream> {
        let core = Arc::clone(&self.0);
        Box::pin(async move { logs(&core, request).await })
    }

    fn plan_turn(&self) -> Arc<Semaphore> {
        Arc::clone(&self.0.plan_turn)
    }

    fn read_records(&self, keys: BTreeSet<RecordKey>) -> RecordsRead {
        let core = Arc::clone(&self.0);
        Box::pin(async move { publish::read_once(&core, keys).await })
    }

    fn has_secret(&self, site: &SiteCode, name: &SecretName) -> bool {
        self.0.secrets.lookup(Some(site), name).is_some()
    }

    fn metrics(&self) -> String {
        self.0.metrics.encode(&snapshot(&self.0))
    }
}

fn snapshot(core: &Core) -> Snapshot {
    let force = core.in_force();
    let sites = core.sites();
    let ready = force.is_some()
        && core.authority.state() != WriterState::Starting
        && core.store.problem().is_none()
        && sites.iter().all(|site| judged(site));
    Snapshot {
        now: core.clock.now(),
        reconciler: ReconcilerView {
            name: core.config.name.to_string(),
            hierarchy: force.as_ref().map(|f| f.desired.name.to_string()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: core.started_at,
            writer: core.authority.state(),
            epoch: core.authority.epoch(),
        },
        source: core.source(),
        commit: force.as_ref().map(|force| in_a_line(force)),
        needs: needs(core),
        suspensions: core.suspensions(),
        ready,
        sites: force.map_or_else(BTreeMap::new, |force| {
            sites
                .iter()
                .map(|site| (site.code.clone(), site.snapshot(core, &force)))
                .collect()
        }),
    }
}

fn judged(site: &Site) -> bool {
    let world = site.world();
    let connecting = |contact: &Contact| matches!(contact, Contact::Connecting);
    !world
        .observed
        .servers
        .values()
        .any(|server| connecting(&server.contact))
}

fn in_a_line(force: &InForce) -> String {
    let commit = &force.commit;
    format!(
        "{}, {}: {}",
        short(&force.revision),
        commit.author,
        commit.subject
    )
}

/// What is wrong with the reconciler itself, most urgent first.
fn needs(core: &Core) -> Vec<Need> {
    let mut needs = Vec::new();
    let mut add = |text: String, remedy: Option<&str>| {
        needs.push(Need {
            about: String::new(),
            text,
            remedy: remedy.map(str::to_owned),
        });
    };
    if let WriterState::Fenced { by } = core.authority.state() {
        let remedy = if by.reconciler == core.config.name.as_str() {
            "if no other copy of this reconciler runs, restart this one; else stop one of them"
        } else {
            "run one writer: set `standby: true` on the others and restart them"
        };
        let text = format!("{by} writes now; this reconciler only looks");
        add(text, Some(remedy));
    }
    if let Some(problem) = core.store.problem() {
        add(problem, Some("make room where stateDir lies"));
    }
    let source = core.source();
    if let Some(problem) = source.problem {
        add(format!("the git source: {problem}"), None);
    }
    if let Some((revision, note)) = core.refusal() {
        add(
            format!("{} is not in force: {note}", short(&revision)),
            Some("repair it and commit again; meanwhile the revision before it is kept"),
        );
    }
    if let Some(problem) = core.publisher.problem() {
        add(problem, None);
    }
    needs.extend(witness::needs(core));
    needs
}

/// Too many sites failed under the revision in force: which.
fn stopped_by(core: &Core) -> Option<String> {
    let admission = core.admissions.now();
    admission.waiting.values().find_map(|reason| match reason {
        HoldReason::FailedSites { .. } => Some(reason.to_string()),
        _ => None,
    })
}

fn secrets(core: &Core) -> Vec<SecretView> {
    let mut views = Vec::new();
    for site in core.sites() {
        let world = site.world();
        let mut used: BTreeMap<SecretName, Vec<String>> = BTreeMap::new();
        let mut note = |names: Vec<SecretName>, by: String| {
            for name in names {
                let users = used.entry(name).or_default();
                if !users.contains(&by) {
                    users.push(by.clone());
                }
            }
        };
        if let Some(desired) = &world.desired {
            for (group, declared) in &desired.groups {
                let by = format!("{}/{group}", site.code);
                note(declared.service.as_ref().map_or_else(Vec::new, names), by);
            }
            let server = desired.site_server.as_ref();
            if let Some(service) = server.and_then(|server| server.service.as_ref()) {
                note(names(service), format!("{}/siteServer", site.code));
            }
        }
        for (name, used_by) in used {
            let material = core.secrets.lookup(Some(&site.code), &name);
            let holds = |seen: &stead_schemas::observed::ServerObserved| {
                let version = seen.report.as_ref()?.secrets.get(&name)?;
                (Some(version) == material.as_ref().map(|m| &m.version)).then_some(())
            };
            let held_by: Vec<ServerName> = world
                .observed
                .servers
                .iter()
                .filter(|(_, seen)| holds(seen).is_some())
                .map(|(server, _)| server.clone())
                .collect();
            views.push(SecretView {
                name: name.to_string(),
                site: site.code.clone(),
                used_by,
                present: material.is_some(),
                held_by,
            });
        }
    }
    views
}

fn names(service: &stead_schemas::desired::ServiceDesired) -> Vec<SecretName> {
    service
        .env
        .values()
        .filter_map(|value| match value {
            stead_schemas::wire::EnvValue::Secret { secret } => Some(secret.clone()),
            stead_schemas::wire::EnvValue::Plain(_) => None,
        })
        .collect()
}

pub(super) fn no_site(code: &SiteCode) -> ApiError {
    ApiError {
        error: format!("there is no site {code}"),
        hint: Some("stead status".to_owned()),
    }
}

/// The scope as it is kept: empty for all; an unknown site or server is refused.
fn scope_of(core: &Core, scope: Option<&str>) -> Result<String, ApiError> {
    let Some(scope) = scope.filter(|scope| !scope.is_empty()) else {
        return Ok(String::new());
    };
    let wrong = |error: String, hint: &str| ApiError {
        error,
        hint: Some(hint.to_owned()),
    };
    match scope.parse() {
        Ok(Thing::Site(code)) if core.site(&code).is_some() => Ok(code.to_string()),
        Ok(Thing::Server(code, server)) => {
            let known = core
                .site(&code)
                .is_some_and(|site| site.world().observed.servers.contains_key(&server));
            if known {
                Ok(format!("{code}/{server}"))
            } else {
                Err(wrong(
                    format!("there is no server {code}/{server}"),
                    "stead list servers",
                ))
            }
        }
        Ok(Thing::Site(code)) => Err(no_site(&code)),
        _ => Err(wrong(
            format!("`{scope}` is neither a site nor a server"),
            "write P01 or P01/p01-a, or --all",
        )),
    }
}

fn shown(scope: &str) -> &str {
    if scope.is_empty() {
        "every site"
    } else {
        scope
    }
}

async fn suspend(
    core: &Core,
    request: SuspendRequest,
    by: String,
) -> Result<CommandAnswer, ApiError> {
    let scope = scope_of(core, request.scope.as_deref())?;
    let at = wall_now();
    if request.until.is_some_and(|until| until <= at) {
        return Err(ApiError {
            error: "the end of the suspension is past".to_owned(),
            hint: Some("give an --until that is to come, or none".to_owned()),
        });
    }
    let before = core.suspensions().into_iter().find(|s| s.scope == scope);
    refuse_failover(&scope, &request, before.as_ref())?;
    let view = SuspensionView {
        failover: request.failover,
        scope: scope.clone(),
        by: by.clone(),
        why: request.reason.clone(),
        at,
        until: request.until,
    };
    let write = Write::Suspension(scope.clone(), Some(view.clone()));
    core.store.commit(write).await.map_err(of_store)?;
    core.suspend(&scope, Some(view));
    let failover = if request.failover {
        " and its failover"
    } else {
        ""
    };
    let text = format!("{by} suspended it{failover}: {}", request.reason);
    command(core, &scope, text);
    let failover = if request.failover {
        "voters are told that nobody takes over or back by itself (H31); one that is not heard learns it when it is"
    } else {
        "failover goes on: a passive site server takes over from an active that is lost (--failover stops that too)"
    };
    Ok(CommandAnswer {
        text: format!("{} is suspended", shown(&scope)),
        consequences: vec![
            "running instances stay as they are; nothing is installed, moved or removed".to_owned(),
            failover.to_owned(),
            format!(
                "ends with: stead resume {}",
                if scope.is_empty() { "--all" } else { &scope }
            ),
        ],
    })
}

/// Failover is a site's; and whoever stopped it is not overruled by a plain suspension.
fn refuse_failover(
    scope: &str,
    request: &SuspendRequest,
    before: Option<&SuspensionView>,
) -> Result<(), ApiError> {
    if request.failover && scope.contains('/') {
        return Err(ApiError {
            error: "failover is suspended for a site, not for a server".to_owned(),
            hint: Some("stead suspend SITE --failover --reason WHY".to_owned()),
        });
    }
    let Some(before) = before.filter(|before| before.failover && !request.failover) else {
        return Ok(());
    };
    let shown = if scope.is_empty() { "--all" } else { scope };
    Err(ApiError {
        error: format!(
            "{} suspended it with its failover: {}",
            before.by, before.why
        ),
        hint: Some(format!(
            "stead resume {shown} first, or say --failover again"
        )),
    })
}

async fn resume(core: &Core, request: ResumeRequest, by: &str) -> Result<CommandAnswer, ApiError> {
    let scope = match request.scope.as_deref() {
        // What is suspended may be gone from git meanwhile.
        Some(scope) if core.suspensions().iter().any(|s| s.scope == scope) => scope.to_owned(),
        scope => scope_of(core, scope)?,
    };
    if !core.suspensions().iter().any(|one| one.scope == scope) {
        return Err(ApiError {
            error: format!("{} is not suspended", shown(&scope)),
            hint: core
                .suspensions()
                .first()
                .map(|one| format!("suspended is {}", shown(&one.scope))),
        });
    }
    let write = Write::Suspension(scope.clone(), None);
    core.store.commit(write).await.map_err(of_store)?;
    core.suspend(&scope, None);
    command(core, &scope, format!("{by} resumed it"));
    Ok(CommandAnswer {
        text: format!("{} goes on", shown(&scope)),
        consequences: Vec::new(),
    })
}

async fn confirm_lost(
    core: &Core,
    request: ConfirmLostRequest,
    by: String,
) -> Result<CommandAnswer, ApiError> {
    let server = &request.server;
    let found = core.sites().into_iter().find_map(|site| {
        let contact = site
            .world()
            .observed
            .servers
            .get(server)
            .map(|s| s.contact)?;
        Some((site, contact))
    });
    let Some((site, contact)) = found else {
        return Err(ApiError {
            error: format!("there is no server {server}"),
            hint: Some("stead list servers".to_owned()),
        });
    };
    let refused = |why: &str| ApiError {
        error: format!("{server} {why}"),
        hint: Some(format!("stead why {}/{server}", site.code)),
    };
    match contact {
        Contact::Heard => return Err(refused("answers: it is not lost")),
        Contact::CutOff { .. } => {
            return Err(refused("is reached by other agents: it is not lost"));
        }
        _ => {}
    }
    let lost = LostMemory {
        by: by.clone(),
        why: request.reason.clone(),
        at: core.clock.now(),
    };
    let write = Write::Lost(server.clone(), Some(lost.clone()));
    core.store.commit(write).await.map_err(of_store)?;
    if let Some(seen) = site.world().observed.servers.get_mut(server) {
        seen.confirmed_lost = Some(lost.at);
    }
    site.world().version += 1;
    core.set_lost(server, Some(lost));
    let about = format!("{}/{server}", site.code);
    let text = format!("{by} confirmed that it is lost: {}", request.reason);
    command(core, &about, text);
    site.wake();
    Ok(CommandAnswer {
        text: format!("{server} counts as lost for good"),
        consequences: vec![
            "what ran there is placed elsewhere where git allows it, also what may not run twice"
                .to_owned(),
            "this does not promote another site server".to_owned(),
        ],
    })
}

fn command(core: &Core, about: &str, text: String) {
    let site = match about.parse() {
        Ok(Thing::Site(code) | Thing::Server(code, _) | Thing::SiteServer(code)) => Some(code),
        _ => None,
    };
    core.journal(
        site.as_ref(),
        vec![Happened::new(JournalKind::Command, about, text)],
    );
}

pub(super) fn of_store(error: StoreError) -> ApiError {
    ApiError {
        error: chain(&error),
        hint: Some("stead status says what is wrong with the store".to_owned()),
    }
}
