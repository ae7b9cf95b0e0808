//! `why`: from any record, instance, server, site, hold or revision down to file, line and commit.
//! Pure but for the journal, which the caller brings.

use stead_schemas::api::{ApiError, Cause, JournalEntry, TakeoverView, WhyView};
use stead_schemas::desired::Place;
use stead_schemas::lease::TakeoverCause;
use stead_schemas::names::{GroupName, InstanceName, ServerName, SiteCode, Thing};
use stead_schemas::observed::Contact;
use stead_schemas::plan::{Action, Hold, Step};
use stead_schemas::record::{RecordData, RecordKey};
use stead_schemas::time::WallMs;

use super::records::records;
use super::snapshot::{SiteSnapshot, Snapshot};
use super::status::{declared, status};
use super::{lease, prerequisites};
use crate::output::when::ago;

/// The answer without its history.
///
/// # Errors
/// [`ApiError`] where there is no such thing; names what is like it.
pub(super) fn why(snapshot: &Snapshot, thing: &Thing) -> Result<WhyView, ApiError> {
    match thing {
        Thing::Dns(key) => record(snapshot, key),
        Thing::Hold(id) => hold(snapshot, id),
        Thing::Instance(name) => instance(snapshot, name),
        Thing::Server(site, server) => server_of(snapshot, site, server),
        Thing::Site(site) => site_of(snapshot, site),
        Thing::SiteServer(site) => site_server(snapshot, site),
        Thing::Revision(_) | Thing::Plan(_) => Err(ApiError {
            error: format!("`{thing}` is answered by the journal only"),
            hint: Some("stead list revisions, stead history".to_owned()),
        }),
    }
}

/// What the journal is asked for beside the view.
pub(super) fn with_history(mut view: WhyView, history: Vec<JournalEntry>) -> WhyView {
    view.history = history;
    view
}

/// The site, or which there are.
pub(super) fn find<'a>(
    snapshot: &'a Snapshot,
    code: &SiteCode,
) -> Result<&'a SiteSnapshot, ApiError> {
    snapshot.sites.get(code).map(AsRef::as_ref).ok_or_else(|| {
        let known: Vec<&str> = snapshot
            .sites
            .keys()
            .map(SiteCode::as_str)
            .take(20)
            .collect();
        ApiError {
            error: format!("there is no site {code} in the revision in force"),
            hint: Some(format!("sites: {}", known.join(", "))),
        }
    })
}

fn declared_by(snapshot: &Snapshot, place: Option<Place>) -> Cause {
    match place {
        Some(place) => Cause {
            text: format!("declared at {place}"),
            place: Some(place),
            commit: snapshot.commit.clone(),
        },
        None => Cause {
            text: "not declared in the revision in force".to_owned(),
            place: None,
            commit: snapshot.commit.clone(),
        },
    }
}

fn plain(text: impl Into<String>) -> Cause {
    Cause {
        text: text.into(),
        place: None,
        commit: None,
    }
}

fn instance(snapshot: &Snapshot, name: &InstanceName) -> Result<WhyView, ApiError> {
    let site = find(snapshot, &name.site)?;
    let view = status(snapshot, Some(&name.site));
    let found = view
        .sites
        .iter()
        .flat_map(|site| &site.instances)
        .find(|i| &i.name == name);
    let mut because = Vec::new();
    let answer = match found {
        Some(found) => {
            let health = found.health.map_or_else(
                || "not known".to_owned(),
                |h| format!("{h:?}").to_lowercase(),
            );
            let wanted = if found.wanted {
                "git asks for it here"
            } else {
                "git does not ask for it here"
            };
            let published = if found.published {
                "clients find it by DNS"
            } else {
                "not in DNS"
            };
            if let Some(message) = &found.message {
                because.push(plain(format!("its agent says: {message}")));
            }
            format!("{health}; {wanted}; {published}")
        }
        None => "not there, and git does not ask for it".to_owned(),
    };
    let seen = site.observed.servers.get(&name.server);
    if let Some(seen) = seen.filter(|seen| seen.contact != Contact::Heard) {
        because.push(plain(format!(
            "{}: {}",
            name.server,
            contact_in_words(seen.contact)
        )));
    }
    because.extend(steps_and_holds(site, &name.to_string(), |step| {
        touches(&step.action, &name.group, &name.server)
    }));
    because.push(declared_by(
        snapshot,
        declared(site.desired.as_deref(), &name.group).1,
    ));
    Ok(WhyView {
        thing: name.to_string(),
        answer,
        because,
        history: Vec::new(),
    })
}

