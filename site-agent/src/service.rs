//! The agent as a service: from settings to a listening agent, and its signals.

use std::error::Error;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use stead_schemas::declared::settings::{AgentConfig, CgroupUse, NetworkFence};
use stead_schemas::names::{IdentityKind, ServerName};
use stead_wire::local::of_listener;
use stead_wire::material::Material;
use stead_wire::pki_files;
use stead_wire::serve::{Limits, serve as serve_tls};
use stead_wire::tls::{ClientTls, ServerTls};
use tokio::net::{TcpListener, UnixListener};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Mutex, Notify, watch};
use tokio::time::{Instant, sleep};

use crate::accept::Me;
use crate::agent::{Agent, first_report};
use crate::api::Api;
use crate::board::Board;
use crate::certificates::Certificates;
use crate::guard::GROUP;
use crate::guard::network::{self, NetworkError};
use crate::layout::{Layout, SOCKET};
use crate::ledger::{Ledger, LedgerError, Owner, machine_id};
use crate::processes;
use crate::processes::cgroup::{self, Cgroup};
use crate::renewal::Renewal;
use crate::seat::{Seat, Surroundings};
use crate::supervisor::{Context, Supervisor};
use crate::{chain, config};

/// Longest wait for the first word on the health of adopted instances.
const SETTLE: Duration = Duration::from_secs(1);
/// How long an address may still be held by the agent before us.
const BIND: Duration = Duration::from_secs(5);

/// Why the agent ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Leaves its instances running.
    Leave,
    /// Stops its instances.
    Stop,
}

/// Runs the agent until a signal ends it.
///
/// # Errors
/// What keeps it from starting; every cause names its remedy.
pub async fn serve(file: &Path, config: AgentConfig) -> Result<(), Box<dyn Error>> {
    let signals = Signals::new()?;
    processes::reap_all();
    let exe = own_program()?;
    let layout = Layout::make(&config.spec.state_dir)?;
    let _lock = layout.lock()?;
    let material = own_material(&config)?;
    let (server_tls, client_tls) = (ServerTls::new(&material)?, ClientTls::new(&material)?);
    let ledger = open_ledger(&config, &layout)?;
    let board = Board::new(first_report(config.server.clone(), &ledger));
    let own = crate::net::own_loopback(config.spec.listen);
    let context = Arc::new(Context {
        exe: exe.clone(),
        cgroups: cgroups(&config, &layout),
        content_dir: config.spec.content_dir.clone(),
        server: config.server.clone(),
        layout: layout.clone(),
        board: board.clone(),
        own,
        client: crate::net::probe_client(own),
    });
    fence_network(&config, &context).await?;
    let seat = take_seat(file, &config, &context, &client_tls, &ledger);
    let supervisor = Supervisor::start(context, ledger.assignment.as_ref(), &ledger.secrets).await;
    layout.secrets().retain(&ledger.secrets);
    supervisor.settled(SETTLE).await;
    let agent = Arc::new(Agent {
        me: Me {
            hierarchy: config.spec.hierarchy.clone(),
            site: config.spec.site.clone(),
            server: config.server.clone(),
        },
        board,
        layout,
        tls: Arc::clone(&client_tls),
        from: of_listener(config.spec.listen),
        reconcilers: config.spec.reconcilers.clone(),
        seat,
        supervisor,
        ledger: Mutex::new(ledger),
    });
    let tcp = bind(&config).await?;
    tracing::info!(server = %config.server, listen = %tcp.local_addr()?, "agent runs");
    let reload = Arc::new(Notify::new());
    let (tls, identity) = (config.spec.tls.clone(), material.identity().clone());
    let renewal = Arc::new(Renewal::new(tls, identity));
    let api = Api::new(&agent, &reload, &renewal);
    let (stop, stopped) = watch::channel(false);
    let local = tokio::spawn(serve_local(
        agent.layout.clone(),
        api.clone(),
        stopped.clone(),
    ));
    let remote = tokio::spawn(serve_tls(
        tcp,
        Arc::clone(&server_tls),
        api.remote(),
        Limits::default(),
        until(stopped),
    ));
    let certificates = Certificates {
        files: config.spec.tls.clone(),
        server: server_tls,
        client: client_tls,
        board: agent.board.clone(),
        renewal,
    };
    let renewing = tokio::spawn(certificates.attend(material));
    let end = attend_signals(signals, file, &exe, &agent, &reload).await;
    renewing.abort();
    agent.seat.leave().await;
    stop.send_replace(true);
    if end == End::Stop {
        tracing::info!("stopping every instance");
        agent.supervisor.stop_all().await;
    }
    drop((remote.await, local.await));
    tracing::info!("agent ends");
    Ok(())
}

