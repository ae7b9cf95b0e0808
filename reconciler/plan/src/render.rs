//! Plans as text: one line an instance for people, one line a step for logs and goldens.
//!
//! No colour and no terminal here; `stead plan` adds both.

use std::collections::BTreeSet;
use std::fmt;

use sha2::{Digest as _, Sha256};
use stead_schemas::desired::{Place, Placement, SiteDesired};
use stead_schemas::names::{GroupName, ServerName};
use stead_schemas::observed::SiteObserved;
use stead_schemas::plan::{Action, PlanCounts, SitePlan, Step, Wait};

use crate::payload::{acts_on, effect};
use crate::road::{drain_id, remove_id};
use crate::world::SITE_SERVER;

/// What happens to one instance, or one record that no instance of the plan accounts for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// `+`, `~` or `-`.
    pub sign: char,
    /// `install`, `lease`, `move`, `update`, `remove`, `switch over`, `publish`, `withdraw`.
    pub verb: &'static str,
    /// `FAB/managementPoint`, or a record.
    pub what: String,
    /// `fab-mp1 -> fab-mp3`, or a server.
    pub which: String,
    /// The steps in order: `install, healthy, publish, withdraw, drain 60s, remove`.
    pub how: String,
    /// What asks for it.
    pub place: Option<Place>,
    /// Interruption, in words.
    pub note: Option<String>,
    /// It takes something away for good, or stops the active site server.
    pub destructive: bool,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            sign,
            verb,
            what,
            which,
            how,
            place,
            note,
            destructive: _,
        } = self;
        write!(f, "{sign} {verb}  {what}")?;
        for part in [which, how].into_iter().filter(|part| !part.is_empty()) {
            write!(f, "  {part}")?;
        }
        if let Some(place) = place {
            write!(f, "   {place}")?;
        }
        match note {
            Some(note) => write!(f, "\n        {note}"),
            None => Ok(()),
        }
    }
}

/// A plan, a line an instance: moves as one, records with the instance they belong to.
#[must_use]
pub fn lines(desired: Option<&SiteDesired>, plan: &SitePlan) -> Vec<Line> {
    let instances = instances(plan);
    let mut lines = Vec::new();
    for step in &plan.steps {
        let line = match &step.action {
            Action::Install { group, server } => Some(install(desired, plan, step, group, server)),
            Action::Update { group, server } => Some(update(desired, plan, step, group, server)),
            Action::Remove { group, server } if !is_shown_as_move(plan, step) => {
                Some(remove(plan, step, group, server))
            }
            Action::SwitchOver { from, to } => Some(switch_over(plan, step, from, to)),
            Action::Publish { record } | Action::Withdraw { record }
                if is_alone(&instances, step) =>
            {
                let publishes = matches!(step.action, Action::Publish { .. });
                Some(Line {
                    sign: if publishes { '+' } else { '-' },
                    verb: if publishes { "publish" } else { "withdraw" },
                    what: format!("dns:{record}"),
                    which: String::new(),
                    how: step.because.clone(),
                    place: step.place.clone(),
                    note: None,
                    destructive: false,
                })
            }
            Action::Vote { server } => Some(vote(plan, step, server)),
            Action::Check { .. }
            | Action::Drain { .. }
            | Action::Publish { .. }
            | Action::Remove { .. }
            | Action::Withdraw { .. } => None,
        };
        lines.extend(line);
    }
    lines.sort_by_key(|line| line.what.starts_with("dns:"));
    lines
}

/// The whole text of plans: lines, holds, the summary, and what is destructive once more at the
/// end, where it is not overlooked.
#[must_use]
pub fn report(sites: &[(Option<&SiteDesired>, &SitePlan)]) -> String {
    let mut text = String::new();
    let mut destructive = Vec::new();
    for (desired, plan) in sites {
        for line in lines(*desired, plan) {
            text.push_str(&format!("{line}\n"));
            if line.destructive {
                destructive.push(line);
            }
        }
    }
    for hold in sites.iter().flat_map(|(_, plan)| &plan.holds) {
        text.push_str(&format!("held  {}: {}\n", hold.about, hold.reason));
        if let Some(remedy) = hold.reason.remedy(&hold.about) {
            text.push_str(&format!("        {remedy}\n"));
        }
    }
    text.push_str(&format!(
        "{}\n",
        counts(sites.iter().map(|(_, plan)| *plan))
    ));
    for line in destructive {
        text.push_str(&format!("takes away  {}  {}\n", line.what, line.which));
    }
    text
}

