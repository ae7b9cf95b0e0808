//! The `git fetch` command line and its whole environment.
//!
//! Nothing of the user's or the machine's git settings takes part: the environment is built from
//! nothing, and every setting is given here. Secrets are in neither: a credential helper reads the
//! token file, for the configured server only; ssh reads its own key file.

use std::ffi::OsString;
use std::path::Path;

use tokio::process::Command;

use super::super::mirror::{FETCHED, Mirror};
use super::super::remote::{Place, Remote};

/// What of our own environment a fetch may see: where programs are, and the way out.
const PASSED: [&str; 8] = [
    "PATH",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
    "no_proxy",
    "NO_PROXY",
    "TMPDIR",
];

/// Answers git's `get` from the token file; `tr` because a token file often ends in a newline.
/// Names and paths come in by environment, so no path can become shell.
const CREDENTIAL_HELPER: &str = r#"!f() { test "$1" = get || return 0; printf 'username=%s\n' "$STEAD_GIT_USER"; printf 'password='; tr -d '\r\n' <"$STEAD_GIT_TOKEN_FILE"; echo; }; f"#;

/// The command for a remote that the system's `git` reaches; nothing for a local one.
pub(super) fn fetch_command(mirror: &Mirror, remote: &Remote) -> Command {
    let mut command = Command::new("git");
    command.env_clear();
    for name in PASSED {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    command
        .env("LC_ALL", "C")
        // curl looks for .netrc, git and ssh for their settings there: a folder without any.
        .env("HOME", mirror.path())
        .env("GIT_DIR", mirror.path())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_ASKPASS", "")
        .env("SSH_ASKPASS", "")
        .env("GIT_PROTOCOL_FROM_USER", "0")
        .current_dir(mirror.path());
    let mut settings = shared_settings();
    let url = match &remote.place {
        Place::Local(path) => path.as_os_str().to_owned(),
        Place::Https { url, .. } => {
            command.env("GIT_ALLOW_PROTOCOL", "https");
            settings.extend(https_settings(&mut command, remote));
            OsString::from(url)
        }
        Place::Ssh {
            url,
            key_file,
            known_hosts_file,
        } => {
            command.env("GIT_ALLOW_PROTOCOL", "ssh");
            command.env("GIT_SSH_VARIANT", "ssh");
            let seconds = remote.timeout.as_secs().max(1);
            command.env(
                "GIT_SSH_COMMAND",
                ssh_command(key_file, known_hosts_file, seconds),
            );
            OsString::from(url)
        }
    };
    give_settings(&mut command, &settings);
    command.args([
        "fetch",
        "--quiet",
        "--force",
        "--no-tags",
        "--no-auto-maintenance",
        "--no-write-fetch-head",
        "--no-recurse-submodules",
        "--",
    ]);
    command
        .arg(url)
        .arg(format!("+{}:{FETCHED}", remote.reference));
    command
}

fn shared_settings() -> Vec<(String, OsString)> {
    [
        ("core.hooksPath", "/dev/null"),
        ("core.askPass", ""),
        // Larger blobs are passed through instead of held in memory.
        ("core.bigFileThreshold", "16m"),
        ("core.fsync", "committed"),
        // Packs only: Mirror::compact counts them.
        ("fetch.unpackLimit", "1"),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
        ("protocol.version", "2"),
    ]
    .map(|(key, value)| (key.to_owned(), OsString::from(value)))
    .to_vec()
}

fn https_settings(command: &mut Command, remote: &Remote) -> Vec<(String, OsString)> {
    let Place::Https {
        origin,
        token_file,
        user,
        ca_file,
        ..
    } = &remote.place
    else {
        return Vec::new();
    };
    let mut settings = vec![
        ("http.sslVerify".to_owned(), "true".into()),
        // An orphan of a killed reconciler ends by itself.
        ("http.lowSpeedLimit".to_owned(), "1".into()),
        (
            "http.lowSpeedTime".to_owned(),
            remote.timeout.as_secs().max(1).to_string().into(),
        ),
    ];
    if let Some(ca_file) = ca_file {
        settings.push(("http.sslCAInfo".to_owned(), ca_file.as_os_str().to_owned()));
    }
    if let Some(token_file) = token_file {
        command.env("STEAD_GIT_USER", user);
        command.env("STEAD_GIT_TOKEN_FILE", token_file);
        let key = format!("credential.{origin}.helper");
        settings.push((key, CREDENTIAL_HELPER.into()));
    }
    settings
}

fn give_settings(command: &mut Command, settings: &[(String, OsString)]) {
    command.env("GIT_CONFIG_COUNT", settings.len().to_string());
    for (number, (key, value)) in settings.iter().enumerate() {
        command.env(format!("GIT_CONFIG_KEY_{number}"), key);
        command.env(format!("GIT_CONFIG_VALUE_{number}"), value);
    }
}

/// What git runs through a shell. The paths are free of quotes and of what ssh expands
/// ([`Remote::from_settings`]), so single quotes for the shell and double ones for ssh hold.
fn ssh_command(key_file: &Path, known_hosts_file: &Path, seconds: u64) -> String {
    let (key, known) = (key_file.display(), known_hosts_file.display());
    format!(
        "ssh -F /dev/null -i '{key}' \
         -o IdentitiesOnly=yes -o IdentityAgent=none -o BatchMode=yes \
         -o StrictHostKeyChecking=yes -o 'UserKnownHostsFile=\"{known}\"' \
         -o GlobalKnownHostsFile=/dev/null -o UpdateHostKeys=no \
         -o PreferredAuthentications=publickey -o ClearAllForwardings=yes \
         -o ConnectTimeout={seconds} -o ServerAliveInterval=5 -o ServerAliveCountMax=3 \
         -o LogLevel=ERROR"
    )
}
