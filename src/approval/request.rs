//! What an approver reads and signs: a text with one field a line.

#![forbid(unsafe_code)]

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ring::signature::{ED25519, UnparsedPublicKey};
use sha2::{Digest as _, Sha256};

use crate::env::Timestamp;
use crate::error::{Error, Kind, Result, escaped};
use crate::hex::Hex;

/// How long a request can be approved and carried out.
pub const LIFETIME: Duration = Duration::from_secs(86_400);

/// The first line. No other text that the keystore's key signs begins so.
const TITLE: &str = "keyward approval request v1";
/// How many targets a request names; of more, the digest tells.
const MAX_TARGETS: usize = 1000;

/// What may need approvals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A version is to be destroyed after its waiting time.
    Destroy,
    /// A key is to be destroyed though data needs it.
    Erase,
    /// Keys are to leave the keystore readable.
    Export,
    /// A server is to write the keys in its memory into a new keystore.
    Rescue,
    /// An older copy of the keystore is to be the one in force.
    AcceptRollback,
    /// Other people are to approve, or another number of them.
    ChangeApprovers,
    /// Backups are to be readable for one recipient more.
    AddRecipient,
}

impl Action {
    const ALL: [Self; 7] = [
        Self::Destroy,
        Self::Erase,
        Self::Export,
        Self::Rescue,
        Self::AcceptRollback,
        Self::ChangeApprovers,
        Self::AddRecipient,
    ];

    /// What the request calls it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Destroy => "destroy",
            Self::Erase => "erase",
            Self::Export => "export",
            Self::Rescue => "rescue",
            Self::AcceptRollback => "accept-rollback",
            Self::ChangeApprovers => "change-approvers",
            Self::AddRecipient => "add-recipient",
        }
    }

    /// For a sentence: "2 approvals are needed to ...".
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Destroy => "destroy a key version",
            Self::Erase => "erase a key and what it encrypts",
            Self::Export => "take keys out in plain text",
            Self::Rescue => "rescue the keys in memory",
            Self::AcceptRollback => "accept an older keystore",
            Self::ChangeApprovers => "change the approvers",
            Self::AddRecipient => "add a recipient of backups",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Action {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|one| one.name() == text);
        found.ok_or_else(|| damaged("an action that this release does not know"))
    }
}

/// What is to be done, to what. Two are equal only if nothing about it has changed meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    action: Action,
    targets: Vec<String>,
    digest: Hex<32>,
}

impl Subject {
    /// `action` on `targets`, each a line for people; `facts` is what else must not change until it is done.
    #[must_use]
    pub fn new(action: Action, targets: Vec<String>, facts: &[String]) -> Self {
        let mut hash = Sha256::new();
        let mut targets: Vec<String> = targets.into_iter().map(escaped).collect();
        for line in std::iter::once(action.name()).chain(targets.iter().map(String::as_str)) {
            hash.update(line);
            hash.update("\n");
        }
        hash.update("\n");
        for fact in facts {
            hash.update(escaped(fact.as_str()));
            hash.update("\n");
        }
        let more = targets.len().saturating_sub(MAX_TARGETS);
        if more > 0 {
            targets.truncate(MAX_TARGETS);
            targets.push(format!("and {more} more, which the digest is of as well"));
        }
        Self { action, targets, digest: Hex(hash.finalize().into()) }
    }

    /// What is to be done.
    #[must_use]
    pub fn action(&self) -> Action {
        self.action
    }

    /// To what, a line each.
    #[must_use]
    pub fn targets(&self) -> &[String] {
        &self.targets
    }

    /// SHA-256 of all that must not change.
    #[must_use]
    pub fn digest(&self) -> Hex<32> {
        self.digest
    }

    /// Whether `other` is the same wish, be it that its target has changed since.
    #[must_use]
    pub fn resembles(&self, other: &Self) -> bool {
        let head = |subject: &Self| {
            let first = subject.targets.first().map(String::as_str).unwrap_or_default();
            first.split(',').next().unwrap_or_default().to_owned()
        };
        self.action == other.action && head(self) == head(other)
    }
}

