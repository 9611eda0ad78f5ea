//! A running fakecloud: KMS, IAM and STS that check every signature, and judge by the policies of
//! whoever made it.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_kit::{Process, Result, Scratch, cache, files};

use crate::REGION;
use crate::http::{Reply, Request};

/// Where `cargo xtask` tells the tests that the program is.
pub const PROGRAM_VARIABLE: &str = "KEYWARD_FAKECLOUD";

/// The program's name.
pub const PROGRAM: &str = "fakecloud-kms-iam";

/// Its folder in the user's cache.
pub const CACHE: &str = "fakecloud-0-51-0";

/// Whoever of the account has a policy that says so, as a role's trust has it.
pub const ACCOUNT: &str = "arn:aws:iam::111122223333:root";

/// How long it may take to be ready on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

const TICK: Duration = Duration::from_millis(50);

/// A fakecloud with its account empty, in memory; it ends with this value.
pub struct Fakecloud {
    child: Child,
    address: SocketAddr,
    scratch: Scratch,
}

/// What signs a request.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// The access key's id.
    pub access_key: String,
    /// The secret access key.
    pub secret: String,
    /// The token of a session; none for a user's own.
    pub token: Option<String>,
}

impl Credentials {
    /// As `~/.aws/credentials` has them.
    #[must_use]
    pub fn profile(&self, name: &str) -> String {
        let Self { access_key, secret, token } = self;
        let mut text = format!(
            "[{name}]\naws_access_key_id = {access_key}\naws_secret_access_key = {secret}\n"
        );
        if let Some(token) = token {
            text += &format!("aws_session_token = {token}\n");
        }
        text
    }
}

