//! A front before the real server that speaks TLS 1.3, which PyKMIP does not, and may change what is
//! answered.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use keyward::backend::kmip::WrapMechanism;
use keyward::backend::kmip::ttlv::{Item, Tag, Value, Writer, decode};
use keyward::backend::kmip::{Settings, message::Version};
use keyward::error::Kind;
use keyward::provider::KeyWrapper;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, Stream,
};
use test_kit::{Result, ensure, seen};
use test_kmip::{Kmip, Shared};

use crate::{at, refused, said, settings, shortly, soon, works, wrapper};

const RESULT_STATUS: Tag = Tag(0x42_007F);
const RESULT_REASON: Tag = Tag(0x42_007E);
const OPERATION: Tag = Tag(0x42_005C);
const RESPONSE_PAYLOAD: Tag = Tag(0x42_007C);
const VERSION_MAJOR: Tag = Tag(0x42_006A);

/// What becomes of an answer.
type Change = fn(&[u8]) -> Vec<u8>;

/// Starts a front before `kmip`; how to reach it.
fn front(kmip: &Kmip, change: Change) -> Result<Settings> {
    let (ours, theirs) = configs(kmip)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let with = Settings { servers: vec![at(listener.local_addr()?.port())], ..settings(kmip) };
    let to = kmip.port();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let (ours, theirs) = (Arc::clone(&ours), Arc::clone(&theirs));
            // What ends is a client's connection.
            thread::spawn(move || pass(client, to, ours, theirs, change));
        }
    });
    Ok(with)
}

/// TLS 1.3 towards keyward, and as a client towards the server.
fn configs(kmip: &Kmip) -> Result<(Arc<ServerConfig>, Arc<ClientConfig>)> {
    let path = |name: &str| kmip.certificates().path(name);
    let provider = Arc::new(ring::default_provider());
    let mut roots = RootCertStore::empty();
    told(roots.add(told(CertificateDer::from_pem_file(path("ca.pem")))?))?;
    let roots = Arc::new(roots);
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let verifier = told(verifier.build())?;
    let own = |name: &str| -> Result<_> {
        let chain = vec![told(CertificateDer::from_pem_file(path(&format!("{name}.pem"))))?];
        Ok((chain, told(PrivateKeyDer::from_pem_file(path(&format!("{name}.key"))))?))
    };
    let (chain, key) = own("server")?;
    let ours = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13]);
    let ours = told(told(ours)?.with_client_cert_verifier(verifier).with_single_cert(chain, key))?;
    let (chain, key) = own("client")?;
    let theirs =
        told(ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions())?;
    let theirs = theirs.with_root_certificates(roots).with_client_auth_cert(chain, key);
    let theirs = told(theirs)?;
    Ok((Arc::new(ours), Arc::new(theirs)))
}

fn told<T, E: std::fmt::Display>(result: std::result::Result<T, E>) -> Result<T> {
    result.map_err(|error| error.to_string().into())
}

fn pass(
    mut client: TcpStream,
    to: u16,
    ours: Arc<ServerConfig>,
    theirs: Arc<ClientConfig>,
    change: Change,
) -> Result<()> {
    let mut server = TcpStream::connect(("127.0.0.1", to))?;
    let mut near = told(ServerConnection::new(ours))?;
    let mut far = told(ClientConnection::new(theirs, told(ServerName::try_from("127.0.0.1"))?))?;
    let mut near = Stream::new(&mut near, &mut client);
    let mut far = Stream::new(&mut far, &mut server);
    loop {
        far.write_all(&message(&mut near)?)?;
        let answer = change(&message(&mut far)?);
        near.write_all(&answer)?;
        near.flush()?;
    }
}

/// A whole message.
fn message(from: &mut impl Read) -> Result<Vec<u8>> {
    let mut bytes = vec![0; 8];
    from.read_exact(&mut bytes)?;
    let len = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
    bytes.resize(8 + told(usize::try_from(len))?, 0);
    from.read_exact(&mut bytes[8..])?;
    Ok(bytes)
}

/// The message with what `to` makes of each item.
fn rewritten(bytes: &[u8], to: fn(&Item<'_>, &mut Writer) -> bool) -> Vec<u8> {
    fn write(item: &Item<'_>, to: &mut Writer, how: fn(&Item<'_>, &mut Writer) -> bool) {
        if how(item, to) {
            return;
        }
        match &item.value {
            Value::Structure(items) => to.structure(item.tag, |to| {
                items.iter().for_each(|item| write(item, to, how));
                // What a later release might add, of a type that nobody knows.
                unknown(to);
            }),
            _ => item.write(to),
        }
    }
    let mut writer = Writer::default();
    if let Ok(item) = decode(bytes) {
        write(&item, &mut writer, to);
    }
    writer.written().to_vec()
}

fn unknown(to: &mut Writer) {
    let later = Item { tag: Tag(0x54_1234), value: Value::Other(0x0B, &[1; 8]) };
    later.write(to);
    to.enumeration(Tag(0x54_1235), 0x8000_0001);
}

