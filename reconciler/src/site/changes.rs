//! What is worth a journal entry: the differences between two looks at a site.
//!
//! Pure. Only transitions are told, so that a quiet site writes nothing and a flapping one is
//! bounded by how often it changes, which `Chatter` bounds again for agents that make it up.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use stead_schemas::api::JournalKind;
use stead_schemas::names::{GroupName, InstanceName, ServerName, SiteCode};
use stead_schemas::observed::{Contact, SiteObserved};
use stead_schemas::plan::{Hold, SitePlan};
use stead_schemas::prerequisite::Checked;
use stead_schemas::time::{DurationMs, WallMs};
use stead_schemas::wire::{AgentReport, Health, InstanceReport, Phase};

/// Entries one server may cause within [`CHATTER_WINDOW`].
const CHATTER_MAX: u32 = 60;
const CHATTER_WINDOW: DurationMs = DurationMs::seconds(60);

/// One thing that happened, before it gets time and revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// What kind of thing.
    pub kind: JournalKind,
    /// What it is about, in the address grammar.
    pub about: String,
    /// What happened, in words.
    pub text: String,
    /// The hold's id, for holds.
    pub hold: Option<String>,
}

impl Happened {
    /// Without a hold.
    pub fn new(kind: JournalKind, about: impl ToString, text: impl Into<String>) -> Self {
        Self {
            kind,
            about: about.to_string(),
            text: text.into(),
            hold: None,
        }
    }
}

/// Holds that were told to have begun and not to have ended, by id: what each is about, and its
/// words then.
pub type Told = BTreeMap<String, (String, String)>;

/// Holds that began and ended since; what was told is brought up to date.
#[must_use]
pub fn of_holds(told: &mut Told, holds: &[Hold]) -> Vec<Happened> {
    let now: BTreeMap<String, &Hold> = holds.iter().map(|hold| (hold.id(), hold)).collect();
    let mut happened = Vec::new();
    told.retain(|id, (about, text)| {
        let stays = now.contains_key(id);
        if !stays {
            let text = format!("no longer: {text}");
            happened.push(held(JournalKind::Released, id, about.clone(), text));
        }
        stays
    });
    for (id, hold) in now {
        let text = hold.reason.to_string();
        if let Entry::Vacant(place) = told.entry(id) {
            let about = hold.about.clone();
            let entry = held(JournalKind::Held, place.key(), about.clone(), text.clone());
            happened.push(entry);
            place.insert((about, text));
        }
    }
    happened
}

fn held(kind: JournalKind, id: &str, about: String, text: String) -> Happened {
    Happened {
        kind,
        about,
        text,
        hold: Some(id.to_owned()),
    }
}

/// What a server lacks to be a site server, where that is another thing than before.
#[must_use]
pub fn of_checks(code: &SiteCode, before: Option<&Checked>, after: &Checked) -> Option<Happened> {
    let found = |checked: &Checked| {
        let findings = checked.findings();
        let words = findings.map(|(prerequisite, finding)| {
            let warning = if finding.fatal { "" } else { "warning: " };
            format!("{warning}{prerequisite}: {}", finding.text)
        });
        words.collect::<Vec<_>>().join("; ")
    };
    let now = found(after);
    if before.map(found).as_ref() == Some(&now) {
        return None;
    }
    let text = match now.as_str() {
        "" => "prerequisites of a site server: nothing is missing".to_owned(),
        found => format!("prerequisites of a site server: {found}"),
    };
    let about = format!("{code}/{}", after.question.server);
    Some(Happened::new(JournalKind::Instance, about, text))
}

/// A plan that leads elsewhere than the one before, in one line.
#[must_use]
pub fn of_plan(before: Option<&SitePlan>, after: &SitePlan) -> Option<Happened> {
    let was_empty = before.is_none_or(SitePlan::is_empty);
    let same_way = before.is_some_and(|before| {
        before.revision == after.revision
            && after
                .steps
                .iter()
                .all(|step| before.steps.iter().any(|old| old.id == step.id))
    });
    let text = match (was_empty, after.is_empty()) {
        (true, true) => return None,
        (false, true) => format!("nothing left to do for {}", short(&after.revision)),
        (_, false) if same_way => return None,
        (_, false) => after.counts().to_string(),
    };
    Some(Happened::new(JournalKind::Plan, &after.site, text))
}

