//! Updates by other means than the client under test: hickory-net's own client, and bare bytes.
//!
//! With these the tests plant foreign records and send what the client never would.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::str::FromStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use hickory_net::client::Client;
use hickory_net::runtime::TokioRuntimeProvider;
use hickory_net::tcp::TcpClientStream;
use hickory_net::xfer::{DnsHandle, DnsMultiplexer, FirstAnswer};
use hickory_proto::op::{
    DnsRequest, DnsRequestOptions, Message, MessageType, OpCode, Query, ResponseCode, UpdateMessage,
};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::rdata::tsig::TsigAlgorithm;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType, TSigner};

use crate::servers::{ZONE, secret};

const TIMEOUT: Duration = Duration::from_secs(10);

pub(crate) fn name(text: &str) -> Name {
    let mut name = Name::from_str(text).unwrap();
    name.set_fqdn(true);
    name
}

pub(crate) fn txt(owner: &str, text: &str) -> Record {
    Record::from_rdata(name(owner), 0, RData::TXT(TXT::new(vec![text.to_owned()])))
}

pub(crate) fn a(owner: &str, last: u8) -> Record {
    let address = std::net::Ipv4Addr::new(127, 0, 0, last);
    Record::from_rdata(name(owner), 30, RData::A(address.into()))
}

/// A record that names a set, for prerequisites and deletions.
pub(crate) fn bare(owner: &str, rtype: RecordType, class: DNSClass) -> Record {
    let mut record = Record::update0(name(owner), 0, rtype);
    record.dns_class = class;
    record
}

pub(crate) fn update(prerequisites: Vec<Record>, updates: Vec<Record>) -> Message {
    let id = Message::query().id;
    let mut message = Message::new(id, MessageType::Query, OpCode::Update);
    message.add_zone(Query::query(name(ZONE), RecordType::SOA));
    message.add_pre_requisites(prerequisites);
    message.add_updates(updates);
    message
}

pub(crate) fn signer(key: &str) -> TSigner {
    let secret = base64::engine::general_purpose::STANDARD
        .decode(secret(key))
        .unwrap();
    TSigner::new(secret, TsigAlgorithm::HmacSha256, name(key), 300).unwrap()
}

/// Sends an update with hickory-net's client, signed or not.
pub(crate) async fn send(server: SocketAddr, key: Option<&str>, message: Message) -> ResponseCode {
    let (connecting, handle) =
        TcpClientStream::new(server, None, Some(TIMEOUT), TokioRuntimeProvider::new());
    let mut sender = DnsMultiplexer::new(connecting.await.unwrap(), handle).with_timeout(TIMEOUT);
    if let Some(key) = key {
        sender = sender.with_signer(signer(key));
    }
    let (client, background) = Client::<TokioRuntimeProvider>::from_sender(sender);
    let background = tokio::spawn(background);
    let request = DnsRequest::new(message, DnsRequestOptions::default());
    let answer = client.send(request).first_answer().await.unwrap();
    background.abort();
    answer.response_code
}

/// Plants records, whatever was there, and insists that the server takes them.
pub(crate) async fn plant(server: SocketAddr, key: &str, records: Vec<Record>) {
    let code = send(server, Some(key), update(vec![], records)).await;
    assert_eq!(code, ResponseCode::NoError);
}

/// Sends a message over TCP as bytes and returns the answer's bytes.
pub(crate) fn exchange(server: SocketAddr, message: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(server).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    stream.write_all(&[&length, message].concat()).unwrap();
    let mut length = [0; 2];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).unwrap();
    answer
}

/// A message signed as if the clock stood `late_s` seconds in the past.
pub(crate) fn signed_late(key: &str, mut message: Message, late_s: u64) -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    message
        .finalize(&signer(key), now.as_secs() - late_s)
        .unwrap();
    message.to_vec().unwrap()
}
