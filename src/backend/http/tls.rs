//! Whom a key store's TLS must be, and who we are to it.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, InconsistentKeys, OtherError,
    RootCertStore, SignatureScheme,
};
use rustls_native_certs::{load_certs_from_paths, load_native_certs};

use super::validity::{is_of_version_3, not_after};
use crate::config::Section;
use crate::env::Timestamp;
use crate::error::{Error, Kind, Result};
use crate::provider::{End, Ending};
use crate::secret::read_file;
use crate::trust::{self, Folder, Refusal};

/// The longest file with a private key, in bytes.
const MAX_KEY_FILE: usize = 64 * 1024;

/// The longest file of certificates, in bytes: all authorities of a system have less than a tenth of it.
const MAX_CA_FILE: u64 = 4 << 20;

/// What to do about TLS, in the words of the place where its settings are.
#[derive(Debug, PartialEq, Eq)]
pub struct TlsAdvice {
    /// Where the peer's certificate is from an authority that is not trusted.
    pub authority: &'static str,
    /// Where no authority can be trusted at all.
    pub no_authority: &'static str,
    /// Where the peer's certificate is for another name.
    pub name: &'static str,
    /// Where the peer wants to know who we are.
    pub client: &'static str,
    /// Where our private key cannot be used.
    pub client_key: &'static str,
    /// Whether we show a certificate: then no peer refuses us for want of one.
    pub certified: bool,
}

/// The words for a `[[provider]]` section.
const SECTIONS: TlsAdvice = TlsAdvice {
    authority: "name the file of that authority's certificate as ca_file",
    no_authority: "name one as ca_file, in PEM",
    name: "use the name in the certificate, or set server_name to it",
    client: "set client_certificate_file and client_key_file",
    client_key: "give the key of client_certificate_file, not encrypted",
    certified: false,
};

static FOR_SECTIONS: TlsAdvice = SECTIONS;
static FOR_CERTIFIED_SECTIONS: TlsAdvice = TlsAdvice { certified: true, ..SECTIONS };

/// Why a certificate of X.509's first or second version is refused (RFC 5280 section 4.1.2.1): it has no
/// room for what it may be used for.
#[derive(Debug)]
pub(super) struct OldVersion;

impl std::fmt::Display for OldVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("X.509 version 1")
    }
}

impl std::error::Error for OldVersion {}

impl Default for &'static TlsAdvice {
    fn default() -> Self {
        &FOR_SECTIONS
    }
}

/// What TLS is told. Verification cannot be switched off.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// The authorities to trust, in PEM; without it and a folder, those of the system.
    pub ca_file: Option<PathBuf>,
    /// A folder of such files.
    pub ca_folder: Option<PathBuf>,
    /// Our own certificate with its chain, in PEM.
    pub client_certificate: Option<PathBuf>,
    /// Its private key.
    pub client_key: Option<PathBuf>,
    /// The name that the peer's certificate must be for, where that is not the address's.
    pub server_name: Option<String>,
    /// Whether it is for a plugin that we stand in for, which looks at no certificate file's owner.
    pub as_original: bool,
    /// What to do where it fails.
    pub advice: &'static TlsAdvice,
}

impl TlsConfig {
    /// What a `[[provider]]` section says.
    pub fn read(section: &Section) -> Result<Self> {
        let mut trust = Self {
            ca_file: section.path("ca_file")?,
            ca_folder: section.path("ca_folder")?,
            client_certificate: section.path("client_certificate_file")?,
            client_key: section.path("client_key_file")?,
            server_name: section.text("server_name")?,
            as_original: false,
            advice: Default::default(),
        };
        if trust.client_certificate.is_some() != trust.client_key.is_some() {
            let lacking = match trust.client_key {
                None => "client_key_file",
                Some(_) => "client_certificate_file",
            };
            return Err(section.lacks(lacking));
        }
        if trust.client_certificate.is_some() {
            trust.advice = &FOR_CERTIFIED_SECTIONS;
        }
        if let Some(name) = &trust.server_name {
            ServerName::try_from(name.as_str())
                .map_err(|_| section.wrong("server_name", "is no host name and no address"))?;
        }
        Ok(trust)
    }