/// A contact that is of another kind than before.
#[must_use]
pub fn of_contact(
    site: &SiteCode,
    server: &ServerName,
    before: Option<&Contact>,
    after: &Contact,
) -> Option<Happened> {
    if before.map(std::mem::discriminant) == Some(std::mem::discriminant(after)) {
        return None;
    }
    let text = match after {
        Contact::Connecting => return None,
        // Every start begins so; a first report ever is told by whoever takes it in.
        Contact::Heard if matches!(before, Some(Contact::Connecting)) => return None,
        // A moment's quiet is no event; what comes of it is.
        Contact::Unsure { .. } => "not heard; nobody confirms that it is gone",
        Contact::CutOff { .. } => "cut off from this reconciler; other agents reach it",
        Contact::Heard => "heard",
        Contact::Refused { .. } => "what answers in its place is refused",
        Contact::Silent { .. } => "silent, confirmed by other agents of its site",
    };
    let about = format!("{site}/{server}");
    Some(Happened::new(JournalKind::Contact, about, text))
}

/// Instances that came, went, or changed how they are.
#[must_use]
pub fn of_report(
    site: &SiteCode,
    before: Option<&AgentReport>,
    after: &AgentReport,
) -> Vec<Happened> {
    let none = BTreeMap::new();
    let old = before.map_or(&none, |report| &report.instances);
    let name = |group: &GroupName| InstanceName {
        site: site.clone(),
        group: group.clone(),
        server: after.server.clone(),
    };
    let changed = after.instances.iter().filter_map(|(group, instance)| {
        let text = instance_words(old.get(group).map(|old| &**old), instance)?;
        Some(Happened::new(JournalKind::Instance, name(group), text))
    });
    let gone = old
        .keys()
        .filter(|group| !after.instances.contains_key(*group))
        .map(|group| Happened::new(JournalKind::Instance, name(group), "gone"));
    changed.chain(gone).collect()
}

fn instance_words(before: Option<&InstanceReport>, after: &InstanceReport) -> Option<String> {
    let state = |instance: &InstanceReport| match (instance.phase, instance.health) {
        (Phase::CrashLoop, _) => "ends again and again",
        (Phase::Failed, _) => "can't run as declared",
        (Phase::Stopping, _) => "is being stopped",
        (_, Health::Healthy) => "healthy",
        (_, Health::Unhealthy) => "unhealthy",
        (_, Health::Unknown) => "not checked yet",
    };
    let now = state(after);
    let restarted = before.is_some_and(|before| after.restarts > before.restarts);
    if before.is_some_and(|before| state(before) == now) && !restarted {
        return None;
    }
    let again = if restarted { ", restarted" } else { "" };
    Some(match &after.message {
        Some(message) => format!("{now}{again}: {message}"),
        None => format!("{now}{again}"),
    })
}

/// Bounds what one server can put into the journal.
#[derive(Debug, Clone, Default)]
pub struct Chatter {
    since: WallMs,
    told: u32,
}

impl Chatter {
    /// As many of the entries as may be told now; the last one says that more are left out.
    pub fn bound(&mut self, now: WallMs, mut happened: Vec<Happened>) -> Vec<Happened> {
        if now.since(self.since) >= CHATTER_WINDOW {
            *self = Self {
                since: now,
                told: 0,
            };
        }
        let room = CHATTER_MAX.saturating_sub(self.told) as usize;
        if happened.len() > room {
            happened.truncate(room);
            if let Some(last) = happened.last_mut() {
                last.text
                    .push_str("; its further changes of this minute are not journalled");
            }
        }
        self.told += u32::try_from(happened.len()).unwrap_or(CHATTER_MAX);
        happened
    }
}

/// Whether none of a site's agents is heard although it has some (H8): then the reconciler is the
/// suspect, not the site.
#[must_use]
pub fn is_suspect(observed: &SiteObserved) -> bool {
    let was_heard = observed
        .servers
        .values()
        .any(|server| server.heard_at.is_some());
    let any_open = observed
        .servers
        .values()
        .any(|server| matches!(server.contact, Contact::Heard | Contact::Connecting));
    was_heard && !any_open
}