/// Counts over several plans.
#[must_use]
pub fn counts<'a>(plans: impl Iterator<Item = &'a SitePlan>) -> PlanCounts {
    plans.fold(PlanCounts::default(), |sum, plan| sum + plan.counts())
}

/// The plan's id: the tree of the topology folder and what would be done to what (H38). Neither
/// health nor time nor the commit's own id change it, nor a site where things are only held.
#[must_use]
pub fn plan_id(tree: &str, plans: &[(&SitePlan, &SiteObserved)]) -> String {
    let mut digest = Sha256::new();
    for (plan, observed) in plans {
        let actions = plan
            .steps
            .iter()
            .filter(|step| acts_on(&step.action).is_some());
        let mut facts: Vec<String> = actions.map(|step| facts(step, observed)).collect();
        if facts.is_empty() {
            continue;
        }
        facts.sort();
        digest.update(plan.site.as_str());
        for fact in facts {
            digest.update(fact);
            digest.update("\n");
        }
    }
    let hash = digest.finalize();
    let short: String = tree.chars().take(7).collect();
    format!("{short}+{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2])
}

/// A step and the assignment in force where it acts.
fn facts(step: &Step, observed: &SiteObserved) -> String {
    let server = acts_on(&step.action);
    let report = server.and_then(|name| observed.servers.get(name)?.report.as_ref());
    let generation = report.and_then(|report| report.generation.as_ref());
    format!("{} {generation:?}", step.id)
}

/// A plan, a line a step and a line a hold.
#[must_use]
pub fn road(plan: &SitePlan) -> String {
    let mut lines = Vec::new();
    for step in &plan.steps {
        let waits: Vec<String> = step.waits.iter().map(wait).collect();
        lines.push(match waits.is_empty() {
            true => format!("now   {}", step.id),
            false => format!("later {}  <- {}", step.id, waits.join(", ")),
        });
    }
    for hold in &plan.holds {
        lines.push(format!("held  {}: {}", hold.about, hold.reason));
    }
    lines.join("\n")
}

fn wait(wait: &Wait) -> String {
    match wait {
        Wait::Healthy(instance) => format!("{}@{} healthy", instance.group, instance.server),
        Wait::Gone(instance) => format!("{}@{} gone", instance.group, instance.server),
        Wait::Served(key) => format!("{key} served everywhere"),
        Wait::Holds(server) => format!("{server} holds the lease"),
        Wait::Ledger(server) => format!("{server} opens its vote ledger"),
        Wait::Step(id) => format!("[{id}]"),
        Wait::Until(_) => "the drain ends".to_owned(),
        Wait::Voters(voters) => format!("{} vote", listed(voters)),
    }
}

fn find(plan: &SitePlan, of: impl Fn(&Step) -> bool) -> Option<&Step> {
    plan.steps.iter().find(|step| of(step))
}

/// Whether the plan puts an instance into, or takes it out of, some record.
fn touches(plan: &SitePlan, group: &GroupName, server: &ServerName, publishes: bool) -> bool {
    let begins = if publishes {
        format!("publish {group}@{server} in ")
    } else {
        format!("withdraw {group}@{server} from ")
    };
    find(plan, |step| step.id.0.starts_with(&begins)).is_some()
}

fn what(plan: &SitePlan, group: &GroupName) -> String {
    format!("{}/{group}", plan.site)
}

fn wanted(desired: Option<&SiteDesired>, group: &GroupName) -> usize {
    desired
        .and_then(|site| site.groups.get(group))
        .map_or(1, |group| match &group.placement {
            Placement::ByHand(servers) => servers.len(),
            Placement::ByCount { instances, .. } => usize::from(*instances),
        })
}

/// How an instance goes: out of DNS, drained, removed.
fn going(plan: &SitePlan, group: &GroupName, server: &ServerName) -> Vec<String> {
    let mut how = Vec::new();
    if touches(plan, group, server, false) {
        how.push("withdraw".to_owned());
    }
    if let Some(drain) = find(plan, |step| step.id == drain_id(group, server)) {
        how.push(format!("drain {}", drain.deadline));
    }
    how
}

fn install(
    desired: Option<&SiteDesired>,
    plan: &SitePlan,
    step: &Step,
    group: &GroupName,
    server: &ServerName,
) -> Line {
    let mut come = vec!["install".to_owned(), "healthy".to_owned()];
    if touches(plan, group, server, true) {
        come.push("publish".to_owned());
    }
    let old = step.part_of.as_ref().map(|pair| &pair.from);
    let removal = old.and_then(|old| find(plan, |other| other.id == remove_id(group, old)));
    let (Some(old), Some(removal)) = (old, removal) else {
        let moved = old.map(|old| format!("{old} -> {server}"));
        return Line {
            sign: if moved.is_some() { '~' } else { '+' },
            verb: if moved.is_some() { "move" } else { "install" },
            what: what(plan, group),
            which: moved.unwrap_or_else(|| server.to_string()),
            how: come.join(", "),
            place: step.place.clone(),
            note: None,
            destructive: false,
        };
    };
    let mut go = going(plan, group, old);
    go.push("remove".to_owned());
    let first = removal.waits.is_empty();
    let (how, note) = if first {
        go.extend(come);
        (
            go,
            format!("it may not run twice; interruption: until healthy on {server}"),
        )
    } else {
        come.extend(go);
        let all = wanted(desired, group);
        (
            come,
            format!("{group}: never fewer than {all} of {all}; interruption: none"),
        )
    };
    Line {
        sign: '~',
        verb: "move",
        what: what(plan, group),
        which: format!("{old} -> {server}"),
        how: how.join(", "),
        place: step.place.clone(),
        note: Some(note),
        destructive: false,
    }
}

fn update(
    desired: Option<&SiteDesired>,
    plan: &SitePlan,
    step: &Step,
    group: &GroupName,
    server: &ServerName,
) -> Line {
    let mut how = going(plan, group, server);
    let dips = !how.is_empty();
    how.extend(["update".to_owned(), "healthy".to_owned()]);
    if touches(plan, group, server, true) {
        how.push("publish".to_owned());
    }
    let all = wanted(desired, group);
    let note = if dips {
        format!(
            "{group}: never fewer than {} of {all}; interruption: none",
            all.saturating_sub(1)
        )
    } else {
        step.because.clone()
    };
    Line {
        sign: '~',
        verb: "update",
        what: what(plan, group),
        which: server.to_string(),
        how: how.join(", "),
        place: step.place.clone(),
        note: Some(note),
        destructive: false,
    }
}

/// The removing end of a move is told with its installing end.
fn is_shown_as_move(plan: &SitePlan, step: &Step) -> bool {
    step.part_of.as_ref().is_some_and(|pair| {
        find(plan, |other| {
            matches!(&other.action, Action::Install { .. }) && other.part_of.as_ref() == Some(pair)
        })
        .is_some()
    })
}

fn remove(plan: &SitePlan, step: &Step, group: &GroupName, server: &ServerName) -> Line {
    let mut how = going(plan, group, server);
    how.push("remove".to_owned());
    Line {
        sign: '-',
        verb: "remove",
        what: what(plan, group),
        which: server.to_string(),
        how: how.join(", "),
        place: step.place.clone(),
        note: Some(step.because.clone()),
        destructive: step.part_of.is_none(),
    }
}

fn switch_over(plan: &SitePlan, step: &Step, from: &ServerName, to: &ServerName) -> Line {
    let leased = step.waits.iter().any(|wait| matches!(wait, Wait::Holds(_)));
    let (how, note) = if leased {
        let note = "interruption: less than a second".to_owned();
        ("the holder hands the lease over", note)
    } else {
        let note = format!("interruption: until healthy on {to}");
        ("stop, seen stopped, start, healthy, publish", note)
    };
    Line {
        sign: '~',
        verb: "switch over",
        what: format!("{}/siteServer", plan.site),
        which: format!("{from} -> {to}"),
        how: how.to_owned(),
        place: step.place.clone(),
        note: Some(note),
        destructive: true,
    }
}

fn vote(plan: &SitePlan, step: &Step, server: &ServerName) -> Line {
    Line {
        sign: '~',
        verb: "lease",
        what: what(plan, &SITE_SERVER),
        which: server.to_string(),
        how: step.because.clone(),
        place: step.place.clone(),
        note: None,
        destructive: false,
    }
}

fn listed(servers: &[ServerName]) -> String {
    let names: Vec<&str> = servers.iter().map(ServerName::as_str).collect();
    names.join(", ")
}

/// The instances the plan touches, as record steps name them.
fn instances(plan: &SitePlan) -> BTreeSet<String> {
    let actions = plan.steps.iter().filter_map(|step| effect(&step.action));
    actions
        .map(|(server, group, _)| format!("{group}@{server}"))
        .collect()
}

/// A record step that belongs to no instance the plan touches.
fn is_alone(instances: &BTreeSet<String>, step: &Step) -> bool {
    step.id
        .0
        .split(' ')
        .nth(1)
        .is_none_or(|instance| !instances.contains(instance))
}
