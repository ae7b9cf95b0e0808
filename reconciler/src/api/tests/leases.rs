//! What people are shown of a lease: who is active, who stands by, what is lost, parked, alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use stead_schemas::api::{LeaseView, SiteView, StatusView, TakeoverView};
use stead_schemas::lease::{LeasePart, LeaseReport, Takeover, TakeoverCause};
use stead_schemas::names::ServerName;
use stead_schemas::observed::{Contact, SiteObserved};
use stead_schemas::time::{DurationMs, WallMs};

use super::world::{COMMIT, changed, leased};
use crate::api::Snapshot;
use crate::api::status::status;
use crate::api::why::why;
use crate::metrics::Metrics;
use crate::output::{Palette, lease as show, status as page};

fn name(text: &str) -> ServerName {
    text.parse().unwrap()
}

fn says<'a>(observed: &'a mut SiteObserved, server: &str) -> &'a mut LeaseReport {
    let seen = observed.servers.get_mut(&name(server)).unwrap();
    seen.report.as_mut().unwrap().lease.as_mut().unwrap()
}

fn silence(observed: &mut SiteObserved, server: &str) {
    observed.servers.get_mut(&name(server)).unwrap().contact = Contact::Silent {
        since: WallMs(1_000),
        confirmed_for: DurationMs(3_000),
    };
}

/// p01-a was lost, and p01-b took over under term 8.
fn failed_over() -> Snapshot {
    let mut moment = changed(&leased(), |observed| {
        silence(observed, "p01-a");
        let b = says(observed, "p01-b");
        b.part = LeasePart::Holding;
        (b.term, b.holder) = (8, Some(name("p01-b")));
        b.silent_voters = vec![name("p01-a")];
    });
    let takeover = Takeover {
        term: 8,
        from: Some(name("p01-a")),
        cause: TakeoverCause::Failover,
        heard_at: Some(WallMs(1_000)),
        won_at: WallMs(4_900),
        granted_by: vec![name("p01-b"), name("p01-w")],
        first_write_at: Some(WallMs(4_906)),
        published_at: Some(WallMs(4_990)),
    };
    let view = TakeoverView {
        site: "P01".parse().unwrap(),
        server: name("p01-b"),
        takeover,
        seen_at: WallMs(4_910),
        asked: None,
    };
    let site = moment.sites.values_mut().next().unwrap();
    let site = Arc::make_mut(site);
    (site.takeovers, site.failovers) = (BTreeMap::from([(8, view)]), 1);
    moment
}

fn site(view: &StatusView) -> (&SiteView, &LeaseView) {
    let site = &view.sites[0];
    (site, site.lease.as_deref().unwrap())
}

fn standby(moment: &Snapshot) -> Vec<(String, String)> {
    let view = status(moment, None);
    let passive = view.sites[0].passive.iter();
    let texts = passive.map(|one| (one.server.to_string(), one.state.clone()));
    texts.collect()
}

#[test]
fn who_stands_by_is_ready_not_ready_or_lost() {
    let of = |server: &str, state: &str| vec![(server.to_owned(), state.to_owned())];
    let moment = leased();
    assert_eq!(standby(&moment), of("p01-b", "ready"));
    let mut sick = changed(&moment, |observed| {
        let lease = says(observed, "p01-b");
        lease.ready = false;
        lease.not_ready = Some("the database refuses it".to_owned());
    });
    let state = "installing 0/4  [>] checks  [ ] assigned  [ ] running  [ ] ready";
    assert_eq!(standby(&sick), of("p01-b", state));
    // Nothing is on its way there any more.
    for site in sick.sites.values_mut() {
        Arc::make_mut(site).plan = None;
    }
    let state = "not ready: the database refuses it";
    assert_eq!(standby(&sick), of("p01-b", state));
    let lost = changed(&moment, |observed| silence(observed, "p01-b"));
    assert_eq!(standby(&lost), of("p01-b", "lost"));
    assert_eq!(standby(&failed_over()), of("p01-a", "lost"));
}

