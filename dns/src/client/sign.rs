//! TSIG at the client: one message signed once, and its answer judged (RFC 8945).
//!
//! The answer's response code and TSIG error are read before its signature is checked: a refusal
//! of the key carries no signature that could be checked, and hickory's own client then reports a
//! truncated HMAC. Only what a signature proves counts as done.

use std::fmt;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use hickory_proto::op::{Message, MessageType, ResponseCode};
use hickory_proto::rr::TSigVerifier;
use hickory_proto::rr::rdata::tsig::TsigError;

use super::exchange::{ExchangeError, decode};
use crate::key::TsigKey;

/// What a server holds against a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyFault {
    /// Unknown name or algorithm; Knot says so too of a good key that its `acl` allows nothing.
    BadKey,
    /// Another secret under that name.
    BadSig,
    /// The clocks differ; the server's, in seconds since 1970, where it said so.
    BadTime(Option<u64>),
    /// The server wants longer MACs.
    BadTrunc,
    /// Another TSIG error.
    Other(u16),
}

impl KeyFault {
    /// Whether another key could fare better: not where the clock is at fault.
    pub(super) const fn try_next(self) -> bool {
        matches!(self, Self::BadKey | Self::BadSig)
    }
}

impl fmt::Display for KeyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadKey => {
                f.write_str("BADKEY, it does not know this key name with this algorithm (Knot: or its acl does not allow the key this name)")
            }
            Self::BadSig => f.write_str("BADSIG, it has another secret for this key name"),
            Self::BadTime(None) => {
                f.write_str("BADTIME, its clock and ours differ by more than 300 s: check NTP")
            }
            Self::BadTime(Some(theirs)) => write!(
                f,
                "BADTIME, its clock differs from ours by {} s: check NTP",
                theirs.abs_diff(now_s())
            ),
            Self::BadTrunc => f.write_str("BADTRUNC, it wants a longer MAC than the key's"),
            Self::Other(code) => write!(f, "TSIG error {code}"),
        }
    }
}

/// What an answer to a signed message says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// A response code; NOERROR and the prerequisites' codes only under a good signature.
    Code(ResponseCode),
    /// The key was not accepted.
    Key(KeyFault),
    /// A code that matters, under no good signature.
    Unproven(String),
}

/// Signs a message with the time of now.
pub(super) fn sign(
    message: &mut Message,
    key: &TsigKey,
    server: SocketAddr,
) -> Result<(Vec<u8>, TSigVerifier), ExchangeError> {
    let unsignable = |what: String| ExchangeError::Malformed { server, what };
    let verifier = message
        .finalize(key.signer(), now_s())
        .map_err(|error| unsignable(error.to_string()))?
        .ok_or_else(|| unsignable("the message cannot be signed".to_owned()))?;
    let bytes = message
        .to_vec()
        .map_err(|error| unsignable(error.to_string()))?;
    Ok((bytes, verifier))
}

/// Judges the answer to a signed message.
pub(super) fn judge(
    raw: &[u8],
    asked: &Message,
    verifier: &mut TSigVerifier,
    server: SocketAddr,
) -> Result<Verdict, ExchangeError> {
    let answer = decode(raw, server)?;
    if answer.id != asked.id || answer.message_type != MessageType::Response {
        return Err(ExchangeError::Malformed {
            server,
            what: "it answers another message".to_owned(),
        });
    }
    if let Some(fault) = key_fault(&answer) {
        return Ok(Verdict::Key(fault));
    }
    let matters = matches!(
        answer.response_code,
        ResponseCode::NoError
            | ResponseCode::NXRRSet
            | ResponseCode::YXRRSet
            | ResponseCode::NXDomain
            | ResponseCode::YXDomain
    );
    Ok(match verifier.verify(raw) {
        Err(error) if matters => Verdict::Unproven(error.to_string()),
        _ => Verdict::Code(answer.response_code),
    })
}

