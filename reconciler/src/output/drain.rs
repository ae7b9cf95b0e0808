//! A drain as text (task 4): what it does, what is lost meanwhile, when the power may go off. From the
//! API's views alone.

use stead_schemas::api::{DrainPlanView, DrainView, LeftView, VotesView};
use stead_schemas::names::{InstanceName, SiteCode};
use stead_schemas::plan::Move;
use stead_schemas::time::WallMs;

use super::table::one_line;
use super::{lease, when};

/// Everything a drain does, and what it leaves to lose, a line each.
#[must_use]
pub fn plan(view: &DrainPlanView) -> String {
    let mut text = String::new();
    if let Some(switch) = &view.switch_over {
        text += &format!("{}\n", lease::preview(switch));
    }
    let moves = listed(&view.moves, |Move { group, to, .. }| {
        format!("{group} to {to}")
    });
    let nothing = view.moves.is_empty() && view.withdraws.is_empty() && view.left.is_empty();
    let moves = match (view.moves.is_empty(), nothing) {
        (true, true) => format!("nothing else runs on {}", view.server),
        (true, false) => "nothing".to_owned(),
        (false, _) => moves,
    };
    text += &line(&format!("{} move", view.moves.len()), &moves);
    if !view.withdraws.is_empty() {
        let name = |one: &InstanceName| one.group.to_string();
        let groups = listed(&view.withdraws, name);
        let count = view.withdraws.len();
        text += &line(
            &format!("{count} withdraw"),
            &format!("{groups}: out of DNS until undrain, others serve"),
        );
    }
    for LeftView { instance, why } in &view.left {
        text += &line(
            "left to lose",
            &format!("{}@{}: {why}", instance.group, instance.server),
        );
    }
    if let Some(found) = &view.votes {
        text += &line("votes", &votes(&view.site, found));
    }
    text
}

fn line(what: &str, text: &str) -> String {
    format!("{what:<14} {}\n", one_line(text))
}

fn listed<T>(all: &[T], name: impl Fn(&T) -> String) -> String {
    let names: Vec<String> = all.iter().map(name).collect();
    names.join(", ")
}

fn votes(site: &SiteCode, votes: &VotesView) -> String {
    let remain = listed(&votes.remain, ToString::to_string);
    let survives = match votes.spare() {
        None => "has no majority".to_owned(),
        Some(0) => "does not survive another loss until undrain".to_owned(),
        Some(1) => "survives one more loss until undrain".to_owned(),
        Some(more) => format!("survives {more} more losses until undrain"),
    };
    format!(
        "{remain} remain ({} of {}): {site} {survives}",
        votes.remain.len(),
        votes.of
    )
}

/// That the power may go off, and how the server comes back.
#[must_use]
pub fn safe(view: &DrainPlanView, now: WallMs) -> String {
    let server = &view.server;
    let passive = if view.switch_over.is_some() {
        " as passive"
    } else {
        ""
    };
    format!(
        "safe to power off {server} {}. It comes back by itself{passive}; then: stead undrain {server}",
        when::until(view.until, now)
    )
}

/// A drain beside its server: by whom, until when, and whether the power may go off.
#[must_use]
pub fn note(view: &DrainView, now: WallMs) -> String {
    let DrainView {
        by,
        why,
        at: _,
        until,
        ended,
        waits,
    } = view;
    let drained = format!("drained by {by}: {why}");
    if *ended {
        return format!("{drained}; ended {}", when::at(*until, now));
    }
    let until = when::until(*until, now);
    if waits.is_empty() {
        format!("{drained}; safe to power off {until}")
    } else {
        format!(
            "{drained}, {until}; not safe to power off yet: {}",
            waits.join("; ")
        )
    }
}

#[cfg(test)]
mod tests {
    use stead_schemas::api::{SwitchoverState, SwitchoverView};
    use stead_schemas::time::DurationMs;

    use super::*;

    #[test]
    fn the_words_are_those_of_the_operators_tasks() {
        let name = |text: &str| text.parse().unwrap();
        let view = DrainPlanView {
            site: "FAB".parse().unwrap(),
            server: name("fab-a"),
            until: WallMs(7_200_000),
            switch_over: Some(SwitchoverView {
                site: "FAB".parse().unwrap(),
                from: name("fab-a"),
                to: name("fab-b"),
                state: SwitchoverState::Planned,
                taken: None,
                parked: true,
                diff: None,
            }),
            moves: Vec::new(),
            withdraws: Vec::new(),
            left: Vec::new(),
            votes: Some(VotesView {
                remain: vec![name("fab-b"), name("stead-1")],
                of: 3,
            }),
        };
        insta::assert_snapshot!(plan(&view), @"
        1 switch over  FAB siteServer fab-a -> fab-b (ready)   no writes while it is handed over, most often well below a second
        0 move         nothing else runs on fab-a
        votes          fab-b, stead-1 remain (2 of 3): FAB does not survive another loss until undrain
        ");
        let busy = DrainPlanView {
            switch_over: None,
            moves: vec![Move {
                group: "distributionPoint".parse().unwrap(),
                from: name("fab-a"),
                to: name("fab-c"),
            }],
            withdraws: vec!["FAB/managementPoint@fab-a".parse().unwrap()],
            left: vec![LeftView {
                instance: "FAB/reportingPoint@fab-a".parse().unwrap(),
                why: "it may not run twice, so it is not moved".to_owned(),
            }],
            votes: None,
            ..view.clone()
        };
        insta::assert_snapshot!(plan(&busy), @"
        1 move         distributionPoint to fab-c
        1 withdraw     managementPoint: out of DNS until undrain, others serve
        left to lose   reportingPoint@fab-a: it may not run twice, so it is not moved
        ");
        let text = safe(&view, WallMs(0));
        assert!(text.starts_with("safe to power off fab-a until "), "{text}");
        assert!(text.ends_with("It comes back by itself as passive; then: stead undrain fab-a"));
    }

    #[test]
    fn a_server_says_whether_its_power_may_go_off() {
        let mut view = DrainView {
            by: "bob".to_owned(),
            why: "CHG-4711".to_owned(),
            at: WallMs(0),
            until: WallMs(7_200_000),
            ended: false,
            waits: vec!["dp@fab-a still runs".to_owned()],
        };
        let now = WallMs(DurationMs::seconds(60).0);
        assert!(note(&view, now).contains("not safe to power off yet: dp@fab-a still runs"));
        view.waits.clear();
        assert!(note(&view, now).contains("; safe to power off until "));
        view.ended = true;
        assert!(note(&view, now).starts_with("drained by bob: CHG-4711; ended at "));
    }
}
