//! Reads the project's own source files, for the tests of house rules.

use std::fs;
use std::path::{Path, PathBuf};

/// One Rust source file of the workspace.
#[derive(Debug)]
pub struct Source {
    /// Path from the workspace's root.
    pub path: String,
    /// Its text.
    pub text: String,
}

impl Source {
    /// Whether the whole file is test code, by its place.
    #[must_use]
    pub fn is_test_file(&self) -> bool {
        self.path.contains("/tests/")
            || self.path.starts_with("tests/")
            || self.path.ends_with("tests.rs")
            || self.path.contains("/tests_")
    }

    /// The lines before the first `#[cfg(test)]` module.
    pub fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self
            .text
            .find("#[cfg(test)]\nmod ")
            .unwrap_or(self.text.len());
        self.text[..end]
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line))
    }
}

/// The workspace's root folder.
#[must_use]
pub fn workspace_root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_path_buf)
        .unwrap_or_default()
}

/// Every `.rs` file of the workspace, sorted by path.
#[must_use]
pub fn rust_sources() -> Vec<Source> {
    let root = workspace_root();
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else {
            continue;
        };
        for entry in entries.flatten() {
            let path = entry.path();
            let name = entry.file_name();
            let name = name.to_string_lossy();
            if path.is_dir() && name != "target" && !name.starts_with('.') && name != "node_modules"
            {
                folders.push(path);
            } else if name.ends_with(".rs") {
                let text = fs::read_to_string(&path).unwrap_or_default();
                let path = path
                    .strip_prefix(&root)
                    .unwrap_or(&path)
                    .display()
                    .to_string();
                found.push(Source { path, text });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}