fn touches(action: &Action, group: &GroupName, server: &ServerName) -> bool {
    match action {
        Action::Drain {
            group: g,
            server: s,
        }
        | Action::Install {
            group: g,
            server: s,
        }
        | Action::Remove {
            group: g,
            server: s,
        }
        | Action::Update {
            group: g,
            server: s,
        } => g == group && s == server,
        Action::SwitchOver { from, to } => {
            group.as_str() == "siteServer" && (from == server || to == server)
        }
        Action::Check { server: s } | Action::Vote { server: s } => {
            group.as_str() == "siteServer" && s == server
        }
        Action::Publish { .. } | Action::Withdraw { .. } => false,
    }
}

fn steps_and_holds(
    site: &SiteSnapshot,
    about: &str,
    concerns: impl Fn(&Step) -> bool,
) -> Vec<Cause> {
    let Some(plan) = &site.plan else {
        return vec![plain("not planned yet")];
    };
    let steps = plan
        .steps
        .iter()
        .filter(|step| concerns(step))
        .map(|step| Cause {
            text: format!("planned: {} ({})", step.id, step.because),
            place: step.place.clone(),
            commit: None,
        });
    let holds = plan
        .holds
        .iter()
        .filter(|hold| hold.about == about)
        .map(hold_cause);
    steps.chain(holds).collect()
}

fn hold_cause(hold: &Hold) -> Cause {
    let remedy = hold
        .reason
        .remedy(&hold.about)
        .map(|r| format!(" -- {r}"))
        .unwrap_or_default();
    Cause {
        text: format!("held ({}): {}{remedy}", hold.id(), hold.reason),
        place: hold.place.clone(),
        commit: None,
    }
}

fn hold(snapshot: &Snapshot, id: &str) -> Result<WhyView, ApiError> {
    let all = snapshot
        .sites
        .values()
        .filter_map(|site| site.plan.as_ref());
    let found = all
        .flat_map(|plan| &plan.holds)
        .find(|hold| hold.id() == id);
    let hold = found.ok_or_else(|| ApiError {
        error: format!("there is no hold {id} now"),
        hint: Some(
            "stead list holds shows those that are; stead history those that were".to_owned(),
        ),
    })?;
    Ok(WhyView {
        thing: hold.about.clone(),
        answer: hold.reason.to_string(),
        because: vec![hold_cause(hold), declared_by(snapshot, hold.place.clone())],
        history: Vec::new(),
    })
}

fn server_of(
    snapshot: &Snapshot,
    code: &SiteCode,
    server: &ServerName,
) -> Result<WhyView, ApiError> {
    let site = find(snapshot, code)?;
    let thing = Thing::Server(code.clone(), server.clone()).to_string();
    let seen = site.observed.servers.get(server).ok_or_else(|| ApiError {
        error: format!("{code} has no server {server}"),
        hint: Some(format!("stead list servers {code}")),
    })?;
    let mut because = vec![plain(contact_in_words(seen.contact))];
    because.extend(steps_and_holds(site, &thing, |step| match &step.action {
        Action::Check { server: s }
        | Action::Drain { server: s, .. }
        | Action::Install { server: s, .. }
        | Action::Remove { server: s, .. }
        | Action::Update { server: s, .. }
        | Action::Vote { server: s } => s == server,
        Action::SwitchOver { from, to } => from == server || to == server,
        Action::Publish { .. } | Action::Withdraw { .. } => false,
    }));
    because.extend(prerequisites::notes(site, server).map(plain));
    let place = site
        .desired
        .as_ref()
        .and_then(|d| d.servers.get(server))
        .map(|s| s.place.clone());
    because.push(declared_by(snapshot, place));
    let running = seen
        .report
        .as_ref()
        .map_or(0, |report| report.instances.len());
    let answer = format!("{running} instances, agent at {}", seen.agent);
    Ok(WhyView {
        thing,
        answer,
        because,
        history: Vec::new(),
    })
}

