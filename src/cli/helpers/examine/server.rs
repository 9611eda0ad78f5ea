//! What a running MariaDB says: its plugin, its options of encryption, its memory and its next start.

#![forbid(unsafe_code)]

use super::catalogue::{
    ENCRYPT_ARIA, ENCRYPT_BINLOG, ENCRYPT_LOG, ENCRYPT_TABLES, ENCRYPT_TEMPORARY,
    ENCRYPTION_THREADS, INNODB_BINLOG, LIBRARY, LOAD_OPTION, MEMORY, PLUGIN, RESTART,
    ROTATE_KEY_AGE, TORN_PAGES,
};
use super::findings::Findings;
use crate::cli::helpers::print::Mark;
use crate::cli::helpers::running::Running;

pub(super) fn check(findings: &mut Findings, server: &Running) {
    if plugin(findings, server) {
        library(findings, server.status("version"), server.status("library_replaced") == Some("1"));
        if let Some(locked) = server.status("memory_locked") {
            memory(findings, locked == "1");
        }
        if let Some(safe) = server.status("restart_safe") {
            restart(findings, safe, server.status("restart_safe_reason").unwrap_or_default());
        }
    }
    options(findings, server);
}

/// Whether the server has its keys from us, and in such a way that it does not start without them.
fn plugin(findings: &mut Findings, server: &Running) -> bool {
    let (ours, others): (Vec<_>, Vec<_>) = server.plugins.iter().partition(|one| one.is_ours);
    for other in others.iter().filter(|other| other.status == "ACTIVE") {
        let what =
            format!("server: plugin {} is active, and has its keys from elsewhere", other.name);
        let advice =
            "take it out of the option files and restart; its keys come with keyward import";
        findings.fail(&PLUGIN, what, advice);
    }
    let Some(plugin) = ours.first() else {
        let advice = "add plugin_load_add = keyward to my.cnf and restart";
        findings.fail(&PLUGIN, "server: plugin keyward is not loaded", advice);
        return false;
    };
    let name = &plugin.name;
    if plugin.status != "ACTIVE" {
        let what = format!("server: plugin {name} is {}", plugin.status);
        findings.fail(&PLUGIN, what, "see the server's error log");
        return false;
    }
    findings.ok(&PLUGIN, format!("server: plugin {name} is active"));
    findings.option(
        &LOAD_OPTION,
        plugin.load_option == "FORCE_PLUS_PERMANENT",
        &format!("server: {name} = {}", plugin.load_option),
        &format!(
            "{name} = FORCE_PLUS_PERMANENT, or a server whose keys failed starts without its tables"
        ),
    );
    true
}

/// The options by which a server encrypts what it writes.
fn options(findings: &mut Findings, server: &Running) {
    // What an older or newer server does not have is not asked for.
    let mut option = |check, name: &str, good: fn(&str) -> bool, advice: &str| {
        if let Some(value) = server.variable(name) {
            findings.option(check, good(value), &format!("server: {name} = {value}"), advice);
        }
    };
    let is_some_number = |value: &str| value.parse::<u64>().is_ok_and(|number| number > 0);
    let is_on = |value: &str| value != "OFF" && value != "0";
    option(
        &ENCRYPTION_THREADS,
        "innodb_encryption_threads",
        is_some_number,
        "innodb_encryption_threads = 4, or no page is ever re-encrypted",
    );
    option(
        &ENCRYPT_TABLES,
        "innodb_encrypt_tables",
        is_on,
        "innodb_encrypt_tables = ON, or no page is ever re-encrypted, of no table",
    );
    option(
        &ROTATE_KEY_AGE,
        "innodb_encryption_rotate_key_age",
        is_some_number,
        "innodb_encryption_rotate_key_age = 1, or a rotation moves no page",
    );
    option(
        &ENCRYPT_LOG,
        "innodb_encrypt_log",
        is_on,
        "innodb_encrypt_log = ON and restart, or changed rows stand in the clear in the redo log",
    );
    option(
        &ENCRYPT_ARIA,
        "aria_encrypt_tables",
        is_on,
        "aria_encrypt_tables = ON, or accounts and temporary results stand in the clear in Aria's files",
    );
    for name in ["encrypt_tmp_disk_tables", "encrypt_tmp_files"] {
        let advice =
            format!("{name} = ON, or what is sorted and joined stands in the clear on disk");
        option(&ENCRYPT_TEMPORARY, name, is_on, &advice);
    }
    option(
        &TORN_PAGES,
        "innodb_doublewrite",
        is_on,
        "innodb_doublewrite = ON, unless the file system never tears a page: half a page cannot be decrypted",
    );
    binary_log(findings, server);
}

fn binary_log(findings: &mut Findings, server: &Running) {
    if server.variable("log_bin") != Some("ON") {
        return;
    }
    if server
        .variable("binlog_storage_engine")
        .is_some_and(|engine| engine.eq_ignore_ascii_case("innodb"))
    {
        let what = "server: the binary log is kept in InnoDB, which does not encrypt it";
        return findings.warn(&INNODB_BINLOG, what, "leave binlog_storage_engine out, and restart");
    }
    let value = server.variable("encrypt_binlog").unwrap_or_default();
    findings.option(
        &ENCRYPT_BINLOG,
        value == "ON",
        &format!("server: encrypt_binlog = {value}"),
        "encrypt_binlog = ON and restart, or changed rows stand in the clear in the binary log",
    );
}

/// Whether the server runs the library of `version`, which may be older than the installed one.
pub(super) fn library(findings: &mut Findings, version: Option<&str>, is_replaced: bool) {
    let what = match (is_replaced, version == Some(env!("CARGO_PKG_VERSION"))) {
        (false, true) => return,
        (true, _) => "the file of its library was replaced or removed",
        (false, false) => concat!("this command is of keyward ", env!("CARGO_PKG_VERSION")),
    };
    let version = version.unwrap_or("of an unknown version");
    let what = format!("server: it runs keyward {version}, and {what}");
    let advice = "the server goes on as before; a restart loads the library that is installed \
                  then: if there is none, install it first";
    findings.warn(&LIBRARY, what, advice);
}

/// Whether the server has locked the memory in which it keeps keys.
pub(super) fn memory(findings: &mut Findings, is_locked: bool) {
    match is_locked {
        true => findings.ok(&MEMORY, "server: the memory with its keys is locked"),
        false => {
            let what = "server: some of the memory with its keys is not locked, and may reach swap";
            let advice = "raise LimitMEMLOCK in its unit (ulimit -l), then restart it";
            findings.warn(&MEMORY, what, advice);
        }
    }
}

/// What the running server knows of its next start.
fn restart(findings: &mut Findings, safe: &str, reason: &str) {
    let (mark, what) = match safe {
        "yes" => (Mark::Ok, "a restart would succeed"),
        "no" => (Mark::Failed, "a restart would fail"),
        _ => (Mark::Skipped, "whether a restart would succeed is unknown"),
    };
    let what = if reason.is_empty() { what.to_owned() } else { format!("{what}: {reason}") };
    let advice = "once that is put right, SET GLOBAL keyward_refresh = ON checks again";
    let advice = (mark == Mark::Failed).then_some(advice);
    findings.add(&RESTART, mark, format!("server: {what}"), advice);
}
