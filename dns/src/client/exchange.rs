//! One TCP connection to one DNS server: messages out, messages in, before a deadline.
//!
//! TCP only: hickory's UDP client resends by itself, and a resent update that had gone through looks
//! like a lost race. Raw messages are handed up unjudged, so that a refusal's response code and
//! TSIG error can be read before its signature is checked.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use thiserror::Error;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout_at};

/// Why a server gave no usable answer. None of these says anything about the zone.
#[derive(Debug, Error)]
pub enum ExchangeError {
    /// No connection.
    #[error("no TCP connection to DNS server {server}: is it running, and TCP port {port} open from here?", port = server.port())]
    Connect {
        /// Which server.
        server: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The connection broke.
    #[error("DNS server {server} closed the connection before its answer")]
    Broken {
        /// Which server.
        server: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No answer in time.
    #[error("DNS server {server} did not answer in time")]
    Timeout {
        /// Which server.
        server: SocketAddr,
    },
    /// The answer is not a DNS message, or not to this question.
    #[error("DNS server {server} sent something that is not an answer: {what}")]
    Malformed {
        /// Which server.
        server: SocketAddr,
        /// What is wrong with it.
        what: String,
    },
}

/// An open connection with a deadline for all that is done on it.
pub(super) struct Connection {
    pub(super) server: SocketAddr,
    deadline: Instant,
    reader: BufReader<OwnedReadHalf>,
    writer: OwnedWriteHalf,
}

impl Connection {
    /// Connects; everything on the connection has to be done within `limit` from now.
    pub(super) async fn open(server: SocketAddr, limit: Duration) -> Result<Self, ExchangeError> {
        let deadline = Instant::now() + limit;
        let stream = timeout_at(deadline, TcpStream::connect(server))
            .await
            .map_err(|_| ExchangeError::Timeout { server })?
            .and_then(|stream| stream.set_nodelay(true).map(|()| stream))
            .map_err(|source| ExchangeError::Connect { server, source })?;
        let (reader, writer) = stream.into_split();
        Ok(Self {
            server,
            deadline,
            reader: BufReader::with_capacity(64 * 1024, reader),
            writer,
        })
    }

    /// Sends one message.
    pub(super) async fn send(&mut self, message: &[u8]) -> Result<(), ExchangeError> {
        let framed = framed(message);
        let sent = timeout_at(self.deadline, self.writer.write_all(&framed)).await;
        self.outcome(sent)
    }

    /// The next message, raw; at most 64 KiB by the protocol.
    pub(super) async fn receive(&mut self) -> Result<Vec<u8>, ExchangeError> {
        let message = timeout_at(self.deadline, read_message(&mut self.reader)).await;
        self.outcome(message)
    }

    /// Asks one question and returns its answer.
    pub(super) async fn ask(
        &mut self,
        name: &Name,
        rtype: RecordType,
    ) -> Result<Message, ExchangeError> {
        let question = question(Message::query().id, name, rtype);
        let bytes = encode(&question, self.server)?;
        self.send(&bytes).await?;
        let answer = decode(&self.receive().await?, self.server)?;
        answers(&answer, &question, self.server)?;
        Ok(answer)
    }

    /// Sends all questions while reading all answers; the answers come in the questions' order.
    /// Identifiers are the positions, so there may be at most 65,536. An error leaves every
    /// question without an answer: none is known then.
    pub(super) async fn ask_all(
        self,
        questions: &[(Name, RecordType)],
    ) -> Result<Vec<Message>, ExchangeError> {
        let Self {
            server,
            deadline,
            mut reader,
            mut writer,
        } = self;
        let mut stream = Vec::with_capacity(questions.len() * 64);
        for (id, (name, rtype)) in (0..=u16::MAX).zip(questions) {
            stream.extend(framed(&encode(&question(id, name, *rtype), server)?));
        }
        // TCP's own window bounds what is under way: a server that reads slowly stops the writing.
        let write = async { writer.write_all(&stream).await };
        let read = async {
            let mut answers = vec![None; questions.len()];
            for _ in questions {
                let answer = Message::from_vec(&read_message(&mut reader).await?)
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
                let slot = answers.get_mut(usize::from(answer.id));
                match slot {
                    Some(slot) if slot.is_none() => *slot = Some(answer),
                    _ => return Err(invalid("an answer to no question")),
                }
            }
            Ok(answers)
        };
        let both = timeout_at(deadline, async { tokio::try_join!(write, read) }).await;
        let ((), raw) = outcome(both, server)?;
        let mut found = Vec::with_capacity(questions.len());
        for (id, ((name, rtype), answer)) in (0..=u16::MAX).zip(questions.iter().zip(raw)) {
            let answer = answer.expect("as many distinct answers as questions were read");
            answers(&answer, &question(id, name, *rtype), server)?;
            found.push(answer);
        }
        Ok(found)
    }

    fn outcome<T>(
        &self,
        result: Result<io::Result<T>, tokio::time::error::Elapsed>,
    ) -> Result<T, ExchangeError> {
        outcome(result, self.server)
    }
}

fn outcome<T>(
    result: Result<io::Result<T>, tokio::time::error::Elapsed>,
    server: SocketAddr,
) -> Result<T, ExchangeError> {
    match result {
        Err(_) => Err(ExchangeError::Timeout { server }),
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            Err(ExchangeError::Malformed {
                server,
                what: error.to_string(),
            })
        }
        Ok(Err(source)) => Err(ExchangeError::Broken { server, source }),
    }
}

async fn read_message(reader: &mut BufReader<OwnedReadHalf>) -> io::Result<Vec<u8>> {
    let length = reader.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    reader.read_exact(&mut message).await?;
    Ok(message)
}

/// A message behind its length, as TCP carries it (RFC 1035 section 4.2.2).
fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("hickory encodes at most 64 KiB");
    let mut framed = length.to_be_bytes().to_vec();
    framed.extend_from_slice(message);
    framed
}

/// An authoritative question: recursion not desired.
fn question(id: u16, name: &Name, rtype: RecordType) -> Message {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = false;
    message.add_query(Query::query(name.clone(), rtype));
    let mut edns = Edns::new();
    edns.set_max_payload(1232);
    message.set_edns(edns);
    message
}

pub(super) fn encode(message: &Message, server: SocketAddr) -> Result<Vec<u8>, ExchangeError> {
    message.to_vec().map_err(|error| ExchangeError::Malformed {
        server,
        what: format!("the question cannot be encoded: {error}"),
    })
}

pub(super) fn decode(raw: &[u8], server: SocketAddr) -> Result<Message, ExchangeError> {
    Message::from_vec(raw).map_err(|error| ExchangeError::Malformed {
        server,
        what: error.to_string(),
    })
}

/// Whether a message answers a question; a refusal may leave the question out.
fn answers(answer: &Message, question: &Message, server: SocketAddr) -> Result<(), ExchangeError> {
    let echoed = answer.queries == question.queries || answer.queries.is_empty();
    if answer.id == question.id && answer.message_type == MessageType::Response && echoed {
        Ok(())
    } else {
        Err(ExchangeError::Malformed {
            server,
            what: "it answers another question".to_owned(),
        })
    }
}

fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}
