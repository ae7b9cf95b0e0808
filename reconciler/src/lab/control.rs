//! How `stead lab kill` and its sisters reach the lab that runs: a line of JSON over `lab.sock`.

use std::fmt;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use stead_schemas::names::ServerName;

use super::folder::Folder;
use super::scene::RECONCILER;
use crate::commands::CommandError;

/// How long the lab may take to answer: killing and starting are quick.
const ANSWER: Duration = Duration::from_secs(20);
/// Longest request read.
pub(super) const REQUEST_MAX: u64 = 4_096;

/// What can be done to a server or to the reconciler.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "camelCase")]
pub enum Command {
    /// Drop every packet to and from its address.
    Cut,
    /// Stop all its processes where they are.
    Freeze,
    /// Undo all of it.
    Heal,
    /// Kill all its processes, as a power cut does.
    Kill,
}

/// One request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    /// What is to be done.
    pub command: Command,
    /// To what.
    pub target: Target,
}

/// What it is done to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Target {
    /// The reconciler.
    Reconciler,
    /// A server; the reconciler goes by its name, too.
    Server(ServerName),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reconciler => f.write_str(RECONCILER),
            Self::Server(name) => name.fmt(f),
        }
    }
}

/// Its answer: what was done, or why not.
pub(super) type Answer = Result<String, String>;

/// Asks the lab that runs in the folder.
///
/// # Errors
/// Unobserved where no lab runs, failed where it refuses.
pub fn ask(folder: &Folder, request: &Request) -> Result<String, CommandError> {
    let answer = exchange(folder, request).map_err(|error| {
        let message = format!("no lab answers in {}: {error}", folder.root().display());
        CommandError::unobserved(message)
            .hinted("start it with `stead lab`, or name its folder with --dir")
    })?;
    answer.map_err(CommandError::failed)
}

fn exchange(folder: &Folder, request: &Request) -> io::Result<Answer> {
    let mut stream = UnixStream::connect(folder.control_socket())?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    Ok(serde_json::from_str(&answer)?)
}
