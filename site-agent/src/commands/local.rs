//! Asking the agent on this machine, over the socket in its state folder.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::agent::LocalStatus;
use crate::layout::{Layout, SOCKET};

const DEADLINE: Duration = Duration::from_secs(5);

/// Why the agent did not answer.
#[derive(Debug, Error)]
pub(super) enum LocalError {
    /// Nobody is there.
    #[error("no agent runs with the state folder {0}")]
    NotRunning(PathBuf),
    /// It is there and does not answer.
    #[error("the agent does not answer")]
    Call(#[source] reqwest::Error),
    /// The folder can't be opened.
    #[error("can't open the state folder; run this as the agent's user")]
    Folder(#[source] io::Error),
}

/// The agent of a state folder, reached through its socket.
pub(super) struct Local {
    client: reqwest::Client,
    folder: PathBuf,
    /// Socket names are at most 107 bytes long: the socket is reached through this descriptor.
    _open: File,
}

impl Local {
    pub(super) fn of(layout: &Layout) -> Result<Self, LocalError> {
        let open = File::open(layout.root()).map_err(LocalError::Folder)?;
        let socket = PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", open.as_raw_fd()));
        let client = reqwest::Client::builder()
            .unix_socket(socket)
            .no_proxy()
            .timeout(DEADLINE)
            .build()
            .map_err(LocalError::Call)?;
        Ok(Self {
            client,
            folder: layout.root().to_owned(),
            _open: open,
        })
    }

    pub(super) async fn status(&self) -> Result<LocalStatus, LocalError> {
        let answer = self.send(self.client.get("http://agent/v1/status")).await?;
        answer.json().await.map_err(LocalError::Call)
    }

    pub(super) async fn reload(&self) -> Result<(), LocalError> {
        self.send(self.client.post("http://agent/v1/reload"))
            .await
            .map(drop)
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
    ) -> Result<reqwest::Response, LocalError> {
        request
            .send()
            .await
            .and_then(reqwest::Response::error_for_status)
            .map_err(|error| {
                if error.is_connect() {
                    LocalError::NotRunning(self.folder.clone())
                } else {
                    LocalError::Call(error)
                }
            })
    }
}
