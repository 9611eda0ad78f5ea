//! Requests, and what is answered (OASIS KMIP 1.4, sections 6 and 7; KMIP 2.1, sections 8 and 9).

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use super::tags::{
    BATCH_COUNT, BATCH_ERROR_CONTINUATION_OPTION, BATCH_ITEM, CONTINUE, MAXIMUM_RESPONSE_SIZE,
    OPERATION, PROTOCOL_VERSION, PROTOCOL_VERSION_MAJOR, PROTOCOL_VERSION_MINOR, REQUEST_HEADER,
    REQUEST_MESSAGE, REQUEST_PAYLOAD, RESPONSE_HEADER, RESPONSE_MESSAGE, RESPONSE_PAYLOAD,
    RESULT_REASON, RESULT_STATUS, UNIQUE_BATCH_ITEM_ID,
};
use super::ttlv::{Item, MAX_MESSAGE, ParseError, Tag, Writer, decode};
use crate::error::{Error, Kind};

/// Result status: it was done.
const SUCCESS: u32 = 0;

/// Result reason where a server gives none: general failure.
const GENERAL_FAILURE: u32 = 0x100;

/// A release of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// 1 or 2.
    pub major: i32,
    /// From 0 to 4 of KMIP 1, 0 or 1 of KMIP 2.
    pub minor: i32,
}

impl Version {
    /// Those that keyward speaks, the best first.
    pub const ALL: [Self; 7] = [
        Self::new(2, 1),
        Self::new(2, 0),
        Self::new(1, 4),
        Self::new(1, 3),
        Self::new(1, 2),
        Self::new(1, 1),
        Self::new(1, 0),
    ];

    /// KMIP `major`.`minor`.
    #[must_use]
    pub const fn new(major: i32, minor: i32) -> Self {
        Self { major, minor }
    }

    pub(super) fn write(self, to: &mut Writer) {
        to.structure(PROTOCOL_VERSION, |to| {
            to.integer(PROTOCOL_VERSION_MAJOR, self.major);
            to.integer(PROTOCOL_VERSION_MINOR, self.minor);
        });
    }

    pub(super) fn read(item: &Item<'_>) -> Option<Self> {
        let number = |tag| item.get(tag).and_then(Item::integer);
        Some(Self {
            major: number(PROTOCOL_VERSION_MAJOR)?,
            minor: number(PROTOCOL_VERSION_MINOR)?,
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::ALL.into_iter().find(|version| version.to_string() == text).ok_or_else(|| {
            Error::new(Kind::Config, format!("keyward does not speak KMIP {text:?}"))
                .advise("use 1.0 to 1.4, 2.0 or 2.1, or leave it out: the best is found")
        })
    }
}

/// What a server can be asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Make a key there.
    Create,
    /// Take a key of ours.
    Register,
    /// Find keys.
    Locate,
    /// Give a key out.
    Get,
    /// Describe a key.
    GetAttributes,
    /// Let a key be used.
    Activate,
    /// Let a key be used no more.
    Revoke,
    /// Destroy a key.
    Destroy,
    /// Say which releases of the protocol it speaks.
    DiscoverVersions,
    /// Encrypt with a key.
    Encrypt,
    /// Decrypt with a key.
    Decrypt,
}

impl Operation {
    /// Its number in the protocol.
    pub(super) const fn code(self) -> u32 {
        match self {
            Self::Create => 0x01,
            Self::Register => 0x03,
            Self::Locate => 0x08,
            Self::Get => 0x0A,
            Self::GetAttributes => 0x0B,
            Self::Activate => 0x12,
            Self::Revoke => 0x13,
            Self::Destroy => 0x14,
            Self::DiscoverVersions => 0x1E,
            Self::Encrypt => 0x1F,
            Self::Decrypt => 0x20,
        }
    }

