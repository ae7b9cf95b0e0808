//! Figures for Prometheus. What happened is counted as it happens; what is so is read from a
//! [`Snapshot`] at each scrape, so a series goes when its object goes and no label is unbounded:
//! no revision, message or address ever is one.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;
use stead_schemas::api::WriterState;
use stead_schemas::names::SiteCode;
use stead_schemas::observed::Contact;
use stead_schemas::plan::Action;
use stead_schemas::wire::Health;

use crate::api::{SiteSnapshot, Snapshot};

mod leases;

use leases::Leases;

type Whole = Gauge<f64, AtomicU64>;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfSite {
    site: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfObject {
    site: String,
    kind: &'static str,
    name: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfServer {
    site: String,
    server: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfHold {
    site: String,
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVerb {
    verb: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfResult {
    result: &'static str,
}

/// What is counted as it happens.
#[derive(Debug, Clone)]
pub struct Metrics {
    pass_seconds: Histogram,
    steps: Family<OfVerb, Counter>,
    failures: Family<OfVerb, Counter>,
    fetches: Family<OfResult, Counter>,
    revisions: Family<OfResult, Counter>,
}

impl Default for Metrics {
    fn default() -> Self {
        // A pass of one site is microseconds when nothing is to do and milliseconds otherwise.
        let bounds = [0.000_1, 0.000_5, 0.002, 0.01, 0.05, 0.25, 1.0];
        Self {
            pass_seconds: Histogram::new(bounds),
            steps: Family::default(),
            failures: Family::default(),
            fetches: Family::default(),
            revisions: Family::default(),
        }
    }
}

impl Metrics {
    /// A site was planned, in so many seconds.
    pub fn pass(&self, seconds: f64) {
        self.pass_seconds.observe(seconds);
    }

    /// A step was taken.
    pub fn step(&self, action: &Action) {
        self.steps
            .get_or_create(&OfVerb { verb: verb(action) })
            .inc();
    }

    /// A step was refused, or missed its deadline.
    pub fn failure(&self, action: &Action) {
        self.failures
            .get_or_create(&OfVerb { verb: verb(action) })
            .inc();
    }

    /// The git source was asked.
    pub fn fetch(&self, succeeded: bool) {
        let result = if succeeded { "ok" } else { "failed" };
        self.fetches.get_or_create(&OfResult { result }).inc();
    }

    /// A revision came.
    pub fn revision(&self, accepted: bool) {
        let result = if accepted { "accepted" } else { "refused" };
        self.revisions.get_or_create(&OfResult { result }).inc();
    }

    /// Everything, in OpenMetrics text.
    #[must_use]
    pub fn encode(&self, snapshot: &Snapshot) -> String {
        let mut registry = Registry::with_prefix("stead");
        self.register(&mut registry);
        State::of(snapshot).register(&mut registry);
        let mut text = String::new();
        // Writing to a string fails only when a label can't be written, and ours can.
        if let Err(error) = encode(&mut text, &registry) {
            tracing::error!(%error, "metrics could not be written");
        }
        text
    }

    fn register(&self, registry: &mut Registry) {
        let Self {
            pass_seconds,
            steps,
            failures,
            fetches,
            revisions,
        } = self;
        registry.register(
            "reconcile_duration_seconds",
            "Time one pass over one site took",
            pass_seconds.clone(),
        );
        registry.register("plan_actions", "Steps taken, by verb", steps.clone());
        registry.register(
            "plan_failures",
            "Steps refused or late, by verb",
            failures.clone(),
        );
        registry.register("git_fetch", "Looks at the git source", fetches.clone());
        registry.register("revisions", "Revisions met", revisions.clone());
    }
}

/// What is so at the moment of a scrape.
#[derive(Debug, Default)]
struct State {
    ready: Family<OfObject, Gauge>,
    unknown: Family<OfSite, Gauge>,
    pending: Family<OfSite, Gauge>,
    held: Family<OfHold, Gauge>,
    suspended: Family<OfSite, Gauge>,
    drained: Family<OfServer, Gauge>,
    leases: Leases,
    needs: Gauge,
    writing: Gauge,
    fetched: Whole,
}

impl State {
    fn of(snapshot: &Snapshot) -> Self {
        let state = Self::default();
        for (code, site) in &snapshot.sites {
            state.add_site(code, site);
        }
        for suspension in &snapshot.suspensions {
            state
                .suspended
                .get_or_create(&OfSite {
                    site: suspension.scope.clone(),
                })
                .set(1);
        }
        state
            .needs
            .set(i64::try_from(snapshot.needs.len()).unwrap_or(i64::MAX));
        state.writing.set(i64::from(
            snapshot.reconciler.writer == WriterState::Writing,
        ));
        #[expect(
            clippy::cast_precision_loss,
            reason = "milliseconds since 1970 fit 53 bits"
        )]
        state.fetched.set(
            snapshot
                .source
                .fetched_at
                .map_or(0.0, |at| at.0 as f64 / 1_000.0),
        );
        state
    }

    fn add_site(&self, code: &SiteCode, site: &SiteSnapshot) {
        let of_site = OfSite {
            site: code.to_string(),
        };
        self.leases.add_site(code, site);
        for server in site.context.drained.keys() {
            let of_server = OfServer {
                site: code.to_string(),
                server: server.to_string(),
            };
            self.drained.get_or_create(&of_server).set(1);
        }
        let unknown = site
            .observed
            .servers
            .values()
            .filter(|s| s.contact != Contact::Heard)
            .count();
        self.unknown
            .get_or_create(&of_site)
            .set(i64::try_from(unknown).unwrap_or(i64::MAX));
        let steps = site.plan.as_ref().map_or(0, |plan| plan.steps.len());
        self.pending
            .get_or_create(&of_site)
            .set(i64::try_from(steps).unwrap_or(i64::MAX));
        for hold in site.plan.iter().flat_map(|plan| &plan.holds) {
            let reason = OfHold {
                site: code.to_string(),
                reason: hold.reason.kind(),
            };
            self.held.get_or_create(&reason).inc();
        }
        for (server, seen) in &site.observed.servers {
            let heard = seen.contact == Contact::Heard;
            self.set_ready(code, "server", server.to_string(), heard);
            for (group, instance) in seen.report.iter().flat_map(|report| &report.instances) {
                let healthy = heard && instance.health == Health::Healthy;
                self.set_ready(code, "instance", format!("{group}@{server}"), healthy);
            }
        }
    }

    fn set_ready(&self, code: &SiteCode, kind: &'static str, name: String, ready: bool) {
        let object = OfObject {
            site: code.to_string(),
            kind,
            name,
        };
        self.ready.get_or_create(&object).set(i64::from(ready));
    }

    fn register(self, registry: &mut Registry) {
        let Self {
            ready,
            unknown,
            pending,
            held,
            suspended,
            drained,
            leases,
            needs,
            writing,
            fetched,
        } = self;
        registry.register("object_ready", "Servers heard, instances healthy", ready);
        registry.register(
            "observe_unknown",
            "Servers of a site that are not heard",
            unknown,
        );
        registry.register(
            "plan_steps",
            "Steps of a site's road still to be taken",
            pending,
        );
        registry.register("holds", "What is held, by reason", held);
        leases.register(registry);
        registry.register("paused", "Suspensions in force, by scope", suspended);
        registry.register("drained", "Servers out of service, by server", drained);
        registry.register(
            "needs_person",
            "What is wrong with the reconciler itself",
            needs,
        );
        registry.register("writing", "1 while this reconciler acts", writing);
        registry.register(
            "git_last_success_timestamp_seconds",
            "When the git source last answered",
            fetched,
        );
    }
}

const fn verb(action: &Action) -> &'static str {
    match action {
        Action::Check { .. } => "check",
        Action::Drain { .. } => "drain",
        Action::Install { .. } => "install",
        Action::Publish { .. } => "publish",
        Action::Remove { .. } => "remove",
        Action::SwitchOver { .. } => "switchOver",
        Action::Update { .. } => "update",
        Action::Vote { .. } => "vote",
        Action::Withdraw { .. } => "withdraw",
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use stead_schemas::api::SuspensionView;
    use stead_schemas::time::WallMs;

    use crate::api::tests::world::{
        COMMIT, MESSAGE, REVISION, changed, drained, instance, leased, snapshot,
    };

    fn sick() -> Snapshot {
        changed(&snapshot(), |observed| {
            let report = instance(observed, "managementPoint", "p01-f2");
            report.health = Health::Unhealthy;
            report.message = Some(MESSAGE.to_owned());
        })
    }

    #[test]
    fn what_is_so_is_read_from_the_moment() {
        let text = Metrics::default().encode(&sick());
        for line in [
            r#"stead_object_ready{site="P01",kind="instance",name="managementPoint@p01-f1"} 1"#,
            r#"stead_object_ready{site="P01",kind="instance",name="managementPoint@p01-f2"} 0"#,
            r#"stead_object_ready{site="P01",kind="server",name="p01-n"} 0"#,
            r#"stead_observe_unknown{site="P01"} 1"#,
            r#"stead_holds{site="P01",reason="foreignRecord"} 1"#,
            "stead_needs_person 1",
            "stead_writing 1",
            "stead_git_last_success_timestamp_seconds 2.5",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "whole");
    }

    #[test]
    fn a_series_goes_when_its_object_goes() {
        let metrics = Metrics::default();
        let mut moment = sick();
        assert!(metrics.encode(&moment).contains("p01-f2"));
        moment = changed(&moment, |observed| {
            let seen = observed
                .servers
                .get_mut(&"p01-f2".parse().unwrap())
                .unwrap();
            seen.report.as_mut().unwrap().instances.clear();
        });
        assert!(!metrics.encode(&moment).contains("managementPoint@p01-f2"));
        moment.sites.clear();
        assert!(
            !metrics.encode(&moment).contains("P01"),
            "{}",
            metrics.encode(&moment)
        );
    }

    #[test]
    fn no_label_is_a_revision_a_message_or_an_address() {
        let metrics = Metrics::default();
        metrics.step(&Action::Publish {
            record: "p01.cm.example/A".parse().unwrap(),
        });
        metrics.fetch(true);
        metrics.revision(false);
        metrics.pass(0.001);
        let text = metrics.encode(&sick());
        for unbounded in [
            COMMIT,
            REVISION,
            MESSAGE,
            "77d0e1b",
            "10.1.0.",
            "cm.example",
        ] {
            assert!(!text.contains(unbounded), "{unbounded}");
        }
        let names: BTreeSet<&str> = text
            .split(['{', ','])
            .filter_map(|part| part.split_once("=\"").map(|(name, _)| name))
            .collect();
        let known = BTreeSet::from(["kind", "le", "name", "reason", "result", "site", "verb"]);
        assert_eq!(names, known);
    }

    #[test]
    fn every_figure_the_operations_guide_names_is_there() {
        let metrics = Metrics::default();
        let action = Action::Publish {
            record: "p01.cm.example/A".parse().unwrap(),
        };
        metrics.step(&action);
        metrics.failure(&action);
        metrics.fetch(true);
        metrics.revision(false);
        metrics.pass(0.001);
        let mut moment = drained(&sick(), "p01-f1", false);
        moment.suspensions.push(SuspensionView {
            scope: "P01".to_owned(),
            by: "alice".to_owned(),
            why: "CHG-1".to_owned(),
            at: WallMs(1),
            until: None,
            failover: false,
        });
        let leased = leased().sites.into_values();
        let codes = ["P02".parse().unwrap()].into_iter();
        moment.sites.extend(codes.zip(leased));
        let text = metrics.encode(&moment);
        let guide = include_str!("../../docs/operations.md");
        let part_of_name = |c: char| c.is_ascii_lowercase() || c == '_';
        let named: BTreeSet<&str> = guide
            .split(|c| !part_of_name(c))
            .filter(|word| word.starts_with("stead_"))
            .collect();
        assert!(named.len() >= 12, "{named:?}");
        for name in named {
            let family = name.trim_end_matches("_total");
            let told = format!("# TYPE {family} ");
            assert!(text.contains(&told), "{name} is not in\n{text}");
            assert!(
                text.contains(&format!("\n{name}")),
                "{name} is not in\n{text}"
            );
        }
    }
}
