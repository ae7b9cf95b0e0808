//! The checked form of `git:` in a ReconcilerConfig: where to fetch from, and with what.
//!
//! Everything that could turn a setting into an option, a shell word or a leaked password is
//! refused here, once, so that the code that fetches needs no second look. No file is opened:
//! whether a key can be read is found out at each fetch.

use std::path::{Path, PathBuf};
use std::time::Duration;

use stead_schemas::declared::settings::{GitReference, GitSettings};
use stead_schemas::time::DurationMs;
use thiserror::Error;

use super::folder::components;

/// Most that one fetch may bring: hundreds of times the largest hierarchy (H23).
pub(super) const MOST_BYTES: u64 = 2 * 1024 * 1024 * 1024;
/// What a token is offered for where the settings name no user; forges accept any name.
const DEFAULT_USER: &str = "git";

/// A repository and what of it is followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remote {
    pub(super) place: Place,
    pub(super) reference: String,
    pub(super) poll: DurationMs,
    pub(super) timeout: Duration,
    /// Most that one fetch may bring.
    pub(super) most_bytes: u64,
    shown: String,
}

/// How the repository is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    /// A folder of this machine; libgit2 reads it.
    Local(PathBuf),
    /// The system's `git` over TLS.
    Https {
        url: String,
        /// `https://host:port`: the only place the token is given to, also after a redirect.
        origin: String,
        token_file: Option<PathBuf>,
        user: String,
        ca_file: Option<PathBuf>,
    },
    /// The system's `git` over the system's `ssh`.
    Ssh {
        url: String,
        key_file: PathBuf,
        known_hosts_file: PathBuf,
    },
}

/// A setting below `git:` that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("git.{field}: {problem}")]
pub struct SettingError {
    /// The key below `git:`.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: &'static str,
}

impl Remote {
    /// Checks the settings.
    ///
    /// # Errors
    /// Every setting that is wrong, not only the first.
    pub fn from_settings(settings: &GitSettings) -> Result<Self, Vec<SettingError>> {
        let mut wrong = Vec::new();
        check_reference(settings, &mut wrong);
        check_times(settings, &mut wrong);
        if components(settings.folder.as_deref()).is_err() {
            wrong.push(error(
                "folder",
                "write it as `sites/production`, without `..`",
            ));
        }
        let place = match place(settings, &mut wrong) {
            Some(place) if wrong.is_empty() => place,
            _ => return Err(wrong),
        };
        Ok(Self {
            place,
            reference: full_name(&settings.reference()),
            poll: settings.poll,
            timeout: settings.timeout.std(),
            most_bytes: MOST_BYTES,
            shown: settings.url.clone(),
        })
    }

    /// The same, of which one fetch may bring less.
    #[must_use]
    pub const fn at_most(mut self, bytes: u64) -> Self {
        self.most_bytes = bytes;
        self
    }

    /// Where from, as people read it; there are no credentials in it.
    #[must_use]
    pub fn shown(&self) -> &str {
        &self.shown
    }

    /// The full name of what is followed: `refs/heads/main`.
    #[must_use]
    pub fn reference(&self) -> &str {
        &self.reference
    }

    /// The folder of a local repository; file notification can watch it.
    #[must_use]
    pub fn local_folder(&self) -> Option<&Path> {
        match &self.place {
            Place::Local(path) => Some(path),
            Place::Https { .. } | Place::Ssh { .. } => None,
        }
    }
}

const fn error(field: &'static str, problem: &'static str) -> SettingError {
    SettingError { field, problem }
}

fn full_name(reference: &GitReference) -> String {
    match reference {
        GitReference::Branch(name) => format!("refs/heads/{name}"),
        GitReference::Tag(name) => format!("refs/tags/{name}"),
    }
}

fn check_reference(settings: &GitSettings, wrong: &mut Vec<SettingError>) {
    let field = if settings.tag.is_some() {
        "tag"
    } else {
        "branch"
    };
    if settings.tag.is_some() && settings.branch.is_some() {
        wrong.push(error(field, "follow a branch or a tag, not both"));
    }
    if !git2::Reference::is_valid_name(&full_name(&settings.reference())) {
        wrong.push(error(
            field,
            "git accepts no such name; write it without `refs/`",
        ));
    }
}

