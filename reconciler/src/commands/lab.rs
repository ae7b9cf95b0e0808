//! `stead lab`: a whole hierarchy on this machine, and ways to break it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use stead_schemas::names::ServerName;

use super::{CommandResult, Outcome};
use crate::lab::{self, Command, Folder, Request};
use crate::output::Ui;

/// Run a whole three-site hierarchy on this machine, until Ctrl-C
///
/// A git repository to commit to, a CA, a dozen real site agents on 127.x addresses, the embedded
/// DNS server and the reconciler. Everything is kept in one folder; nothing else is touched. A
/// second start goes on from what is there. What dies is started again; kill, cut and freeze break
/// a server for good, heal undoes them.
#[derive(Debug, Args)]
pub(super) struct LabArgs {
    /// The lab's folder, new or of an earlier lab
    #[arg(long, global = true, default_value = "stead-lab", value_name = "DIR")]
    dir: PathBuf,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Cut a server's agent off: every packet to and from it is dropped (needs root and nft)
    Cut(ServerArg),
    /// Stop all processes of a server where they are
    Freeze(ServerArg),
    /// Undo what was done to a server, or plug in the machine of a new one
    Heal(ServerArg),
    /// Kill all processes of a server, as a power cut does
    Kill(ServerArg),
}

#[derive(Debug, Args)]
struct ServerArg {
    /// The server
    server: ServerName,
}

pub(super) async fn run(ui: &Ui, args: LabArgs) -> CommandResult {
    let folder = Folder::at(&args.dir)?;
    let Some(action) = args.action else {
        return lab::run(ui, folder).await;
    };
    let (command, server) = match action {
        Action::Cut(server) => (Command::Cut, server),
        Action::Freeze(server) => (Command::Freeze, server),
        Action::Heal(server) => (Command::Heal, server),
        Action::Kill(server) => (Command::Kill, server),
    };
    let request = Request {
        command,
        server: server.server,
    };
    ui.line(&lab::ask(&folder, &request)?)?;
    Ok(Outcome::Done)
}
