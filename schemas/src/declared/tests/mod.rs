//! Tests of the whole way from YAML to what is desired.

use super::*;
pub(super) use topologies::testdata;

mod topologies;

/// Checks one inline document set.
fn check_text(yaml: &str) -> Checked {
    check(&[SourceFile::new("a.yaml", yaml)])
}
mod hostile;
mod large;
mod leased;
mod meaning;
mod meaning_roles;
mod properties;
mod schema;
