//! The change of git that makes another server the declared active: shown, never made.
//!
//! Only a plain one is shown: `active` and `passive` on lines of their own that name both servers. A
//! template, or any other form, is left to the person.

use std::sync::Arc;

use stead_schemas::desired::Place;
use stead_schemas::names::{ServerName, SiteCode};

use super::core::{Core, InForce};
use crate::git::file_text;

/// Lines after `active` in which `passive` is looked for.
const NEAR: usize = 6;

/// The change that declares `to` the active of a site, as `git diff` shows it.
pub(super) async fn diff(
    core: &Core,
    force: &Arc<InForce>,
    site: &SiteCode,
    to: &ServerName,
) -> Option<String> {
    let declared = force.desired.sites.get(site)?.site_server.as_ref()?;
    if declared.active == *to {
        return None;
    }
    let (place, active, to) = (declared.place.clone(), declared.active.clone(), to.clone());
    let (mirror, commit) = (core.mirror()?, force.commit.id);
    let folder = core.config.spec.git.folder.clone();
    let read = move || {
        let repository = mirror.repository().ok()?;
        let text = file_text(&repository, commit, folder.as_deref(), &place.file)?;
        let prefix = folder.map_or_else(String::new, |folder| format!("{folder}/"));
        swapped(&prefix, &place, &text, &active, &to)
    };
    tokio::task::spawn_blocking(read).await.ok().flatten()
}

/// The diff that makes `to` active and the one before passive in its stead.
fn swapped(
    prefix: &str,
    place: &Place,
    text: &str,
    active: &ServerName,
    to: &ServerName,
) -> Option<String> {
    let lines: Vec<&str> = text.lines().collect();
    let first = usize::try_from(place.line).ok()?.checked_sub(1)?;
    let (active, to) = (active.as_str(), to.as_str());
    let near = first..lines.len().min(first + NEAR);
    let mut changed = Vec::new();
    for (key, from, into) in [("active:", active, to), ("passive:", to, active)] {
        let at = near.clone().find(|at| lines[*at].contains(key))?;
        let start = lines[at].find(key)?;
        let (head, tail) = lines[at].split_at(start);
        changed.push((at, format!("{head}{}", renamed(tail, from, into)?)));
    }
    if changed[0].0 == changed[1].0 {
        // Both on one line: the second change begins with the first.
        let at = changed[0].0;
        let start = changed[0].1.find("passive:")?;
        let (head, tail) = changed[0].1.split_at(start);
        changed = vec![(at, format!("{head}{}", renamed(tail, to, active)?))];
    }
    let file = format!("{prefix}{}", place.file);
    let mut diff = format!("--- a/{file}\n+++ b/{file}\n");
    for (at, line) in changed {
        let number = at + 1;
        diff += &format!("@@ -{number} +{number} @@\n-{}\n+{line}\n", lines[at]);
    }
    Some(diff)
}

/// The text with the first whole word replaced.
fn renamed(text: &str, from: &str, into: &str) -> Option<String> {
    let part = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    let whole = |at: usize| {
        let before = text[..at].chars().next_back();
        let after = text[at + from.len()..].chars().next();
        !before.is_some_and(part) && !after.is_some_and(part)
    };
    let (at, _) = text.match_indices(from).find(|(at, _)| whole(*at))?;
    Some(format!("{}{into}{}", &text[..at], &text[at + from.len()..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn diff(text: &str, line: u32) -> Option<String> {
        let place = Place {
            file: "sites/P01.yaml".into(),
            line,
            column: 5,
        };
        let (active, to) = ("p01-a".parse().unwrap(), "p01-b".parse().unwrap());
        swapped("topology/", &place, text, &active, &to)
    }

    #[test]
    fn active_and_passive_change_places() {
        let text = "spec:\n  siteServer:\n    active: p01-a\n    passive: [p01-b1, p01-b]\n";
        let want = "--- a/topology/sites/P01.yaml\n+++ b/topology/sites/P01.yaml\n\
                    @@ -3 +3 @@\n-    active: p01-a\n+    active: p01-b\n\
                    @@ -4 +4 @@\n-    passive: [p01-b1, p01-b]\n+    passive: [p01-b1, p01-a]\n";
        assert_eq!(diff(text, 3).as_deref(), Some(want));
    }

    #[test]
    fn both_on_one_line_make_one_change() {
        let text = "  siteServer: {active: p01-a, passive: [p01-b]}\n";
        let want = "--- a/topology/sites/P01.yaml\n+++ b/topology/sites/P01.yaml\n\
                    @@ -1 +1 @@\n-  siteServer: {active: p01-a, passive: [p01-b]}\n\
                    +  siteServer: {active: p01-b, passive: [p01-a]}\n";
        assert_eq!(diff(text, 1).as_deref(), Some(want));
    }

    #[test]
    fn what_is_not_plain_is_left_to_the_person() {
        assert_eq!(
            diff("    active: $(code.lower)-a\n    passive: [x]\n", 1),
            None
        );
        assert_eq!(diff("    active: p01-a\n", 1), None);
        assert_eq!(diff("", 7), None);
    }
}
