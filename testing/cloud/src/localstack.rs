//! A running LocalStack.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use test_kit::command::answer;
use test_kit::{Process, Result, Scratch, files};

use crate::http::Request;
use crate::python;

/// The region that tests use where it does not matter.
pub const REGION: &str = "eu-central-1";

/// How long it may take to be ready on a busy machine: the first one compiles its Python.
const PATIENCE: Duration = Duration::from_secs(180);

const TICK: Duration = Duration::from_millis(100);

/// A LocalStack with KMS, STS and IAM, in memory; it ends with this value.
pub struct LocalStack {
    child: Child,
    address: SocketAddr,
    scratch: Scratch,
}

impl LocalStack {
    /// Starts one that has no keys.
    pub fn start() -> Result<Self> {
        let python = python().ok_or("there is no LocalStack; `cargo xtask setup` installs it")?;
        let scratch = Scratch::new("localstack")?;
        let home = scratch.path().join("home");
        fs::create_dir(&home)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let log = File::create(scratch.path().join("localstack.log"))?;
        let mut command = Process::command(python);
        command.args(["-m", "localstack.runtime.main"]);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", &home).env("TMPDIR", &home).env("SERVICES", "kms,sts,iam");
        command.env("GATEWAY_LISTEN", address.to_string()).env("STRICT_SERVICE_LOADING", "1");
        command.env("DISABLE_EVENTS", "1").env("SKIP_SSL_CERT_DOWNLOAD", "1");
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&home);
        let localstack = Self { child: command.spawn()?, address, scratch };
        let since = Instant::now();
        while let Err(error) = localstack.kms(REGION, "ListKeys", &json!({})) {
            if since.elapsed() > PATIENCE {
                return Err(format!("LocalStack: {error}\n{}", localstack.log()).into());
            }
            sleep(TICK);
        }
        Ok(localstack)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Asks KMS in `region` to do `action`, as an administrator.
    pub fn kms(&self, region: &str, action: &str, body: &Value) -> Result<Value> {
        let scope = format!("Credential=admin/20260101/{region}/kms/aws4_request");
        let headers = [
            ("x-amz-target", format!("TrentService.{action}")),
            ("content-type", "application/x-amz-json-1.1".to_owned()),
            ("authorization", format!("AWS4-HMAC-SHA256 {scope}, SignedHeaders=host, Signature=0")),
        ];
        let request = Request {
            method: "POST".into(),
            path: "/".into(),
            headers: headers.map(|(name, value)| (name.to_owned(), value)).into(),
            body: body.to_string().into_bytes(),
        };
        let reply = request.send(self.address)?;
        let text = String::from_utf8_lossy(&reply.body).into_owned();
        if reply.status != 200 {
            return Err(format!("{action}: status {}: {text}", reply.status).into());
        }
        if text.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&text).map_err(|error| format!("{error} in: {text}").into())
    }

    /// Makes a key in `region` and gives its ARN.
    pub fn new_key(&self, region: &str) -> Result<String> {
        let made = self.kms(region, "CreateKey", &json!({}))?;
        Ok(made["KeyMetadata"]["Arn"].as_str().ok_or("a key without an ARN")?.to_owned())
    }

    /// Runs a script in its Python, which has the vendor's SDK (boto3), with these arguments.
    pub fn python(&self, script: &str, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(python().ok_or("there is no Python")?);
        command.args(["-c", script]).args(arguments).env("HOME", self.scratch.path());
        command.env("AWS_ACCESS_KEY_ID", "boto").env("AWS_SECRET_ACCESS_KEY", "boto");
        command.env("AWS_DEFAULT_REGION", REGION).env("AWS_ENDPOINT_URL", self.url());
        answer(&mut command)?.ok()
    }

    /// A place in its folder.
    #[must_use]
    pub fn path(&self, within: &str) -> PathBuf {
        self.scratch.path().join(within)
    }

    /// What it has logged.
    #[must_use]
    pub fn log(&self) -> String {
        files::text(&self.path("localstack.log")).unwrap_or_default()
    }
}

impl Drop for LocalStack {
    fn drop(&mut self) {
        if let Err(error) = self.child.kill().and_then(|()| self.child.wait()) {
            eprintln!("LocalStack: {error}");
        }
    }
}