fn check_times(settings: &GitSettings, wrong: &mut Vec<SettingError>) {
    if !(1_000..=86_400_000).contains(&settings.poll.0) {
        wrong.push(error("poll", "between 1s and 1d"));
    }
    if !(100..=3_600_000).contains(&settings.timeout.0) {
        wrong.push(error("timeout", "between 100ms and 1h"));
    }
}

fn place(settings: &GitSettings, wrong: &mut Vec<SettingError>) -> Option<Place> {
    let url = settings.url.as_str();
    if url.chars().any(|c| c.is_control() || c.is_whitespace()) {
        wrong.push(error("url", "without spaces and control characters"));
        return None;
    }
    if let Some(rest) = url.strip_prefix("https://") {
        refuse_misplaced(settings, &["sshKeyFile", "knownHostsFile"], wrong);
        return https(settings, rest, wrong);
    }
    if let Some(rest) = url.strip_prefix("ssh://") {
        refuse_misplaced(settings, &["tokenFile", "user", "caFile"], wrong);
        return ssh(settings, rest, wrong);
    }
    let path = url.strip_prefix("file://").unwrap_or(url);
    if path.starts_with('/') {
        let elsewhere = [
            "tokenFile",
            "user",
            "caFile",
            "sshKeyFile",
            "knownHostsFile",
        ];
        refuse_misplaced(settings, &elsewhere, wrong);
        return Some(Place::Local(PathBuf::from(path)));
    }
    wrong.push(error(
        "url",
        "write an absolute path, file:///path, https://host/path or ssh://user@host/path",
    ));
    None
}

fn refuse_misplaced(settings: &GitSettings, fields: &[&str], wrong: &mut Vec<SettingError>) {
    let given = [
        ("tokenFile", settings.token_file.is_some()),
        ("user", settings.user.is_some()),
        ("caFile", settings.ca_file.is_some()),
        ("sshKeyFile", settings.ssh_key_file.is_some()),
        ("knownHostsFile", settings.known_hosts_file.is_some()),
    ];
    for (field, is_given) in given {
        if is_given && fields.contains(&field) {
            wrong.push(error(field, "does not go with this kind of url; remove it"));
        }
    }
}

fn https(settings: &GitSettings, rest: &str, wrong: &mut Vec<SettingError>) -> Option<Place> {
    let authority = rest.split('/').next().unwrap_or_default();
    if authority.contains('@') {
        wrong.push(error(
            "url",
            "no user or password in the url: put the token in a file and name it in `tokenFile`",
        ));
        return None;
    }
    if !is_host(authority) {
        wrong.push(error("url", "names no host: https://host/path"));
        return None;
    }
    let user = settings.user.as_deref().unwrap_or(DEFAULT_USER);
    if user.is_empty() || user.contains(|c: char| c.is_control() || c == ':') {
        wrong.push(error("user", "a name without `:` and control characters"));
    }
    check_absolute("tokenFile", settings.token_file.as_deref(), wrong);
    check_absolute("caFile", settings.ca_file.as_deref(), wrong);
    Some(Place::Https {
        url: settings.url.clone(),
        origin: format!("https://{authority}"),
        token_file: settings.token_file.clone(),
        user: user.to_owned(),
        ca_file: settings.ca_file.clone(),
    })
}

fn ssh(settings: &GitSettings, rest: &str, wrong: &mut Vec<SettingError>) -> Option<Place> {
    let authority = rest.split('/').next().unwrap_or_default();
    let (user, host) = authority.split_once('@').unwrap_or(("git", authority));
    if user.contains(':') {
        wrong.push(error(
            "url",
            "no password in the url: ssh uses `sshKeyFile`",
        ));
        return None;
    }
    let is_user = !user.is_empty() && !user.starts_with('-');
    if !is_host(host) || !is_user {
        wrong.push(error("url", "names no user or host: ssh://user@host/path"));
        return None;
    }
    let key = ssh_path("sshKeyFile", settings.ssh_key_file.as_deref(), wrong);
    let known = ssh_path(
        "knownHostsFile",
        settings.known_hosts_file.as_deref(),
        wrong,
    );
    Some(Place::Ssh {
        url: settings.url.clone(),
        key_file: key?,
        known_hosts_file: known?,
    })
}

