//! From CBC to CTR while the server runs.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Instant;

use test_kit::{Result, ensure, seen};
use test_mariadb::Session;
use test_mariadb::rows::{Table, key_of, wait_for_version};

/// Some 50 MB, of a key that begins with CBC.
const TABLE: Table =
    Table { name: "cbc", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=4", rows: 150_000 };

#[test]
fn a_table_goes_from_cbc_to_ctr_while_it_is_read() -> Result<()> {
    let mut site = test_mariadb::Site::with_keyward("life-cipher")?;
    site.set("innodb_encrypt_tables = ON");
    site.keyward(&["keys", "create", "4", "--cipher", "aes-128-cbc"])?.ok()?;
    let server = site.start()?;
    TABLE.create(&server)?;
    ensure!(cipher_of(&site, "1")? == "aes-128-cbc", "key 4 is not CBC");
    server.write_pages()?;
    let over = AtomicBool::new(false);
    let (took, reads) = thread::scope(|scope| {
        let reader = scope.spawn(|| read(&server, &over));
        let since = Instant::now();
        let rotated = site
            .keyward(&["rotate", "4"])
            .and_then(test_kit::Answer::ok)
            .and_then(|_| wait_for_version(&server, "test/cbc", 3));
        let took = since.elapsed();
        over.store(true, Ordering::Relaxed);
        let reads = reader.join().map_err(|_| "the reader panicked")??;
        rotated.map(|()| (took, reads))
    })?;
    ensure!(cipher_of(&site, "3")? == "aes-256-ctr", "version 3 is not CTR");
    ensure!(key_of(&server, "test/cbc")? == (4, 3, 3), "not all pages are at version 3");
    TABLE.check(&server)?;
    server.stop()?;
    let server = site.start()?;
    TABLE.check(&server)?;
    server.stop()?;
    let size = std::fs::metadata(site.data().join("test/cbc.ibd"))?.len() >> 20;
    ensure!(reads > 10, "only {reads} reads went on meanwhile");
    seen!(
        "{size} MiB from aes-128-cbc to aes-256-ctr by one rotation in {} ms; {reads} reads of \
         1000 rows went on meanwhile, all of them right",
        took.as_millis()
    );
    Ok(())
}

/// Reads rows from all over the table until told to end; how many reads there were.
fn read(server: &test_mariadb::Server, over: &AtomicBool) -> Result<u32> {
    let mut session = Session::open(server)?;
    let mut reads = 0;
    while !over.load(Ordering::Relaxed) {
        let first = reads * 7919 % (TABLE.rows - 1000);
        let answer = session.ask(&format!(
            "SELECT COUNT(*), SUM(body <> CONCAT('Quarterly salaries of the whole board ',
                 REPEAT(MD5(id), 8))) FROM test.cbc WHERE id > {first} AND id <= {first} + 1000"
        ))?;
        ensure!(answer == "1000\t0", "rows from {first} on: {answer}");
        reads += 1;
    }
    Ok(reads)
}

/// What `keyward keys list` says of a version of key 4.
fn cipher_of(site: &test_mariadb::Site, version: &str) -> Result<String> {
    let list = site.keyward(&["keys", "list"])?.ok()?;
    let line = list
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>())
        .find(|words| words.first() == Some(&"4") && words.get(1) == Some(&version));
    let cipher = line.and_then(|words| words.into_iter().find(|word| word.starts_with("aes-")));
    cipher.map(str::to_owned).ok_or_else(|| format!("no version {version}:\n{list}").into())
}
