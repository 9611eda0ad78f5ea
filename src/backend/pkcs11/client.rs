//! Getting to work at a token: it is found, a session opened, the PIN given, and all of that again
//! after the token was lost.

#![forbid(unsafe_code)]

use std::fmt;
use std::time::{Duration, Instant};

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error as Call, RvError};
use cryptoki::session::{Session, SessionState, UserType};
use cryptoki::slot::{Slot, TokenInfo};
use cryptoki::types::RawAuthPin;
use subtle::ConstantTimeEq as _;

use super::failure::{TokenError, of_call};
use super::module::{Core, Open, lock};
use crate::env::Deadline;
use crate::error::{Error, Kind, Result};
use crate::secret::SecretBytes;
use crate::secret::source::{SecretSource, without_line_end};

/// The longest PIN, in bytes.
const MAX_PIN_LEN: usize = 256;

/// How long to wait before work is begun again; the second time twice as long.
const PAUSE: Duration = Duration::from_millis(50);

/// Which token is meant: all that is said must be so.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenChoice {
    /// Its label.
    pub label: Option<String>,
    /// Its serial number.
    pub serial: Option<String>,
    /// Its manufacturer.
    pub manufacturer: Option<String>,
    /// Its model.
    pub model: Option<String>,
    /// Its slot's number.
    pub slot: Option<u64>,
}

impl TokenChoice {
    pub(super) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn fits(&self, info: &TokenInfo) -> bool {
        let same = |wanted: &Option<String>, found: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == found.trim_end())
        };
        same(&self.label, info.label())
            && same(&self.serial, info.serial_number())
            && same(&self.manufacturer, info.manufacturer_id())
            && same(&self.model, info.model())
    }

    fn is_slot_alone(&self) -> bool {
        self.slot.is_some() && Self { slot: None, ..self.clone() }.is_empty()
    }

    /// The one slot whose token this is.
    fn find(&self, pkcs11: &Pkcs11) -> Result<Slot, TokenError> {
        let mut found = Vec::new();
        for slot in pkcs11.get_slots_with_token()? {
            if self.slot.is_some_and(|number| number != slot.id()) {
                continue;
            }
            // A token that cannot tell about itself can still be meant by its slot.
            let fits = pkcs11.get_token_info(slot).is_ok_and(|info| self.fits(&info));
            if fits || self.is_slot_alone() {
                found.push(slot);
            }
        }
        match found[..] {
            [only] => Ok(only),
            [] => Err(TokenError::Lost(
                Error::new(Kind::Unavailable, format!("there is no {self}")).advise(
                    "put it in, or correct its name: `pkcs11-tool -L` shows those there are",
                ),
            )),
            _ => Err(TokenError::Ours(
                Error::new(Kind::Config, format!("there are {} of {self}", found.len()))
                    .advise("choose one by its `serial`"),
            )),
        }
    }
}

impl fmt::Display for TokenChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("token")?;
        for (name, value) in [
            ("", &self.label),
            ("serial ", &self.serial),
            ("manufacturer ", &self.manufacturer),
            ("model ", &self.model),
        ] {
            if let Some(value) = value {
                write!(f, " {name}{value:?}")?;
            }
        }
        match self.slot {
            Some(slot) => write!(f, " in slot {slot}"),
            None => Ok(()),
        }
    }
}

/// How to get to a token.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub(super) token: TokenChoice,
    pub(super) pin: Option<SecretSource>,
}

/// A place to work at: a session that is logged in.
pub(super) struct LoggedInSession<'a> {
    pub(super) session: &'a Session,
    pub(super) open: &'a Open,
    pub(super) slot: Slot,
    by: Deadline,
}

impl LoggedInSession<'_> {
    /// A new session on the same token, logged in as this one is.
    pub(super) fn another(&self) -> Result<Session, TokenError> {
        self.go_on()?;
        Ok(self.open.pkcs11.open_ro_session(self.slot)?)
    }

    /// A new session that may make lasting objects.
    pub(super) fn writing(&self) -> Result<Session, TokenError> {
        self.go_on()?;
        Ok(self.open.pkcs11.open_rw_session(self.slot)?)
    }

    /// What the token says of itself; nothing where it cannot be read.
    pub(super) fn info(&self) -> Option<TokenInfo> {
        self.open.pkcs11.get_token_info(self.slot).ok()
    }

    /// An error once nobody waits for the work any more.
    pub(super) fn go_on(&self) -> Result<(), TokenError> {
        self.by.left("the token").map(drop).map_err(TokenError::Ours)
    }
}

impl Access {
    /// Checks that the PIN can be read, where one is configured. The token is not asked.
    pub(super) fn pin_is_readable(&self) -> Result<()> {
        self.pin.as_ref().map_or(Ok(()), |source| read_pin(source).map(drop))
    }