#[test]
fn tls_1_3_and_what_a_later_release_adds() -> Result<()> {
    let shared = Shared::get()?;
    let with = front(&shared.kmip, |answer| rewritten(answer, |_, _| false))?;
    let wrapper = wrapper(with, &shared.new_name(), None);
    said(wrapper.create_key(soon()))?;
    ensure!(works(&wrapper)? == "aes-gcm", "it was to wrap by GCM");
    let facts = said(wrapper.probe(soon()))?.facts;
    ensure!(facts.contains(&("TLS".to_owned(), "1.3".to_owned())), "{facts:?}");
    seen!("TLS 1.3, with unknown items in every structure of every answer: it works");
    Ok(())
}

#[test]
fn a_server_that_cannot_be_asked_for_its_releases_speaks_1_0() -> Result<()> {
    let shared = Shared::get()?;
    for reason in [0x05, 0x04] {
        // Discover Versions is refused: as not supported, as a message that is not understood.
        let change: Change = match reason {
            0x05 => |answer| refuse_discovery(answer, 0x05),
            _ => |answer| refuse_discovery(answer, 0x04),
        };
        let with = front(&shared.kmip, change)?;
        let name = shared.new_name();
        let wrapper = wrapper(with, &name, Some(WrapMechanism::Get));
        said(wrapper.create_key(soon()))?;
        ensure!(works(&wrapper)? == "get", "it was to be fetched");
        let facts = said(wrapper.probe(soon()))?.facts;
        ensure!(facts.contains(&("version".to_owned(), "1.0".to_owned())), "{facts:?}");
    }
    Ok(())
}

#[test]
fn the_best_of_what_a_server_names_is_spoken_and_a_question_that_it_does_not_read_is_put_anew()
-> Result<()> {
    let shared = Shared::get()?;
    let changes: [(Change, &str); 3] = [
        // It names what nobody here speaks, and not what PyKMIP would speak.
        (newer_named, "1.4"),
        // It has no answer to a message of KMIP 1, whose number is in the answer's head.
        (old_refused, "2.0"),
        (|answer| answer.to_vec(), "2.0"),
    ];
    for (change, version) in changes {
        let wrapper = wrapper(front(&shared.kmip, change)?, &shared.new_name(), None);
        said(wrapper.create_key(soon()))?;
        works(&wrapper)?;
        let facts = said(wrapper.probe(soon()))?.facts;
        ensure!(facts.contains(&("version".to_owned(), version.to_owned())), "{facts:?}");
    }
    Ok(())
}

/// The answer with KMIP 3 wherever it names KMIP 2.
fn newer_named(answer: &[u8]) -> Vec<u8> {
    rewritten(answer, |item, to| {
        let is_two = item.tag == VERSION_MAJOR && item.integer() == Some(2);
        is_two.then(|| to.integer(VERSION_MAJOR, 3)).is_some()
    })
}

fn old_refused(answer: &[u8]) -> Vec<u8> {
    let head = decode(answer).ok().and_then(|message| {
        let version = message.get(Tag(0x42_007A))?.get(Tag(0x42_0069))?;
        version.get(VERSION_MAJOR)?.integer()
    });
    match head {
        Some(1) => rewritten(answer, |item, to| refusal(item, to, 0x04)),
        _ => answer.to_vec(),
    }
}

fn refuse_discovery(answer: &[u8], reason: u32) -> Vec<u8> {
    const DISCOVER_VERSIONS: u32 = 0x1E;
    let is_it = decode(answer).is_ok_and(|message| {
        message
            .all(Tag(0x42_000F))
            .any(|item| item.get(OPERATION).and_then(Item::enumeration) == Some(DISCOVER_VERSIONS))
    });
    match (is_it, reason) {
        (false, _) => answer.to_vec(),
        (true, 0x05) => rewritten(answer, |item, to| refusal(item, to, 0x05)),
        (true, _) => rewritten(answer, |item, to| refusal(item, to, 0x04)),
    }
}

/// Makes a success a refusal.
fn refusal(item: &Item<'_>, to: &mut Writer, reason: u32) -> bool {
    match item.tag {
        RESULT_STATUS => {
            to.enumeration(RESULT_STATUS, 1);
            to.enumeration(RESULT_REASON, reason);
            true
        }
        tag => tag == RESPONSE_PAYLOAD,
    }
}

#[test]
fn senseless_answers_are_named() -> Result<()> {
    let shared = Shared::get()?;
    let changes: [Change; 5] = [
        |_| vec![0x42, 0, 0x7B, 1, 0xFF, 0xFF, 0xFF, 0xF8],
        |_| b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(),
        |_| vec![0x42, 0, 0x7B, 1, 0, 0, 0, 0],
        |answer| {
            let mut answer = answer.to_vec();
            let last = answer.len() - 1;
            answer[last] ^= 0xFF;
            answer[20] ^= 0xFF;
            answer
        },
        |answer| {
            rewritten(answer, |item, _| item.tag == RESPONSE_PAYLOAD || item.tag == RESULT_STATUS)
        },
    ];
    for change in changes {
        let with = Settings { version: Some(Version::new(1, 4)), ..front(&shared.kmip, change)? };
        let text = refused(wrapper(with, "k", None).describe(shortly()), Kind::Unavailable)?;
        ensure!(text.contains("is it the right address and port?"), "{text}");
        seen!(
            "{}",
            text.split_once(' ')
                .map_or("", |(_, rest)| rest)
                .split_once(' ')
                .map_or("", |(_, rest)| rest)
        );
    }
    Ok(())
}
