//! From the words of `git`, `ssh` and curl to a typed cause.
//!
//! The words are read only to choose a remedy: whatever a server writes, the worst it gets is the
//! wrong hint. Language is fixed (`LC_ALL=C`) by whoever starts the program.

use super::FetchCause;

/// Words that tell a cause, in lower case; the first row that matches wins, so the more telling
/// ones stand first. Git repeats itself, and its last line is often the least telling.
const WORDS: &[(&str, FetchCause)] = &[
    (
        "remote host identification has changed",
        FetchCause::HostKeyChanged,
    ),
    ("host key verification failed", FetchCause::HostKeyUnknown),
    ("unprotected private key", FetchCause::KeyFile),
    ("bad permissions", FetchCause::KeyFile),
    ("error in libcrypto", FetchCause::KeyFile),
    ("invalid format", FetchCause::KeyFile),
    ("couldn't find remote ref", FetchCause::BranchGone),
    ("could not resolve host", FetchCause::NameNotResolved),
    ("error setting certificate", FetchCause::CaFile),
    ("ssl certificate problem", FetchCause::CertificateRefused),
    (
        "certificate verification failed",
        FetchCause::CertificateRefused,
    ),
    ("certificate subject name", FetchCause::CertificateRefused),
    (
        "no alternative certificate subject",
        FetchCause::CertificateRefused,
    ),
    (
        "does not match target host name",
        FetchCause::CertificateRefused,
    ),
    ("authentication failed", FetchCause::AuthRefused),
    ("could not read username", FetchCause::AuthRefused),
    ("could not read password", FetchCause::AuthRefused),
    ("permission denied (", FetchCause::AuthRefused),
    ("returned error: 401", FetchCause::AuthRefused),
    ("returned error: 403", FetchCause::AuthRefused),
    ("too many authentication failures", FetchCause::AuthRefused),
    ("returned error: 4", FetchCause::RepositoryGone),
    ("returned error: 5", FetchCause::ServerFailing),
    (
        "not valid: is this a git repository",
        FetchCause::RepositoryGone,
    ),
    (
        "does not appear to be a git repository",
        FetchCause::RepositoryGone,
    ),
    ("repository not found", FetchCause::RepositoryGone),
    (
        "project you were looking for could not be found",
        FetchCause::RepositoryGone,
    ),
    ("not found", FetchCause::RepositoryGone),
    ("no space left on device", FetchCause::DiskFull),
    ("disk quota exceeded", FetchCause::DiskFull),
    ("file size limit exceeded", FetchCause::TooLarge),
    ("file too large", FetchCause::TooLarge),
    ("died of signal 25", FetchCause::TooLarge),
    ("operation too slow", FetchCause::Timeout),
    ("timed out", FetchCause::Unreachable),
    ("connection refused", FetchCause::Unreachable),
    ("no route to host", FetchCause::Unreachable),
    ("network is unreachable", FetchCause::Unreachable),
    ("couldn't connect", FetchCause::Unreachable),
    ("could not connect", FetchCause::Unreachable),
    ("failed to connect", FetchCause::Unreachable),
    ("connection reset", FetchCause::Unreachable),
    ("connection closed", FetchCause::Unreachable),
    ("hung up unexpectedly", FetchCause::Unreachable),
    ("early eof", FetchCause::Unreachable),
    (
        "could not read from remote repository",
        FetchCause::Unreachable,
    ),
];

/// Longest detail that is kept, in characters.
const DETAIL_CHARS: usize = 400;

/// The cause that the standard error of a failed fetch speaks of.
pub(super) fn cause(stderr: &str) -> FetchCause {
    let told = own_lines(stderr)
        .collect::<Vec<_>>()
        .join("\n")
        .to_lowercase();
    WORDS
        .iter()
        .find(|(words, _)| told.contains(words))
        .map_or(FetchCause::Other, |(_, cause)| *cause)
}

/// The telling lines as one, fit to be shown.
pub(super) fn detail(stderr: &str) -> String {
    let lines: Vec<&str> = own_lines(stderr)
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.chars().all(|c| c == '@'))
        .take(4)
        .collect();
    lines.join("; ")
}

/// Text from outside without control characters, cut to a bearable length.
pub(super) fn shown(text: &str) -> String {
    let clean = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    clean
        .take(DETAIL_CHARS)
        .collect::<String>()
        .trim()
        .to_owned()
}

/// What git and ssh say themselves about the failure: lines the server sent over git's side band
/// begin with `remote:`, and git's own warnings are about something else.
fn own_lines(stderr: &str) -> impl Iterator<Item = &str> {
    stderr
        .lines()
        .filter(|line| !line.starts_with("remote:") && !line.starts_with("warning:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_server_says_over_the_side_band_decides_nothing() {
        let text = "remote: Host key verification failed.\nfatal: couldn't find remote ref x";
        assert_eq!(cause(text), FetchCause::BranchGone);
        assert_eq!(detail(text), "fatal: couldn't find remote ref x");
    }

    #[test]
    fn each_row_can_be_reached() {
        for (words, wanted) in WORDS {
            assert_eq!(cause(&format!("fatal: {words} 1")), *wanted, "{words}");
        }
    }

    #[test]
    fn a_detail_moves_no_cursor_and_has_an_end() {
        assert_eq!(shown("a\x1b[2Jb\r\nc"), "a [2Jb  c");
        assert_eq!(shown(&"x".repeat(10_000)).len(), DETAIL_CHARS);
    }
}
