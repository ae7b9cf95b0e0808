//! Who made a commit, when, and what its first line says.
//!
//! For `stead why`, `stead list revisions` and the journal. Commit texts come from anybody who may
//! push: they are cut and freed of control characters here, and nothing decides by them.

use git2::{Oid, Repository, Sort};
use stead_schemas::time::WallMs;

/// Longest author or subject that is kept, in characters.
const TEXT_CHARS: usize = 200;

/// The facts about a commit that people see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitInfo {
    /// Its id.
    pub id: Oid,
    /// Name of who wrote it.
    pub author: String,
    /// When it was committed, by the committer's clock.
    pub when: WallMs,
    /// The first line of its message.
    pub subject: String,
}

impl CommitInfo {
    /// The id as people write it: twelve digits.
    #[must_use]
    pub fn short_id(&self) -> String {
        self.id.to_string().chars().take(12).collect()
    }
}

/// The facts about the commit `id`.
///
/// # Errors
/// What libgit2 says, where there is no such commit.
pub fn commit_info(repository: &Repository, id: Oid) -> Result<CommitInfo, git2::Error> {
    let commit = repository.find_commit(id)?;
    let seconds = u64::try_from(commit.time().seconds()).unwrap_or(0);
    Ok(CommitInfo {
        id,
        author: shown(commit.author().name_bytes()),
        when: WallMs(seconds.saturating_mul(1_000)),
        subject: shown(commit.summary_bytes().unwrap_or_default()),
    })
}

/// The newest commit on the first-parent line from `from` that changed `path` (from the top of
/// the repository, not of the topology folder).
///
/// None where the path is not there, or nothing is found within `most` commits.
///
/// # Errors
/// What libgit2 says, where the history cannot be read.
pub fn last_change(
    repository: &Repository,
    from: Oid,
    path: &str,
    most: usize,
) -> Result<Option<CommitInfo>, git2::Error> {
    let entry_of = |id: Oid| -> Result<Option<Oid>, git2::Error> {
        let tree = repository.find_commit(id)?.tree()?;
        Ok(tree.get_path(path.as_ref()).ok().map(|entry| entry.id()))
    };
    let Some(wanted) = entry_of(from)? else {
        return Ok(None);
    };
    let mut walk = repository.revwalk()?;
    walk.set_sorting(Sort::TOPOLOGICAL)?;
    walk.simplify_first_parent()?;
    walk.push(from)?;
    let mut newest_alike = from;
    for id in walk.take(most) {
        let id = id?;
        if entry_of(id)? != Some(wanted) {
            return commit_info(repository, newest_alike).map(Some);
        }
        newest_alike = id;
    }
    let reached_the_first = repository.find_commit(newest_alike)?.parent_count() == 0;
    if reached_the_first {
        return commit_info(repository, newest_alike).map(Some);
    }
    Ok(None)
}

fn shown(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .filter(|c| !c.is_control() && !turns_text_around(*c))
        .take(TEXT_CHARS)
        .collect()
}

/// Marks that make a terminal show text in another order than it is written.
const fn turns_text_around(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}
