//! TSIG at the server (RFC 8945 section 5): who signed a request, and how its answer is signed.
//!
//! A request is checked over its raw bytes. What a key may then do is `scope.rs`.

use hickory_proto::ProtoError;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::tsig::{TSIG, TsigError, make_tsig_record};
use hickory_proto::rr::{DNSClass, TSigResponseContext};

use super::ServerKey;

/// What the signature of a request says.
pub(super) enum Signed<'k> {
    /// There is none.
    Not,
    /// It holds.
    By {
        /// The key it was made with.
        key: &'k ServerKey,
        /// How answers to it are signed.
        chain: Chain<'k>,
    },
    /// It does not hold: NOTAUTH, with the reason in the answer's own TSIG record.
    Wrong(Wrong<'k>),
}

/// Checks a request's signature against the keys, at the given time in seconds since 1970.
pub(super) fn authenticate<'k>(
    keys: &'k [ServerKey],
    raw: &[u8],
    message: &Message,
    now_s: u64,
) -> Signed<'k> {
    let Some(record) = message.signature() else {
        return Signed::Not;
    };
    let tsig = &record.data;
    let key = keys.iter().find(|key| {
        let signer = key.key.signer();
        *signer.signer_name() == record.name && *signer.algorithm() == tsig.algorithm
    });
    let Some(key) = key else {
        let name = record.name.clone();
        return Signed::Wrong(Wrong::Key(TSigResponseContext::unknown_key(
            message.id, now_s, name,
        )));
    };
    let signer = key.key.signer();
    // A time below its own fudge would underflow in hickory's range. Class and TTL are fixed, and
    // hickory signs what they must be instead of what they are (section 4.2).
    let sane =
        tsig.time >= u64::from(tsig.fudge) && record.dns_class == DNSClass::ANY && record.ttl == 0;
    if !sane || signer.verify_message_byte(raw, None, true).is_err() {
        return Signed::Wrong(Wrong::Key(TSigResponseContext::bad_signature(
            message.id,
            now_s,
            signer.clone(),
        )));
    }
    let chain = Chain {
        key,
        previous: tsig.mac.clone(),
        first: true,
        now_s,
    };
    if tsig.time.abs_diff(now_s) > u64::from(tsig.fudge.min(signer.fudge())) {
        return Signed::Wrong(Wrong::Time {
            chain,
            asked_s: tsig.time,
        });
    }
    Signed::By { key, chain }
}

/// Signs the answers to one request, each over the signature before it (section 5.3.1).
pub(super) struct Chain<'k> {
    key: &'k ServerKey,
    previous: Vec<u8>,
    first: bool,
    now_s: u64,
}

impl Chain<'_> {
    /// The bytes of an answer, signed.
    pub(super) fn seal(&mut self, answer: &mut Message) -> Result<Vec<u8>, ProtoError> {
        self.seal_with(answer, self.now_s, None, Vec::new())
    }

    fn seal_with(
        &mut self,
        answer: &mut Message,
        time_s: u64,
        error: Option<TsigError>,
        other: Vec<u8>,
    ) -> Result<Vec<u8>, ProtoError> {
        let signer = self.key.key.signer();
        let (algorithm, fudge) = (signer.algorithm().clone(), signer.fudge());
        let stub = TSIG::new(
            algorithm,
            time_s,
            fudge,
            Vec::new(),
            answer.id,
            error,
            other,
        );
        let unsigned = answer.to_vec()?;
        let signed_bytes = if self.first {
            signer.encode_response_tbs(&self.previous, &unsigned, &stub)?
        } else {
            later_tbs(&self.previous, &unsigned, &stub)
        };
        let mac = signer
            .sign(&signed_bytes)
            .map_err(|_| ProtoError::from("the key cannot sign"))?;
        self.previous.clone_from(&mac);
        self.first = false;
        let record = make_tsig_record(signer.signer_name().clone(), stub.set_mac(mac));
        answer.set_signature(Box::new(record));
        answer.to_vec()
    }
}

/// Messages after the first sign only the times, not the whole TSIG variables.
fn later_tbs(previous: &[u8], unsigned: &[u8], stub: &TSIG) -> Vec<u8> {
    let length = u16::try_from(previous.len()).expect("a MAC has at most 64 bytes");
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend_from_slice(previous);
    bytes.extend_from_slice(unsigned);
    bytes.extend_from_slice(&stub.time.to_be_bytes()[2..]);
    bytes.extend_from_slice(&stub.fudge.to_be_bytes());
    bytes
}

/// A signature that does not hold.
pub(super) enum Wrong<'k> {
    /// Unknown key or bad MAC: answered without a MAC (section 5.2.1 and 5.2.2).
    Key(TSigResponseContext),
    /// Right key, wrong time: answered signed, with the server's clock (section 5.2.3).
    Time {
        /// Signs the answer.
        chain: Chain<'k>,
        /// The time in the request.
        asked_s: u64,
    },
}

impl Wrong<'_> {
    /// The refusal's bytes.
    pub(super) fn answer(self, request: &Message) -> Result<Vec<u8>, ProtoError> {
        let mut answer = Message::error_msg(request.id, request.op_code, ResponseCode::NotAuth);
        answer.add_queries(request.queries.iter().cloned());
        match self {
            Self::Key(context) => {
                let record = context.sign(&answer.to_vec()?)?;
                answer.set_signature(record);
                answer.to_vec()
            }
            Self::Time { mut chain, asked_s } => {
                let server_clock = chain.now_s.to_be_bytes()[2..].to_vec();
                chain.seal_with(&mut answer, asked_s, Some(TsigError::BadTime), server_clock)
            }
        }
    }
}
