//! Dual control: what waits for the approvals of several people. A step that needs them writes a request
//! and is refused; approvers sign the request, and the same step goes on once enough of them have.
//!
//! Who approves stands in the keystore, and so does which approvals were used. A request has the signature of
//! the keystore's own key, so that nobody else can word one.

#![forbid(unsafe_code)]

use std::path::PathBuf;
use std::time::Duration;

use super::Manager;
use crate::approval::{
    Action, Folder, LIFETIME, NAMESPACE, PublicKey, Request, Sealed, Signature, Subject,
};
use crate::env::{Deadline, Timestamp};
use crate::error::{Code, Error, Kind, Result};
use crate::event::Event;
use crate::hex::Hex;
use crate::key::KeyRef;
use crate::source::{KeySource as _, LOCK_WAIT, Reason};
use crate::store::{Contents, Keystore, UsedApproval};

/// How far the clocks of two machines with one keystore may differ.
const CLOCKS: Duration = Duration::from_secs(300);

/// A request that enough people have signed.
pub(super) struct Approval {
    sealed: Sealed,
    approvers: Vec<PublicKey>,
}

/// A request as it stands.
pub struct Standing {
    /// What it says.
    pub request: Request,
    /// All of its text.
    pub text: String,
    /// Where it is.
    pub path: PathBuf,
    /// Who has approved it so far.
    pub approvers: Vec<PublicKey>,
    /// How many must.
    pub needed: u32,
    /// Why it cannot be approved or carried out any more.
    pub void: Option<String>,
}

impl Standing {
    /// Whether the step that it is for can be taken.
    #[must_use]
    pub fn is_approved(&self) -> bool {
        self.void.is_none() && self.approvers.len() >= self.needed as usize
    }
}

/// Why a request counts no more.
enum Void {
    /// It is of another keystore, or not as ours wrote it.
    Foreign(String),
    /// It was carried out.
    Used,
    /// Its time is over, or what it names is no longer what it was.
    Over(String),
}

impl Manager {
    /// The requests that lie next to the keystore, whatever the rollback guard says against that; those that
    /// are no requests are skipped.
    pub fn requests(&self) -> Result<Vec<Standing>> {
        let read = self.reader.read_unguarded()?;
        let folder = self.approvals();
        let ids = folder.ids()?;
        let all = ids.iter().filter_map(|id| folder.read(id).ok());
        all.map(|sealed| self.standing(read.keystore.contents(), &folder, sealed)).collect()
    }

    /// The request whose id begins with `id`; `NotFound` or `Config` where that is not one.
    pub fn request(&self, id: &str) -> Result<Standing> {
        let read = self.reader.read_unguarded()?;
        let folder = self.approvals();
        let sealed = folder.read(&only_one(&folder.ids()?, id)?)?;
        self.standing(read.keystore.contents(), &folder, sealed)
    }

    /// Takes in a signature under the request whose id begins with `id`. An error says why it is no approval.
    pub fn approve(&self, id: &str, signature: &[u8], reason: Reason<'_>) -> Result<Standing> {
        let _lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        let read = self.reader.read_unguarded()?;
        let (contents, folder) = (read.keystore.contents(), self.approvals());
        let sealed = folder.read(&only_one(&folder.ids()?, id)?)?;
        let (id, short) = (sealed.request.id.to_string(), sealed.request.short());
        if let Some(void) = void(contents, &sealed, self.reader.env.clock.now()) {
            let what = format!("request {short} cannot be approved: {}", void.words());
            return Err(Error::new(Kind::State, what).advise("give the command that asked again"));
        }
        let approver = judged(contents, &sealed, &Signature::parse(signature)?)?;
        if signers(contents, &folder, &sealed)?.iter().any(|one| one.is(&approver)) {
            let what = format!("{} has approved request {short} already", named(&approver));
            return Err(Error::new(Kind::State, what).advise("each approval is somebody else's"));
        }
        let text = format!("request {id}: signed by {}", named(&approver));
        let reason = Reason { actor: reason.actor, text: &text };
        let (known, generation) = (contents.registers().trail, contents.generation());
        self.append(known, generation, Event::ApprovalGiven, &[], reason)?;
        folder.add(&id, &approver, signature)?;
        self.standing(contents, &folder, sealed)
    }

