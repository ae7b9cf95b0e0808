//! What people see: stdout for data, stderr for everything else (design section 8).
//!
//! [`Ui`] knows which of the two are terminals and hence coloured; tables, times, diagnostics and
//! annotations are made by the files below it. It decides nothing about what is shown.

pub mod diagnostics;
pub mod drain;
pub mod github;
pub mod history;
pub mod lease;
pub mod lists;
pub mod plan;
pub mod status;
pub mod style;
pub mod table;
pub mod when;

use std::io::{self, IsTerminal, Write};

use serde::Serialize;

pub use style::{Palette, Style};
pub use table::Table;

/// The form of a command's answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Human,
    /// For programs.
    Json,
}

/// `-o`, on every command that reads.
#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct FormatArg {
    /// Form of the answer
    #[arg(short, long, value_enum, default_value_t, value_name = "FORM")]
    pub output: Format,
}

/// The two streams of a command.
#[derive(Debug, Clone, Copy)]
pub struct Ui {
    /// Colours of stdout.
    pub out: Palette,
    /// Colours of stderr.
    pub err: Palette,
}

impl Ui {
    /// Colours where a person looks: on a terminal that is not `dumb`, unless `NO_COLOR` is set.
    #[must_use]
    pub fn of_process() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
            && std::env::var_os("TERM").is_none_or(|value| value != "dumb");
        Self {
            out: Palette::new(wanted && io::stdout().is_terminal()),
            err: Palette::new(wanted && io::stderr().is_terminal()),
        }
    }

    /// Writes data to stdout as it is.
    ///
    /// # Errors
    /// What the stream says, a broken pipe for example.
    pub fn data(&self, text: &str) -> io::Result<()> {
        let mut stdout = io::stdout().lock();
        stdout.write_all(text.as_bytes())?;
        stdout.flush()
    }

    /// Writes a line of data to stdout.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn line(&self, text: &str) -> io::Result<()> {
        self.data(&format!("{text}\n"))
    }

    /// Writes a value as JSON to stdout.
    ///
    /// # Errors
    /// As [`Self::data`].
    pub fn json<T: Serialize>(&self, value: &T) -> io::Result<()> {
        let text = serde_json::to_string_pretty(value).map_err(io::Error::other)?;
        self.line(&text)
    }

    /// Says something beside the data, on stderr. A stderr that can't be written to is nobody's
    /// problem but its reader's.
    pub fn note(&self, text: &str) {
        drop(writeln!(io::stderr().lock(), "{text}"));
    }

    /// An error, on stderr.
    pub fn error(&self, text: &str) {
        self.note(&format!("{} {text}", self.err.paint(Style::Bad, "error:")));
    }

    /// A warning, on stderr.
    pub fn warning(&self, text: &str) {
        self.note(&format!(
            "{} {text}",
            self.err.paint(Style::Warn, "warning:")
        ));
    }

    /// What to do, on stderr.
    pub fn hint(&self, text: &str) {
        self.note(&format!("{} {text}", self.err.paint(Style::Note, "hint:")));
    }
}

#[cfg(test)]
mod tests;