/// `host`, `host:port` or `[address]:port`, of characters that mean nothing to a shell.
fn is_host(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    !text.is_empty() && !text.starts_with(['-', ':']) && text.chars().all(plain)
}

fn check_absolute(field: &'static str, path: Option<&Path>, wrong: &mut Vec<SettingError>) {
    if path.is_some_and(|path| !path.is_absolute()) {
        wrong.push(error(field, "an absolute path"));
    }
}

/// A path that `ssh -o` takes as it stands: it expands `%`, `~` and `${}` and reads quotes.
fn ssh_path(
    field: &'static str,
    path: Option<&Path>,
    wrong: &mut Vec<SettingError>,
) -> Option<PathBuf> {
    let Some(path) = path else {
        wrong.push(error(field, "is needed with ssh"));
        return None;
    };
    let special = |c: char| c.is_control() || "%$\"'\\`".contains(c);
    match path.to_str() {
        Some(text) if path.is_absolute() && !text.contains(special) => Some(path.to_owned()),
        _ => {
            wrong.push(error(
                field,
                "an absolute path without quotes, `%`, `$` and `\\`",
            ));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(json: serde_json::Value) -> Vec<&'static str> {
        let settings: GitSettings = serde_json::from_value(json).unwrap();
        match Remote::from_settings(&settings) {
            Ok(_) => Vec::new(),
            Err(wrong) => wrong.into_iter().map(|e| e.field).collect(),
        }
    }

    fn of_url(url: &str) -> Vec<&'static str> {
        problems(serde_json::json!({ "url": url }))
    }

    #[test]
    fn urls_that_are_options_other_programs_or_leak_are_refused() {
        for url in [
            "--upload-pack=touch /tmp/x",
            "-x",
            "ext::sh -c id",
            "ext::sh",
            "http://h/x",
            "git://h/x",
            "git@h:x",
            "relative/path",
            "https://user:secret@h/x",
            "https://token@h/x",
            "https:///x",
            "https://-h/x",
            "https://h;id/x",
            "file://host/x",
            "/a b",
        ] {
            assert_eq!(of_url(url), ["url"], "{url}");
        }
        for url in [
            "ssh://-oProxyCommand=id/x",
            "ssh://u:p@h/x",
            "ssh://u@-h/x",
            "ssh://@h/x",
        ] {
            assert!(of_url(url).contains(&"url"), "{url}");
        }
        for url in ["/srv/t.git", "file:///srv/t.git", "https://h:8443/t.git"] {
            assert_eq!(of_url(url), [""; 0], "{url}");
        }
    }

    #[test]
    fn a_refused_url_is_not_repeated_in_the_error() {
        let settings: GitSettings =
            serde_json::from_value(serde_json::json!({"url": "https://u:s3cret@h/x"})).unwrap();
        let wrong = Remote::from_settings(&settings).unwrap_err();
        assert!(!format!("{wrong:?} {}", wrong[0]).contains("s3cret"));
    }

    #[test]
    fn ssh_needs_both_files_as_plain_paths() {
        let url = "ssh://git@h:2222/t.git";
        assert_eq!(of_url(url), ["sshKeyFile", "knownHostsFile"]);
        let of = |key: &str, known: &str| {
            problems(serde_json::json!({"url": url, "sshKeyFile": key, "knownHostsFile": known}))
        };
        assert_eq!(of("/k", "/h"), [""; 0]);
        assert_eq!(of("/k with space", "/h"), [""; 0]);
        assert_eq!(of("k", "/%h"), ["sshKeyFile", "knownHostsFile"]);
        assert_eq!(of("/k$(id)", "/h'x"), ["sshKeyFile", "knownHostsFile"]);
    }

    #[test]
    fn all_that_is_wrong_is_said_at_once() {
        let wrong = problems(serde_json::json!({
            "url": "/t", "branch": "a..b", "tag": "x y", "folder": "../x", "poll": "1ms",
            "timeout": "2h", "tokenFile": "/t"
        }));
        assert_eq!(
            wrong,
            ["tag", "tag", "poll", "timeout", "folder", "tokenFile"]
        );
    }
}
