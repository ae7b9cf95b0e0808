//! HTTP/1.1 over the reconciler's unix socket: one connection a call.
//!
//! The socket's permissions are the authentication: the same user (design section 8). It knows
//! nothing of what the paths mean.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::net::UnixStream;

/// Largest answer: status of the largest hierarchy, 38,000 instances at about 400 bytes.
const BODY_MAX: usize = 64 * 1024 * 1024;
/// Largest refusal read.
const REFUSAL_MAX: usize = 64 * 1024;
/// Longest line of a stream; what is longer comes in pieces.
const LINE_MAX: usize = 1024 * 1024;

/// Why a call over the socket brought no answer.
#[derive(Debug, Error)]
pub(super) enum SocketError {
    #[error("no reconciler answers at {}", path.display())]
    Connect {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("no answer from {} within {} s", path.display(), after.as_secs())]
    Timeout { path: PathBuf, after: Duration },
    #[error("the connection to {} broke", path.display())]
    Lost {
        path: PathBuf,
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    #[error("{} sent an answer that can't be used", path.display())]
    Body {
        path: PathBuf,
        #[source]
        source: serde_json::Error,
    },
    #[error("the reconciler answered {code}")]
    Status { code: u16, body: Vec<u8> },
}

/// A reconciler's socket.
#[derive(Debug)]
pub(super) struct SocketCaller {
    path: PathBuf,
}

/// An answer read line by line.
#[derive(Debug)]
pub(super) struct SocketLines {
    path: PathBuf,
    body: Incoming,
    read: Vec<u8>,
    silence: Duration,
}

impl SocketCaller {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path }
    }

    pub(super) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        deadline: Duration,
    ) -> Result<T, SocketError> {
        self.json(Method::GET, path, Bytes::new(), deadline).await
    }

    pub(super) async fn post<B: Serialize + Sync, T: DeserializeOwned>(
        &self,
        path: &str,
        body: &B,
        deadline: Duration,
    ) -> Result<T, SocketError> {
        let body = serde_json::to_vec(body).map_err(|source| self.unusable(source))?;
        self.json(Method::POST, path, body.into(), deadline).await
    }

    pub(super) async fn lines(
        &self,
        path: &str,
        deadline: Duration,
        silence: Duration,
    ) -> Result<SocketLines, SocketError> {
        let open = async {
            let response = self.send(Method::GET, path, Bytes::new()).await?;
            self.good(response).await
        };
        let response = self.within(deadline, open).await?;
        Ok(SocketLines {
            path: self.path.clone(),
            body: response.into_body(),
            read: Vec::new(),
            silence,
        })
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
        deadline: Duration,
    ) -> Result<T, SocketError> {
        let exchange = async {
            let response = self.send(method, path, body).await?;
            let response = self.good(response).await?;
            self.collect(response.into_body(), BODY_MAX).await
        };
        let bytes = self.within(deadline, exchange).await?;
        let text: &[u8] = if bytes.is_empty() { b"null" } else { &bytes };
        serde_json::from_slice(text).map_err(|source| self.unusable(source))
    }

    async fn within<T>(
        &self,
        deadline: Duration,
        work: impl Future<Output = Result<T, SocketError>>,
    ) -> Result<T, SocketError> {
        tokio::time::timeout(deadline, work)
            .await
            .unwrap_or_else(|_| {
                Err(SocketError::Timeout {
                    path: self.path.clone(),
                    after: deadline,
                })
            })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Response<Incoming>, SocketError> {
        let stream = UnixStream::connect(&self.path).await;
        let stream = stream.map_err(|source| SocketError::Connect {
            path: self.path.clone(),
            source,
        })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|source| self.lost(source))?;
        // Ends with the answer's body; what goes wrong in it, the body says too.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "stead")
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|source| self.lost(source))?;
        let sent = sender.send_request(request).await;
        sent.map_err(|source| self.lost(source))
    }

    async fn good(&self, response: Response<Incoming>) -> Result<Response<Incoming>, SocketError> {
        if response.status().is_success() {
            return Ok(response);
        }
        let code = response.status().as_u16();
        let body = self.collect(response.into_body(), REFUSAL_MAX).await?;
        Err(SocketError::Status {
            code,
            body: body.to_vec(),
        })
    }

    async fn collect(&self, body: Incoming, most: usize) -> Result<Bytes, SocketError> {
        let collected = Limited::new(body, most).collect().await;
        collected
            .map(http_body_util::Collected::to_bytes)
            .map_err(|source| SocketError::Lost {
                path: self.path.clone(),
                source,
            })
    }

    fn lost(&self, source: impl Error + Send + Sync + 'static) -> SocketError {
        SocketError::Lost {
            path: self.path.clone(),
            source: Box::new(source),
        }
    }

    fn unusable(&self, source: serde_json::Error) -> SocketError {
        SocketError::Body {
            path: self.path.clone(),
            source,
        }
    }
}

impl SocketLines {
    /// The next line without its end, a last one without `\n` included; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<u8>>, SocketError> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.read.drain(..=end).collect();
                line.pop();
                return Ok(Some(line));
            }
            if self.read.len() > LINE_MAX {
                return Ok(Some(std::mem::take(&mut self.read)));
            }
            let frame = tokio::time::timeout(self.silence, self.body.frame())
                .await
                .map_err(|_| SocketError::Timeout {
                    path: self.path.clone(),
                    after: self.silence,
                })?;
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.read.extend_from_slice(&data);
                    }
                }
                Some(Err(source)) => {
                    return Err(SocketError::Lost {
                        path: self.path.clone(),
                        source: Box::new(source),
                    });
                }
                None if self.read.is_empty() => return Ok(None),
                None => return Ok(Some(std::mem::take(&mut self.read))),
            }
        }
    }
}
