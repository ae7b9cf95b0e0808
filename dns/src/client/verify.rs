//! Whether a change is really served: NOERROR is not proof.
//!
//! Servers silently leave out what the rules forbid (a record beside a CNAME), and secondaries lag.
//! Every server is asked until it shows exactly what is wanted, or the time is up.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use hickory_proto::op::Message;
use hickory_proto::rr::RData;
use hickory_proto::rr::RecordType as WireType;
use stead_schemas::observed::Served;
use stead_schemas::record::{RecordKey, RecordSet};
use tokio::time::{Instant, sleep};

use super::reading::{self, Unreadable};
use super::{Client, ask_all};

/// The pause between two questions to a server doubles from the first to the last of these.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LAST_PAUSE: Duration = Duration::from_millis(500);

/// What a server should serve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// The record.
    pub key: RecordKey,
    /// Its set; nothing if it should be absent.
    pub set: Option<RecordSet>,
    /// The text of its mark; nothing if it should be absent.
    pub mark: Option<String>,
}

/// What one server turned out to serve.
#[derive(Debug)]
pub struct Verified {
    /// Which server.
    pub server: SocketAddr,
    /// Compared with what is expected, when last asked.
    pub state: ZoneState,
    /// The zone's serial when last asked; a lower one than another server's means it lags.
    pub serial: Option<u32>,
}

/// A server's state compared with what is expected.
#[derive(Debug)]
pub enum ZoneState {
    /// Exactly as expected, mark included.
    InStep,
    /// Something else.
    Differs(Served),
    /// Unknown.
    Unknown(Unreadable),
}

impl Client {
    /// Asks every server until it serves what is expected, for at most `limit`.
    pub async fn verify(&self, expected: &Expected, limit: Duration) -> Vec<Verified> {
        let deadline = Instant::now() + limit;
        join_all(
            self.servers()
                .iter()
                .map(|server| self.settle(*server, expected, deadline)),
        )
        .await
    }

    /// Asks one server until it serves what is expected, or the time is up.
    pub(crate) async fn settle(
        &self,
        server: SocketAddr,
        expected: &Expected,
        deadline: Instant,
    ) -> Verified {
        let mut pause = FIRST_PAUSE;
        loop {
            let verified = self.look(server, expected).await;
            let done = matches!(verified.state, ZoneState::InStep);
            if done || Instant::now() + pause >= deadline {
                return verified;
            }
            sleep(pause).await;
            pause = (pause * 2).min(LAST_PAUSE);
        }
    }

    /// Record, mark and serial in one go.
    async fn look(&self, server: SocketAddr, expected: &Expected) -> Verified {
        let read = async {
            let asked = reading::questions(&expected.key)?;
            let [record, mark] = asked.clone();
            let soa = (record.0.clone(), WireType::SOA);
            let answers = ask_all(server, &[record, mark, soa], self.limit)
                .await
                .map_err(|source| Unreadable::Exchange {
                    name: expected.key.name.clone(),
                    source: Arc::new(source),
                })?;
            let served = reading::served(server, &asked, &answers[0], &answers[1])?;
            Ok((served, serial(&answers[2])))
        };
        let (state, serial) = match read.await {
            Ok((served, serial)) if served.set == expected.set && served.mark == expected.mark => {
                (ZoneState::InStep, serial)
            }
            Ok((served, serial)) => (ZoneState::Differs(served), serial),
            Err(error) => (ZoneState::Unknown(error), None),
        };
        Verified {
            server,
            state,
            serial,
        }
    }
}

/// The serial in the answer to an SOA question: from the zone's own name or from the authority.
fn serial(answer: &Message) -> Option<u32> {
    answer
        .answers
        .iter()
        .chain(&answer.authorities)
        .find_map(|record| match &record.data {
            RData::SOA(soa) => Some(soa.serial),
            _ => None,
        })
}