/// The request of somebody that others approve of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub subject: Subject,
    /// Random, so that no two are alike.
    pub id: Hex<16>,
    /// The keystore, by its id.
    pub keystore: String,
    /// Its epoch then.
    pub epoch: u64,
    /// Its generation then.
    pub generation: u64,
    /// Who asks.
    pub requester: String,
    /// The requester's key, where it is an approver's: it does not count.
    pub requester_key: Option<String>,
    /// Why.
    pub reason: String,
    /// When it was made.
    pub made: Timestamp,
    /// From when on it is void.
    pub ends: Timestamp,
    /// How many approvals were needed then, and of how many approvers.
    pub needed: (u32, usize),
}

impl Request {
    /// The longest, in bytes.
    pub const MAX_LEN: u64 = 8 << 20;

    /// The first digits of its id, by which people call it.
    #[must_use]
    pub fn short(&self) -> String {
        self.id.to_string()[..8].to_owned()
    }

    /// The text without its last line, the seal.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { subject: Subject { action, targets, digest }, .. } = self;
        let mut text = format!("{TITLE}\nrequest: {}\naction: {action}\n", self.id);
        for target in targets {
            text += &format!("target: {target}\n");
        }
        let (needed, of) = self.needed;
        text + &format!(
            "digest: {digest}\nkeystore: {}\nepoch: {}\ngeneration: {}\nrequester: {}\nrequester's key: {}\n\
             reason: {}\nmade: {}\nends: {}\napprovals: {needed} of {of}\n",
            self.keystore,
            self.epoch,
            self.generation,
            escaped(self.requester.as_str()),
            self.requester_key.as_deref().unwrap_or(NO_KEY),
            escaped(self.reason.as_str()),
            self.made,
            self.ends,
        )
    }
}

/// What stands where the requester has no approver's key.
const NO_KEY: &str = "none of the approvers'";

/// A request as it is in its file, with the signature of the keystore that made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// What it says.
    pub request: Request,
    /// All of the file: what approvers sign.
    pub text: String,
    seal: Hex<64>,
}

impl Sealed {
    /// `request` with the signature of the keystore's key over [`Request::text`].
    #[must_use]
    pub fn new(request: Request, seal: Hex<64>) -> Self {
        let text = format!("{}seal: {seal}\n", request.text());
        Self { request, text, seal }
    }

    /// Reads a request; `Config` where it is none, byte by byte as it is written.
    pub fn parse(text: &[u8]) -> Result<Self> {
        let text = std::str::from_utf8(text).map_err(|_| damaged("not UTF-8"))?;
        let (request, seal) = Fields::of(text)?.read()?;
        let sealed = Self::new(request, seal);
        // So whatever is read has been compared: there is one text for each request.
        match sealed.text == text {
            true => Ok(sealed),
            false => Err(damaged("it is not laid out as keyward writes it")),
        }
    }

    /// Whether the key `epoch` of a keystore signed it.
    #[must_use]
    pub fn is_by(&self, epoch: &Hex<32>) -> bool {
        let text = self.request.text();
        UnparsedPublicKey::new(&ED25519, epoch.0).verify(text.as_bytes(), &self.seal.0).is_ok()
    }

    /// SHA-256 of the file, by which the keystore remembers that it was used.
    #[must_use]
    pub fn digest(&self) -> Hex<32> {
        Hex(Sha256::digest(&self.text).into())
    }
}

/// The lines that are yet to be read.
struct Fields<'a>(std::iter::Peekable<std::str::Lines<'a>>);

impl<'a> Fields<'a> {
    fn of(text: &'a str) -> Result<Self> {
        let mut lines = text.lines().peekable();
        match lines.next() {
            Some(TITLE) => Ok(Self(lines)),
            _ => Err(damaged("it does not begin as a request of keyward's")),
        }
    }