/// The certificate in use, also after a renewal that was cut short.
fn own_material(config: &AgentConfig) -> Result<Material, Box<dyn Error>> {
    pki_files::settle(&config.spec.tls)?;
    let material = Material::load(&config.spec.tls)?;
    check_identity(config, &material)?;
    Ok(material)
}

/// What this agent remembers; nothing, at its first start.
fn open_ledger(config: &AgentConfig, layout: &Layout) -> Result<Ledger, LedgerError> {
    let owner = Owner {
        hierarchy: config.spec.hierarchy.clone(),
        server: config.server.clone(),
        machine: machine_id(),
    };
    let kept = Ledger::load(layout.root(), &owner)?;
    Ok(kept.unwrap_or_else(|| Ledger::new(owner)))
}

/// The kernel's part of the fence, where it is wanted: without it the agent does not start.
async fn fence_network(config: &AgentConfig, context: &Context) -> Result<(), NetworkError> {
    match (config.spec.network_fence, &context.cgroups) {
        (NetworkFence::None, _) => Ok(()),
        (NetworkFence::Nftables, None) => Err(NetworkError::NoCgroup),
        (NetworkFence::Nftables, Some(dir)) => {
            let cgroup = Cgroup::at(dir.join(GROUP));
            network::make(cgroup.dir(), cgroup.depth()).await
        }
    }
}

/// The server's seat in its site's lease, taken where the assignment in force has one.
fn take_seat(
    file: &Path,
    config: &AgentConfig,
    context: &Arc<Context>,
    tls: &Arc<ClientTls>,
    ledger: &Ledger,
) -> Seat {
    let seat = Seat::new(Surroundings {
        context: Arc::clone(context),
        tls: Arc::clone(tls),
        from: of_listener(config.spec.listen),
        hierarchy: config.spec.hierarchy.clone(),
        config: file.to_owned(),
    });
    if let Some(assignment) = &ledger.assignment {
        seat.apply(assignment);
    }
    seat
}

/// What is needed to end instances without an agent.
///
/// # Errors
/// When this program can't find itself.
pub fn bare_context(layout: Layout, ledger: &Ledger) -> io::Result<Context> {
    let server = ledger.owner.server.clone();
    Ok(Context {
        exe: own_program()?,
        cgroups: cgroup::usable(&cgroup_name(&server, &layout)),
        content_dir: None,
        board: Board::new(first_report(server.clone(), ledger)),
        server,
        layout,
        own: None,
        client: crate::net::probe_client(None),
    })
}

/// The program that runs, as a path that can be started again; also after it was replaced.
pub(crate) fn own_program() -> io::Result<PathBuf> {
    let path = std::env::current_exe()?;
    let text = path.to_string_lossy();
    Ok(text
        .strip_suffix(" (deleted)")
        .map_or_else(|| path.clone(), PathBuf::from))
}

fn check_identity(config: &AgentConfig, material: &Material) -> Result<(), String> {
    let is = material.identity();
    if is.kind == IdentityKind::Server
        && is.name == config.server.as_str()
        && is.hierarchy == config.spec.hierarchy
    {
        return Ok(());
    }
    Err(format!(
        "the certificate {} is that of {is}, the settings are for server {} of {}; \
         issue the right one with `stead pki issue`",
        config.spec.tls.cert.display(),
        config.server,
        config.spec.hierarchy,
    ))
}

