//! One guard a state folder, in memory, with a socket: what a guard needs before it can kill.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use rustix::fs::FlockOperation;
use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, getrlimit};

use super::{LOCK, SOCKET};
use crate::layout::Layout;

/// With less memory that may be locked, allocations would fail later (see [`in_memory`]).
const LOCKABLE: u64 = 64 * 1024 * 1024;
/// The bit of `CAP_IPC_LOCK`.
const IPC_LOCK: u32 = 14;

/// Held while this is the folder's guard.
pub(super) fn take(layout: &Layout) -> io::Result<File> {
    let file = File::create(layout.root().join(LOCK))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another guard watches this state folder",
        )),
        Err(error) => Err(error.into()),
    }
}

/// The lock is ours: a socket that is there belongs to a guard that is gone. Through the folder's
/// descriptor: socket names are at most 107 bytes long, folders aren't.
pub(super) fn listen(layout: &Layout) -> io::Result<UnixListener> {
    let socket = layout.root().join(SOCKET);
    drop(fs::remove_file(&socket));
    let folder = File::open(layout.root())?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd()))?;
    fs::set_permissions(socket, Permissions::from_mode(0o600))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Keeps what the guard has touched in memory: a page of the kill path on a stalled disk would hang
/// it at the moment it is needed (H34). `ONFAULT`, because the whole program and all stacks would
/// cost more than the budget (H24): the first kill, which every start makes and which goes the same way,
/// brings the path into memory.
///
/// # Errors
/// In words, when this is not permitted; the guard goes on.
pub(super) fn in_memory() -> Result<(), String> {
    let limit = getrlimit(Resource::Memlock).current;
    if !may_lock() && limit.is_some_and(|limit| limit < LOCKABLE) {
        return Err(
            "not permitted (CAP_IPC_LOCK, or LimitMEMLOCK=infinity in its unit)".to_owned(),
        );
    }
    mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT)
        .map_err(|error| error.to_string())
}

fn may_lock() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective
        .and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok())
        .is_some_and(|bits| bits >> IPC_LOCK & 1 == 1)
}
