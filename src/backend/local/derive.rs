//! A wrapping key from a passphrase: Argon2id (RFC 9106).

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use subtle::ConstantTimeEq as _;

use super::KEK_LEN;
use crate::env::Rng;
use crate::error::{Error, Kind, Result};
use crate::hex::{self, Hex};
use crate::secret::DataKey;
use crate::secret::scrubbed;
use crate::secret::source::{SecretSource, without_line_end};

/// The names under which a wrapped key keeps how its wrapping key was derived: written by `wrap`,
/// read by `unwrap`, bound by the AAD.
const KDF: &str = "kdf";
const SALT: &str = "salt";
const MEMORY: &str = "memory_kib";
const PASSES: &str = "passes";
const LANES: &str = "lanes";

/// The only derivation there is.
const ARGON2ID: &str = "argon2id";

/// As RFC 9106 section 3.1 recommends.
const SALT_LEN: usize = 16;

/// The longest passphrase, in bytes.
const MAX_PASSPHRASE_LEN: usize = 4096;

/// What a keystore that somebody changed may ask of this machine before its MAC is looked at: four times
/// what is written, so 256 MiB and about a second.
const MAX_MEMORY_KIB: u32 = 4 * DEFAULT.memory_kib;
/// The same for the time: memory times passes.
const MAX_WORK: u64 = 4 * DEFAULT.work();
/// More lanes are no more work.
const MAX_LANES: u32 = 16;

/// The second recommended option of RFC 9106 section 4: 64 MiB, 3 passes, 4 lanes.
const DEFAULT: Cost = Cost { memory_kib: 1 << 16, passes: 3, lanes: 4 };

/// What one derivation costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Memory in KiB: at least 8 a lane, at most 262,144.
    pub memory_kib: u32,
    /// Passes over that memory; times the memory, at most 786,432.
    pub passes: u32,
    /// Lanes, 1 to 16. They are computed one after the other.
    pub lanes: u32,
}

impl Default for Cost {
    fn default() -> Self {
        DEFAULT
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { memory_kib, passes, lanes } = self;
        write!(f, "argon2id, {memory_kib} KiB, {passes} passes, {lanes} lanes")
    }
}

impl Cost {
    /// How much of memory is filled, in KiB: what the time goes by.
    const fn work(self) -> u64 {
        self.memory_kib as u64 * self.passes as u64
    }

    fn is_bearable(self) -> bool {
        self.memory_kib <= MAX_MEMORY_KIB && self.work() <= MAX_WORK && self.lanes <= MAX_LANES
    }

    fn params(self) -> Option<Params> {
        let params = Params::new(self.memory_kib, self.passes, self.lanes, Some(KEK_LEN)).ok();
        params.filter(|_| self.is_bearable())
    }
}

/// How one wrapping key was derived.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Derivation {
    salt: [u8; SALT_LEN],
    cost: Cost,
}

impl Derivation {
    /// Whether `parameters` are those of a key from a passphrase.
    pub(super) fn is_in(parameters: &BTreeMap<String, String>) -> bool {
        parameters.contains_key(KDF)
    }

