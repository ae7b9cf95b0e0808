//! Files that show whether they are whole: a header line with the format and the SHA-256 of the rest,
//! then JSON. Both ledgers of a server are such. Whose a file is, is not known here.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde::de::DeserializeOwned;
use sha2::{Digest as _, Sha256};

use crate::durable;

/// A file as it is sealed and written.
#[derive(Debug, Clone, Copy)]
pub struct Sealed {
    /// Its name in its folder.
    pub file: &'static str,
    /// Begins its header: format and version, with a space behind.
    pub header: &'static str,
    /// What it is called in words: "a ledger of version 1".
    pub kind: &'static str,
    /// Bytes of it that are read at most.
    pub size_max: u64,
}

impl Sealed {
    /// What it holds; none: there is no such file.
    ///
    /// # Errors
    /// What the disk says; within, what is wrong with the content, in words.
    pub fn read<T: DeserializeOwned>(
        &self,
        folder: &Path,
    ) -> io::Result<Option<Result<T, String>>> {
        let mut bytes = Vec::new();
        match File::open(folder.join(self.file)) {
            Ok(file) => file.take(self.size_max).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        Ok(Some(self.open(&bytes)))
    }

    /// Makes this its content, durably; when this fails, the old one is there, whole.
    ///
    /// # Errors
    /// What the disk says.
    pub fn write(&self, folder: &Path, mut body: Vec<u8>) -> io::Result<()> {
        body.push(b'\n');
        let mut bytes = format!("{}{}\n", self.header, digest(&body)).into_bytes();
        bytes.extend_from_slice(&body);
        durable::write(folder, self.file, &bytes, 0o600)
    }

    fn open<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, String> {
        let end = bytes
            .iter()
            .position(|byte| *byte == b'\n')
            .ok_or("it has no header line")?;
        let (header, body) = bytes.split_at(end);
        let body = body.get(1..).unwrap_or_default();
        let stated = std::str::from_utf8(header)
            .ok()
            .and_then(|header| header.strip_prefix(self.header))
            .ok_or_else(|| format!("its header is not that of {}", self.kind))?;
        if stated != digest(body) {
            return Err("its content is not what was written".to_owned());
        }
        serde_json::from_slice(body).map_err(|error| error.to_string())
    }
}

fn digest(body: &[u8]) -> String {
    Sha256::digest(body)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
