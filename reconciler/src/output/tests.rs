//! Views of the API as people read them.

use serde_json::json;
use stead_schemas::api::{RecordView, StatusView};
use stead_schemas::time::WallMs;

use super::{Palette, lists, status};

const NOW: WallMs = WallMs(1_000_000);

fn view() -> StatusView {
    serde_json::from_value(json!({
        "reconciler": {"name": "stead-1", "hierarchy": "small", "version": "1", "startedAt": 0,
            "writer": "writing", "epoch": null},
        "source": {"url": "/t", "reference": "main", "head": "e41b9d0aa", "inForce": "77d0e1baa",
            "fetchedAt": 998_000, "problem": null},
        "needsPerson": [{"about": "P01", "text": "p01-a is silent", "remedy": "stead confirm-lost p01-a"}],
        "sites": [{
            "code": "P01", "siteType": "primary", "parent": null, "state": "held",
            "revision": "77d0e1baa",
            "servers": [
                {"name": "p01-a", "agent": "127.0.0.1:1", "zone": "r/1", "version": "1", "declared": true,
                 "contact": {"silent": {"since": 750_000, "confirmedFor": "4m"}}, "heardAt": 750_000, "problems": []},
                {"name": "p01-b", "agent": "127.0.0.1:2", "zone": null, "version": "1", "declared": true,
                 "contact": "heard", "heardAt": 999_000, "problems": ["ledger: disk slow"]}],
            "instances": [{"name": "P01/managementPoint@p01-b", "role": "managementPoint", "phase": "running",
                "health": "healthy", "since": 940_000, "restarts": 2, "pid": 7, "endpoint": "127.0.0.1:443",
                "wanted": true, "published": true, "message": null, "place": null}],
            "active": "p01-a", "passive": [{"server": "p01-b", "state": "ready"}],
            "steps": [],
            "holds": [{"about": "P01/reportingPoint@p01-a", "place": null,
                "reason": {"needsConfirmLost": {"server": "p01-a", "role": "reportingPoint"}}}],
            "suspended": null, "failure": null
        }]
    }))
    .unwrap()
}

#[test]
fn status_opens_with_what_needs_a_person_and_how_to_settle_it() {
    let text = status::all_sites(Palette::new(false), &view(), false, NOW);
    insta::assert_snapshot!(text, @"
    NEEDS A PERSON (1)
      P01  p01-a is silent
           stead confirm-lost p01-a

    SITE  TYPE     STATE  REVISION  SERVERS  INSTANCES  ACTIVE  STANDBY       NOTE
    P01   primary  held   77d0e1b   1/2      1/1        p01-a   p01-b: ready  1 held

    0 of 1 sites converged, 77d0e1b in force (e41b9d0 is newer) (stead-1, git read 2s ago)
    ");
}

#[test]
fn one_site_shows_servers_instances_and_holds() {
    let text = status::one_site(Palette::new(false), &view(), false, NOW);
    insta::assert_snapshot!(text, @"
    NEEDS A PERSON (1)
      P01  p01-a is silent
           stead confirm-lost p01-a

    P01  primary  held  1 held

    SERVER  AGENT        ZONE  CONTACT       VERSION  NOTE
    p01-a   127.0.0.1:1  r/1   silent 4m10s  1
    p01-b   127.0.0.1:2  -     heard         1        ledger: disk slow

    INSTANCE               STATE    SINCE  SERVES         DNS        RESTARTS  NOTE
    managementPoint@p01-b  healthy  1m     127.0.0.1:443  published  2

    HOLDS (1)
      held  P01/reportingPoint@p01-a  p01-a is silent and may still run its reportingPoint, which may not run twice
            power is certainly off: stead confirm-lost p01-a

    0 of 1 sites converged, 77d0e1b in force (e41b9d0 is newer) (stead-1, git read 2s ago)
    ");
}

#[test]
fn problems_alone_leave_out_what_is_well() {
    let mut view = view();
    let text = status::one_site(Palette::new(false), &view, true, NOW);
    assert!(!text.contains("managementPoint@p01-b"), "{text}");
    view.sites[0].state = stead_schemas::api::SiteState::Converged;
    let text = status::all_sites(Palette::new(false), &view, true, NOW);
    assert!(!text.contains("primary"), "{text}");
}

#[test]
fn every_server_s_answer_stands_beside_what_is_wanted() {
    let set = |ttl: u32, values: &[&str]| {
        let values: Vec<_> = values.iter().map(|value| json!({"a": value})).collect();
        json!({"ttl_s": ttl, "values": values})
    };
    let want = set(30, &["192.0.2.1", "192.0.2.2"]);
    let served = |port: u16, set: serde_json::Value| json!({"server": format!("192.0.2.53:{port}"), "at": 0, "served": {"set": set, "mark": null}});
    let record = |name: &str, servers: Vec<serde_json::Value>, state: &str| -> RecordView {
        serde_json::from_value(json!({
            "key": format!("{name}.example/A"), "site": "P01", "want": want,
            "observed": {"servers": servers, "contested": false}, "owner": "stead#7", "state": state
        }))
        .unwrap()
    };
    let silent = json!({"server": "192.0.2.53:2", "at": 0, "served": null});
    let records = [
        record(
            "a",
            vec![served(1, want.clone()), served(2, want.clone())],
            "in step",
        ),
        record(
            "b",
            vec![served(1, set(60, &["192.0.2.1", "192.0.2.2"])), silent],
            "differs",
        ),
        record(
            "c",
            vec![served(1, set(30, &["192.0.2.1"])), served(2, json!(null))],
            "differs",
        ),
    ];
    insta::assert_snapshot!(lists::records(Palette::new(false), &records), @"
    NAME         WANT         192.0.2.53:1  192.0.2.53:2  OWNER    STATE
    a.example A  2 addresses  =             =             stead#7  in step
    b.example A  2 addresses  = (ttl 60 s)  ?             stead#7  differs
    c.example A  2 addresses  192.0.2.1     -             stead#7  differs

    1 of 3 records in step
    ");
}
