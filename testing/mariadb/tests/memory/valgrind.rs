//! valgrind over load, rotation and unload: no error and no leak of ours.

use std::fs;
use std::path::Path;

use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create};
use test_mariadb::{Launch, Server, Site};

const TABLES: &[Table] = &[
    Table { name: "one", options: "ENCRYPTED=YES", rows: 500 },
    Table {
        name: "three",
        options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=3 PAGE_COMPRESSED=1",
        rows: 500,
    },
];

#[test]
fn load_rotate_unload() -> Result<()> {
    let mut site = Site::with_keyward("valgrind")?;
    site.keyward(&["keys", "create", "3", "--cipher", "aes-128-cbc"])?.ok()?;
    site.encrypt_everything();
    let report = site.path("tmp/valgrind.xml");
    let server = site.launch(&under_valgrind(&report))?;
    library_is_watched(&server)?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL keyward_rotate_key = -1")?;
    site.keyward(&["rotate", "--all"])?.ok()?;
    test_mariadb::rows::wait_for_version(&server, "test/%", 5)?;
    server.sql_refused("SET GLOBAL keyward_rotate_key = 99")?;
    server.sql_refused("CREATE TABLE test.t (i INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=99")?;
    check(&server, TABLES)?;
    server.status("Keyward_generation")?;
    server.stop()?;
    judge(&report, "load, rotate, unload")
}

#[test]
fn a_failed_init() -> Result<()> {
    let mut site = Site::with_keyward("valgrind-failed")?;
    site.unset("keyward = FORCE");
    files::write(&site.key_file(), "no key at all")?;
    let report = site.path("tmp/valgrind.xml");
    let server = site.launch(&under_valgrind(&report))?;
    let log = server.log();
    ensure!(log.contains("local.key"), "the start was to fail on the wrapping key:\n{log}");
    server.stop()?;
    judge(&report, "a failed init")
}

fn under_valgrind(report: &Path) -> Launch {
    let words = [
        "valgrind",
        "--quiet",
        // Or a thread that spins keeps the others from the one lock under which valgrind runs them,
        // for minutes.
        "--fair-sched=yes",
        "--leak-check=full",
        // Still reachable is what the loader keeps for thread-local variables until the process ends;
        // what an unloaded library forgot is lost.
        "--show-leak-kinds=definite,indirect,possible",
        // Or the frames of an unloaded library would be nameless.
        "--keep-debuginfo=yes",
        "--num-callers=50",
        "--error-limit=no",
        "--xml=yes",
    ];
    let mut under: Vec<String> = words.map(str::to_owned).to_vec();
    under.push(format!("--xml-file={}", report.display()));
    // valgrind does not know io_uring and would wait for it for ever.
    Launch { under, ..Launch::with(["--innodb-use-native-aio=0"]) }
}

/// An error unless our library is in the process that valgrind watches.
fn library_is_watched(server: &Server) -> Result<()> {
    let maps = fs::read_to_string(format!("/proc/{}/maps", server.pid()?))?;
    ensure!(maps.contains("keyward.so"), "the library is not loaded");
    ensure!(maps.contains("vgpreload_memcheck"), "the server does not run under valgrind");
    Ok(())
}

/// An error if anything that valgrind found has a frame of ours.
fn judge(report: &Path, what: &str) -> Result<()> {
    let text = files::text(report)?;
    ensure!(text.trim_end().ends_with("</valgrindoutput>"), "valgrind did not come to its end");
    let errors: Vec<&str> = text.split("<error>").skip(1).collect();
    let ours: Vec<&&str> = errors.iter().filter(|error| error.contains("keyward.so")).collect();
    seen!(
        "valgrind, {what}: {} findings in all, {} with a frame of ours",
        errors.len(),
        ours.len()
    );
    ensure!(ours.is_empty(), "{}", ours.iter().map(|error| readable(error)).collect::<String>());
    Ok(())
}

/// Kind and frames of a finding.
fn readable(error: &str) -> String {
    let between = |line: &str, tag: &str| {
        let (_, rest) = line.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once(&format!("</{tag}>"))?.0.to_owned())
    };
    let mut text = String::new();
    for line in error.lines() {
        for tag in ["kind", "text", "fn"] {
            if let Some(value) = between(line, tag) {
                text += &format!("{}{value}\n", if tag == "fn" { "    " } else { "" });
            }
        }
    }
    text
}
