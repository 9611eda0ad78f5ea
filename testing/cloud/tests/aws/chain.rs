//! Where credentials come from.

use std::sync::Mutex;

use keyward::provider::KeyWrapper;
use test_cloud::{FakeAws, REGION, Reply, Shared};
use test_kit::account::give_to_server;
use test_kit::command::answer;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::Site;

use crate::{Told as _, context, file, new_key, settings, soon, wrapper};

/// When the role's credentials end: no test runs so long.
const EXPIRATION: &str = "2099-01-01T00:00:00Z";

#[test]
fn the_role_of_an_instance_by_version_2_of_its_metadata() -> Result<()> {
    let shared = Shared::get()?;
    let key = shared.localstack.new_key(REGION)?;
    let metadata = instance("ASIAROLEONE")?;
    let kms = FakeAws::before(shared.localstack.address())?;
    let mut settings = settings(&shared, &key, &kms.url())?;
    let config = format!("[default]\nec2_metadata_service_endpoint = {}\n", metadata.url());
    settings.config_file = Some(file(&shared, &config)?);
    settings.credentials_file = Some(file(&shared, "")?);
    let provider = wrapper(settings);
    let data = new_key()?;
    let wrapped = provider.wrap(&data, &context(), soon()).told()?;
    let opened = provider.unwrap(&wrapped, &context(), soon()).told()?;
    ensure!(opened.check_value() == data.check_value(), "another key");
    let asked = metadata.seen();
    ensure!(asked.iter().any(|request| request.method == "PUT"), "no session was asked for");
    for request in kms.seen() {
        let signed = request.header("authorization");
        ensure!(signed.contains("Credential=ASIAROLEONE/"), "signed by somebody else: {signed}");
        ensure!(request.header("x-amz-security-token") == "the role's token", "no token");
    }
    seen!("IMDSv2: {} requests to the instance's metadata for two operations", asked.len());
    Ok(())
}

/// The metadata of an instance that has a role; who asks without a session's token is refused, as
/// where version 1 is switched off.
fn instance(access_key: &'static str) -> Result<FakeAws> {
    let role = "/latest/meta-data/iam/security-credentials";
    FakeAws::start(move |request| {
        let with_token = request.header("x-aws-ec2-metadata-token") == "session";
        let path = request.path.trim_end_matches('/');
        Ok(match (request.method.as_str(), path) {
            ("PUT", "/latest/api/token") => Reply::ok("session"),
            _ if !with_token => Reply { status: 401, body: Vec::new() },
            ("GET", path) if path.starts_with(&format!("{role}/")) => Reply::ok(format!(
                "{{\"Code\": \"Success\", \"Type\": \"AWS-HMAC\", \"AccessKeyId\": \"{access_key}\",
                 \"SecretAccessKey\": \"secret\", \"Token\": \"the role's token\",
                 \"LastUpdated\": \"2026-01-01T00:00:00Z\", \"Expiration\": \"{EXPIRATION}\"}}"
            )),
            ("GET", path) if path == role => Reply::ok("keyward-role"),
            _ => Reply { status: 404, body: Vec::new() },
        })
    })
}

#[test]
fn a_profile_of_the_credentials_file() -> Result<()> {
    let shared = Shared::get()?;
    let key = shared.localstack.new_key(REGION)?;
    let kms = FakeAws::before(shared.localstack.address())?;
    let mut settings = settings(&shared, &key, &kms.url())?;
    let profile = |name: &str, key: &str| {
        format!("[{name}]\naws_access_key_id = {key}\naws_secret_access_key = secret\n")
    };
    let both = profile("default", "AKIDDEFAULT") + &profile("db", "AKIDDB");
    settings.credentials_file = Some(file(&shared, &both)?);
    settings.profile = Some("db".into());
    wrapper(settings).wrap(&new_key()?, &context(), soon()).told()?;
    let signed = kms.seen().first().map(|request| request.header("authorization").to_owned());
    ensure!(signed.is_some_and(|signed| signed.contains("Credential=AKIDDB/")), "another profile");
    Ok(())
}

#[test]
fn credentials_that_were_renewed_are_taken_up() -> Result<()> {
    let shared = Shared::get()?;
    let key = shared.localstack.new_key(REGION)?;
    let address = shared.localstack.address();
    let expired = Mutex::new(true);
    let kms = FakeAws::start(move |request| {
        let mut expired = expired.lock().map_err(|_| "broken off")?;
        *expired = !request.header("authorization").contains("AKIDNEW");
        if *expired {
            Ok(Reply::error(400, "ExpiredTokenException"))
        } else {
            request.send(address)
        }
    })?;
    let mut settings = settings(&shared, &key, &kms.url())?;
    let text = |key: &str| {
        format!(
            "[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n"
        )
    };
    let path = file(&shared, &text("AKIDOLD"))?;
    settings.credentials_file = Some(path.clone());
    let provider = wrapper(settings);
    ensure!(
        provider.wrap(&new_key()?, &context(), soon()).is_err(),
        "an expired token went through"
    );
    files::write(&path, text("AKIDNEW"))?;
    provider.wrap(&new_key()?, &context(), soon()).told()?;
    Ok(())
}

