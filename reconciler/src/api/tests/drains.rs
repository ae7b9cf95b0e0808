//! What people are shown of a server that is out of service, and of what its power waits for.

use stead_schemas::api::{DrainView, Need, ServerView};
use stead_schemas::lease::{LeasePart, LeaseReport};
use stead_schemas::names::ServerName;
use stead_schemas::observed::{Contact, SiteObserved};
use stead_schemas::time::{DurationMs, WallMs};

use super::world::{changed, drain_asked, drained, leased, snapshot};
use crate::api::Snapshot;
use crate::api::status::status;
use crate::api::why::why;
use crate::metrics::Metrics;
use crate::output::{Palette, lists, status as page};

fn name(text: &str) -> ServerName {
    text.parse().unwrap()
}

fn server(moment: &Snapshot, of: &str) -> ServerView {
    let servers = status(moment, None).sites.remove(0).servers;
    let mut servers = servers.into_iter();
    servers.find(|server| server.name == name(of)).unwrap()
}

fn drain(moment: &Snapshot, of: &str) -> DrainView {
    server(moment, of).drain.unwrap()
}

fn says<'a>(observed: &'a mut SiteObserved, server: &str) -> &'a mut LeaseReport {
    let seen = observed.servers.get_mut(&name(server)).unwrap();
    seen.report.as_mut().unwrap().lease.as_mut().unwrap()
}

fn about<'a>(needs: &'a [Need], words: &str) -> Option<&'a Need> {
    needs.iter().find(|need| need.text.contains(words))
}

#[test]
fn h3_the_active_waits_for_its_handover() {
    let moment = drain_asked(&leased(), "p01-a", false);
    assert_eq!(drain(&moment, "p01-a").waits, ["it is not planned yet"]);
    let moment = drained(&leased(), "p01-a", false);
    assert_eq!(
        drain(&moment, "p01-a").waits[0],
        "p01-a is the active site server: stead switchover P01"
    );
    let handed_over = changed(&moment, |observed| {
        says(observed, "p01-a").part = LeasePart::Following;
        let b = says(observed, "p01-b");
        (b.part, b.term, b.holder) = (LeasePart::Holding, 8, Some(name("p01-b")));
    });
    let waits = drain(&handed_over, "p01-a").waits;
    assert!(
        waits.iter().all(|wait| !wait.contains("active")),
        "{waits:?}"
    );
    let passive = status(&handed_over, None).sites.remove(0).passive;
    assert_eq!(passive[0].state, "not ready: drained by bob: CHG-4711");
}

#[test]
fn a_silence_that_is_expected_needs_nobody_until_its_time_is_over() {
    let silent = changed(&leased(), |observed| {
        observed.servers.get_mut(&name("p01-b")).unwrap().contact = Contact::Silent {
            since: WallMs(0),
            confirmed_for: DurationMs(3_000),
        };
    });
    let late = |ended| {
        let mut moment = drained(&silent, "p01-b", ended);
        moment.now = WallMs(120_000);
        status(&moment, None).needs_person
    };
    let needs = late(false);
    assert!(about(&needs, "p01-b").is_none(), "{needs:#?}");
    let needs = late(true);
    assert!(about(&needs, "p01-b lost for 2m").is_some(), "{needs:#?}");
    let ended = about(&needs, "the drain of p01-b ended at ").unwrap();
    assert_eq!(ended.about, "P01/p01-b");
    assert_eq!(ended.remedy.as_deref(), Some("stead undrain p01-b"));
}

#[test]
fn what_is_placed_by_hand_waits_for_dns_and_the_last_one_for_nothing() {
    let moment = drained(&snapshot(), "p01-f1", false);
    let waits = drain(&moment, "p01-f1").waits;
    assert_eq!(waits, ["managementPoint@p01-f1 is still in DNS"]);
    let alone = changed(&moment, |observed| {
        observed.servers.get_mut(&name("p01-f2")).unwrap().contact = Contact::Silent {
            since: WallMs(1_000),
            confirmed_for: DurationMs(3_000),
        };
    });
    let waits = drain(&alone, "p01-f1").waits;
    assert_eq!(waits, [""; 0], "the last one is left to lose");
}

#[test]
fn a_drain_is_shown_everywhere() {
    let moment = drained(&snapshot(), "p01-f1", false);
    let view = status(&moment, None);
    let plain = Palette::new(false);
    let now = WallMs(2_000);
    let line = "drained by bob: CHG-4711";
    for text in [
        page::one_site(plain, &view, false, now),
        lists::servers(plain, &view.sites, now),
        lists::holds(plain, &view.sites, now),
    ] {
        assert!(text.contains(line), "{text}");
    }
    let all = page::all_sites(plain, &view, false, now);
    assert!(all.contains("p01-f1 drained"), "{all}");
    let why = why(&moment, &"P01/p01-f1".parse().unwrap()).unwrap();
    let texts: Vec<&str> = why.because.iter().map(|c| c.text.as_str()).collect();
    let told = |text: &&str| text.contains(line) && text.contains("stead undrain p01-f1");
    assert!(texts.iter().any(told), "{texts:?}");
    let figures = Metrics::default().encode(&moment);
    let line = r#"stead_drained{site="P01",server="p01-f1"} 1"#;
    assert!(figures.lines().any(|l| l == line), "{figures}");
}