fn contact_in_words(contact: Contact) -> &'static str {
    match contact {
        Contact::Connecting => "not heard since the reconciler started, and not yet judged",
        Contact::CutOff { .. } => {
            "other agents of its site reach it and this reconciler does not: shown, not acted on (H8)"
        }
        Contact::Heard => "its agent answers",
        Contact::Refused { .. } => "something answers at its address that is not this server",
        Contact::Silent { .. } => "silent, and other agents of its site confirm it",
        Contact::Unsure { .. } => "no answer, and nobody else to confirm that it is gone",
    }
}

fn site_of(snapshot: &Snapshot, code: &SiteCode) -> Result<WhyView, ApiError> {
    let site = find(snapshot, code)?;
    let view = status(snapshot, Some(code));
    let state = view
        .sites
        .first()
        .map(|site| format!("{:?}", site.state).to_lowercase());
    let mut because: Vec<Cause> = site
        .failure
        .iter()
        .map(|failure| plain(failure.clone()))
        .collect();
    because.extend(steps_and_holds(site, "", |_| true));
    because.extend(
        site.plan
            .iter()
            .flat_map(|plan| &plan.holds)
            .map(hold_cause),
    );
    because.push(declared_by(
        snapshot,
        site.desired.as_ref().map(|d| d.place.clone()),
    ));
    Ok(WhyView {
        thing: code.to_string(),
        answer: state.unwrap_or_default(),
        because,
        history: Vec::new(),
    })
}

/// Who is active, since when, by whose grant, and what git says.
fn site_server(snapshot: &Snapshot, code: &SiteCode) -> Result<WhyView, ApiError> {
    let site = find(snapshot, code)?;
    let thing = Thing::SiteServer(code.clone()).to_string();
    let declared = site.desired.as_ref().and_then(|d| d.site_server.as_ref());
    let mut because = Vec::new();
    let answer = match (lease::lease(site), declared) {
        (Some(view), _) => {
            because.extend(
                view.last
                    .as_ref()
                    .map(|last| plain(last_taken(last, snapshot.now))),
            );
            because.extend(view.parked.as_ref().map(|parked| {
                plain(format!(
                    "git says {}, which is parked: honoured when it changes in git, or by stead failback {code} (H21)",
                    parked.declared
                ))
            }));
            because.extend(
                view.request
                    .as_ref()
                    .map(|request| plain(format!("{request} was asked for and is not active yet"))),
            );
            match &view.holder {
                Some(holder) => format!("{holder} is active, under term {}", view.term),
                None => "nobody who is heard knows who is active".to_owned(),
            }
        }
        (None, Some(declared)) => {
            because.push(plain(
                "the site has no lease: the declared active is the active one",
            ));
            format!("{} is active", declared.active)
        }
        (None, None) => "the site has no site server".to_owned(),
    };
    because.extend(steps_and_holds(site, &thing, |step| match &step.action {
        Action::Check { .. } | Action::SwitchOver { .. } | Action::Vote { .. } => true,
        Action::Drain { .. }
        | Action::Install { .. }
        | Action::Publish { .. }
        | Action::Remove { .. }
        | Action::Update { .. }
        | Action::Withdraw { .. } => false,
    }));
    let candidates = declared
        .into_iter()
        .flat_map(|d| d.passive.iter().chain([&d.active]));
    because.extend(candidates.flat_map(|server| {
        let notes = prerequisites::notes(site, server);
        notes.map(move |note| plain(format!("{server}: {note}")))
    }));
    let place = declared.map(|declared| declared.place.clone());
    because.push(declared_by(snapshot, place));
    Ok(WhyView {
        thing,
        answer,
        because,
        history: Vec::new(),
    })
}

