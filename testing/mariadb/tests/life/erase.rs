//! A key erased on a real server, after two people have approved: what it encrypts is unreadable, and nothing
//! else.

use std::path::Path;

use test_kit::{Answer, Result, ensure, files, seen};
use test_mariadb::approvers::{self, APPROVERS};
use test_mariadb::rows::{Table, check, create, wait_for_version};
use test_mariadb::{Server, Site};

use crate::text;

const ERASED: &[Table] = &[
    Table { name: "customers", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=7", rows: 2000 },
    Table {
        name: "orders",
        options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=7 PAGE_COMPRESSED=1",
        rows: 500,
    },
];

const OTHERS: &[Table] = &[
    Table { name: "neighbours", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3", rows: 2000 },
    Table { name: "standard", options: "", rows: 500 },
];

/// How the command ends while approvals are missing.
const WAITS: i32 = 75;

#[test]
fn what_a_key_encrypts_goes_and_nothing_else() -> Result<()> {
    let mut site = Site::with_keyward("life-erase")?;
    site.keyward(&["keys", "create", "3"])?.ok()?;
    site.keyward(&["keys", "create", "7"])?.ok()?;
    site.encrypt_everything();
    let server = site.start()?;
    create(&server, ERASED)?;
    create(&server, OTHERS)?;
    site.keyward(&["rotate", "7"])?.ok()?;
    wait_for_version(&server, "test/customers", 3)?;
    server.write_pages()?;
    set_recipient(&site)?;
    approvers::set(&site.path("tmp"), |words| site.keyward(words))?;
    site.keyward(&["keystore", "backup", "--to", &text(&site.path("keys.age"))])?.ok()?;

    // A table that comes after the list was read is not on it.
    let before = shown(&site)?;
    let late = Table { name: "late", options: ERASED[0].options, rows: 10 };
    late.create(&server)?;
    server.write_pages()?;
    let refused = erase(&site, &["--confirm", &confirm(&before)?])?;
    ensure!(refused.code == 1, "{}", refused.text());
    ensure!(refused.text().contains("is not what was confirmed"), "{}", refused.text());

    let list = shown(&site)?;
    for name in ["customers", "orders", "late"] {
        ensure!(list.contains(&format!("/test/{name}.ibd\n")), "{name} is not on it:\n{list}");
    }
    let named = list.matches(".ibd\n").count();
    ensure!(named == 3 && !list.contains("ib_logfile0\n"), "{named} files are on it:\n{list}");
    ensure!(list.contains("backup made ") && !list.contains("may need it"), "{list}");

    let confirmed = confirm(&list)?;
    approved(&site, &confirmed)?;
    let erased = erase(&site, &["--confirm", &confirmed])?.ok()?;
    ensure!(erased.starts_with("all 2 versions of key 7 are destroyed\n"), "{erased}");

    // Until its restart the server has the key in memory.
    check(&server, ERASED)?;
    check(&server, OTHERS)?;
    server.sql("SET GLOBAL keyward_rotate_key = 3")?;
    server.stop()?;
    let server = site.start()?;
    check(&server, OTHERS)?;
    let said = unreadable(&server)?;
    let inspected = site.keyward(&["inspect", &text(&site.data().join("test"))])?;
    ensure!(inspected.text().contains("destroyed"), "{}", inspected.text());
    // The dead tables can be dropped, and the server goes on without a word about the key.
    server.sql("DROP TABLE test.customers, test.orders, test.late")?;
    server.stop()?;
    let server = site.start()?;
    check(&server, OTHERS)?;
    ensure!(server.status("Keyward_state")? == "ok", "{}", server.log());
    server.stop()?;
    seen!("3 tables of key 7 erased, 2 of other keys whole; of the first the server says: {said}");
    Ok(())
}

/// What `keys erase` shows without a confirmation.
fn shown(site: &Site) -> Result<String> {
    let shown = erase(site, &[])?.ok()?;
    ensure!(shown.contains("nothing was changed"), "{shown}");
    Ok(shown)
}

fn erase(site: &Site, more: &[&str]) -> Result<Answer> {
    let data = text(&site.data());
    site.keyward(&[&["keys", "erase", "7", "--datadir", &data], more].concat())
}

/// The word at the end of what was shown.
fn confirm(shown: &str) -> Result<String> {
    let word = shown.trim_end().rsplit(' ').next().unwrap_or_default();
    ensure!(word.starts_with("erase-7-"), "{shown}");
    Ok(word.to_owned())
}

/// None of the erased tables can be read; what the server says of the first.
fn unreadable(server: &Server) -> Result<String> {
    let mut said = String::new();
    for Table { name, .. } in ERASED.iter().rev() {
        said = server.sql_refused(&format!("SELECT COUNT(body) FROM test.{name}"))?;
    }
    Ok(said.trim().to_owned())
}

/// Gives backups a recipient, whoever that is.
fn set_recipient(site: &Site) -> Result<()> {
    let made = site.keyward(&["keystore", "backup", "--identity", &text(&site.path("id.age"))])?;
    ensure!(made.code == 0, "{}", made.text());
    let made = made.text();
    let recipient = made.split_whitespace().find(|word| word.starts_with("age1pq1"));
    let recipient = recipient.ok_or("no recipient")?;
    site.keyward(&["keystore", "backup", "--add-recipient", recipient])?.ok().map(drop)
}

/// Asks, and has both sign what is asked.
fn approved(site: &Site, confirmed: &str) -> Result<()> {
    let asked = erase(site, &["--confirm", confirmed])?;
    ensure!(asked.code == WAITS, "{}", asked.text());
    let waiting = site.keyward(&["--json", "approve"])?.ok()?;
    let waiting: serde_json::Value =
        serde_json::from_str(&waiting).map_err(|error| format!("{error}: {waiting}"))?;
    let field = |name: &str| waiting[0][name].as_str().map(str::to_owned).ok_or("no request");
    let (id, file) = (field("id")?, field("file")?);
    let request = files::text(Path::new(&file))?;
    ensure!(request.contains("/test/late.ibd\n"), "{request}");
    let mut words = vec!["approve".to_owned(), id];
    for name in APPROVERS {
        words.push(text(&approvers::sign(&site.path("tmp"), name, Path::new(&file))?));
    }
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let taken = site.keyward(&words)?.ok()?;
    ensure!(taken.contains("has its 2 approvals"), "{taken}");
    Ok(())
}
