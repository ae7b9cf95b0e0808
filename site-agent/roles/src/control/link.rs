//! The agent's end: connects, sends orders, receives states; each wait has a deadline.

use std::io;
use std::path::Path;
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::lines::Lines;
use super::{Order, State, socket};

/// Why the site server could not be spoken to. After any of these but [`ControlError::Late`] from
/// [`ControlLink::receive`], connect anew.
#[derive(Debug, Error)]
pub enum ControlError {
    /// Nobody listens, or the connection broke.
    #[error("no connection to the site server")]
    Io(#[from] io::Error),
    /// It closed the connection: it ended, or a newer connection replaced this one.
    #[error("the site server closed the connection")]
    Closed,
    /// It did not answer, or take an order, in time.
    #[error("nothing from the site server within {} ms", .0.as_millis())]
    Late(Duration),
    /// It said something else.
    #[error("the site server's state can't be read")]
    Malformed(#[source] serde_json::Error),
}

/// A connection to the site server.
#[derive(Debug)]
pub struct ControlLink {
    states: Lines<OwnedReadHalf>,
    orders: OwnedWriteHalf,
}

impl ControlLink {
    /// Connects to the socket at `path` (of any length) within `within`.
    ///
    /// # Errors
    /// [`ControlError::Io`], [`ControlError::Late`].
    pub async fn connect(path: &Path, within: Duration) -> Result<Self, ControlError> {
        let stream = timeout(within, socket::connect(path))
            .await
            .map_err(|_| ControlError::Late(within))??;
        let (states, orders) = stream.into_split();
        Ok(Self {
            states: Lines::new(states),
            orders,
        })
    }

    /// Sends an order. One that was sent in half is followed by nothing: connect anew.
    ///
    /// # Errors
    /// [`ControlError::Io`], [`ControlError::Late`].
    pub async fn send(&mut self, order: &Order, within: Duration) -> Result<(), ControlError> {
        let mut line = serde_json::to_vec(order).map_err(ControlError::Malformed)?;
        line.push(b'\n');
        timeout(within, self.orders.write_all(&line))
            .await
            .map_err(|_| ControlError::Late(within))??;
        Ok(())
    }

    /// The next state. Cancel safe; after [`ControlError::Late`] it may be asked again.
    ///
    /// # Errors
    /// [`ControlError`].
    pub async fn receive(&mut self, within: Duration) -> Result<State, ControlError> {
        let line = timeout(within, self.states.next())
            .await
            .map_err(|_| ControlError::Late(within))??
            .ok_or(ControlError::Closed)?;
        serde_json::from_slice(&line).map_err(ControlError::Malformed)
    }
}