/// A commit id as people write it.
#[must_use]
pub fn short(revision: &str) -> String {
    revision.chars().take(7).collect()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use stead_schemas::observed::ServerObserved;
    use stead_schemas::plan::HoldReason;
    use stead_schemas::role::Role;
    use stead_schemas::wire::SpecId;

    use super::*;

    fn instance(health: Health, restarts: u32) -> InstanceReport {
        InstanceReport {
            role: Role::DistributionPoint,
            spec: SpecId("1".into()),
            phase: Phase::Running,
            health,
            since: WallMs(1),
            pid: Some(7),
            restarts,
            endpoint: SocketAddr::from(([127, 0, 0, 1], 80)),
            message: None,
        }
    }

    fn report(instances: &[(&str, InstanceReport)]) -> AgentReport {
        AgentReport {
            version: "0.1.0".into(),
            sequence: 1,
            instances: instances
                .iter()
                .map(|(name, instance)| (name.parse().unwrap(), Box::new(instance.clone())))
                .collect(),
            ..AgentReport::new("p01-a".parse().unwrap(), WallMs(1))
        }
    }

    #[test]
    fn only_transitions_of_instances_are_told() {
        let site: SiteCode = "P01".parse().unwrap();
        let before = report(&[("dp", instance(Health::Healthy, 0))]);
        assert!(of_report(&site, Some(&before), &before).is_empty());
        let mut later = instance(Health::Healthy, 0);
        later.since = WallMs(99);
        let after = report(&[("dp", later)]);
        assert!(of_report(&site, Some(&before), &after).is_empty());
        let after = report(&[("dp", instance(Health::Unhealthy, 0))]);
        let told = of_report(&site, Some(&before), &after);
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].about, "P01/dp@p01-a");
        let after = report(&[("dp", instance(Health::Healthy, 1))]);
        let told = of_report(&site, Some(&before), &after);
        assert_eq!(told[0].text, "healthy, restarted");
        let told = of_report(&site, Some(&before), &report(&[]));
        assert_eq!(told[0].text, "gone");
    }

    #[test]
    fn a_hold_is_told_when_it_begins_and_when_it_ends() {
        let hold = |reason| Hold {
            about: "P01".into(),
            reason,
            place: None,
        };
        let one = hold(HoldReason::ReconcilerSuspect);
        let two = hold(HoldReason::Protected);
        let mut told = Told::new();
        assert_eq!(of_holds(&mut told, std::slice::from_ref(&one)).len(), 1);
        let began = of_holds(&mut told, &[one.clone(), two.clone()]);
        assert_eq!(began.len(), 1);
        assert_eq!(began[0].kind, JournalKind::Held);
        assert_eq!(began[0].hold, Some(two.id()));
        // A restart: the store still knows what was told, and nothing is told again.
        let mut told = told.clone();
        assert!(of_holds(&mut told, &[one, two.clone()]).is_empty());
        let ended = of_holds(&mut told, &[two]);
        assert_eq!(ended.len(), 1);
        assert_eq!(ended[0].kind, JournalKind::Released);
    }

    #[test]
    fn a_server_that_babbles_is_cut_short() {
        let mut chatter = Chatter::default();
        let many = |n: usize| vec![Happened::new(JournalKind::Instance, "P01/a@b", "x"); n];
        assert_eq!(chatter.bound(WallMs(100_000), many(50)).len(), 50);
        let cut = chatter.bound(WallMs(100_001), many(50));
        assert_eq!(cut.len(), 10);
        assert!(cut[9].text.contains("not journalled"));
        assert!(chatter.bound(WallMs(100_002), many(5)).is_empty());
        assert_eq!(chatter.bound(WallMs(161_000), many(5)).len(), 5);
    }

    #[test]
    fn h8_a_site_of_which_nobody_is_heard_makes_the_reconciler_the_suspect() {
        let server = |contact, heard: Option<u64>| ServerObserved {
            contact,
            report: None,
            heard_at: heard.map(WallMs),
            confirmed_lost: None,
            agent: SocketAddr::from(([127, 0, 0, 1], 1)),
            checked: None,
        };
        let unsure = Contact::Unsure { since: WallMs(1) };
        let site = |servers: Vec<ServerObserved>| SiteObserved {
            servers: servers
                .into_iter()
                .enumerate()
                .map(|(i, s)| (format!("s{i}").parse().unwrap(), s))
                .collect(),
            ..SiteObserved::default()
        };
        assert!(is_suspect(&site(vec![
            server(unsure, Some(1)),
            server(unsure, None)
        ])));
        assert!(!is_suspect(&site(vec![
            server(unsure, Some(1)),
            server(Contact::Heard, Some(1))
        ])));
        assert!(
            !is_suspect(&site(vec![server(Contact::Connecting, Some(1))])),
            "just started"
        );
        assert!(
            !is_suspect(&site(vec![server(unsure, None)])),
            "nobody ever joined"
        );
    }
}
