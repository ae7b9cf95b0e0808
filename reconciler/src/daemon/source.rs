//! From the newest commit to the revision in force: read, checked, compared, kept.
//!
//! A commit that does not check is journalled and never applied; the last good one stays. At the
//! start the revision last in force is loaded before anything newer, so that a broken head does not
//! leave a reconciler without desired state.

use std::sync::Arc;

use stead_schemas::api::{JournalKind, RevisionState, RevisionView};
use stead_schemas::declared::{self, Problem};
use stead_schemas::desired::HierarchyDesired;

use super::core::{Core, InForce};
use crate::commands::chain;
use crate::git::{CommitInfo, GitSource, Limits, Mirror, SourceState, commit_info, read_folder};
use crate::site::changes::{Happened, short};
use crate::store::Write;

/// Problems named in a revision's note.
const NAMED: usize = 3;

/// Follows the source until the task is ended.
pub async fn run(core: Arc<Core>, source: Arc<GitSource>) {
    let mirror = source.mirror();
    let mut state = source.state();
    let mut tried = None;
    match pinned(&mirror) {
        Ok(Some(commit)) => {
            tried = Some(commit.id);
            consider(&core, &mirror, commit).await;
        }
        Ok(None) => {}
        Err(cause) => core.set_source(|view| view.problem = Some(cause)),
    }
    let mut looks = state.borrow().looks;
    loop {
        let now = state.borrow_and_update().clone();
        for _ in looks.good..now.looks.good {
            core.metrics.fetch(true);
        }
        for _ in looks.failed..now.looks.failed {
            core.metrics.fetch(false);
        }
        looks = now.looks;
        show(&core, &now);
        if let Some(head) = now.head
            && tried != Some(head.id)
        {
            tried = Some(head.id);
            consider(&core, &mirror, head).await;
        }
        if state.changed().await.is_err() {
            return;
        }
    }
}

fn pinned(mirror: &Mirror) -> Result<Option<CommitInfo>, String> {
    let Some(id) = mirror.pinned().map_err(|error| chain(&error))? else {
        return Ok(None);
    };
    let repository = mirror.repository().map_err(|error| chain(&error))?;
    commit_info(&repository, id)
        .map(Some)
        .map_err(|error| error.to_string())
}

fn show(core: &Core, state: &SourceState) {
    core.set_source(|view| {
        view.head = state.head.as_ref().map(|head| head.id.to_string());
        view.fetched_at = state.fetched_at;
        view.problem = state.condition.problem().map(|problem| {
            let hint = state.condition.hint();
            hint.map_or_else(|| problem.clone(), |hint| format!("{problem}; {hint}"))
        });
    });
}

/// Reads and checks a commit; it comes into force or is refused.
async fn consider(core: &Arc<Core>, mirror: &Arc<Mirror>, commit: CommitInfo) {
    let (reader, name) = (Arc::clone(core), commit.clone());
    let objects = Arc::clone(mirror);
    let read = tokio::task::spawn_blocking(move || load(&reader, &objects, &name)).await;
    match read.unwrap_or_else(|error| Err(format!("reading it failed: {error}"))) {
        Ok(desired) => accept(core, mirror, commit, desired),
        Err(note) => refuse(core, commit, note),
    }
}

/// What the commit declares, or why it can't come into force.
fn load(core: &Core, mirror: &Mirror, commit: &CommitInfo) -> Result<HierarchyDesired, String> {
    let repository = mirror.repository().map_err(|error| chain(&error))?;
    let folder = core.config.spec.git.folder.as_deref();
    let files = read_folder(&repository, commit.id, folder, &Limits::default())
        .map_err(|error| chain(&error))?;
    let checked = declared::check(&files);
    let errors: Vec<&Problem> = checked.errors().collect();
    if !errors.is_empty() {
        return Err(note_of(&errors));
    }
    let mut desired = checked.desired.ok_or("it declares nothing")?;
    let ours = &core.config.spec.hierarchy;
    if desired.name != *ours {
        return Err(format!(
            "it declares hierarchy {}, and this reconciler is for {ours}",
            desired.name
        ));
    }
    if let Some(force) = core.in_force() {
        share_unchanged(&force.desired, &mut desired);
    }
    Ok(desired)
}

fn note_of(errors: &[&Problem]) -> String {
    let count = errors.len();
    let word = if count == 1 { "error" } else { "errors" };
    let named: Vec<String> = errors
        .iter()
        .take(NAMED)
        .map(|problem| format!("{}: {}", problem.place, problem.message))
        .collect();
    let more = if count > NAMED { "; …" } else { "" };
    format!("{count} {word}: {}{more}", named.join("; "))
}

/// An unchanged site stays the same allocation: only changed ones are planned again.
fn share_unchanged(old: &HierarchyDesired, new: &mut HierarchyDesired) {
    for (code, site) in &mut new.sites {
        if let Some(before) = old.sites.get(code)
            && before == site
        {
            *site = Arc::clone(before);
        }
    }
    if let (Some(before), Some(after)) = (&old.dns, &mut new.dns)
        && before == after
    {
        *after = Arc::clone(before);
    }
}

fn accept(core: &Core, mirror: &Mirror, commit: CommitInfo, desired: HierarchyDesired) {
    let revision = commit.id.to_string();
    if let Err(error) = mirror.pin(commit.id) {
        tracing::warn!(error = chain(&error), "the revision in force is not pinned");
    }
    let before = core.in_force();
    let again = core
        .remember(|own| own.in_force = Some(revision.clone()))
        .in_force
        .is_some_and(|kept| before.is_none() && kept == revision);
    if let Some(before) = &before {
        let past = view_of(&before.commit, RevisionState::Past, String::new());
        core.store.write(Write::Revision(past));
    }
    let sites = desired.sites.len();
    let note = format!("{sites} {}", if sites == 1 { "site" } else { "sites" });
    let view = view_of(&commit, RevisionState::InForce, note.clone());
    core.store.write(Write::Revision(view));
    core.set_refusal(None);
    core.metrics.revision(true);
    core.set_source(|view| view.in_force = Some(revision.clone()));
    let text = format!(
        "{} by {} in force: {} ({note})",
        short(&revision),
        commit.author,
        commit.subject
    );
    core.put_in_force(InForce {
        revision: revision.as_str().into(),
        commit,
        desired,
    });
    // A restart with the same revision is told by the reconciler's own entry.
    if !again || before.is_some() {
        let about = format!("rev:{revision}");
        core.journal(
            None,
            vec![Happened::new(JournalKind::Revision, about, text)],
        );
    }
}

fn refuse(core: &Core, commit: CommitInfo, note: String) {
    let revision = commit.id.to_string();
    let about = format!("rev:{revision}");
    let text = format!("{} by {} refused: {note}", short(&revision), commit.author);
    core.set_refusal(Some((revision, note.clone())));
    core.store.write(Write::Revision(view_of(
        &commit,
        RevisionState::Refused,
        note,
    )));
    core.metrics.revision(false);
    core.journal(
        None,
        vec![Happened::new(JournalKind::Revision, about, text)],
    );
}

fn view_of(commit: &CommitInfo, state: RevisionState, note: String) -> RevisionView {
    RevisionView {
        revision: commit.id.to_string(),
        when: commit.when,
        author: commit.author.clone(),
        subject: commit.subject.clone(),
        state,
        note,
    }
}
