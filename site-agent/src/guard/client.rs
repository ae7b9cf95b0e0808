//! One connection to the guard: lines in, lines out, neither waits.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::message::{FromGuard, LINE_BYTES, ToGuard, line};

/// Read from a connection before others get their turn.
const READ_ROUNDS: usize = 16;

/// A connection.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) stream: UnixStream,
    input: Vec<u8>,
}

/// What came of reading.
#[derive(Debug)]
pub(super) enum Heard {
    /// These, and it stays.
    Said(Vec<ToGuard>),
    /// These, and it is over: hung up, too long a line, or nonsense.
    Over(Vec<ToGuard>, Option<&'static str>),
}

impl Client {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
        })
    }

    /// False when the other side is gone, or does not read.
    pub(super) fn send(&mut self, message: &FromGuard) -> bool {
        self.stream.write_all(&line(message)).is_ok()
    }

    pub(super) fn receive(&mut self) -> Heard {
        let mut said = Vec::new();
        let mut chunk = [0; 4 * 1024];
        for _ in 0..READ_ROUNDS {
            match self.stream.read(&mut chunk) {
                Ok(0) => return Heard::Over(said, None),
                Ok(read) => {
                    self.input.extend_from_slice(&chunk[..read]);
                    if let Err(why) = self.take_lines(&mut said) {
                        return Heard::Over(said, Some(why));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Heard::Over(said, None),
            }
        }
        Heard::Said(said)
    }

    fn take_lines(&mut self, said: &mut Vec<ToGuard>) -> Result<(), &'static str> {
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.input.drain(..=end).collect();
            said.push(serde_json::from_slice(&line).map_err(|_| "a line can't be read")?);
        }
        if self.input.len() > LINE_BYTES {
            return Err("a line is too long");
        }
        Ok(())
    }
}

impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