/// The variables that the command is given, on top of none of AWS's.
type Environment = Vec<(&'static str, String)>;

#[test]
fn variables_a_container_and_a_web_identity() -> Result<()> {
    let shared = Shared::get()?;
    let container = FakeAws::start(|request| {
        Ok(match request.header("authorization") {
            "let me in" => Reply::ok(format!(
                "{{\"AccessKeyId\": \"ASIACONTAINER\", \"SecretAccessKey\": \"secret\",
                 \"Token\": \"t\", \"Expiration\": \"{EXPIRATION}\"}}"
            )),
            _ => Reply { status: 401, body: Vec::new() },
        })
    })?;
    let variables = vec![
        ("AWS_ACCESS_KEY_ID", "AKIDVARIABLE".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "secret".to_owned()),
    ];
    ensure!(signer(&shared, "variables", |_| Ok(variables))? == "AKIDVARIABLE", "variables");
    let variables = vec![
        ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.url()),
        ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "let me in".to_owned()),
    ];
    ensure!(signer(&shared, "container", |_| Ok(variables))? == "ASIACONTAINER", "container");
    let web = signer(&shared, "web-identity", |site| {
        let token = site.path("etc/token");
        files::write(&token, "a token of the cluster's")?;
        give_to_server(&token)?;
        Ok(vec![
            ("AWS_WEB_IDENTITY_TOKEN_FILE", token.display().to_string()),
            ("AWS_ROLE_ARN", "arn:aws:iam::000000000000:role/keyward".to_owned()),
            ("AWS_ENDPOINT_URL_STS", shared.localstack.url()),
        ])
    })?;
    // LocalStack's STS gives ids that begin with LSIA where AWS's begin with ASIA.
    ensure!(web.starts_with("LSIA") || web.starts_with("ASIA"), "web identity: {web}");
    seen!("credentials from variables, a container and a web identity ({web})");
    Ok(())
}

/// Who signed the first request to KMS, when `keyward init` runs with these variables. As the server's
/// account: run by root, that one has a HOME of its own.
fn signer(
    shared: &Shared,
    name: &str,
    variables: impl FnOnce(&Site) -> Result<Environment>,
) -> Result<String> {
    let site = Site::new(&format!("aws-{name}"))?;
    let kms = FakeAws::before(shared.localstack.address())?;
    std::fs::create_dir(site.path("made"))?;
    give_to_server(&site.path("made"))?;
    let folder = site.path("made/keyward").display().to_string();
    let key = format!("key={}", shared.localstack.new_key(REGION)?);
    let endpoint = format!("endpoint={}", kms.url());
    let words =
        ["init", "--dir", &folder, "--provider", "aws-kms", "--set", &key, "--set", &endpoint];
    let mut command = site.keyward_command_as_server(&words);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("AWS_")) {
        command.env_remove(name);
    }
    answer(command.env("HOME", "/nonexistent").envs(variables(&site)?))?.ok()?;
    let seen = kms.seen();
    let signed = seen.first().ok_or("KMS was not called")?.header("authorization");
    let id = signed.split("Credential=").nth(1).and_then(|rest| rest.split('/').next());
    Ok(id.ok_or_else(|| format!("signed by nobody: {signed}"))?.to_owned())
}

/// `sso login` of the session `corp` left its token in a file of that name's SHA-1.
const SSO_TOKEN: &str = ".aws/sso/cache/ee0bfd2552fbd840c02cc48b6e823320543c450f.json";

#[test]
fn a_profile_of_a_single_sign_on_by_the_token_that_its_login_left() -> Result<()> {
    let shared = Shared::get()?;
    let portal = FakeAws::start(|request| {
        let path = "/federation/credentials?role_name=Database&account_id=111122223333";
        let wanted = request.path == path;
        Ok(match request.header("x-amz-sso_bearer_token") {
            "the session's token" if wanted => Reply::ok(
                "{\"roleCredentials\": {\"accessKeyId\": \"ASIASSO\", \"secretAccessKey\": \"secret\",
                 \"sessionToken\": \"t\", \"expiration\": 4070908800000}}",
            ),
            _ => Reply { status: 401, body: Vec::new() },
        })
    })?;
    let signed = signer(&shared, "sso", |site| {
        let config = site.path("etc/aws-config");
        let text = "[profile db]\nsso_session = corp\nsso_account_id = 111122223333\n\
            sso_role_name = Database\n[sso-session corp]\nsso_region = eu-central-1\n\
            sso_start_url = https://corp.awsapps.com/start\n";
        files::write(&config, text)?;
        let token = site.path("etc").join(SSO_TOKEN);
        std::fs::create_dir_all(token.parent().unwrap_or(&token))?;
        let text = format!(
            "{{\"accessToken\": \"the session's token\", \"expiresAt\": \"{EXPIRATION}\",
             \"region\": \"eu-central-1\", \"startUrl\": \"https://corp.awsapps.com/start\"}}"
        );
        files::write(&token, text)?;
        give_to_server(&site.path("etc"))?;
        Ok(vec![
            ("HOME", site.path("etc").display().to_string()),
            ("AWS_CONFIG_FILE", config.display().to_string()),
            ("AWS_PROFILE", "db".to_owned()),
            ("AWS_ENDPOINT_URL_SSO", portal.url()),
        ])
    })?;
    ensure!(signed == "ASIASSO", "single sign-on: {signed}");
    seen!("single sign-on: {} request(s) to the portal, signed by {signed}", portal.seen().len());
    Ok(())
}
