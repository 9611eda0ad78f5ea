//! An authority of the test's own, with certificates for a server and a client; made by openssl.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::command::answer;
use crate::{Result, files};

/// What makes a certificate that of our server.
pub const SERVER: &str = "subjectAltName=IP:127.0.0.1,DNS:localhost";

/// The files of one authority, in PEM.
#[derive(Clone)]
pub struct Certificates {
    folder: PathBuf,
}

impl Certificates {
    /// Makes all of them in `folder`. The server's is for 127.0.0.1 and localhost.
    pub fn make(folder: &Path) -> Result<Self> {
        let certificates = Self { folder: folder.to_owned() };
        certificates.new_key("ca")?;
        certificates.openssl(&[
            "req",
            "-x509",
            "-new",
            "-key",
            "ca.key",
            "-subj",
            "/CN=keyward test authority",
            "-days",
            "2",
            "-out",
            "ca.pem",
            "-addext",
            "basicConstraints=critical,CA:TRUE",
            "-addext",
            "keyUsage=critical,keyCertSign,cRLSign",
        ])?;
        certificates.issue("server", SERVER, "2")?;
        certificates.issue("client", "extendedKeyUsage=clientAuth", "2")?;
        Ok(certificates)
    }

    /// A certificate `<name>.pem` with its key `<name>.key`, valid for `days`.
    pub fn issue(&self, name: &str, extension: &str, days: &str) -> Result<()> {
        self.new_key(name)?;
        let (key, request, pem) =
            (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let subject = format!("/CN=keyward test {name}");
        self.openssl(&["req", "-new", "-key", &key, "-subj", &subject, "-out", &request])?;
        let extensions = format!("{name}.ext");
        files::write(&self.path(&extensions), format!("basicConstraints=CA:FALSE\n{extension}\n"))?;
        self.openssl(&[
            "x509",
            "-req",
            "-in",
            &request,
            "-CA",
            "ca.pem",
            "-CAkey",
            "ca.key",
            "-CAcreateserial",
            "-days",
            days,
            "-extfile",
            &extensions,
            "-out",
            &pem,
        ])
    }

    /// A certificate `<name>.pem` as [`issue`](Self::issue) makes one, that ended yesterday.
    pub fn issue_expired(&self, name: &str, extension: &str) -> Result<()> {
        self.issue(name, extension, "1")?;
        let (request, pem) = (format!("{name}.csr"), format!("{name}.pem"));
        let extensions = format!("{name}.ext");
        // Only this command of openssl's takes dates.
        files::write(
            &self.path("ca.cnf"),
            "[ca]\ndefault_ca = it\n[it]\ndatabase = ca.index\nnew_certs_dir = .\n\
             default_md = sha256\nrand_serial = yes\npolicy = any\nunique_subject = no\n\
             [any]\ncommonName = supplied\n",
        )?;
        files::write(&self.path("ca.index"), "")?;
        let dates = ["-startdate", "20200101000000Z", "-enddate", "20200102000000Z"];
        let mut words = vec!["ca", "-batch", "-notext", "-config", "ca.cnf", "-in", &request];
        words.extend(["-cert", "ca.pem", "-keyfile", "ca.key", "-extfile", &extensions]);
        words.extend(["-out", &pem]);
        words.extend(dates);
        self.openssl(&words)
    }

    /// A file of these, such as `ca.pem`.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    fn new_key(&self, name: &str) -> Result<()> {
        let key = format!("{name}.key");
        self.openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", &key])?;
        files::chmod(&self.path(&key), 0o600)
    }

    fn openssl(&self, words: &[&str]) -> Result<()> {
        let mut command = Command::new("openssl");
        command.args(words).current_dir(&self.folder);
        answer(&mut command)?.ok().map(drop).map_err(|error| error.within("openssl"))
    }
}
