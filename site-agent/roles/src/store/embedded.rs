//! The embedded store over one kept HTTP connection.
//!
//! A connection that broke is not opened again behind its user's back: a claim rests on when it was
//! opened (H5). Deadlines are the caller's.

use std::io;
use std::net::{IpAddr, SocketAddr};

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinHandle;

use super::{Entry, Gate, StoreError, Token};
use crate::database::protocol::{Append, Appended, Row};
use crate::settings::EmbeddedSettings;

/// Largest answer.
const ANSWER_MAX: usize = 64 * 1024;

/// An open connection. Dropping it closes it.
#[derive(Debug)]
pub struct Embedded {
    requests: SendRequest<Full<Bytes>>,
    host: String,
    driver: JoinHandle<()>,
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Embedded {
    pub(super) async fn connect(
        settings: &EmbeddedSettings,
        from: Option<IpAddr>,
    ) -> Result<Self, StoreError> {
        let host = settings.address.to_string();
        let unreached = |error| StoreError::broken("can't connect to the store", &error);
        let tcp = open(settings.address, from).await.map_err(unreached)?;
        tcp.set_nodelay(true).map_err(unreached)?;
        let (requests, connection) = http1::handshake(TokioIo::new(tcp))
            .await
            .map_err(|error| StoreError::broken("can't speak to the store", &error))?;
        let driver = tokio::spawn(async move { drop(connection.await) });
        let mut open = Self {
            requests,
            host,
            driver,
        };
        open.check().await?;
        Ok(open)
    }

    pub(super) async fn check(&mut self) -> Result<(), StoreError> {
        let (status, body) = self.ask(Method::GET, "/v1/row", Bytes::new()).await?;
        read::<Row>(status, &body).map(drop)
    }

    pub(super) async fn claim(&mut self, token: &Token, gate: Gate<'_>) -> Result<(), StoreError> {
        let (status, body) = self.post("/v1/claim", token, gate).await?;
        read::<Row>(status, &body).map(drop)
    }

    pub(super) async fn append(
        &mut self,
        token: &Token,
        entries: &[Entry],
        gate: Gate<'_>,
    ) -> Result<Vec<u64>, StoreError> {
        let append = Append {
            token: token.clone(),
            entries: entries.to_vec(),
        };
        let (status, body) = self.post("/v1/append", &append, gate).await?;
        read::<Appended>(status, &body).map(|appended| appended.sequences)
    }

    async fn post<T: Serialize + Sync>(
        &mut self,
        path: &str,
        body: &T,
        gate: Gate<'_>,
    ) -> Result<(StatusCode, Bytes), StoreError> {
        let body = serde_json::to_vec(body)
            .map_err(|error| StoreError::Refused(format!("it can't be written: {error}")))?;
        // What is sent can't be taken back: the store commits within the request.
        self.ready().await?;
        if !gate() {
            return Err(StoreError::Closed);
        }
        self.ask(Method::POST, path, body.into()).await
    }

    async fn ready(&mut self) -> Result<(), StoreError> {
        self.requests.ready().await.map_err(lost)
    }

    async fn ask(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<(StatusCode, Bytes), StoreError> {
        self.ready().await?;
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, &self.host)
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(body))
            .map_err(|error| StoreError::broken("no request", &error))?;
        let answer = self.requests.send_request(request).await.map_err(lost)?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| StoreError::broken("the store's answer was cut short", &*error))?;
        Ok((status, body.to_bytes()))
    }
}

/// On a machine that is many servers, the call leaves from the address of the one it belongs to.
async fn open(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let together = |from: &IpAddr| from.is_ipv4() && from.is_loopback() && to.ip().is_loopback();
    match from.filter(together) {
        Some(from) if to.is_ipv4() => {
            let socket = TcpSocket::new_v4()?;
            socket.set_reuseaddr(true)?;
            socket.bind(SocketAddr::new(from, 0))?;
            socket.connect(to).await
        }
        _ => TcpStream::connect(to).await,
    }
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn lost(error: hyper::Error) -> StoreError {
    StoreError::broken("the connection to the store is lost", &error)
}

fn read<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, StoreError> {
    let unreadable =
        |error: serde_json::Error| StoreError::broken("the store's answer can't be read", &error);
    match status {
        StatusCode::OK => serde_json::from_slice(body).map_err(unreadable),
        StatusCode::CONFLICT => {
            let row: Row = serde_json::from_slice(body).map_err(unreadable)?;
            Err(StoreError::Outranked(row.token))
        }
        _ => {
            let text: String = String::from_utf8_lossy(body).chars().take(200).collect();
            Err(StoreError::Refused(format!("{status}: {text}")))
        }
    }
}