    /// The configuration for TLS 1.2 and 1.3; reads all files again, so that renewed certificates
    /// are taken up by themselves.
    pub(crate) fn tls(&self) -> Result<ClientConfig> {
        let broken = |_| Error::new(Kind::Internal, "TLS cannot be set up");
        let provider = Arc::new(ring::default_provider());
        let verifier = Arc::new(self.verifier(&provider)?);
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(broken)?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let (Some(certificate), Some(key)) = (&self.client_certificate, &self.client_key) else {
            return Ok(builder.with_no_client_auth());
        };
        let chain = certificates(certificate, self.as_original)?;
        if chain.first().is_some_and(|own| !is_of_version_3(own)) {
            let what = format!(
                "{} is a certificate of X.509 version 1, which TLS has no use for",
                certificate.display()
            );
            return Err(Error::new(Kind::Config, what).advise(
                "have one of version 3 made of the same key and request: printf \
                 'extendedKeyUsage=clientAuth' > v3.ext; openssl x509 -req -in client.csr -CA ca.pem \
                 -CAkey ca.key -CAcreateserial -days 365 -extfile v3.ext -out client.pem",
            ));
        }
        let unusable = |words: &str| {
            Error::new(Kind::Config, format!("{} {words}", key.display()))
                .advise(self.advice.client_key)
        };
        let pem = read_file(key, MAX_KEY_FILE)?;
        let parsed = PrivateKeyDer::from_pem_slice(pem.expose())
            .map_err(|_| unusable("is no private key in PEM"))?;
        builder.with_client_auth_cert(chain, parsed).map_err(|cause| match cause {
            rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                let (certificate, key) = (certificate.display(), key.display());
                let what = format!("{certificate} and {key} do not belong together");
                Error::new(Kind::Config, what).advise("name a certificate and its own key")
            }
            rustls::Error::InvalidCertificate(_) => {
                let what = format!("{} is no certificate that TLS can use", certificate.display());
                Error::new(Kind::Config, what)
                    .advise("look at it with `openssl x509 -noout -text -in`")
            }
            _ => unusable("is no RSA, ECDSA (P-256, P-384) or Ed25519 key"),
        })
    }

    /// When the certificates in its files end: of the authorities the last, as another may follow in the same
    /// file, of our own chain the first. What cannot be read has no end: calls say why.
    pub(in crate::backend) fn ends(&self) -> Vec<End> {
        let ends = |path: &Path| -> Vec<Timestamp> {
            let read = certificates(path, self.as_original).unwrap_or_default();
            read.iter().filter_map(|certificate| not_after(certificate)).collect()
        };
        let end = |path: &PathBuf, at: Option<Timestamp>| {
            Some(End { what: Ending::Certificate(path.clone()), at: at? })
        };
        let authority =
            self.ca_file.as_ref().and_then(|path| end(path, ends(path).into_iter().max()));
        let own = &self.client_certificate;
        let own = own.as_ref().and_then(|path| end(path, ends(path).into_iter().min()));
        authority.into_iter().chain(own).collect()
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Verifier> {
        let roots = Arc::new(self.roots()?);
        let inner = WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|_| Error::new(Kind::Internal, "TLS cannot be set up"))?;
        let name = self.server_name.as_ref();
        let name = name.and_then(|name| ServerName::try_from(name.clone()).ok());
        Ok(Verifier { inner, name })
    }

    fn roots(&self) -> Result<RootCertStore> {
        let (file, folder) = (self.ca_file.as_deref(), self.ca_folder.as_deref());
        let found = match (file, folder) {
            (None, None) => {
                if !self.as_original {
                    judge_authorities(|name| std::env::var_os(name))?;
                }
                load_native_certs().certs
            }
            (file, folder) => {
                let mut all = file
                    .map(|file| certificates(file, self.as_original))
                    .transpose()?
                    .unwrap_or_default();
                if let Some(folder) = folder {
                    if !self.as_original {
                        judge_folder(folder)?;
                    }
                    all.extend(load_certs_from_paths(None, Some(folder)).certs);
                }
                all
            }
        };
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found);
        if roots.is_empty() {
            let place =
                file.or(folder).map_or("the system".into(), |path| path.display().to_string());
            return Err(Error::new(
                Kind::Config,
                format!("{place} has no certificate of an authority to trust"),
            )
            .advise(self.advice.no_authority));
        }
        Ok(roots)
    }
}

/// Refuses the authorities that the environment names in place of the system's where others can write
/// them. What is not there is not read.
pub fn judge_authorities(variable: impl Fn(&str) -> Option<OsString>) -> Result<()> {
    if let Some(file) = variable("SSL_CERT_FILE").map(PathBuf::from) {
        let judged = trust::check(&file, MAX_CA_FILE);
        unless_missing(judged).map_err(|refusal| refusal.of("cannot read", &file))?;
    }
    let folders = variable("SSL_CERT_DIR").unwrap_or_default();
    let there = |folder: &PathBuf| !folder.as_os_str().is_empty() && folder.exists();
    std::env::split_paths(&folders).filter(there).try_for_each(|folder| judge_folder(&folder))
}

fn unless_missing(judged: Result<(), Refusal>) -> Result<(), Refusal> {
    judged.or_else(|refusal| if refusal.is_missing() { Ok(()) } else { Err(refusal) })
}

/// Refuses a `folder` of authorities that others can write, and such a file in it.
fn judge_folder(folder: &Path) -> Result<()> {
    Folder::open(folder).map_err(|refusal| refusal.of("cannot open the folder", folder))?;
    let failed = |cause: std::io::Error| Error::io("cannot list", folder, &cause);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        // What else is in it is not read.
        if path.is_file() {
            let judged = trust::check(&path, MAX_CA_FILE);
            judged.map_err(|refusal| refusal.of("cannot open", &path))?;
        }
    }
    Ok(())
}

/// All certificates of a PEM file, at least one.
fn certificates(path: &Path, as_original: bool) -> Result<Vec<CertificateDer<'static>>> {
    let read = if as_original { trust::read_untrusted } else { trust::read };
    let text = read(path, MAX_CA_FILE).map_err(|refusal| refusal.of("cannot read", path))?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).filter_map(Result::ok).collect();
    if found.is_empty() {
        let what = format!("{} has no certificate in PEM", path.display());
        return Err(
            Error::new(Kind::Config, what).advise("it begins with -----BEGIN CERTIFICATE-----")
        );
    }
    Ok(found)
}

/// The usual verification, with the name that we were told where we were told one.
#[derive(Debug)]
struct Verifier {
    inner: Arc<WebPkiServerVerifier>,
    name: Option<ServerName<'static>>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let name = self.name.as_ref().unwrap_or(server_name);
        let verified =
            self.inner.verify_server_cert(end_entity, intermediates, name, ocsp_response, now);
        let is_old = |one: &CertificateDer<'_>| !is_of_version_3(one);
        // The library has one word for this and for what is no certificate at all.
        verified.map_err(|cause| match is_old(end_entity) || intermediates.iter().any(is_old) {
            true => CertificateError::Other(OtherError(Arc::new(OldVersion))).into(),
            false => cause,
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.inner.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.inner.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests;