    /// Whether it may be asked for again where nobody knows if it was carried out.
    pub(super) const fn is_repeatable(self) -> bool {
        !matches!(self, Self::Create | Self::Register)
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "Create",
            Self::Register => "Register",
            Self::Locate => "Locate",
            Self::Get => "Get",
            Self::GetAttributes => "Get Attributes",
            Self::Activate => "Activate",
            Self::Revoke => "Revoke",
            Self::Destroy => "Destroy",
            Self::DiscoverVersions => "Discover Versions",
            Self::Encrypt => "Encrypt",
            Self::Decrypt => "Decrypt",
        })
    }
}

/// One thing to ask for. Which release it is asked in is known once a server has answered, and another
/// server may speak another one.
pub(super) struct Asked<'a> {
    pub(super) operation: Operation,
    payload: Box<Payload<'a>>,
}

/// Writes a payload as a release has it.
type Payload<'a> = dyn Fn(&mut Writer, Version) + Sync + 'a;

impl<'a> Asked<'a> {
    /// `operation` with the payload that `payload` writes.
    pub(super) fn new(
        operation: Operation,
        payload: impl Fn(&mut Writer, Version) + Sync + 'a,
    ) -> Self {
        Self { operation, payload: Box::new(payload) }
    }
}

/// The message that asks for all of `asked`. One that fails does not keep the others from being done.
pub(super) fn request(version: Version, asked: &[Asked<'_>]) -> Writer {
    let count = i32::try_from(asked.len()).unwrap_or(i32::MAX);
    let mut message = Writer::default();
    message.structure(REQUEST_MESSAGE, |to| {
        to.structure(REQUEST_HEADER, |to| {
            version.write(to);
            to.integer(MAXIMUM_RESPONSE_SIZE, i32::try_from(MAX_MESSAGE).unwrap_or(i32::MAX));
            if count > 1 {
                to.enumeration(BATCH_ERROR_CONTINUATION_OPTION, CONTINUE);
            }
            to.integer(BATCH_COUNT, count);
        });
        for (n, one) in asked.iter().enumerate() {
            to.structure(BATCH_ITEM, |to| {
                to.enumeration(OPERATION, one.operation.code());
                if count > 1 {
                    to.bytes(UNIQUE_BATCH_ITEM_ID, &batch_id(n));
                }
                to.structure(REQUEST_PAYLOAD, |to| (one.payload)(to, version));
            });
        }
    });
    message
}

fn batch_id(n: usize) -> [u8; 8] {
    (n as u64).to_be_bytes()
}

/// A message that came back.
pub struct Response(Zeroizing<Vec<u8>>);

impl Response {
    /// A response of these bytes; they are not looked at yet.
    #[must_use]
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// What was answered to each of the things that were asked for, in their order.
    ///
    /// # Errors
    /// It is no response, or another number of answers than `asked`: servers answer what they
    /// could not read with one alone, which then holds for all.
    pub fn answers(&self, asked: usize) -> Result<Vec<Answer<'_>>, ParseError> {
        let flaw = |what| ParseError { at: 0, what };
        let message = decode(&self.0)?;
        if message.tag != RESPONSE_MESSAGE || message.get(RESPONSE_HEADER).is_none() {
            return Err(flaw("it is no response of KMIP's"));
        }
        let mut answers: Vec<Option<Answer<'_>>> = Vec::new();
        answers.resize_with(asked, || None);
        let given = message.all(BATCH_ITEM).count();
        for (n, item) in into_items(message).filter(|item| item.tag == BATCH_ITEM).enumerate() {
            let answer = Answer::of(item).ok_or(flaw("an answer has no result"))?;
            if given < asked && answer.reason.is_some() && answer.id.is_none() {
                let reason = answer.reason;
                return Ok(std::iter::repeat_with(|| Answer::refusal(reason))
                    .take(asked)
                    .collect());
            }
            let place = answer.id.map_or(Some(n), |id| (0..asked).find(|n| batch_id(*n) == *id));
            let slot = place.and_then(|n| answers.get_mut(n));
            *slot.ok_or(flaw("it answers something else"))? = Some(answer);
        }
        answers.into_iter().collect::<Option<_>>().ok_or(flaw("it lacks an answer"))
    }
}