fn last_taken(view: &TakeoverView, now: WallMs) -> String {
    let granted: Vec<&str> = view
        .takeover
        .granted_by
        .iter()
        .map(ServerName::as_str)
        .collect();
    let asked = view
        .asked
        .as_ref()
        .map_or_else(String::new, |asked| format!(", asked for by {}", asked.by));
    let cause = match view.takeover.cause {
        TakeoverCause::Again => "it held the lease before",
        TakeoverCause::Failover => "failover: the holder before was silent",
        TakeoverCause::First => "the site's first",
        TakeoverCause::Handover => "handed over",
        TakeoverCause::Promoted => "promoted by a person, a majority being lost",
    };
    let from = view.takeover.from.as_ref();
    let from = from.map_or_else(String::new, |from| format!(" from {from}"));
    format!(
        "taken up{from} {} by {}, term {} ({cause}{asked}); granted by {}",
        ago(view.takeover.won_at, now),
        view.server,
        view.takeover.term,
        granted.join(", ")
    )
}

fn record(snapshot: &Snapshot, key: &RecordKey) -> Result<WhyView, ApiError> {
    let key = completed(snapshot, key);
    let view = records(snapshot, None)
        .into_iter()
        .find(|view| view.key == key);
    let view = view.ok_or_else(|| ApiError {
        error: format!("stead neither wants nor finds dns:{key}"),
        hint: Some("stead list records".to_owned()),
    })?;
    let site = find(snapshot, &view.site)?;
    let mut because = vec![plain(format!("{}; mark: {}", view.state, view.owner))];
    for value in view.want.iter().flat_map(|set| &set.values) {
        because.push(plain(format!("wanted: {value}{}", whose(site, value))));
    }
    because.extend(steps_and_holds(
        site,
        &format!("dns:{key}"),
        |step| match &step.action {
            Action::Publish { record } | Action::Withdraw { record } => record == &key,
            Action::Check { .. }
            | Action::Drain { .. }
            | Action::Install { .. }
            | Action::Remove { .. }
            | Action::SwitchOver { .. }
            | Action::Update { .. }
            | Action::Vote { .. } => false,
        },
    ));
    because.push(declared_by(snapshot, place_of_record(site, &key)));
    let targets = view.want.as_ref().map_or(0, |set| set.values.len());
    Ok(WhyView {
        thing: format!("dns:{key}"),
        answer: format!("{targets} wanted; {}", view.state),
        because,
        history: Vec::new(),
    })
}

/// A name without the domain is completed: `_mssms_mp_P01._tcp`.
fn completed(snapshot: &Snapshot, key: &RecordKey) -> RecordKey {
    let domains = snapshot
        .sites
        .values()
        .filter_map(|site| site.context.dns.as_ref());
    let Some(domain) = domains.map(|dns| dns.domain.as_str().to_owned()).next() else {
        return key.clone();
    };
    if key.name.ends_with(&format!(".{domain}")) {
        return key.clone();
    }
    RecordKey {
        name: format!("{}.{domain}", key.name),
        rtype: key.rtype,
    }
}

fn whose(site: &SiteSnapshot, value: &RecordData) -> String {
    let servers = site.desired.iter().flat_map(|desired| &desired.servers);
    let found = servers.into_iter().find(|(name, server)| match value {
        RecordData::A(address) => server.address == *address,
        RecordData::Aaaa(address) => server.address == *address,
        RecordData::Srv { target, .. } => target.split('.').next() == Some(name.as_str()),
    });
    found
        .map(|(name, server)| format!(" = {name} ({})", server.place))
        .unwrap_or_default()
}

/// The group, the server or the site server that a record is for.
fn place_of_record(site: &SiteSnapshot, key: &RecordKey) -> Option<Place> {
    let desired = site.desired.as_ref()?;
    let label = key.name.split('.').next().unwrap_or_default();
    if label == desired.code.dns_label() {
        return desired
            .site_server
            .as_ref()
            .map(|server| server.place.clone());
    }
    if let Some(server) = desired
        .servers
        .values()
        .zip(desired.servers.keys())
        .find(|(_, n)| n.as_str() == label)
    {
        return Some(server.0.place.clone());
    }
    let is_srv = label.starts_with("_mssms_mp_");
    let group = desired.groups.values().find(|group| {
        group.name.dns_label() == label
            || is_srv && group.role == stead_schemas::role::Role::ManagementPoint
    });
    group.map(|group| group.place.clone())
}