    fn next(&mut self, name: &str) -> Result<&'a str> {
        self.optional(name).ok_or_else(|| damaged(&format!("there is no line {name:?}")))
    }

    fn optional(&mut self, name: &str) -> Option<&'a str> {
        let of_name = |line: &&'a str| line.strip_prefix(name)?.strip_prefix(": ");
        let value = of_name(self.0.peek()?)?;
        self.0.next();
        Some(value)
    }

    fn parsed<T: FromStr>(&mut self, name: &str) -> Result<T> {
        let value = self.next(name)?;
        value.parse().map_err(|_| damaged(&format!("{name:?} has a value that it cannot have")))
    }

    fn read(mut self) -> Result<(Request, Hex<64>)> {
        let (id, action) = (self.parsed("request")?, self.parsed("action")?);
        let targets = std::iter::from_fn(|| self.optional("target").map(str::to_owned)).collect();
        let request = Request {
            subject: Subject { action, targets, digest: self.parsed("digest")? },
            id,
            keystore: self.next("keystore")?.to_owned(),
            epoch: self.parsed("epoch")?,
            generation: self.parsed("generation")?,
            requester: self.next("requester")?.to_owned(),
            requester_key: match self.next("requester's key")? {
                NO_KEY => None,
                key => Some(key.to_owned()),
            },
            reason: self.next("reason")?.to_owned(),
            made: self.parsed("made")?,
            ends: self.parsed("ends")?,
            needed: self.needed()?,
        };
        let seal = self.parsed("seal")?;
        match self.0.next() {
            None => Ok((request, seal)),
            Some(_) => Err(damaged("there is more behind its end")),
        }
    }

    fn needed(&mut self) -> Result<(u32, usize)> {
        let value = self.next("approvals")?;
        let read = value
            .split_once(" of ")
            .and_then(|(needed, of)| Some((needed.parse().ok()?, of.parse().ok()?)));
        read.ok_or_else(|| damaged("\"approvals\" has a value that it cannot have"))
    }
}

fn damaged(why: &str) -> Error {
    Error::new(Kind::Config, format!("no request as keyward wrote it: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed() -> Sealed {
        let targets = vec!["key 4 version 1, retired".to_owned(), "gone: a\nb".to_owned()];
        let request = Request {
            subject: Subject::new(Action::Destroy, targets, &["fact".to_owned()]),
            id: Hex([7; 16]),
            keystore: "c15c0289-ec2d-4a91-a7ec-8e65a18debbe".to_owned(),
            epoch: 1,
            generation: 12,
            requester: "alice (sudo, uid 0) on db1".to_owned(),
            requester_key: None,
            reason: "müller: the customer left".to_owned(),
            made: Timestamp::from_unix(1_772_366_400),
            ends: Timestamp::from_unix(1_772_366_400 + 86_400),
            needed: (2, 3),
        };
        Sealed::new(request, Hex([9; 64]))
    }

    #[test]
    fn a_request_reads_back_as_it_is_written() {
        let sealed = sealed();
        assert_eq!(Sealed::parse(sealed.text.as_bytes()).unwrap(), sealed);
        assert_eq!(sealed.text, include_str!("../../tests/golden/approval/request"));
        assert!(sealed.text.contains("\ntarget: gone: a\\nb\ndigest: "), "{}", sealed.text);
        assert_eq!(sealed.text.lines().count(), 16);
    }

    #[test]
    fn every_changed_byte_is_refused_or_another_text_to_sign() {
        let sealed = sealed();
        for at in 0..sealed.text.len() {
            for with in [b'x', b'\n', b' ', b'0', 0xff] {
                let mut bytes = sealed.text.clone().into_bytes();
                if std::mem::replace(&mut bytes[at], with) == with {
                    continue;
                }
                if let Ok(read) = Sealed::parse(&bytes) {
                    assert_eq!(read.text.as_bytes(), bytes);
                    assert_ne!(read.digest(), sealed.digest());
                }
            }
        }
        for cut in 0..sealed.text.len() {
            assert!(Sealed::parse(&sealed.text.as_bytes()[..cut]).is_err(), "{cut} bytes");
        }
        assert!(Sealed::parse(format!("{}\n", sealed.text).as_bytes()).is_err());
    }

    #[test]
    fn the_digest_is_of_targets_facts_and_what_is_not_named() {
        let of = |targets: &[&str], facts: &[&str]| {
            let owned = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
            let facts: Vec<String> = owned(facts);
            Subject::new(Action::Erase, owned(targets), &facts)
        };
        let many: Vec<String> = (0..MAX_TARGETS + 5).map(|n| n.to_string()).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let long = of(&many, &[]);
        assert_eq!(long.targets().last().unwrap(), "and 5 more, which the digest is of as well");
        let all = [
            of(&["a"], &["b"]),
            of(&["a", "b"], &[]),
            of(&["a"], &["c"]),
            of(&["a"], &[]),
            of(&[&many[..], &["x"]].concat(), &[]),
            long,
        ];
        for (at, one) in all.iter().enumerate() {
            assert!(all[at + 1..].iter().all(|other| other.digest() != one.digest()), "{one:?}");
        }
        assert!(all[0].resembles(&all[2]) && !all[0].resembles(&all[5]));
    }
}
