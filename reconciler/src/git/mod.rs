//! The git source: where the declared state comes from.
//!
//! [`GitSource`] keeps a bare mirror of the topology repository and says which commit is newest;
//! [`read_folder`] reads that commit's YAML straight from the objects, without a work tree;
//! [`webhook`] lets a forge wake it. Nothing here knows what the YAML means, whether a commit is
//! good, or what follows from it: a commit that does not check is somebody else's to refuse, and
//! [`Mirror::pin`] keeps the one in force readable meanwhile.

mod commit;
mod condition;
mod disk;
mod fetch;
mod folder;
mod mirror;
mod notice;
mod remote;
mod source;
mod tree;
pub mod webhook;

pub use commit::{CommitInfo, commit_info, last_change};
pub use condition::{Condition, Looks, SourceState, Trouble};
pub use disk::read_folder_at_path;
pub use fetch::{FetchCause, FetchError};
pub use folder::{Limits, ReadError};
pub use mirror::{Mirror, MirrorError};
pub use remote::{Remote, SettingError};
pub use source::{GitSource, Opened, StartError, Waker};
pub use tree::{
    Change, ChangedFile, ListedFile, changed_files, file_text, folder_tree, list_folder,
    read_folder,
};