    /// The approval of `subject`, where the keystore that was read last wants one. Without it a request is
    /// written, and the error says what to do with it ([`Code::Approvals`]).
    pub(super) fn approval(
        &mut self,
        subject: impl FnOnce(&Contents) -> Result<Subject>,
        reason: Reason<'_>,
    ) -> Result<Option<Box<Approval>>> {
        self.load()?;
        let keystore = self.reader.keystore()?;
        if keystore.contents().registers().approvers.needed == 0 {
            return Ok(None);
        }
        self.may_write()?;
        let _lock = self.reader.file.lock(Deadline::after(LOCK_WAIT))?;
        let subject = subject(keystore.contents())?;
        self.approval_locked(keystore, &subject, reason)
    }

    /// The same for whoever holds the keystore's lock.
    pub(super) fn approval_locked(
        &self,
        keystore: &Keystore,
        subject: &Subject,
        reason: Reason<'_>,
    ) -> Result<Option<Box<Approval>>> {
        let contents = keystore.contents();
        let needed = contents.registers().approvers.needed;
        if needed == 0 {
            return Ok(None);
        }
        let (folder, now) = (self.approvals(), self.reader.env.clock.now());
        let mut before = None;
        for id in folder.ids()? {
            let Ok(sealed) = folder.read(&id) else { continue };
            let (request, void) = (&sealed.request, void(contents, &sealed, now));
            if !request.subject.resembles(subject) {
                if let Some(Void::Over(_)) = void {
                    self.reader.warn_of(folder.remove(&id));
                }
                continue;
            }
            let changed = || Void::Over("what it names has changed since".to_owned());
            match void.or_else(|| (request.subject != *subject).then(changed)) {
                None => {
                    let approvers = signers(contents, &folder, &sealed)?;
                    return match approvers.len() >= needed as usize {
                        true => Ok(Some(Box::new(Approval { sealed, approvers }))),
                        false => Err(waits(&sealed, &folder, approvers.len(), needed, None)),
                    };
                }
                Some(Void::Foreign(_)) => {}
                Some(void) => {
                    let cleared = match void {
                        Void::Used => folder.done(&id),
                        _ => folder.remove(&id),
                    };
                    self.reader.warn_of(cleared);
                    before = Some(format!(
                        "request {} no longer counts: {}",
                        request.short(),
                        void.words()
                    ));
                }
            }
        }
        let sealed = self.asked(keystore, subject, &folder, reason)?;
        Err(waits(&sealed, &folder, 0, needed, before.as_deref()))
    }

    /// Writes a new request.
    fn asked(
        &self,
        keystore: &Keystore,
        subject: &Subject,
        folder: &Folder,
        reason: Reason<'_>,
    ) -> Result<Sealed> {
        let contents = keystore.contents();
        let needed = contents.registers().approvers.needed;
        refuse_too_few(contents, subject.action(), reason.actor)?;
        let approvers = approvers(contents);
        let own = approvers.iter().find(|key| key.is_of(reason.actor));
        let mut id = [0; 16];
        self.reader.env.rng.fill(&mut id)?;
        let now = self.reader.env.clock.now();
        let request = Request {
            subject: subject.clone(),
            id: Hex(id),
            keystore: contents.id().to_owned(),
            epoch: contents.revision().epoch,
            generation: contents.generation(),
            requester: reason.actor.to_owned(),
            requester_key: own.map(named),
            reason: reason.text.to_owned(),
            made: now,
            ends: Timestamp::from_unix(now.as_unix().saturating_add(LIFETIME.as_secs())),
            needed: (needed, approvers.len()),
        };
        let target = subject.targets().first().map(String::as_str).unwrap_or_default();
        let text =
            format!("request {}: {}, {target}: {}", request.id, subject.action(), reason.text);
        let (_, seal) = keystore.sign(&request.text())?;
        let sealed = Sealed::new(request, Hex(seal));
        let reason = Reason { actor: reason.actor, text: &text };
        let (known, generation) = (contents.registers().trail, contents.generation());
        let told = self.append(known, generation, Event::ApprovalRequested, &[], reason).map(drop);
        match subject.action() {
            // A damaged trail must not cost the keys.
            Action::Rescue => self.reader.warn_of(told),
            _ => told?,
        }
        folder.write(&sealed)?;
        Ok(sealed)
    }

