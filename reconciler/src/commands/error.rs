//! How a command ends: what it says, and its exit code (design section 8).
//!
//! A command returns an [`Outcome`], or a [`CommandError`] that is printed once, with its chain of
//! causes and its hints, by [`CommandError::report`]. Codes are made here and nowhere else.

use std::error::Error;
use std::fmt;
use std::io;
use std::process::ExitCode;

use crate::output::Ui;

/// How a command that said all it had to say ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Changes are pending; only `plan --detailed-exitcode` ends so.
    ChangesPending,
    /// All is well.
    Done,
    /// It failed, and has already said why.
    Failed,
    /// Something is held and a person is needed.
    Held,
    /// It could not observe what it was asked about.
    Unobserved,
}

impl Outcome {
    /// The exit code.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::ChangesPending => 2,
            Self::Unobserved => 3,
            Self::Held => 4,
        }
    }
}

/// What kind of end an error is; sets the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// Whoever read our output went away: nothing is said, the code is 0 as for any filter.
    BrokenPipe,
    /// Failed: bad usage, bad input, or a refusal.
    Failed,
    /// A person is needed.
    Held,
    /// Nobody answered who could know.
    Unobserved,
}

/// Why a command stopped, and what to do about it.
#[derive(Debug)]
pub struct CommandError {
    /// What kind of end it is.
    pub kind: ErrorKind,
    error: Box<dyn Error + Send + Sync>,
    hints: Vec<String>,
}

/// What commands return.
pub type CommandResult = Result<Outcome, CommandError>;

impl CommandError {
    /// A failure told in words alone.
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Failed, Message(message.into()))
    }

    /// A person is needed (exit code 4).
    pub fn held(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Held, Message(message.into()))
    }

    /// Nobody answered who could know (exit code 3).
    pub fn unobserved(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Unobserved, error)
    }

    /// An error of a kind.
    pub fn new(kind: ErrorKind, error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self {
            kind,
            error: error.into(),
            hints: Vec::new(),
        }
    }

    /// The same with a hint more.
    #[must_use]
    pub fn hinted(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Message, causes and hints as one text, for those who can't print them.
    #[must_use]
    pub fn text(&self) -> String {
        let hints = self.hints.iter().map(|hint| format!("; hint: {hint}"));
        std::iter::once(chain(self.error.as_ref()))
            .chain(hints)
            .collect()
    }

    /// The exit code.
    #[must_use]
    pub const fn code(&self) -> u8 {
        match self.kind {
            ErrorKind::BrokenPipe => Outcome::Done.code(),
            ErrorKind::Failed => Outcome::Failed.code(),
            ErrorKind::Held => Outcome::Held.code(),
            ErrorKind::Unobserved => Outcome::Unobserved.code(),
        }
    }

    /// Prints message, causes and hints to stderr, each once.
    pub fn report(&self, ui: &Ui) {
        if self.kind == ErrorKind::BrokenPipe {
            return;
        }
        ui.error(&chain(self.error.as_ref()));
        for hint in &self.hints {
            ui.hint(hint);
        }
    }
}

impl<E: Error + Send + Sync + 'static> From<E> for CommandError {
    /// An error without a better place: failed. A broken pipe is recognised wherever it comes from.
    fn from(error: E) -> Self {
        let kind = if is_broken_pipe(&error) {
            ErrorKind::BrokenPipe
        } else {
            ErrorKind::Failed
        };
        Self::new(kind, error)
    }
}

/// Message of an error and of all its sources, outermost first, separated by `: `. A source whose
/// text already stands in the message above it is not repeated.
#[must_use]
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// The code of a finished command, its error printed.
pub(super) fn finish(ui: &Ui, result: CommandResult) -> ExitCode {
    match result {
        Ok(outcome) => outcome.code().into(),
        Err(error) => {
            error.report(ui);
            error.code().into()
        }
    }
}

fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>()
            && io.kind() == io::ErrorKind::BrokenPipe
        {
            return true;
        }
        next = error.source();
    }
    false
}

#[derive(Debug)]
struct Message(String);

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Message {}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("can't read topology")]
    struct Outer(#[source] io::Error);

    #[test]
    fn a_chain_is_told_once_from_the_outside_in() {
        let error = Outer(io::Error::other("disk gone"));
        assert_eq!(chain(&error), "can't read topology: disk gone");
    }

    #[test]
    fn every_kind_has_the_exit_code_of_design_section_8() {
        let code = |kind| CommandError::new(kind, Message(String::new())).code();
        assert_eq!(code(ErrorKind::BrokenPipe), 0);
        assert_eq!(code(ErrorKind::Failed), 1);
        assert_eq!(code(ErrorKind::Unobserved), 3);
        assert_eq!(code(ErrorKind::Held), 4);
        assert_eq!(Outcome::ChangesPending.code(), 2);
    }

    #[test]
    fn a_reader_that_went_away_is_no_failure() {
        let error = CommandError::from(Outer(io::Error::from(io::ErrorKind::BrokenPipe)));
        assert_eq!(error.kind, ErrorKind::BrokenPipe);
    }
}
