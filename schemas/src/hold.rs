//! Holds in words: why something is not done now, and the command that settles it.
//!
//! Everything that shows a hold (`plan`, `status`, `why`, the journal) says it with these words.
//! Which reason applies when is decided in `stead-plan`; when a hold began is in the journal.

use std::fmt;

use crate::names::Thing;
use crate::plan::HoldReason;
use crate::record::RecordKey;

impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AwaitingJoin { server } => write!(f, "waiting for {server} to join (never seen)"),
            Self::BudgetSpent {
                budget,
                wanted,
                limit,
            } => {
                write!(
                    f,
                    "guards.{budget} is {limit}, this revision wants {wanted}"
                )
            }
            Self::DrainEnded { .. } | Self::Drained { .. } => self.write_drain(f),
            Self::FailedSites { failed } => {
                write!(f, "the revision stopped: {} failed", listed(failed))
            }
            Self::LastHealthy { group } => {
                write!(f, "it is the last healthy {group} that is published")
            }
            Self::MostlyEmpty { removed, of } => write!(
                f,
                "the revision would remove {removed} of {of} objects, more than half"
            ),
            Self::NeedsConfirmLost { server, role } => write!(
                f,
                "{server} is silent and may still run its {role}, which may not run twice"
            ),
            Self::NoCandidate {
                group,
                wanted,
                found,
            } => write!(f, "{group} wants {wanted} servers and {found} can take it"),
            Self::NoProgram { role } => write!(f, "no program for {role}"),
            Self::NotSupported { what } => write!(f, "{what} can't be run by this version"),
            Self::OnlyObserved => {
                f.write_str("declared as observed only: nothing of it is changed")
            }
            Self::OldActiveUnknown { server } => write!(
                f,
                "{server} was the active site server and is not seen stopped"
            ),
            Self::PortTaken { .. } => self.write_port(f),
            Self::Prerequisite { .. } => self.write_lack(f),
            Self::Protected => f.write_str("it is protected: removing it takes two commits"),
            Self::FailoversSpent { .. }
            | Self::FoundingWaits { .. }
            | Self::HoldsLease { .. }
            | Self::NewLedger { .. }
            | Self::NotReady { .. }
            | Self::VoterProblem { .. } => self.write_lease(f),
            Self::ForeignRecord { record } => write_foreign(f, record),
            Self::RecordContested { record } => write_contested(f, record),
            Self::RecordUnknown { record } => {
                write!(f, "what the DNS servers answer for {record} is not known")
            }
            Self::ReconcilerSuspect => {
                f.write_str("no agent of the site is heard: the fault may be the reconciler's own")
            }
            Self::SecretMissing { secret } => {
                write!(f, "the reconciler has no secret {secret}")
            }
            Self::SitesAtOnce { limit } => {
                write!(
                    f,
                    "guards.maxSitesAtOnce: {limit} sites are changing already"
                )
            }
            Self::Suspended { by, why, .. } => write!(f, "suspended by {by}: {why}"),
            Self::Unhealthy { instance, message } => match message {
                Some(message) => write!(f, "{instance} is not healthy: {message}"),
                None => write!(f, "{instance} is not healthy"),
            },
            Self::UnknownObservation { server, .. } => {
                write!(f, "{server} does not answer: what runs there is not known")
            }
        }
    }
}

impl HoldReason {
    /// What holds up a site's lease.
    fn write_lease(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FailoversSpent { limit } => write!(
                f,
                "{limit} unplanned failovers within an hour: passives don't take over by themselves until it is over"
            ),
            Self::FoundingWaits { voter } => {
                write!(
                    f,
                    "the site's lease begins when all voters are heard: {voter} is not"
                )
            }
            Self::HoldsLease { server } => {
                write!(f, "{server} holds the lease: it is the active site server")
            }
            Self::NewLedger { server } => write!(
                f,
                "{server} has a new vote ledger: it does not vote until it is let in again"
            ),
            Self::NotReady { server, why } => write!(f, "{server} can't take over: {why}"),
            Self::VoterProblem { server, problem } => {
                write!(f, "{server} does not vote: {problem}")
            }
            _ => Ok(()),
        }
    }

    fn write_drain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DrainEnded { server, .. } => {
                write!(f, "the drain of {server} ended and nobody undrained it")
            }
            Self::Drained {
                server, by, why, ..
            } => write!(f, "{server} is drained by {by}: {why}"),
            _ => Ok(()),
        }
    }

    fn write_lack(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::Prerequisite {
            server,
            prerequisite,
            why,
            remedy: _,
        } = self
        else {
            return Ok(());
        };
        write!(f, "{server} is not fit for it: {prerequisite}: {why}")
    }

    fn write_port(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self::PortTaken {
            group,
            by,
            server,
            port,
        } = self
        else {
            return Ok(());
        };
        write!(
            f,
            "{group} wants port {port}, which {by} has on {server}, and no other server can take it"
        )
    }

    /// What a person can do about what holds up a site's lease.
    fn lease_remedy(&self, about: &str) -> Option<String> {
        let site = about.split('/').next().unwrap_or(about);
        match self {
            Self::FailoversSpent { .. } => Some(format!(
                "stead why {site}: repair what makes it fail over, or raise siteServer.limits.failoversPerHour"
            )),
            Self::FoundingWaits { voter } => Some(format!(
                "start the agent of {voter}, or take it out of the site's voters"
            )),
            Self::HoldsLease { .. } => {
                Some(format!("stead switchover {site} --to SERVER, then it goes"))
            }
            Self::NewLedger { server } => Some(format!("stead replace {server} --reason WHY")),
            Self::VoterProblem { server, .. } => {
                Some(format!("site-agent status on {server}, then repair it"))
            }
            _ => None,
        }
    }
}