/// The folder of the agent's cgroups; none: instances run without.
#[must_use]
pub fn cgroups(config: &AgentConfig, layout: &Layout) -> Option<PathBuf> {
    match config.spec.cgroup {
        CgroupUse::Off => None,
        CgroupUse::Auto => {
            let found = cgroup::usable(&cgroup_name(&config.server, layout));
            if found.is_none() {
                tracing::info!("no writable version 2 cgroup: process trees are found by descent");
            }
            found
        }
    }
}

/// Two agents of one name, of different hierarchies or labs, never share cgroups.
fn cgroup_name(server: &ServerName, layout: &Layout) -> String {
    let digest = Sha256::digest(layout.root().as_os_str().as_encoded_bytes());
    let short: String = digest
        .iter()
        .take(4)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("{}/{server}.{short}", cgroup::TOP)
}

async fn bind(config: &AgentConfig) -> Result<TcpListener, String> {
    let listen = config.spec.listen;
    let end = Instant::now() + BIND;
    loop {
        match TcpListener::bind(listen).await {
            Ok(listener) => return Ok(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && Instant::now() < end => {
                sleep(Duration::from_millis(50)).await;
            }
            Err(error) => return Err(format!("can't listen on {listen}: {error}")),
        }
    }
}

/// The socket for people on this machine. The agent goes on without one.
async fn serve_local(layout: Layout, api: Api, stopped: watch::Receiver<bool>) {
    let listener = match listen_local(&layout) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!("can't listen on {}: {error}", layout.socket().display());
            return;
        }
    };
    let served = axum::serve(listener, api.local()).with_graceful_shutdown(until(stopped.clone()));
    // Watchers never end by themselves: shutting down waits for nobody.
    tokio::select! {
        served = served => drop(served),
        () = until(stopped) => {}
    }
    drop(fs::remove_file(layout.socket()));
}

/// Through the folder's descriptor: socket names are at most 107 bytes long, folders aren't.
fn listen_local(layout: &Layout) -> io::Result<UnixListener> {
    drop(fs::remove_file(layout.socket()));
    let folder = File::open(layout.root())?;
    let path = format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd());
    let listener = UnixListener::bind(path)?;
    fs::set_permissions(layout.socket(), Permissions::from_mode(0o600))?;
    Ok(listener)
}

async fn until(mut stopped: watch::Receiver<bool>) {
    // An error means that the sender is gone, and so is the agent.
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// Taken first of all: until then a SIGHUP would end the agent.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Waits for the signal that ends the agent; answers reloads meanwhile.
async fn attend_signals(
    mut signals: Signals,
    file: &Path,
    exe: &Path,
    agent: &Agent,
    reload: &Notify,
) -> End {
    loop {
        tokio::select! {
            _ = signals.terminate.recv() => return End::Leave,
            _ = signals.interrupt.recv() => return End::Stop,
            _ = signals.hangup.recv() => replace(file, exe, agent).await,
            () = reload.notified() => replace(file, exe, agent).await,
        }
    }
}

/// Replaces this program by the one installed now; comes back only if that is not possible.
async fn replace(file: &Path, exe: &Path, agent: &Agent) {
    if let Err(error) = reloadable(file, agent) {
        tracing::error!("not reloaded: {}", chain(&*error));
        return;
    }
    // No command is half done, and none begins any more.
    let _held = agent.ledger.lock().await;
    if let Some(note) = agent.seat.resume().await
        && let Err(error) = note.leave(&agent.layout)
    {
        tracing::warn!("the lease can't be gone on with: {error}");
    }
    tracing::info!("reloading");
    let error = Command::new(exe).args(std::env::args_os().skip(1)).exec();
    tracing::error!("not reloaded, can't start {}: {error}", exe.display());
}

/// Whether a program started with the settings as they are now would be this agent.
fn reloadable(file: &Path, agent: &Agent) -> Result<(), Box<dyn Error>> {
    let config = config::load(file)?;
    check_identity(&config, &Material::load(&config.spec.tls)?)?;
    if config.server != agent.me.server || Layout::of(&config.spec.state_dir)? != agent.layout {
        return Err("the settings name another server or state folder; restart instead".into());
    }
    Ok(())
}