#[test]
fn a_failover_is_shown_with_what_was_lost_what_is_parked_and_the_way_out() {
    let view = status(&failed_over(), None);
    let (shown, lease) = site(&view);
    assert_eq!(shown.active, Some(name("p01-b")));
    assert_eq!((lease.term, lease.holder_heard), (8, true));
    let need = view
        .needs_person
        .iter()
        .find(|need| need.text.contains("lost"))
        .unwrap();
    assert_eq!(
        need.text,
        "p01-a lost for 4s; failed over to p01-b, 3.9 s without writes. P01 survives no further loss"
    );
    let remedy = need.remedy.as_ref().unwrap();
    assert!(remedy.contains("stead replace p01-a"), "{remedy}");
    assert!(remedy.contains("stead confirm-lost p01-a"), "{remedy}");
    let text = page::one_site(Palette::new(false), &view, false, WallMs(5_000));
    for line in [
        "voters         2 of 3 heard; silent: p01-a",
        "git says p01-a; p01-b since the failover",
        "stead failback P01",
        "3.906 s without writes; stead history P01 --last failover",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_timeline_is_told_to_the_millisecond() {
    let moment = failed_over();
    let taken = &moment.sites.values().next().unwrap().takeovers[&8];
    let text = show::timeline(Palette::new(false), taken, WallMs(5_000));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 4, "{text}");
    for (line, (at, words)) in lines.iter().zip([
        (":01.000", "p01-a last heard to go on"),
        (":04.900", "p01-b takes up term 8, granted by p01-b, p01-w"),
        (
            ":04.906",
            "first accepted write, term 8   3.906 s without writes",
        ),
        (":04.990", "the alias seen at every DNS server"),
    ]) {
        assert!(line.contains(at) && line.contains(words), "{line}");
    }
}

#[test]
fn why_the_site_server_says_who_by_whose_grant_and_what_git_says() {
    let moment = failed_over();
    let view = why(&moment, &"P01/siteServer".parse().unwrap()).unwrap();
    assert_eq!(view.answer, "p01-b is active, under term 8");
    let texts: Vec<&str> = view.because.iter().map(|c| c.text.as_str()).collect();
    assert!(texts[0].contains("granted by p01-b, p01-w"), "{texts:?}");
    assert!(texts[0].contains("failover"), "{texts:?}");
    assert!(texts[1].contains("p01-a, which is parked"), "{texts:?}");
    let last = view.because.last().unwrap();
    let place = last.place.as_ref().unwrap().to_string();
    assert_eq!(place, "sites/P01.yaml:11:13");
    assert_eq!(last.commit.as_deref(), Some(COMMIT));
}

#[test]
fn one_that_votes_alone_needs_a_person() {
    let moment = changed(&leased(), |observed| {
        let voters = says(observed, "p01-a").voters.as_mut().unwrap();
        voters.number = 2;
        voters.in_force.retain(|voter, _| *voter == name("p01-a"));
    });
    let needs = status(&moment, None).needs_person;
    let solo = needs.iter().find(|need| need.text.contains("solo"));
    assert!(solo.unwrap().remedy.is_some(), "{needs:#?}");
}

#[test]
fn the_figures_of_a_lease() {
    let text = Metrics::default().encode(&failed_over());
    for line in [
        r#"stead_lease_term{site="P01"} 8"#,
        r#"stead_lease_holder_heard{site="P01"} 1"#,
        r#"stead_lease_voters{site="P01"} 3"#,
        r#"stead_lease_voters_silent{site="P01"} 1"#,
        r#"stead_lease_ready_passives{site="P01"} 0"#,
        r#"stead_lease_failovers_total{site="P01"} 1"#,
        r#"stead_lease_last_takeover_timestamp_seconds{site="P01"} 4.9"#,
    ] {
        assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
    }
}