fn write_foreign(f: &mut fmt::Formatter<'_>, record: &RecordKey) -> fmt::Result {
    write!(
        f,
        "foreign record in the way: {record} has no mark of this hierarchy and site"
    )
}

fn write_contested(f: &mut fmt::Formatter<'_>, record: &RecordKey) -> fmt::Result {
    write!(
        f,
        "{record} is changed by somebody else again and again, so it is left alone"
    )
}

impl HoldReason {
    /// What a person can do about it: a command, or a line of git. None where it ends by itself.
    ///
    /// `about` is the hold's [`crate::plan::Hold::about`].
    #[must_use]
    pub fn remedy(&self, about: &str) -> Option<String> {
        match self {
            Self::AwaitingJoin { server } => Some(format!(
                "stead pki issue --dir pki server {server}, then start its site-agent with that certificate"
            )),
            Self::BudgetSpent { budget, wanted, .. } => Some(format!(
                "make the change in smaller commits, or raise guards.{budget} to {wanted}"
            )),
            Self::DrainEnded { server, .. } | Self::Drained { server, .. } => {
                Some(format!("stead undrain {server}"))
            }
            Self::FailedSites { failed } => {
                let site = failed.first().map_or("SITE", |site| site.as_str());
                Some(format!(
                    "stead why {site}, then revert the commit or repair it"
                ))
            }
            Self::ForeignRecord { record } | Self::RecordContested { record } => Some(format!(
                "stead list records, then remove {record} at the DNS server or find who writes it"
            )),
            Self::MostlyEmpty { removed, .. } => Some(format!(
                "revert the commit; if it is meant, raise guards.maxRemovals to {removed} in one before it"
            )),
            Self::NeedsConfirmLost { server, .. } => Some(format!(
                "power is certainly off: stead confirm-lost {server}"
            )),
            Self::NoCandidate { group, .. } => Some(format!(
                "add a server that matches `among` of {group}, or lower its `instances`"
            )),
            Self::NoProgram { role } => Some(format!("give {role} a `service:`")),
            Self::OldActiveUnknown { server } => {
                Some(format!("bring {server} back, or set `active` back to it"))
            }
            Self::PortTaken { group, by, .. } => Some(format!(
                "give {group} or {by} another `port`, or add a server for one of them"
            )),
            Self::Prerequisite { remedy, .. } => Some(remedy.clone()),
            Self::Protected => Some(
                "set `protect: false` in one commit, remove in the next; or restore it".to_owned(),
            ),
            Self::SecretMissing { secret } => Some(format!(
                "put a file {secret} into the reconciler's secretsDir"
            )),
            Self::Suspended { .. } => Some(format!("stead resume {}", scope_of(about))),
            Self::Unhealthy { instance, .. } => Some(format!("stead logs {instance}")),
            Self::FailoversSpent { .. }
            | Self::FoundingWaits { .. }
            | Self::HoldsLease { .. }
            | Self::NewLedger { .. }
            | Self::NotReady { .. }
            | Self::VoterProblem { .. } => self.lease_remedy(about),
            Self::LastHealthy { .. }
            | Self::NotSupported { .. }
            | Self::OnlyObserved
            | Self::ReconcilerSuspect
            | Self::RecordUnknown { .. }
            | Self::SitesAtOnce { .. }
            | Self::UnknownObservation { .. } => None,
        }
    }
}

/// What `suspend` takes: an instance's server, else the thing itself.
fn scope_of(about: &str) -> String {
    match about.parse() {
        Ok(Thing::Instance(name)) => format!("{}/{}", name.site, name.server),
        _ => about.to_owned(),
    }
}

