//! The git source: where the declared state comes from.
//!
//! [`GitSource`] keeps a bare mirror of the topology repository and says which commit is newest;
//! [`read_folder`] reads that commit's YAML straight from the objects, without a work tree;
//! [`webhook`] lets a forge wake it. Nothing here knows what the YAML means, whether a commit is
//! good, or what follows from it: a commit that does not check is somebody else's to refuse, and
//! [`Mirror::pin`] keeps the one in force readable meanwhile.

mod commit;
mod disk;
mod folder;
mod tree;

pub use commit::{CommitInfo, commit_info, last_change};
pub use disk::read_folder_at_path;
pub use folder::{Limits, ReadError};
pub use tree::{
    Change, ChangedFile, ListedFile, changed_files, folder_tree, list_folder, read_folder,
};
