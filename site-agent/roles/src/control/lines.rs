//! Lines of bounded length from a stream. Giving up on a line and asking again loses nothing.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

use super::LINE_MAX;

/// Reads lines.
#[derive(Debug)]
pub(super) struct Lines<R> {
    stream: R,
    pending: Vec<u8>,
    /// How much of `pending` was searched already.
    searched: usize,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    pub(super) const fn new(stream: R) -> Self {
        Self {
            stream,
            pending: Vec::new(),
            searched: 0,
        }
    }

    /// The next line, without its end; none at the end of the stream. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            let fresh = &self.pending[self.searched..];
            if let Some(place) = fresh.iter().position(|byte| *byte == b'\n') {
                let rest = self.pending.split_off(self.searched + place + 1);
                let mut line = std::mem::replace(&mut self.pending, rest);
                line.pop();
                self.searched = 0;
                return Ok(Some(line));
            }
            self.searched = self.pending.len();
            if self.pending.len() > LINE_MAX {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "a line too long",
                ));
            }
            if self.stream.read_buf(&mut self.pending).await? == 0 {
                return Ok(None);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_whole_and_have_a_longest() {
        let mut lines = Lines::new(&b"one\n\ntwo\nhalf"[..]);
        for expected in ["one", "", "two"] {
            assert_eq!(lines.next().await.unwrap().unwrap(), expected.as_bytes());
        }
        assert!(lines.next().await.unwrap().is_none());
        let endless = vec![b'x'; LINE_MAX * 2];
        assert!(Lines::new(&endless[..]).next().await.is_err());
    }
}