    pub(super) fn to_parameters(self) -> BTreeMap<String, String> {
        let Cost { memory_kib, passes, lanes } = self.cost;
        let salt = hex::text(&self.salt);
        [
            (KDF, ARGON2ID.to_owned()),
            (SALT, salt),
            (MEMORY, memory_kib.to_string()),
            (PASSES, passes.to_string()),
            (LANES, lanes.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// What `to_parameters` wrote; anything else, be it spelled differently, is `Corrupt`.
    pub(super) fn from_parameters(parameters: &BTreeMap<String, String>) -> Result<Self> {
        let number = |name| parameters.get(name).and_then(|text| text.parse().ok());
        let read = || {
            let cost = Cost {
                memory_kib: number(MEMORY)?,
                passes: number(PASSES)?,
                lanes: number(LANES)?,
            };
            Some(Self { salt: parameters.get(SALT)?.parse::<Hex<SALT_LEN>>().ok()?.0, cost })
        };
        let refused = |what: String| {
            Error::new(Kind::Corrupt, what).advise("restore the keystore from a backup")
        };
        let spelled_as_ours = |derivation: &Self| derivation.to_parameters() == *parameters;
        let Some(derivation) = read().filter(spelled_as_ours) else {
            return Err(refused("its Argon2id parameters are none that keyward writes".to_owned()));
        };
        let cost = derivation.cost;
        match cost.params() {
            Some(_) => Ok(derivation),
            None => Err(refused(format!(
                "its key is derived by {cost}: keyward writes {DEFAULT} and runs at most four times that"
            ))),
        }
    }
}

/// A passphrase, and the last key that was derived from it.
pub(super) struct Passphrase {
    source: SecretSource,
    cost: Cost,
    last: Mutex<Option<Derived>>,
}

/// A key with all that it was derived from, the passphrase too: that may have changed meanwhile.
struct Derived {
    from: Derivation,
    passphrase: DataKey,
    key: Arc<DataKey>,
}

impl Passphrase {
    pub(super) fn new(source: SecretSource, cost: Cost) -> Result<Self> {
        if cost.params().is_none() {
            return Err(Error::new(Kind::Config, format!("Argon2id cannot run at {cost}"))
                .advise("use 8 KiB a lane to 256 MiB, 1 to 16 lanes, and 12 passes at 64 MiB"));
        }
        Ok(Self { source, cost, last: Mutex::new(None) })
    }

    pub(super) fn source(&self) -> &SecretSource {
        &self.source
    }

    pub(super) fn cost(&self) -> Cost {
        self.cost
    }

    /// The key to wrap with: the last one if it was derived at today's cost, else one with a new
    /// salt. So to unwrap and wrap again, as each rotation does, costs one derivation.
    pub(super) fn newest(&self, rng: &dyn Rng) -> Result<(Derivation, Arc<DataKey>)> {
        let last = self.lock().as_ref().map(|last| last.from);
        let from = match last.filter(|from| from.cost == self.cost) {
            Some(from) => from,
            None => {
                let mut salt = [0; SALT_LEN];
                rng.fill(&mut salt)?;
                Derivation { salt, cost: self.cost }
            }
        };
        Ok((from, self.derive(&from)?))
    }

    /// The key that `from` describes.
    pub(super) fn derive(&self, from: &Derivation) -> Result<Arc<DataKey>> {
        let passphrase = self.read()?;
        let mut last = self.lock();
        if let Some(last) = last.as_ref().filter(|last| last.from == *from)
            && bool::from(last.passphrase.expose().ct_eq(passphrase.expose()))
        {
            return Ok(Arc::clone(&last.key));
        }
        let key = Arc::new(argon2id(passphrase.expose(), from)?);
        *last = Some(Derived { from: *from, passphrase, key: Arc::clone(&key) });
        Ok(key)
    }

    fn read(&self) -> Result<DataKey> {
        let content = self.source.read(MAX_PASSPHRASE_LEN)?;
        let passphrase = without_line_end(content.expose());
        if passphrase.is_empty() {
            return Err(Error::new(Kind::Config, format!("{} holds no passphrase", self.source))
                .advise("put a long random one into it: openssl rand -base64 24"));
        }
        DataKey::copy_of(passphrase)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Derived>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn argon2id(passphrase: &[u8], from: &Derivation) -> Result<DataKey> {
    let refused = || Error::new(Kind::Internal, "Argon2id refused its parameters");
    let params = from.cost.params().ok_or_else(refused)?;
    let mut memory: Vec<Block> = Vec::new();
    if memory.try_reserve_exact(params.block_count()).is_err() {
        return Err(Error::new(Kind::Unavailable, format!("no memory for {}", from.cost))
            .advise("free some, or wrap again at a lower cost where there is more"));
    }
    memory.resize(params.block_count(), Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
    let key = DataKey::build(KEK_LEN, |key| {
        scrubbed(|| {
            argon2.hash_password_into_with_memory(passphrase, &from.salt, key, &mut memory[..])
        })
        .map_err(|_| refused())
    });
    memory.iter_mut().for_each(zeroize::Zeroize::zeroize);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn argon2id_gives_what_other_implementations_give() -> Result<()> {
        // The reference implementation's own vector: password, somesalt, 64 MiB, 2 passes, 1 lane;
        // its salt is shorter than ours, so it is called beneath `argon2id`.
        let mut key = [0; KEK_LEN];
        let params = Params::new(65_536, 2, 1, Some(KEK_LEN)).unwrap();
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(b"password", b"somesalt", &mut key)
            .unwrap();
        let hex = crate::hex::text(&key);
        assert_eq!(hex, "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7");
        Ok(())
    }

    #[test]
    fn a_cost_beyond_bounds_is_refused() {
        let source = || SecretSource::Env("PASSPHRASE".into());
        for (memory_kib, passes, lanes) in [
            (7, 1, 1),
            (31, 1, 4),
            ((1 << 18) + 1, 1, 1),
            (1 << 20, 16, 16),
            (1 << 18, 4, 4),
            (1 << 16, 13, 4),
            (64, 0, 1),
            (64, 12_289, 1),
            (64, 1, 0),
            (1024, 1, 17),
            (u32::MAX, u32::MAX, u32::MAX),
        ] {
            let cost = Cost { memory_kib, passes, lanes };
            let error = Passphrase::new(source(), cost).err().unwrap();
            assert_eq!(error.kind(), Kind::Config, "{cost}");
        }
        assert!(Passphrase::new(source(), Cost::default()).is_ok());
        for (memory_kib, passes) in [(1 << 18, 3), (1 << 16, 12), (64, 12_288)] {
            assert!(Passphrase::new(source(), Cost { memory_kib, passes, lanes: 4 }).is_ok());
        }
    }

    #[test]
    fn the_largest_cost_that_a_keystore_may_ask_for_ends_soon_and_a_larger_one_is_not_begun()
    -> Result<()> {
        let largest = Cost { memory_kib: MAX_MEMORY_KIB, passes: 3, lanes: 1 };
        let from = Derivation { salt: [7; SALT_LEN], cost: largest };
        assert!(Derivation::from_parameters(&from.to_parameters())? == from);
        let beyond = Cost { memory_kib: 1 << 20, passes: 16, lanes: 1 };
        let from = Derivation { salt: [7; SALT_LEN], cost: beyond };
        let error = Derivation::from_parameters(&from.to_parameters()).err().unwrap();
        assert_eq!(
            error.to_string(),
            "its key is derived by argon2id, 1048576 KiB, 16 passes, 1 lanes: keyward writes \
             argon2id, 65536 KiB, 3 passes, 4 lanes and runs at most four times that; restore the \
             keystore from a backup"
        );
        Ok(())
    }

    #[test]
    fn parameters_read_back_and_no_other_spelling_is_taken() -> Result<()> {
        let from = Derivation { salt: [0xab; SALT_LEN], cost: Cost::default() };
        let written = from.to_parameters();
        assert!(Derivation::from_parameters(&written)? == from);
        for (name, value) in [
            (KDF, "argon2i"),
            (SALT, "AB"),
            (SALT, &"AB".repeat(SALT_LEN)),
            (SALT, &"+b".repeat(SALT_LEN)),
            (MEMORY, "065536"),
            (MEMORY, "+65536"),
            (MEMORY, "4294967295"),
            (PASSES, "-1"),
            (LANES, ""),
            ("colour", "blue"),
        ] {
            let mut changed = written.clone();
            changed.insert(name.to_owned(), value.to_owned());
            let error = Derivation::from_parameters(&changed).err().unwrap();
            assert_eq!(error.kind(), Kind::Corrupt, "{name} = {value}");
        }
        for name in written.keys() {
            let mut cut = written.clone();
            cut.remove(name);
            assert!(Derivation::from_parameters(&cut).is_err(), "without {name}");
        }
        Ok(())
    }
}
