//! The lab's topology repository: an ordinary one, for the user to commit to.

use std::path::Path;

use git2::{IndexAddOption, Repository, RepositoryInitOptions, Signature};

/// Makes a repository of the folder and commits all that is in it to `main`.
///
/// # Errors
/// What libgit2 says.
pub(super) fn make(folder: &Path) -> Result<(), git2::Error> {
    let mut options = RepositoryInitOptions::new();
    options.initial_head("main").external_template(false);
    let repository = Repository::init_opts(folder, &options)?;
    // So that `git commit` works for whoever has told git no name yet.
    let mut config = repository.config()?;
    config.set_str("user.name", "lab")?;
    config.set_str("user.email", "lab@localhost")?;
    let mut index = repository.index()?;
    index.add_all(["*"], IndexAddOption::DEFAULT, None)?;
    index.write()?;
    let tree = repository.find_tree(index.write_tree()?)?;
    let author = Signature::now("lab", "lab@localhost")?;
    let message = "Three sites to play with\n";
    repository.commit(Some("HEAD"), &author, &author, message, &tree, &[])?;
    Ok(())
}