    /// `after` with the approval used in it. To be called under the lock that the change is committed under:
    /// what `before` holds may have changed since the approval was looked for.
    pub(super) fn used(
        &self,
        approval: Option<&Approval>,
        subject: impl FnOnce(&Contents) -> Result<Subject>,
        before: &Contents,
        after: Keystore,
    ) -> Result<Keystore> {
        let needed = before.registers().approvers.needed;
        let now = self.reader.env.clock.now();
        let Some(Approval { sealed, approvers }) = approval else {
            return match needed {
                0 => Ok(after),
                _ => Err(Error::new(Kind::Conflict, "approvers were registered meanwhile")
                    .advise("nothing was changed: give the command again")),
            };
        };
        let registered = self::approvers(before);
        let is_registered = |key: &&PublicKey| registered.iter().any(|one| one.is(key));
        let holds = sealed.request.subject == subject(before)?
            && void(before, sealed, now).is_none()
            && approvers.iter().filter(is_registered).count() >= needed as usize;
        if !holds {
            let what =
                format!("what request {} approves has changed meanwhile", sealed.request.short());
            return Err(Error::new(Kind::Conflict, what)
                .advise("nothing was changed: give the command again"));
        }
        let used = UsedApproval { digest: sealed.digest(), expires: sealed.request.ends };
        after.with_used_approval(used, now)
    }

    /// Puts the request of what was done among those that are kept.
    pub(super) fn carried_out(&self, approval: Option<&Approval>) {
        if let Some(Approval { sealed, .. }) = approval {
            let kept = self.approvals().done(&sealed.request.id.to_string());
            self.reader.warn_of(kept);
        }
    }

    fn approvals(&self) -> Folder {
        Folder::beside(self.reader.file.path())
    }

    fn standing(&self, contents: &Contents, folder: &Folder, sealed: Sealed) -> Result<Standing> {
        let void = void(contents, &sealed, self.reader.env.clock.now());
        let path = folder.request(&sealed.request.id.to_string());
        Ok(Standing {
            approvers: signers(contents, folder, &sealed)?,
            needed: contents.registers().approvers.needed,
            void: void.map(|void| void.words().to_owned()),
            request: sealed.request,
            text: sealed.text,
            path,
        })
    }
}

impl Approval {
    /// The events of what it is for, with one of its own before them.
    pub(super) fn events(
        approval: Option<&Self>,
        events: Vec<(Event, Vec<KeyRef>)>,
    ) -> Vec<(Event, Vec<KeyRef>)> {
        let own = approval.map(|_| (Event::Approved, Vec::new()));
        own.into_iter().chain(events).collect()
    }

    /// `text` and who approved, for the audit trail.
    pub(super) fn reason(approval: Option<&Self>, text: &str) -> String {
        let Some(Self { sealed, approvers }) = approval else { return text.to_owned() };
        let approvers: Vec<_> = approvers.iter().map(named).collect();
        let Request { id, requester, .. } = &sealed.request;
        format!("{text}; request {id} of {requester}, approved by {}", approvers.join(" and "))
    }
}

impl Void {
    fn words(&self) -> &str {
        match self {
            Self::Foreign(words) | Self::Over(words) => words,
            Self::Used => "it was carried out already",
        }
    }
}

/// The approvers whose keys can be read; others approve nothing.
fn approvers(contents: &Contents) -> Vec<PublicKey> {
    let keys = &contents.registers().approvers.keys;
    keys.iter().filter_map(|key| key.parse().ok()).collect()
}

/// Refuses a request that can never have enough approvals, as `actor` does not count.
fn refuse_too_few(contents: &Contents, action: Action, actor: &str) -> Result<()> {
    let needed = contents.registers().approvers.needed;
    let others = approvers(contents).iter().filter(|key| !key.is_of(actor)).count();
    if others >= needed as usize {
        return Ok(());
    }
    let what = format!(
        "{needed} approvals are needed to {}, and besides whoever asks there are {others} approvers",
        action.words()
    );
    Err(Error::new(Kind::State, what).advise("have somebody ask who is no approver"))
}

/// Why the request counts no more, whatever it asks for. The generation may have grown: a server registers
/// itself, another key is rotated. That its target is the same, the digest says.
fn void(contents: &Contents, sealed: &Sealed, now: Timestamp) -> Option<Void> {
    let Request { keystore, epoch, generation, made, ends, .. } = &sealed.request;
    let registers = contents.registers();
    if keystore != contents.id() {
        let words = format!("it is of keystore {keystore}, and this is {}", contents.id());
        return Some(Void::Foreign(words));
    }
    let signed = |key: Hex<32>| sealed.is_by(&key);
    let Some(signer) = registers.epochs().iter().find(|one| one.number == *epoch) else {
        let words = format!("it is of epoch {epoch}, which this keystore does not know");
        return Some(Void::Foreign(words));
    };
    if !signed(signer.public_key) {
        let words = "it is not as the keystore wrote it: its seal is over another text";
        return Some(Void::Foreign(words.to_owned()));
    }
    if registers.used_approvals.iter().any(|used| used.digest == sealed.digest()) {
        return Some(Void::Used);
    }
    if *ends <= now {
        return Some(Void::Over(format!("it ended on {ends}")));
    }
    let revision = contents.revision();
    if *epoch != revision.epoch {
        let words = format!("it is of epoch {epoch}, and the keystore is in {}", revision.epoch);
        return Some(Void::Over(words));
    }
    if *generation > contents.generation() || made.since(now) > CLOCKS {
        let words = format!("it is of generation {generation} and {made}, which is yet to come");
        return Some(Void::Over(words));
    }
    None
}

