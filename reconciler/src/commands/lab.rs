//! `stead lab`: a whole hierarchy on this machine, and ways to break it.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use stead_schemas::names::ServerName;

use super::{CommandResult, Outcome};
use crate::lab::{self, Command, Folder, Request, Target};
use crate::output::Ui;

/// Run a whole three-site hierarchy on this machine, until Ctrl-C
///
/// A git repository to commit to, a CA, a dozen real site agents on 127.x addresses, the embedded
/// DNS server and the reconciler. Everything is kept in one folder; nothing else is touched. A
/// second start goes on from what is there. What dies is started again; kill, cut and freeze break
/// a server or the reconciler for good, heal undoes them.
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
    /// Cut a server off: every packet to and from its address is dropped (needs root and nft)
    Cut(TargetArgs),
    /// Stop all processes of a server where they are: agent, guard, keepers and instances
    Freeze(TargetArgs),
    /// Undo what was done to a server, or plug in the machine of a new one
    Heal(TargetArgs),
    /// Kill all processes of a server, as a power cut does
    Kill(TargetArgs),
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct TargetArgs {
    /// The server
    server: Option<ServerName>,
    /// The reconciler instead of a server
    #[arg(long)]
    reconciler: bool,
}

impl TargetArgs {
    fn target(self) -> Target {
        self.server.map_or(Target::Reconciler, Target::Server)
    }
}

pub(super) async fn run(ui: &Ui, args: LabArgs) -> CommandResult {
    let folder = Folder::at(&args.dir)?;
    let Some(action) = args.action else {
        return lab::run(ui, folder).await;
    };
    let (command, target) = match action {
        Action::Cut(target) => (Command::Cut, target),
        Action::Freeze(target) => (Command::Freeze, target),
        Action::Heal(target) => (Command::Heal, target),
        Action::Kill(target) => (Command::Kill, target),
    };
    let request = Request {
        command,
        target: target.target(),
    };
    ui.line(&lab::ask(&folder, &request)?)?;
    Ok(Outcome::Done)
}