impl Fakecloud {
    /// Starts one.
    pub fn start() -> Result<Self> {
        let program =
            program().ok_or("there is no fakecloud; `cargo xtask test aws-iam` builds it")?;
        let scratch = Scratch::new("fakecloud")?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::create(scratch.path().join("fakecloud.log"))?;
        let mut command = Process::command(program);
        command.arg(address.to_string()).arg(REGION);
        command.env_clear().stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let fakecloud = Self { child: command.spawn()?, address, scratch };
        let since = Instant::now();
        while let Err(error) = fakecloud.kms("ListKeys", &json!({})) {
            if since.elapsed() > PATIENCE {
                return Err(format!("fakecloud: {error}\n{}", fakecloud.log()).into());
            }
            sleep(TICK);
        }
        Ok(fakecloud)
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks KMS to do `action`, as the account's root.
    pub fn kms(&self, action: &str, body: &Value) -> Result<Value> {
        let headers = [
            ("x-amz-target", format!("TrentService.{action}")),
            ("content-type", "application/x-amz-json-1.1".to_owned()),
        ];
        let text = self.ask("kms", &headers, body.to_string(), action)?;
        let text = if text.is_empty() { "null" } else { &text };
        serde_json::from_str(text).map_err(|error| format!("{error} in: {text}").into())
    }

    /// Makes a key and gives its ARN.
    pub fn new_key(&self) -> Result<String> {
        let made = self.kms("CreateKey", &json!({}))?;
        Ok(made["KeyMetadata"]["Arn"].as_str().ok_or("a key without an ARN")?.to_owned())
    }

    /// Asks IAM or STS to do `action`, as the account's root; the answer in XML.
    pub fn query(&self, service: &str, action: &str, words: &[(&str, &str)]) -> Result<String> {
        let version = if service == "iam" { "2010-05-08" } else { "2011-06-15" };
        let all = [&[("Action", action), ("Version", version)], words].concat();
        let pairs: Vec<_> =
            all.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let headers = [("content-type", "application/x-www-form-urlencoded".to_owned())];
        self.ask(service, &headers, pairs.join("&"), action)
    }

    /// Makes a user who may do what `policy` says, and nothing else.
    pub fn new_user(&self, name: &str, policy: &str) -> Result<Credentials> {
        self.query("iam", "CreateUser", &[("UserName", name)])?;
        self.set_policy(name, policy)?;
        credentials(&self.query("iam", "CreateAccessKey", &[("UserName", name)])?)
    }

    /// Gives a user another policy in the place of the one before.
    pub fn set_policy(&self, user: &str, policy: &str) -> Result<()> {
        let words = [("UserName", user), ("PolicyName", "keyward"), ("PolicyDocument", policy)];
        self.query("iam", "PutUserPolicy", &words).map(drop)
    }

    /// Makes a role that `who` may assume by `action`, and gives its ARN.
    pub fn new_role(&self, name: &str, who: &str, action: &str, policy: &str) -> Result<String> {
        let trust = json!({
            "Version": "2012-10-17",
            "Statement": [{ "Effect": "Allow", "Principal": { "AWS": who }, "Action": action }]
        });
        let words = [("RoleName", name), ("AssumeRolePolicyDocument", &trust.to_string())];
        let made = self.query("iam", "CreateRole", &words)?;
        let words = [("RoleName", name), ("PolicyName", "keyward"), ("PolicyDocument", policy)];
        self.query("iam", "PutRolePolicy", &words)?;
        Ok(within(&made, "Arn")?.to_owned())
    }

    /// The credentials of a new session of a role.
    pub fn session(&self, role: &str) -> Result<Credentials> {
        let words = [("RoleArn", role), ("RoleSessionName", "test")];
        credentials(&self.query("sts", "AssumeRole", &words)?)
    }

    /// Ends a session before its time.
    pub fn expire(&self, session: &Credentials) -> Result<()> {
        let path = format!("/expire/{}", session.access_key);
        let request = Request { method: "POST".into(), path, ..Request::default() };
        let reply = request.send(self.address)?;
        let said = String::from_utf8_lossy(&reply.body).into_owned();
        if said == "ended" { Ok(()) } else { Err(format!("expire: {said}").into()) }
    }

    /// A place in its folder.
    #[must_use]
    pub fn path(&self, within: &str) -> PathBuf {
        self.scratch.path().join(within)
    }

    fn log(&self) -> String {
        files::text(&self.path("fakecloud.log")).unwrap_or_default()
    }

    /// The account's root is whose access key begins with `test`: it is let in unseen.
    fn ask(
        &self,
        service: &str,
        headers: &[(&str, String)],
        body: String,
        action: &str,
    ) -> Result<String> {
        let scope = format!("Credential=test/20260101/{REGION}/{service}/aws4_request");
        let signed = format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0");
        let mut all = vec![("authorization".to_owned(), signed)];
        all.extend(headers.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
        let request = Request {
            method: "POST".into(),
            path: "/".into(),
            headers: all,
            body: body.into_bytes(),
        };
        let Reply { status, body } = request.send(self.address)?;
        let text = String::from_utf8_lossy(&body).into_owned();
        if status == 200 { Ok(text) } else { Err(format!("{action}: {status}: {text}").into()) }
    }
}

impl Drop for Fakecloud {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("fakecloud: {error}");
        }
    }
}

/// The program; nothing where there is none.
fn program() -> Option<PathBuf> {
    cache::find(PROGRAM_VARIABLE, &format!("{CACHE}/{PROGRAM}"))
}

fn credentials(xml: &str) -> Result<Credentials> {
    Ok(Credentials {
        access_key: within(xml, "AccessKeyId")?.to_owned(),
        secret: within(xml, "SecretAccessKey")?.to_owned(),
        token: within(xml, "SessionToken").ok().map(str::to_owned),
    })
}

/// What stands in the first element of this name.
fn within<'a>(xml: &'a str, name: &str) -> Result<&'a str> {
    let start = xml.split_once(&format!("<{name}>")).map(|(_, rest)| rest);
    let text = start.and_then(|rest| rest.split_once("</")).map(|(text, _)| text);
    text.ok_or_else(|| format!("no {name} in: {xml}").into())
}

/// As a form has it (WHATWG URL, "application/x-www-form-urlencoded").
fn encoded(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    let one = |byte: u8| match plain(byte) {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}
