//! A real MariaDB that logs in by its pod's token, and goes on when the account is deleted.

use std::path::Path;
use std::time::{Duration, Instant};

use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create};
use test_mariadb::{Server, Site};

use crate::BELIEVED;
use crate::pod::{ACCOUNT, Pod};

const TABLES: &[Table] = &[Table { name: "one", options: "ENCRYPTED=YES", rows: 200 }];

const ROTATE: &str = "SET GLOBAL keyward_rotate_key = 1";

#[test]
fn a_server_outlives_its_account_and_follows_the_advice() -> Result<()> {
    let pod = Pod::new()?;
    pod.make_role(&["token_ttl=2s", "token_max_ttl=4s"])?;
    let site = init(&pod)?;
    let server = site.start()?;
    create(&server, TABLES)?;
    let doctor = site.keyward(&["doctor", "--socket", &text(server.socket())])?;
    ensure!(doctor.code == 3 && doctor.out.contains("all that are needed"), "{}", doctor.text());
    server.sql(ROTATE)?;
    pod.rotate()?;
    server.sql(ROTATE)?;
    pod.kubectl(&["delete", "serviceaccount", ACCOUNT])?;
    let said = until(&server, false)?;
    let who = format!("system:serviceaccount:{}:{ACCOUNT}", pod.namespace);
    ensure!(said.contains(&format!("does not accept the JWT of {who} for vault")), "{said}");
    check(&server, TABLES)?;
    let (degraded, safe) =
        (server.status("Keyward_degraded")?, server.status("Keyward_restart_safe")?);
    let reason = server.status("Keyward_restart_safe_reason")?;
    ensure!(safe == "no" && reason.contains(&who), "{safe}: {reason}");
    pod.world.show(&format!("degraded {degraded}, restart safe {safe}: {reason}"));
    server.stop()?;
    let refused = site.refusal()?;
    let line = refused.lines().find(|line| line.contains("ERROR") && line.contains("keyward"));
    let line = line.ok_or_else(|| format!("no line of keyward's:\n{refused}"))?;
    ensure!(line.contains(&who), "{line}");
    pod.world.show(&format!("a start: {line}"));
    back(&pod)?;
    let server = site.start()?;
    check(&server, TABLES)?;
    // The same while it runs.
    pod.kubectl(&["delete", "serviceaccount", ACCOUNT])?;
    until(&server, false)?;
    back(&pod)?;
    until(&server, true)?;
    ensure!(server.status("Keyward_restart_safe")? == "yes", "{}", server.log());
    check(&server, TABLES)?;
    ensure!(!server.log().contains(files::text(&pod.token_file())?.trim()), "a token shows");
    server.stop().map(drop)
}

/// The account and what is bound to it are made again.
fn back(pod: &Pod) -> Result<()> {
    pod.make_account()?;
    pod.delete_entry()?;
    pod.make_entry()?;
    pod.rotate().map(drop)
}

/// Rotates until that goes well, or does not; what was said last.
fn until(server: &Server, well: bool) -> Result<String> {
    let began = Instant::now();
    loop {
        let answer = server.try_sql(ROTATE)?;
        if (answer.code == 0) == well {
            seen!(
                "rotations {} after {:.1} s",
                if well { "work" } else { "fail" },
                began.elapsed().as_secs_f64()
            );
            return Ok(answer.err);
        }
        ensure!(began.elapsed() < BELIEVED, "after {BELIEVED:?}: {}", answer.text());
        std::thread::sleep(Duration::from_millis(500));
    }
}

/// A server's folder, as `keyward init` makes it for a pod.
fn init(pod: &Pod) -> Result<Site> {
    let mut site = Site::new("kubernetes")?;
    let vault = &pod.world.vault;
    let ca = site.path("etc/ca.pem");
    files::write(&ca, files::read(&vault.certificates().path("ca.pem"))?)?;
    let folder = text(&site.path("keyward"));
    let settings = [
        format!("address={}", vault.address()),
        format!("ca_file={}", text(&ca)),
        "auth=kubernetes".to_owned(),
        format!("role={}", pod.namespace),
        format!("key={}", pod.namespace),
        format!("jwt_file={}", text(&pod.token_file())),
        "timeout=5s".to_owned(),
    ];
    let mut words = vec!["init", "--dir", &folder, "--provider", "vault-transit"];
    words.extend(settings.iter().flat_map(|setting| ["--set", setting]));
    site.keyward(&words)?.ok()?;
    site.load_keyward();
    Ok(site)
}

fn text(path: &Path) -> String {
    path.display().to_string()
}
