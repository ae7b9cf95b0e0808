//! Reading a program's own settings: one file, one document.
//!
//! Same syntax and schema check as for a topology. Paths in the settings are taken as written; the
//! program resolves and opens them.

use super::problem::{Finding, Findings, Problem};
use super::settings::{AgentConfig, ReconcilerConfig};
use super::tree::{Node, Sources, Spot};
use super::typed::read_document;
use super::types::{AgentDocument, DocumentKind, ReconcilerDocument};
use super::{SourceFile, documents, validate, yaml};

/// Reads the settings of `stead run`.
///
/// # Errors
/// Every problem of the file.
pub fn reconciler_config(file: &SourceFile) -> Result<ReconcilerConfig, Vec<Problem>> {
    let document = |tree: &Node, findings: &mut Findings| {
        let document: ReconcilerDocument = read_document(tree, findings)?;
        check_reconciler(&document, tree, findings);
        Some(ReconcilerConfig {
            name: document.metadata.name,
            spec: document.spec,
        })
    };
    read(file, DocumentKind::ReconcilerConfig, document)
}

/// Reads the settings of `site-agent run`.
///
/// # Errors
/// Every problem of the file.
pub fn agent_config(file: &SourceFile) -> Result<AgentConfig, Vec<Problem>> {
    let document = |tree: &Node, findings: &mut Findings| {
        let document: AgentDocument = read_document(tree, findings)?;
        Some(AgentConfig {
            server: document.metadata.name,
            spec: document.spec,
        })
    };
    read(file, DocumentKind::AgentConfig, document)
}

/// Settings as part of a topology: checked, used by nobody.
pub(super) fn check_document(kind: DocumentKind, tree: &Node, findings: &mut Findings) {
    if !validate::document_fits(tree, kind, findings) {
        return;
    }
    match kind {
        DocumentKind::ReconcilerConfig => {
            if let Some(document) = read_document(tree, findings) {
                check_reconciler(&document, tree, findings);
            }
        }
        DocumentKind::AgentConfig => {
            drop(read_document::<AgentDocument>(tree, findings));
        }
        DocumentKind::Hierarchy | DocumentKind::Site | DocumentKind::SiteSet => {}
    }
}

fn read<T>(
    file: &SourceFile,
    kind: DocumentKind,
    document: impl FnOnce(&Node, &mut Findings) -> Option<T>,
) -> Result<T, Vec<Problem>> {
    let mut findings = Findings::default();
    let mut sources = Sources::default();
    let index = sources.add(&file.path);
    let parsed = yaml::parse(file, index, &mut findings);
    findings.end_stage();
    let config = match parsed.documents.as_slice() {
        [tree] if documents::kind_of(tree, &mut findings) == Some(kind) => {
            if validate::document_fits(tree, kind, &mut findings) {
                document(tree, &mut findings)
            } else {
                None
            }
        }
        [] if parsed.lost => None,
        _ => {
            if !findings.any_error() {
                let message = format!("the file has to hold one document of kind {}", kind.name());
                findings.add(Finding::error("kind", Spot::start_of(index), message));
            }
            None
        }
    };
    let failed = findings.any_error();
    match config {
        Some(config) if !failed => Ok(config),
        _ => Err(findings.finish(&sources)),
    }
}

fn check_reconciler(document: &ReconcilerDocument, tree: &Node, findings: &mut Findings) {
    let git = &document.spec.git;
    let spot = |key: &str| {
        let node = tree.at(&["spec", "git", key]);
        node.or_else(|| tree.at(&["spec", "git"]))
            .map_or(tree.spot, |node| node.spot)
    };
    if git.branch.is_some() && git.tag.is_some() {
        let message = "`branch` and `tag` exclude each other: keep one";
        findings.add(Finding::error("exclusive", spot("tag"), message));
    }
    let after_scheme = git.url.split_once("://").map(|(_, rest)| rest);
    let authority = after_scheme.map(|rest| rest.split('/').next().unwrap_or_default());
    if authority.is_some_and(|a| {
        a.split_once('@')
            .is_some_and(|(user, _)| user.contains(':'))
    }) {
        let message = "a password doesn't belong in the URL: use `tokenFile`";
        findings.add(Finding::error("secret", spot("url"), message).sensitive(true));
    }
    if git.url.starts_with("ssh://") && git.known_hosts_file.is_none() {
        let message = "`knownHostsFile` is missing: with ssh the server has to be known";
        findings.add(Finding::error("missing", spot("url"), message));
    }
    let folder = git.folder.as_deref().unwrap_or_default();
    if folder.starts_with('/') || folder.split('/').any(|part| part == "..") {
        let message = format!("`{folder}` has to be a folder within the repository");
        findings.add(Finding::error("path", spot("folder"), message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "apiVersion: stead/v1
kind: ReconcilerConfig
metadata: {name: stead-1}
spec:
  hierarchy: contoso
  stateDir: /var/lib/stead
  git: {url: /srv/topology.git, branch: main, poll: 10s}
  tls: {ca: ca.pem, cert: c.pem, key: k.pem}
  api: {listen: '127.0.0.1:7444'}
";

    fn problems(text: &str) -> Vec<String> {
        let file = SourceFile::new("stead.yaml", text);
        let problems = reconciler_config(&file).unwrap_err();
        problems.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn good_settings_are_read() {
        let config = reconciler_config(&SourceFile::new("stead.yaml", GOOD)).unwrap();
        assert_eq!(config.name.as_str(), "stead-1");
        assert_eq!(config.spec.git.poll.0, 10_000);
    }

    #[test]
    fn each_problem_has_its_line() {
        let text = GOOD
            .replace("poll: 10s", "pol: 10s")
            .replace("/srv/", "ssh://git@h/");
        assert_eq!(
            problems(&text),
            ["stead.yaml:7:54: error: `pol` is no key of `git`\n  hint: did you mean `poll`?"]
        );
        let text = GOOD.replace("/srv/", "ssh://git@h/");
        assert!(
            problems(&text)[0].contains("knownHostsFile"),
            "{:?}",
            problems(&text)
        );
    }

    #[test]
    fn a_password_in_the_url_is_refused_and_not_repeated() {
        let text = GOOD.replace("/srv/", "https://bob:hunter2@git.example/");
        let problems = problems(&text);
        assert!(problems[0].contains("tokenFile"));
        assert!(!problems.join("").contains("hunter2"));
    }

    #[test]
    fn another_kind_is_refused() {
        let text =
            "apiVersion: stead/v1\nkind: Site\nmetadata: {name: P01}\nspec: {type: primary}\n";
        assert!(problems(text)[0].contains("one document of kind ReconcilerConfig"));
    }
}