/// What the answer's TSIG record, or an extended response code, says against the key.
fn key_fault(answer: &Message) -> Option<KeyFault> {
    let tsig = answer.signature().map(|record| &record.data);
    let error = match answer.response_code {
        ResponseCode::NotAuth => tsig?.error?,
        ResponseCode::BADSIG => TsigError::BadSig,
        ResponseCode::BADKEY => TsigError::BadKey,
        ResponseCode::BADTIME => TsigError::BadTime,
        ResponseCode::BADTRUNC => TsigError::BadTrunc,
        _ => return None,
    };
    Some(match error {
        TsigError::BadSig => KeyFault::BadSig,
        TsigError::BadKey => KeyFault::BadKey,
        TsigError::BadTrunc => KeyFault::BadTrunc,
        TsigError::BadTime => KeyFault::BadTime(tsig.and_then(|tsig| server_clock(&tsig.other))),
        TsigError::Unknown(0) => return None,
        TsigError::Unknown(code) => KeyFault::Other(code),
    })
}

/// The server's clock out of a BADTIME answer: 48 bits (RFC 8945 section 5.2.3).
fn server_clock(other: &[u8]) -> Option<u64> {
    let bytes: [u8; 6] = other.try_into().ok()?;
    Some(
        bytes
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte)),
    )
}

fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::tsig::{TSIG, TsigAlgorithm as Wire, make_tsig_record};
    use stead_schemas::desired::TsigAlgorithm;

    use super::*;
    use crate::{Secret, convert};

    fn server() -> SocketAddr {
        "192.0.2.53:53".parse().unwrap()
    }

    fn judged(code: ResponseCode, tsig: Option<TSIG>) -> Verdict {
        let secret = Secret::new(vec![7; 32]);
        let key = TsigKey::new("k", TsigAlgorithm::HmacSha256, secret).unwrap();
        let mut asked = Message::new(9, MessageType::Query, OpCode::Update);
        let (_, mut verifier) = sign(&mut asked, &key, server()).unwrap();
        let mut answer = Message::error_msg(9, OpCode::Update, code);
        if let Some(tsig) = tsig {
            let record = make_tsig_record(convert::name("k").unwrap(), tsig);
            answer.set_signature(Box::new(record));
        }
        judge(&answer.to_vec().unwrap(), &asked, &mut verifier, server()).unwrap()
    }

    fn tsig(error: Option<TsigError>, other: Vec<u8>) -> Option<TSIG> {
        Some(TSIG::new(Wire::HmacSha256, 0, 300, vec![], 9, error, other))
    }

    #[test]
    fn a_refused_key_is_named_although_the_refusal_is_unsigned() {
        let fault = |error, other| judged(ResponseCode::NotAuth, tsig(Some(error), other));
        assert_eq!(
            fault(TsigError::BadSig, vec![]),
            Verdict::Key(KeyFault::BadSig)
        );
        assert_eq!(
            fault(TsigError::BadKey, vec![]),
            Verdict::Key(KeyFault::BadKey)
        );
        assert_eq!(
            fault(TsigError::BadTrunc, vec![]),
            Verdict::Key(KeyFault::BadTrunc)
        );
        let late = fault(TsigError::BadTime, vec![0, 0, 0, 0, 1, 2]);
        assert_eq!(late, Verdict::Key(KeyFault::BadTime(Some(258))));
    }

    #[test]
    fn notauth_without_a_tsig_error_keeps_both_readings() {
        assert_eq!(
            judged(ResponseCode::NotAuth, None),
            Verdict::Code(ResponseCode::NotAuth)
        );
        let signed = judged(ResponseCode::NotAuth, tsig(None, vec![]));
        assert_eq!(signed, Verdict::Code(ResponseCode::NotAuth));
    }

    #[test]
    fn an_unsigned_refusal_keeps_its_code_and_an_unsigned_success_is_not_believed() {
        assert_eq!(
            judged(ResponseCode::Refused, None),
            Verdict::Code(ResponseCode::Refused)
        );
        for code in [ResponseCode::NoError, ResponseCode::NXRRSet] {
            assert!(matches!(judged(code, None), Verdict::Unproven(_)), "{code}");
        }
    }
}