/// What was answered to one thing.
pub struct Answer<'a> {
    id: Option<&'a [u8]>,
    /// Why it was not done.
    pub reason: Option<u32>,
    /// What it gave, if it was done.
    pub payload: Item<'a>,
}

impl<'a> Answer<'a> {
    fn of(item: Item<'a>) -> Option<Self> {
        let status = item.get(RESULT_STATUS)?.enumeration()?;
        let reason = || item.get(RESULT_REASON).and_then(Item::enumeration);
        let reason = (status != SUCCESS).then(|| reason().unwrap_or(GENERAL_FAILURE));
        let id = item.get(UNIQUE_BATCH_ITEM_ID).and_then(Item::bytes);
        let payload = into_items(item).find(|item| item.tag == RESPONSE_PAYLOAD);
        Some(Self { id, reason, payload: payload.unwrap_or_else(|| empty(RESPONSE_PAYLOAD)) })
    }

    fn refusal(reason: Option<u32>) -> Self {
        Self { id: None, reason, payload: empty(RESPONSE_PAYLOAD) }
    }
}

fn empty(tag: Tag) -> Item<'static> {
    Item { tag, value: super::ttlv::Value::Structure(Vec::new()) }
}

fn into_items(item: Item<'_>) -> impl Iterator<Item = Item<'_>> {
    match item.value {
        super::ttlv::Value::Structure(items) => items.into_iter(),
        _ => Vec::new().into_iter(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_as_it_is_written() {
        for version in Version::ALL {
            assert_eq!(version.to_string().parse::<Version>().unwrap(), version);
        }
        assert!(Version::ALL.is_sorted_by(|better, worse| better > worse));
        for text in ["2.2", "3.0", "1.5", "1", "2", "", "1.04"] {
            assert_eq!(text.parse::<Version>().unwrap_err().kind(), Kind::Config, "{text}");
        }
    }

    /// A response with one item for each of `ids`, whose status is failure where it has a reason.
    fn response(ids: &[(Option<usize>, Option<u32>)]) -> Response {
        let mut to = Writer::default();
        to.structure(RESPONSE_MESSAGE, |to| {
            to.structure(RESPONSE_HEADER, |to| Version::new(1, 4).write(to));
            for (id, reason) in ids {
                to.structure(BATCH_ITEM, |to| {
                    if let Some(id) = id {
                        to.bytes(UNIQUE_BATCH_ITEM_ID, &batch_id(*id));
                    }
                    to.enumeration(RESULT_STATUS, u32::from(reason.is_some()));
                    if let Some(reason) = reason {
                        to.enumeration(RESULT_REASON, *reason);
                    }
                });
            }
        });
        Response::new(Zeroizing::new(to.written().to_vec()))
    }

    fn reasons(response: &Response, asked: usize) -> Option<Vec<Option<u32>>> {
        let answers = response.answers(asked).ok()?;
        Some(answers.iter().map(|answer| answer.reason).collect())
    }

    #[test]
    fn each_answer_goes_to_what_was_asked() {
        let swapped = response(&[(Some(1), Some(12)), (Some(0), None)]);
        assert_eq!(reasons(&swapped, 2), Some(vec![None, Some(12)]));
        assert_eq!(reasons(&response(&[(None, None)]), 1), Some(vec![None]));
        // What could not be read is answered as a whole.
        assert_eq!(reasons(&response(&[(None, Some(4))]), 3), Some(vec![Some(4); 3]));
        for wrong in [&[(Some(0), None)][..], &[(Some(0), None), (Some(7), None)], &[]] {
            assert_eq!(reasons(&response(wrong), 2), None);
        }
    }
}
