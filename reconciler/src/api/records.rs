//! `list records`: what is wanted, what each server serves, whose it is, how it is. Pure.

use stead_plan::wanted_records;
use stead_schemas::api::RecordView;
use stead_schemas::names::SiteCode;
use stead_schemas::observed::{RecordObserved, Served};
use stead_schemas::record::{Mark, RecordKey, RecordSet};

use super::snapshot::{SiteSnapshot, Snapshot};

/// Records of one site or of all.
pub(super) fn records(snapshot: &Snapshot, only: Option<&SiteCode>) -> Vec<RecordView> {
    let sites = snapshot
        .sites
        .iter()
        .filter(|(code, _)| only.is_none_or(|wanted| wanted == *code));
    sites
        .flat_map(|(code, site)| site_records(snapshot, code, site))
        .collect()
}

fn site_records(snapshot: &Snapshot, code: &SiteCode, site: &SiteSnapshot) -> Vec<RecordView> {
    let wanted = wanted_records(
        site.desired.as_deref(),
        &site.observed,
        &site.context,
        snapshot.now,
    );
    let view = |(key, want): (RecordKey, Option<RecordSet>)| {
        let observed = site
            .observed
            .records
            .get(&key)
            .cloned()
            .unwrap_or(RecordObserved {
                servers: Vec::new(),
                contested: false,
            });
        RecordView {
            site: code.clone(),
            owner: owner(&observed, site.context.hierarchy.as_str()),
            state: state(want.as_ref(), &observed, site.context.hierarchy.as_str()),
            key,
            want,
            observed,
        }
    };
    let there = |view: &RecordView| {
        view.want.is_some()
            || view.observed.servers.iter().any(|by| {
                by.served
                    .as_ref()
                    .is_none_or(|served| served.set.is_some() || served.mark.is_some())
            })
    };
    wanted.into_iter().map(view).filter(there).collect()
}

fn first(observed: &RecordObserved) -> Option<&Served> {
    observed.servers.first()?.served.as_ref()
}

fn owner(observed: &RecordObserved, hierarchy: &str) -> String {
    let Some(text) = first(observed).and_then(|served| served.mark.as_ref()) else {
        return "(none)".to_owned();
    };
    match text.parse::<Mark>() {
        // Written under a lease: by the agent of the site's active server (H22).
        Ok(mark) if mark.hierarchy.as_str() == hierarchy && mark.term > 0 => {
            format!("agent, term {}", mark.term)
        }
        Ok(mark) if mark.hierarchy.as_str() == hierarchy => {
            format!("{}#{}", mark.site, mark.generation.number)
        }
        Ok(mark) => format!("hierarchy {}", mark.hierarchy),
        Err(_) => "(foreign mark)".to_owned(),
    }
}

/// In words, as `list records` prints it.
pub(super) fn state(
    want: Option<&RecordSet>,
    observed: &RecordObserved,
    hierarchy: &str,
) -> String {
    if observed.contested {
        return "contested: paused, needs a person".to_owned();
    }
    let silent = observed
        .servers
        .iter()
        .filter(|by| by.served.is_none())
        .count();
    if observed.servers.is_empty() || silent == observed.servers.len() {
        return "not known: no DNS server answers".to_owned();
    }
    let served = first(observed);
    let ours = |served: &Served| {
        let mark = served
            .mark
            .as_ref()
            .and_then(|text| text.parse::<Mark>().ok());
        mark.is_some_and(|mark| mark.hierarchy.as_str() == hierarchy)
    };
    if served.is_some_and(|served| served.set.is_some() && !ours(served)) {
        return "foreign record in the way".to_owned();
    }
    let behind = observed
        .servers
        .iter()
        .filter(|by| {
            by.served
                .as_ref()
                .is_some_and(|served| served.set.as_ref() != want)
        })
        .count();
    match (
        behind,
        silent,
        served.is_some_and(|served| served.set.as_ref() == want),
    ) {
        (0, 0, _) => "in step".to_owned(),
        (0, silent, _) => format!("in step; {silent} DNS servers don't answer"),
        (behind, _, true) => format!("{behind} secondaries behind"),
        _ => "differs".to_owned(),
    }
}
