//! An answer read line by line: watch streams and logs.
//!
//! Holds no more than one line and what hyper just read, so that 10,000 quiet streams cost little
//! (H25). Lines are bytes without their `\n`; what they mean is the caller's business.

use std::net::SocketAddr;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use serde::de::DeserializeOwned;
use stead_schemas::wire::MESSAGE_BYTES_MAX;

use crate::peer::{CallError, Driver};

/// Lines of one answer. Dropping it closes the connection.
#[derive(Debug)]
pub struct Lines {
    body: Incoming,
    /// Read and not yet handed out.
    rest: Bytes,
    /// The beginning of a line whose end has not come.
    partial: Vec<u8>,
    ended: bool,
    addr: SocketAddr,
    silence: Duration,
    _driver: Driver,
}

impl Lines {
    pub(crate) fn new(body: Incoming, driver: Driver, addr: SocketAddr, silence: Duration) -> Self {
        Self {
            body,
            rest: Bytes::new(),
            partial: Vec::new(),
            ended: false,
            addr,
            silence,
            _driver: driver,
        }
    }

    /// The next line; `None` once the other side ended the answer properly. A last line without
    /// its `\n` is an error: it may be cut short. After an error the stream is over.
    ///
    /// Cancel safe: nothing read is lost when the future is dropped.
    ///
    /// # Errors
    /// [`CallError::Timeout`] when no whole line came within `silence`, [`CallError::BadBody`]
    /// for a line over [`MESSAGE_BYTES_MAX`] or cut short, [`CallError::Lost`].
    pub async fn next(&mut self) -> Result<Option<Bytes>, CallError> {
        if self.ended {
            return Ok(None);
        }
        let next = tokio::time::timeout(self.silence, self.read())
            .await
            .unwrap_or(Err(CallError::Timeout {
                addr: self.addr,
                after: self.silence,
            }));
        self.ended = !matches!(next, Ok(Some(_)));
        next
    }

    /// The next line as JSON; otherwise as [`Self::next`].
    ///
    /// # Errors
    /// As [`Self::next`], and [`CallError::BadBody`] for a line that is no such JSON.
    pub async fn next_json<T: DeserializeOwned>(&mut self) -> Result<Option<T>, CallError> {
        let Some(line) = self.next().await? else {
            return Ok(None);
        };
        serde_json::from_slice(&line)
            .map(Some)
            .map_err(|error| self.bad(error.to_string()))
    }

    async fn read(&mut self) -> Result<Option<Bytes>, CallError> {
        loop {
            if let Some(line) = self.take_line()? {
                return Ok(Some(line));
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.rest = frame.into_data().unwrap_or_default(),
                Some(Err(source)) => {
                    return Err(CallError::Lost {
                        addr: self.addr,
                        source,
                    });
                }
                None if self.partial.is_empty() => return Ok(None),
                None => return Err(self.bad("the last line was cut short".to_owned())),
            }
        }
    }

    /// A line out of what was read, or all of it moved to `partial`.
    fn take_line(&mut self) -> Result<Option<Bytes>, CallError> {
        let end = self.rest.iter().position(|byte| *byte == b'\n');
        let taken = end.unwrap_or(self.rest.len());
        if self.partial.len() + taken > MESSAGE_BYTES_MAX {
            return Err(self.bad(format!("a line is longer than {MESSAGE_BYTES_MAX} bytes")));
        }
        let piece = self.rest.split_to(taken);
        if end.is_some() {
            // The `\n` itself. An empty rest must not hold on to hyper's buffer.
            drop(self.rest.split_to(1));
            if self.rest.is_empty() {
                self.rest = Bytes::new();
            }
            if self.partial.is_empty() {
                return Ok(Some(piece));
            }
            self.partial.extend_from_slice(&piece);
            return Ok(Some(std::mem::take(&mut self.partial).into()));
        }
        self.partial.extend_from_slice(&piece);
        self.rest = Bytes::new();
        Ok(None)
    }

    fn bad(&self, reason: String) -> CallError {
        CallError::BadBody {
            addr: self.addr,
            reason,
        }
    }
}