    /// Does `work` at the token; again with a new session where the first was lost, and once more
    /// with the module begun again where the token is not where it was.
    pub(super) fn work<T>(
        &self,
        core: &Core,
        by: Deadline,
        work: impl Fn(&LoggedInSession<'_>) -> Result<T, TokenError>,
    ) -> Result<T> {
        let place = format!("{} ({core})", self.token);
        let mut attempt = 1;
        loop {
            by.left(&place)?;
            let since = Instant::now();
            let fault = match self.try_work(core, by, &work) {
                Ok(done) => return Ok(done),
                Err(fault) => fault,
            };
            let again = fault.is_loss()
                && match attempt {
                    1 => true,
                    2 => core.restart(since, by)?,
                    _ => false,
                };
            if !again {
                return Err(fault.told(&place));
            }
            // Some modules lose sight of a token while another process writes to it.
            std::thread::sleep(PAUSE * attempt);
            attempt += 1;
        }
    }

    fn try_work<T>(
        &self,
        core: &Core,
        by: Deadline,
        work: &impl Fn(&LoggedInSession<'_>) -> Result<T, TokenError>,
    ) -> Result<T, TokenError> {
        let guard = core.open(by)?;
        let Some(open) = guard.as_ref() else {
            return Err(TokenError::Ours(Error::new(
                Kind::Internal,
                format!("{core} is not open"),
            )));
        };
        let slot = self.token.find(&open.pkcs11)?;
        let session = match core.take_seat(slot) {
            Some(session) => session,
            None => open.pkcs11.open_ro_session(slot)?,
        };
        let desk = LoggedInSession { session: &session, open, slot, by };
        let outcome = self.log_in(core, &desk).and_then(|()| work(&desk));
        match &outcome {
            Ok(_) => core.give_seat(slot, session),
            Err(fault) => {
                // What a failed call left in the session is not worth knowing.
                drop(session);
                if fault.is_loss() {
                    core.clear_seats(slot);
                }
            }
        }
        outcome
    }

    /// Gives the PIN, unless another session of this process has: a log-in counts for all of them.
    fn log_in(&self, core: &Core, desk: &LoggedInSession<'_>) -> Result<(), TokenError> {
        if is_logged_in(desk.session)? {
            return Ok(());
        }
        let mut refused = lock(&core.refused);
        if is_logged_in(desk.session)? {
            return Ok(());
        }
        let info = desk.info();
        let on_device = info.as_ref().is_some_and(TokenInfo::protected_authentication_path);
        let Some(source) = &self.pin else {
            let needed = info.as_ref().is_none_or(TokenInfo::login_required);
            return match (needed, on_device) {
                (false, _) => Ok(()),
                (true, true) => Ok(already(desk.session.login(UserType::User, None))?),
                (true, false) => Err(TokenError::Ours(
                    Error::new(Kind::Config, format!("{} wants a PIN", self.token))
                        .advise("name the file that holds it as `pin_file`"),
                )),
            };
        };
        let pin = read_pin(source)?;
        let token = self.named(desk, info.as_ref());
        self.refuse_to_lock(source, &pin, &token, info.as_ref(), &refused)?;
        desk.go_on()?;
        // The crate wipes it when it is dropped.
        let given = RawAuthPin::new(Box::new(pin.expose().to_vec()));
        match already(desk.session.login_with_raw(UserType::User, &given)) {
            Err(
                call @ Call::Pkcs11(
                    RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange,
                    _,
                ),
            ) => {
                refused.retain(|(other, _)| *other != token);
                refused.push((token, pin));
                let error = of_call(&call, format_args!("{} ({core})", self.token));
                let what = format!("{}: the PIN in {source} is wrong", error.what());
                Err(TokenError::Ours(Error::new(Kind::Denied, what).advise(
                    "it was tried once and is not tried again, so that the token is not locked; \
                     correct it there",
                )))
            }
            outcome => Ok(outcome?),
        }
    }

    /// One wrong PIN is one try; the last that the token allows is left to a person.
    fn refuse_to_lock(
        &self,
        source: &SecretSource,
        pin: &SecretBytes,
        token: &str,
        info: Option<&TokenInfo>,
        refused: &[(String, SecretBytes)],
    ) -> Result<(), TokenError> {
        let denied = |what: String, advice: &str| {
            Err(TokenError::Ours(Error::new(Kind::Denied, what).advise(advice)))
        };
        let same = |other: &SecretBytes| bool::from(other.expose().ct_eq(pin.expose()));
        if refused.iter().any(|(other, pin)| other == token && same(pin)) {
            let what = format!("{}: the PIN in {source} was refused before", self.token);
            return denied(
                what,
                "it is not tried again, so that the token is not locked; correct it there",
            );
        }
        if info.is_some_and(TokenInfo::user_pin_locked) {
            return denied(
                format!("{}: its PIN is locked (CKF_USER_PIN_LOCKED)", self.token),
                "its security officer must set a new one",
            );
        }
        if info.is_some_and(TokenInfo::user_pin_final_try) {
            return denied(
                format!("{}: one more wrong PIN locks it (CKF_USER_PIN_FINAL_TRY)", self.token),
                "keyward leaves that try to you: log in once with the token's own tool",
            );
        }
        Ok(())
    }

    /// Which token a PIN was refused by.
    fn named(&self, desk: &LoggedInSession<'_>, info: Option<&TokenInfo>) -> String {
        match info {
            Some(info) => format!("{} {}", info.serial_number(), info.label()),
            None => format!("slot {}", desk.slot.id()),
        }
    }
}

fn is_logged_in(session: &Session) -> Result<bool, TokenError> {
    let state = session.get_session_info()?.session_state();
    Ok(matches!(state, SessionState::RoUser | SessionState::RwUser))
}

/// A log-in that somebody else of this process has done is one.
fn already(outcome: Result<(), Call>) -> Result<(), Call> {
    match outcome {
        Err(Call::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => Ok(()),
        outcome => outcome,
    }
}

fn read_pin(source: &SecretSource) -> Result<SecretBytes> {
    let content = source.read(MAX_PIN_LEN)?;
    let pin = without_line_end(content.expose());
    if pin.is_empty() {
        return Err(Error::new(Kind::Config, format!("{source} holds no PIN"))
            .advise("put the token's user PIN into it, and nothing else"));
    }
    Ok(SecretBytes::copy_of(pin))
}
