//! Epochs and generations: which reconciler may command, and which of its commands is newer (H7).
//!
//! Every assignment and every DNS mark carries a generation. Receivers keep the highest epoch they
//! have met and refuse lower ones, so a second or a restored reconciler is fenced without a lock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::NameError;

/// One life of a writing reconciler. Compared field by field, in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Epoch {
    /// One above the highest any agent knew when the reconciler started.
    pub counter: u64,
    /// The reconciler's declared name.
    pub reconciler: String,
    /// Drawn at each start: tells two copies of one reconciler apart.
    pub start: String,
}

/// A command's place in the order of all commands: epoch first, then the number within it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Generation {
    /// The reconciler's life.
    pub epoch: Epoch,
    /// Rises by one with each command of that life.
    pub number: u64,
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.counter, self.reconciler, self.start)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

impl FromStr for Generation {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError {
            text: text.to_owned(),
            kind: "generation",
            want: "COUNTER:RECONCILER:START.NUMBER",
        };
        let (epoch, number) = text.rsplit_once('.').ok_or_else(wrong)?;
        let mut parts = epoch.splitn(3, ':');
        let (Some(counter), Some(reconciler), Some(start)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(wrong());
        };
        Ok(Self {
            epoch: Epoch {
                counter: counter.parse().map_err(|_| wrong())?,
                reconciler: reconciler.to_owned(),
                start: start.to_owned(),
            },
            number: number.parse().map_err(|_| wrong())?,
        })
    }
}
