//! The site server's end: a socket for its user only, one connection at a time.
//!
//! A stale socket is replaced in one step; a newer connection replaces the older. What an order means
//! is not known here: it is handed on.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::lines::Lines;
use super::{Order, STATE_EVERY, State};

/// A reader that takes no state for this long loses its connection.
const WRITE: Duration = Duration::from_secs(1);
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens at `path`, whatever was there before; only the user may connect.
pub(crate) fn listen(path: &Path) -> io::Result<UnixListener> {
    let (folder, name) = place(path)?;
    let open = fs::File::open(&folder)?;
    let at = |name: &str| PathBuf::from(format!("/proc/self/fd/{}/{name}", open.as_raw_fd()));
    // Made under another name, so that nobody connects before its mode is set.
    let aside = at(&format!(".{name}.new"));
    match fs::remove_file(&aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&aside)?;
    fs::set_permissions(&aside, fs::Permissions::from_mode(0o600))?;
    fs::rename(&aside, at(&name))?;
    Ok(listener)
}

/// Connects to the socket at `path`.
pub(super) async fn connect(path: &Path) -> io::Result<UnixStream> {
    let (folder, name) = place(path)?;
    let open = fs::File::open(folder)?;
    UnixStream::connect(format!("/proc/self/fd/{}/{name}", open.as_raw_fd())).await
}

/// Socket names are at most 107 bytes long, folders aren't: they are reached through a descriptor.
fn place(path: &Path) -> io::Result<(PathBuf, String)> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "no name for a socket");
    let name = path.file_name().and_then(|name| name.to_str());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_owned(),
        _ => PathBuf::from("."),
    };
    Ok((folder, name.ok_or_else(invalid)?.to_owned()))
}

/// Takes connections for ever. `obey` is called for each order; what `state` says goes out.
pub(crate) async fn serve<F, G>(
    listener: UnixListener,
    obey: F,
    state: G,
    changes: watch::Receiver<u64>,
) where
    F: Fn(Order) + Clone + Send + 'static,
    G: Fn() -> State + Clone + Send + 'static,
{
    let mut current = Current(None);
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let talk = talk(stream, obey.clone(), state.clone(), changes.clone());
                current.replace(tokio::spawn(async move {
                    if let Err(error) = talk.await {
                        eprintln!("control: {error}");
                    }
                }));
            }
            Err(_) => sleep(ACCEPT_PAUSE).await,
        }
    }
}

/// The one connection that counts.
struct Current(Option<JoinHandle<()>>);

impl Current {
    fn replace(&mut self, newer: JoinHandle<()>) {
        if let Some(older) = self.0.replace(newer) {
            older.abort();
        }
    }
}

impl Drop for Current {
    fn drop(&mut self) {
        if let Some(last) = &self.0 {
            last.abort();
        }
    }
}

async fn talk<F: Fn(Order), G: Fn() -> State>(
    stream: UnixStream,
    obey: F,
    state: G,
    mut changes: watch::Receiver<u64>,
) -> io::Result<()> {
    let (orders, mut states) = stream.into_split();
    let mut orders = Lines::new(orders);
    changes.mark_changed();
    loop {
        tokio::select! {
            // Orders first: a stop is not to wait behind states.
            biased;
            line = orders.next() => match line? {
                Some(line) => obey(serde_json::from_slice(&line)?),
                None => return Ok(()),
            },
            changed = timeout(STATE_EVERY, changes.changed()) => {
                if let Ok(Err(_)) = changed {
                    return Ok(());
                }
                say(&mut states, &state()).await?;
            }
        }
    }
}

async fn say(states: &mut OwnedWriteHalf, state: &State) -> io::Result<()> {
    let mut line = serde_json::to_vec(state)?;
    line.push(b'\n');
    timeout(WRITE, states.write_all(&line))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::super::{ControlError, ControlLink, Stop};
    use super::*;
    use tokio::sync::mpsc;

    const SOON: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn a_newer_connection_replaces_the_older() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x".repeat(90)).join("control.sock");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, "stale").unwrap();
        let listener = listen(&path).unwrap();
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let (said, mut heard) = mpsc::unbounded_channel();
        let (change, changes) = watch::channel(0);
        let obey = move |order| said.send(order).unwrap();
        let count = changes.clone();
        let state = move || State {
            ready: *count.borrow() > 0,
            ..State::default()
        };
        let task = tokio::spawn(serve(listener, obey, state, changes));

        let mut first = ControlLink::connect(&path, SOON).await.unwrap();
        assert!(!first.receive(SOON).await.unwrap().ready);
        // Without a change it is said again.
        assert!(!first.receive(SOON).await.unwrap().ready);
        let mut second = ControlLink::connect(&path, SOON).await.unwrap();
        change.send_replace(1);
        while !second.receive(SOON).await.unwrap().ready {}
        let ended = loop {
            match first.receive(SOON).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert!(matches!(ended, ControlError::Closed | ControlError::Io(_)));
        let stop = Order::Stop(Stop { term: 3 });
        second.send(&stop, SOON).await.unwrap();
        assert_eq!(heard.recv().await, Some(stop));
        task.abort();
    }
}
