//! What operators write: from the bytes of YAML files to [`crate::desired::HierarchyDesired`].
//!
//! Pure: the caller reads folders or git objects and hands over bytes; nothing here opens a file,
//! asks a clock or looks a secret up.

pub mod settings;

/// One file of the topology folder, as read by whoever reads files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Path within the folder, with `/`; shown in every message.
    pub path: String,
    /// The content, whatever it is.
    pub bytes: Vec<u8>,
}

impl SourceFile {
    /// A file from a path and its content.
    pub fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self {
            path: path.into(),
            bytes: bytes.into(),
        }
    }
}