/// The approvers who have signed the request, each once and in their order, without who asked for it.
fn signers(contents: &Contents, folder: &Folder, sealed: &Sealed) -> Result<Vec<PublicKey>> {
    let texts = folder.signatures(&sealed.request.id.to_string())?;
    let judge = |text: &Vec<u8>| judged(contents, sealed, &Signature::parse(text).ok()?).ok();
    let signed: Vec<_> = texts.iter().filter_map(judge).collect();
    let has_signed = |key: &PublicKey| signed.iter().any(|one| one.is(key));
    let mut signers: Vec<PublicKey> = Vec::new();
    for approver in approvers(contents).into_iter().filter(has_signed) {
        // Should the register have a key twice, it is still one person's.
        if !signers.iter().any(|one| one.is(&approver)) {
            signers.push(approver);
        }
    }
    Ok(signers)
}

/// The approver whose signature under the request it is.
fn judged(contents: &Contents, sealed: &Sealed, signature: &Signature) -> Result<PublicKey> {
    let (key, short) = (signature.key(), sealed.request.short());
    let refused = |what: String, advice: &str| Err(Error::new(Kind::Denied, what).advise(advice));
    let Some(approver) = approvers(contents).into_iter().find(|one| one.is(key)) else {
        let what = format!("no approval: {} is the key of no approver", key.fingerprint());
        return refused(what, "`keyward keystore approvers` lists those whose keys count");
    };
    if !signature.is_over(sealed.text.as_bytes()) {
        let what =
            format!("no approval: {} signed something else than request {short}", named(&approver));
        return refused(what, "have that very file signed: one changed byte makes it another one");
    }
    if approver.is_of(&sealed.request.requester) {
        let what = format!("no approval: {} asked for request {short}", named(&approver));
        return refused(what, "it must be approved by others than who asks");
    }
    Ok(approver)
}

/// What the request waits for.
fn waits(
    sealed: &Sealed,
    folder: &Folder,
    approved: usize,
    needed: u32,
    before: Option<&str>,
) -> Error {
    let Request { subject, id, ends, .. } = &sealed.request;
    let (short, path) = (sealed.request.short(), folder.request(&id.to_string()));
    let before = before.map(|words| format!("{words}; ")).unwrap_or_default();
    let what = format!(
        "{before}{needed} approvals are needed to {}, and there are {approved}: request {short}, until {ends}",
        subject.action().words()
    );
    let then = match subject.action() {
        // The command cannot open a keystore that is lost.
        Action::Rescue => format!(
            "put the signatures next to it as {id}.NAME.sig, readable for the server, and give the same statement again"
        ),
        _ => format!(
            "`keyward approve {short} FILE.sig` takes the signatures, and then give the same command again"
        ),
    };
    Error::new(Kind::Denied, what).coded(Code::Approvals).advise(format!(
        "each approver reads {} and signs it: ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE; {then}",
        path.display()
    ))
}

/// An approver, for people.
fn named(key: &PublicKey) -> String {
    format!("{} ({})", key.name(), key.fingerprint())
}

/// The one of `ids` that begins with `beginning`.
fn only_one(ids: &[String], beginning: &str) -> Result<String> {
    let mut found = ids.iter().filter(|id| id.starts_with(beginning));
    let advice = "`keyward approve` lists the requests that wait";
    match (found.next(), found.next()) {
        (Some(id), None) if beginning.len() >= 4 => Ok(id.clone()),
        (None, _) => {
            let what = format!("no request {beginning:?} waits");
            Err(Error::new(Kind::NotFound, what).advise(advice))
        }
        _ => {
            let what = format!("{beginning:?} may be more than one request");
            Err(Error::new(Kind::Config, what).advise(advice))
        }
    }
}
