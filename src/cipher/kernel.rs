//! Which kernels there are, and which one this process uses. Chosen here and nowhere else.

#![forbid(unsafe_code)]

use std::env::VarError;
use std::fmt;
use std::sync::OnceLock;

#[cfg(target_arch = "x86_64")]
use super::x86::{aesni::AesNi, vaes256::Vaes256, vaes512::Vaes512};
use crate::error::{Error, Kind, Result};

/// The environment variable that forces a kernel.
const FORCE: &str = "KEYWARD_CIPHER";

/// An implementation of the modes that runs on this CPU.
#[derive(Clone, Copy)]
pub struct Kernel(pub(super) Choice);

/// A kernel with the proof that this CPU can run it.
#[derive(Clone, Copy)]
pub(super) enum Choice {
    Soft,
    #[cfg(target_arch = "x86_64")]
    AesNi(AesNi),
    #[cfg(target_arch = "x86_64")]
    Vaes256(Vaes256),
    #[cfg(target_arch = "x86_64")]
    Vaes512(Vaes512),
}

impl Kernel {
    /// The names of all kernels, the widest last.
    pub const NAMES: [&str; 4] = ["soft", "aesni", "vaes256", "vaes512"];

    /// The kernel called `name`, if there is one and this CPU can run it.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let choice = match name {
            "soft" => Some(Choice::Soft),
            #[cfg(target_arch = "x86_64")]
            "aesni" => AesNi::detect().map(Choice::AesNi),
            #[cfg(target_arch = "x86_64")]
            "vaes256" => Vaes256::detect().map(Choice::Vaes256),
            #[cfg(target_arch = "x86_64")]
            "vaes512" => Vaes512::detect().map(Choice::Vaes512),
            _ => None,
        };
        choice.map(Self)
    }

    /// The widest that this CPU can run.
    #[must_use]
    pub fn widest() -> Self {
        Self::NAMES.iter().rev().find_map(|name| Self::named(name)).unwrap_or(Self(Choice::Soft))
    }

    /// The kernel that `KEYWARD_CIPHER` names, or the widest where that is not set.
    ///
    /// # Errors
    /// `Config` where no kernel has that name, `Unsupported` where this CPU cannot run it.
    pub fn select() -> Result<Self> {
        match std::env::var(FORCE) {
            Err(VarError::NotPresent) => Ok(Self::widest()),
            Ok(name) if name.is_empty() => Ok(Self::widest()),
            Ok(name) if Self::NAMES.contains(&&*name) => Self::named(&name).ok_or_else(|| {
                Error::new(Kind::Unsupported, format!("{FORCE}={name}: this CPU cannot run it"))
                    .advise(format!("unset it: this CPU gets {}", Self::widest()))
            }),
            other => {
                let name = other.unwrap_or_else(|_| "(not text)".to_owned());
                Err(Error::new(Kind::Config, format!("{FORCE}={name}: no such kernel"))
                    .advise(format!("use one of {}", Self::NAMES.join(", "))))
            }
        }
    }

    /// Its name, one of [`NAMES`](Self::NAMES).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self.0 {
            Choice::Soft => "soft",
            #[cfg(target_arch = "x86_64")]
            Choice::AesNi(_) => "aesni",
            #[cfg(target_arch = "x86_64")]
            Choice::Vaes256(_) => "vaes256",
            #[cfg(target_arch = "x86_64")]
            Choice::Vaes512(_) => "vaes512",
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kernel of this process: chosen at the first call, the same ever after. Where
/// [`Kernel::select`] fails it is the widest.
#[inline]
#[must_use]
pub fn kernel() -> Kernel {
    static CHOSEN: OnceLock<Kernel> = OnceLock::new();
    *CHOSEN.get_or_init(|| Kernel::select().unwrap_or_else(|_| Kernel::widest()))
}
