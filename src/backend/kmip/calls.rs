//! The operations that keyward uses, each as a call: asked, and what came back read.

#![forbid(unsafe_code)]

use super::attributes::Attributes;
use super::client::Exchange;
use super::failure::{CallError, ServerError};
use super::requests::{self, Mode, NewKey, Wanted};
use super::tags::{
    AUTHENTICATION_TAG, DATA, KEY_BLOCK, KEY_MATERIAL, KEY_VALUE, KEY_WRAPPING_DATA, SYMMETRIC_KEY,
    UNIQUE_IDENTIFIER,
};
use super::ttlv::Item;
use crate::error::Result;
use crate::secret::DataKey;
use crate::secret::aead::TAG_LEN;

/// How many things are asked for in one message.
const BATCH: usize = 32;

impl Exchange<'_> {
    /// Has the server make an AES key of 256 bits; gives its id.
    pub(super) fn create(
        &mut self,
        key: &NewKey<'_>,
        sensitive: bool,
    ) -> Result<String, CallError> {
        self.ask(requests::create(key, sensitive), id_of)
    }

    /// Gives the server a key of ours to keep; gives its id.
    pub(super) fn register(
        &mut self,
        key: &NewKey<'_>,
        data: &DataKey,
    ) -> Result<String, CallError> {
        self.ask(requests::register(key, data), id_of)
    }

    /// Lets a key be used.
    pub(super) fn activate(&mut self, id: &str) -> Result<(), CallError> {
        self.ask(requests::activate(id), done)
    }

    /// Lets a key be used no more: without it, most servers destroy no active key.
    pub(super) fn revoke(&mut self, id: &str) -> Result<(), CallError> {
        self.ask(requests::revoke(id), done)
    }

    /// Notes that somebody else may know a key.
    pub(super) fn compromise(&mut self, id: &str) -> Result<(), CallError> {
        self.ask(requests::compromise(id), done)
    }

    /// Destroys a key for ever.
    pub(super) fn destroy(&mut self, id: &str) -> Result<(), CallError> {
        self.ask(requests::destroy(id), done)
    }

    /// The ids of the symmetric keys that fit.
    pub(super) fn locate(&mut self, wanted: &Wanted<'_>) -> Result<Vec<String>, CallError> {
        self.ask(requests::locate(wanted), |payload| {
            payload.all(UNIQUE_IDENTIFIER).map(|id| id.text().map(str::to_owned)).collect()
        })
    }

    /// What the server tells of a key.
    pub(super) fn attributes(&mut self, id: &str) -> Result<Attributes, CallError> {
        self.ask(requests::describe(id), |payload| Some(Attributes::read(payload)))
    }

    /// The same of many keys; of those that are gone, or are not ours to see, nothing.
    pub(super) fn attributes_of(&mut self, ids: &[String]) -> Result<Vec<Option<Attributes>>> {
        let mut all = Vec::with_capacity(ids.len());
        for some in ids.chunks(BATCH) {
            let asked: Vec<_> = some.iter().map(|id| requests::describe(id)).collect();
            let place = self.place();
            all.extend(self.ask_all(&asked, |n, outcome| match outcome {
                Ok(payload) => Ok(Some(Some(Attributes::read(payload)))),
                Err(refusal) => absent(refusal, &place, &some[n]).map(|()| Some(None)),
            })?);
        }
        Ok(all)
    }

    /// A key itself.
    pub(super) fn get(&mut self, id: &str) -> Result<DataKey, CallError> {
        self.ask(requests::get(id), |payload| Some(material(payload)))?.map_err(CallError::Ours)
    }

    /// Many of them; of those that are gone, or are not ours to see, nothing.
    pub(super) fn get_all(&mut self, ids: &[String]) -> Result<Vec<Option<DataKey>>> {
        let mut all = Vec::with_capacity(ids.len());
        for some in ids.chunks(BATCH) {
            let asked: Vec<_> = some.iter().map(|id| requests::get(id)).collect();
            let place = self.place();
            all.extend(self.ask_all(&asked, |n, outcome| match outcome {
                Ok(payload) => material(payload).map(|data| Some(Some(data))),
                Err(refusal) => absent(refusal, &place, &some[n]).map(|()| Some(None)),
            })?);
        }
        Ok(all)
    }

    /// Encrypts with a key that stays there; with GCM the tag stands at the end.
    pub(super) fn encrypt(
        &mut self,
        id: &str,
        mode: &Mode<'_>,
        data: &[u8],
    ) -> Result<Vec<u8>, CallError> {
        self.ask(requests::encrypt(id, mode, data), |payload| {
            let mut all = payload.get(DATA)?.bytes()?.to_vec();
            if let Mode::Gcm { .. } = mode {
                let tag = payload.get(AUTHENTICATION_TAG)?.bytes()?;
                (tag.len() == TAG_LEN).then(|| all.extend_from_slice(tag))?;
            }
            Some(all)
        })
    }

    /// Decrypts what [`encrypt`](Self::encrypt) gave.
    pub(super) fn decrypt(
        &mut self,
        id: &str,
        mode: &Mode<'_>,
        data: &[u8],
    ) -> Result<DataKey, CallError> {
        let read = |payload: &Item<'_>| payload.get(DATA)?.bytes().map(DataKey::copy_of);
        self.ask(requests::decrypt(id, mode, data), read)?.map_err(CallError::Ours)
    }
}

/// Another may destroy a key between our two looks at it.
fn absent(refusal: ServerError, place: &str, id: &str) -> Result<()> {
    let fault = CallError::Refused(refusal);
    match fault.is_not_found() || fault.may_be_the_keys_state() {
        true => Ok(()),
        false => Err(fault.told(place, format_args!("object {id:?}"))),
    }
}

/// The bytes of a symmetric key that came as they are.
fn material(payload: &Item<'_>) -> Result<DataKey> {
    let block = payload.get(SYMMETRIC_KEY).and_then(|key| key.get(KEY_BLOCK));
    let plain = block.filter(|block| block.get(KEY_WRAPPING_DATA).is_none());
    let value = plain.and_then(|block| block.get(KEY_VALUE));
    let bytes = value.and_then(|value| value.get(KEY_MATERIAL)).and_then(Item::bytes);
    DataKey::copy_of(bytes.ok_or_else(|| {
        use crate::error::{Error, Kind};
        Error::new(Kind::Unsupported, "the KMIP server gives no symmetric key in the clear")
            .advise("only raw symmetric keys, not wrapped by another key, can be served")
    })?)
}

fn id_of(payload: &Item<'_>) -> Option<String> {
    payload.get(UNIQUE_IDENTIFIER)?.text().map(str::to_owned)
}

fn done(payload: &Item<'_>) -> Option<()> {
    id_of(payload).map(drop)
}