fn listed<T: fmt::Display>(things: &[T]) -> String {
    let mut text = String::new();
    for (index, thing) in things.iter().enumerate() {
        if index > 0 {
            text.push_str(", ");
        }
        text.push_str(&thing.to_string());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::names::ServerName;
    use crate::prerequisite::Prerequisite;
    use crate::role::Role;
    use crate::time::WallMs;

    fn server() -> ServerName {
        "p01-a".parse().unwrap()
    }

    fn record() -> RecordKey {
        "p01.cm.example/A".parse().unwrap()
    }

    fn each_kind() -> Vec<HoldReason> {
        let mut kinds = vec![
            HoldReason::DrainEnded {
                server: server(),
                until: WallMs(1),
            },
            HoldReason::Drained {
                server: server(),
                by: "alice".into(),
                why: "CHG-1".into(),
                until: WallMs(1),
            },
        ];
        kinds.extend(each_other_kind());
        kinds
    }

    fn each_other_kind() -> Vec<HoldReason> {
        vec![
            HoldReason::AwaitingJoin { server: server() },
            HoldReason::BudgetSpent {
                budget: "maxRemovals".into(),
                wanted: 9,
                limit: 3,
            },
            HoldReason::FailedSites {
                failed: vec!["P01".parse().unwrap(), "P02".parse().unwrap()],
            },
            HoldReason::FailoversSpent { limit: 3 },
            HoldReason::ForeignRecord { record: record() },
            HoldReason::FoundingWaits { voter: server() },
            HoldReason::HoldsLease { server: server() },
            HoldReason::NewLedger { server: server() },
            HoldReason::NotReady {
                server: server(),
                why: "the database refuses it".into(),
            },
            HoldReason::VoterProblem {
                server: server(),
                problem: "its disk is full".into(),
            },
            HoldReason::LastHealthy {
                group: "managementPoint".parse().unwrap(),
            },
            HoldReason::MostlyEmpty { removed: 7, of: 9 },
            HoldReason::NeedsConfirmLost {
                server: server(),
                role: Role::ReportingPoint,
            },
            HoldReason::NoCandidate {
                group: "dp".parse().unwrap(),
                wanted: 2,
                found: 1,
            },
            HoldReason::NoProgram {
                role: Role::SmsProvider,
            },
            HoldReason::NotSupported {
                what: "a systemd unit".into(),
            },
            HoldReason::OldActiveUnknown { server: server() },
            HoldReason::OnlyObserved,
            HoldReason::RecordUnknown { record: record() },
            HoldReason::PortTaken {
                group: "dp".parse().unwrap(),
                port: 8080,
                server: server(),
                by: "proxy".parse().unwrap(),
            },
            HoldReason::Prerequisite {
                server: server(),
                prerequisite: Prerequisite::Database,
                why: "role cm may not CREATE".into(),
                remedy: "GRANT CREATE".into(),
            },
            HoldReason::Protected,
            HoldReason::RecordContested { record: record() },
            HoldReason::ReconcilerSuspect,
            HoldReason::SecretMissing {
                secret: "db-password".parse().unwrap(),
            },
            HoldReason::SitesAtOnce { limit: 5 },
            HoldReason::Suspended {
                by: "alice".into(),
                why: "CHG-1".into(),
                until: Some(WallMs(1)),
            },
            HoldReason::Unhealthy {
                instance: "P01/dp@p01-a".parse().unwrap(),
                message: Some("exit status 1".into()),
            },
            HoldReason::UnknownObservation {
                server: server(),
                since: None,
            },
        ]
    }

    #[test]
    fn every_hold_that_needs_a_person_says_what_the_person_can_do() {
        for reason in each_kind() {
            if reason.needs_person() {
                assert!(reason.remedy("P01").is_some(), "{reason}");
            }
            assert!(!reason.to_string().is_empty());
        }
    }

    #[test]
    fn the_operations_guide_lists_exactly_the_holds_that_need_a_person() {
        let guide = include_str!("../../docs/operations.md");
        let table = guide.split("## NEEDS A PERSON").nth(1).unwrap();
        let table = table.split("\n## ").next().unwrap();
        let listed: Vec<&str> = table
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next())
            .collect();
        let mut wanted: Vec<String> = each_kind()
            .iter()
            .filter(|reason| reason.needs_person())
            .map(HoldReason::kind)
            .collect();
        wanted.sort();
        assert_eq!(listed, wanted);
        let alarm = guide
            .lines()
            .find(|line| line.contains("stead_holds{reason=~"));
        assert!(alarm.unwrap().contains(&wanted.join("|")), "{alarm:?}");
    }

    #[test]
    fn words_are_those_of_the_operators_tasks() {
        let fab_b = HoldReason::AwaitingJoin {
            server: "fab-b".parse().unwrap(),
        };
        assert_eq!(fab_b.to_string(), "waiting for fab-b to join (never seen)");
        let up1 = HoldReason::NeedsConfirmLost {
            server: "p01-up1".parse().unwrap(),
            role: Role::ReportingPoint,
        };
        assert!(
            up1.remedy("P01")
                .unwrap()
                .contains("stead confirm-lost p01-up1")
        );
        let none = HoldReason::NoProgram {
            role: Role::ManagementPoint,
        };
        assert_eq!(none.to_string(), "no program for managementPoint", "H28");
    }

    #[test]
    fn a_suspension_is_lifted_by_its_scope() {
        let reason = HoldReason::Suspended {
            by: "a".into(),
            why: "b".into(),
            until: None,
        };
        let instance = reason.remedy("P01/dp@p01-a").unwrap();
        assert_eq!(instance, "stead resume P01/p01-a");
        assert_eq!(reason.remedy("P01").unwrap(), "stead resume P01");
    }

    #[test]
    fn kinds_are_all_different() {
        let kinds: std::collections::BTreeSet<_> =
            each_kind().iter().map(HoldReason::kind).collect();
        assert_eq!(kinds.len(), each_kind().len());
    }
}
