//! What a guard needs of nftables: elements of a set, put in and taken out by netlink.
//!
//! One transaction a call, with its answer: it is in force when the call returns `Ok`. A process of `nft`
//! for each would cost more than the rest of a renewal. It knows nothing of leases; the table is made
//! elsewhere (`network`).

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Duration;

use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, netlink, socket_with};

/// The kernel answers within the call; this is for one that does not.
const ANSWER: Duration = Duration::from_millis(50);

const REQUEST: u16 = 0x1;
const ACKNOWLEDGE: u16 = 0x4;
const CREATE: u16 = 0x400;
const ERROR: u16 = 0x2;
const BEGIN: u16 = 0x10;
const END: u16 = 0x11;
const SUBSYSTEM: u16 = 10;
const NEW_ELEMENT: u16 = SUBSYSTEM << 8 | 12;
const DELETE_ELEMENT: u16 = SUBSYSTEM << 8 | 14;
const INET: u8 = 1;
const NESTED: u16 = 0x8000;
/// A message's own header, and that of netfilter behind it.
const HEADER: usize = 16;

/// A connection to the kernel's nftables.
#[derive(Debug)]
pub(super) struct Nftables {
    socket: File,
    sequence: u32,
}

/// One change of a set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Change<'a> {
    /// This element is in it; none of it: for good.
    Put(&'a str, u64, Option<Duration>),
    /// This element, which is in it, is no more.
    Take(&'a str, u64),
    /// Nothing is in it.
    Empty(&'a str),
}

impl Nftables {
    /// # Errors
    /// What the kernel says.
    pub(super) fn open() -> io::Result<Self> {
        let socket = socket_with(
            AddressFamily::NETLINK,
            SocketType::RAW,
            SocketFlags::CLOEXEC,
            Some(netlink::NETFILTER),
        )?;
        set_socket_timeout(&socket, Timeout::Recv, Some(ANSWER))?;
        Ok(Self {
            socket: File::from(socket),
            sequence: 0,
        })
    }

    /// Makes these changes in this table, all or none.
    ///
    /// # Errors
    /// What the kernel says; then none is in force.
    pub(super) fn change(&mut self, table: &str, changes: &[Change<'_>]) -> io::Result<()> {
        let mut batch = Vec::new();
        self.message(&mut batch, BEGIN, REQUEST, SUBSYSTEM, &[]);
        for (left, change) in (0..changes.len()).rev().zip(changes) {
            let last = if left == 0 { ACKNOWLEDGE } else { 0 };
            let (kind, flags, body) = encode(table, *change);
            self.message(&mut batch, kind, REQUEST | flags | last, 0, &body);
        }
        let last = self.sequence;
        self.message(&mut batch, END, REQUEST, SUBSYSTEM, &[]);
        self.socket.write_all(&batch)?;
        self.answer(last)
    }

    fn message(&mut self, batch: &mut Vec<u8>, kind: u16, flags: u16, resource: u16, body: &[u8]) {
        self.sequence = self.sequence.wrapping_add(1);
        let length = u32::try_from(HEADER + 4 + body.len()).unwrap_or(u32::MAX);
        batch.extend(length.to_ne_bytes());
        batch.extend(kind.to_ne_bytes());
        batch.extend(flags.to_ne_bytes());
        batch.extend(self.sequence.to_ne_bytes());
        batch.extend(0_u32.to_ne_bytes());
        batch.extend([INET, 0]);
        batch.extend(resource.to_be_bytes());
        batch.extend(body);
    }

    /// The first refusal of the transaction, or that its last change was made. What an earlier one left
    /// unread is skipped.
    fn answer(&mut self, last: u32) -> io::Result<()> {
        let mut buffer = [0; 8 * 1024];
        loop {
            let read = self.socket.read(&mut buffer)?;
            let mut rest = &buffer[..read];
            while let Some((kind, sequence, body)) = next(&mut rest) {
                let age = last.wrapping_sub(sequence);
                let code = body.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
                match code {
                    Some(0) if kind == ERROR && age == 0 => return Ok(()),
                    Some(code) if kind == ERROR && code != 0 && age < 8 => {
                        return Err(io::Error::from_raw_os_error(-code));
                    }
                    _ => {}
                }
            }
            if read == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Kind, sequence number and body of the next message of an answer.
fn next<'a>(rest: &mut &'a [u8]) -> Option<(u16, u32, &'a [u8])> {
    let header = rest.get(..HEADER)?;
    let length = u32::from_ne_bytes(*header.first_chunk()?);
    let length = usize::try_from(length).ok()?.max(HEADER);
    let kind = u16::from_ne_bytes(*header[4..].first_chunk()?);
    let sequence = u32::from_ne_bytes(*header[8..].first_chunk()?);
    let body = rest.get(HEADER..length)?;
    *rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, sequence, body))
}

fn encode(table: &str, change: Change<'_>) -> (u16, u16, Vec<u8>) {
    let (kind, flags, set, element) = match change {
        Change::Put(set, key, timeout) => (NEW_ELEMENT, CREATE, set, Some((key, timeout))),
        Change::Take(set, key) => (DELETE_ELEMENT, 0, set, Some((key, None))),
        Change::Empty(set) => (DELETE_ELEMENT, 0, set, None),
    };
    let mut body = Vec::new();
    attribute(&mut body, 1, &text(table));
    attribute(&mut body, 2, &text(set));
    if let Some((key, timeout)) = element {
        let (mut value, mut inner, mut list) = (Vec::new(), Vec::new(), Vec::new());
        attribute(&mut value, 1, &key.to_ne_bytes());
        attribute(&mut inner, 1 | NESTED, &value);
        if let Some(timeout) = timeout {
            let ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            attribute(&mut inner, 4, &ms.to_be_bytes());
        }
        attribute(&mut list, 1 | NESTED, &inner);
        attribute(&mut body, 3 | NESTED, &list);
    }
    (kind, flags, body)
}

fn attribute(into: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    into.extend(length.to_ne_bytes());
    into.extend(kind.to_ne_bytes());
    into.extend(value);
    into.resize(into.len().next_multiple_of(4), 0);
}

fn text(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_element_is_written_as_the_kernel_reads_it() {
        let put = Change::Put("lease", 7, Some(Duration::from_secs(3)));
        let (kind, flags, body) = encode("t", put);
        assert_eq!((kind, flags), (0x0a0c, CREATE));
        let expected: &[&[u8]] = &[
            &[6, 0, 1, 0, b't', 0, 0, 0],
            &[10, 0, 2, 0, b'l', b'e', b'a', b's', b'e', 0, 0, 0],
            &[36, 0, 3, 0x80],
            &[32, 0, 1, 0x80],
            &[16, 0, 1, 0x80],
            &[12, 0, 1, 0, 7, 0, 0, 0, 0, 0, 0, 0],
            &[12, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0x0b, 0xb8],
        ];
        if cfg!(target_endian = "little") {
            assert_eq!(body, expected.concat());
        }
        let (kind, _, body) = encode("t", Change::Empty("w"));
        assert_eq!((kind, body.len()), (0x0a0e, 16));
    }

    #[test]
    fn a_torn_answer_ends_and_panics_nowhere() {
        let whole = [
            20, 0, 0, 0, 2, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 254, 255, 255, 255,
        ];
        for length in 0..whole.len() {
            assert!(next(&mut &whole[..length]).is_none(), "{length}");
        }
        if cfg!(target_endian = "little") {
            let mut rest = &whole[..];
            assert_eq!(next(&mut rest), Some((ERROR, 9, &whole[16..])));
            assert!(rest.is_empty());
        }
    }
}
