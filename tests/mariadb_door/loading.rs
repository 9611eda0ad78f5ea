//! What the server finds in the file, and what is left when the plugin has ended.

use std::ffi::{c_int, c_void};
use std::path::Path;
use std::ptr;

use keyward::event::metrics::{METRICS, Metric, Renderer};

use super::abi::{FAILED, INVALID, Plugin};
use super::server::{Job, MESSAGES, Server, messages_with, text};

#[test]
fn declares_itself_by_file_name() {
    for (file, name) in [
        ("keyward", "keyward"),
        ("anything_else", "keyward"),
        ("file_key_management", "file_key_management"),
    ] {
        let server = Server::open(file);
        let size = unsafe { *server.symbol::<c_int>("_maria_sizeof_struct_st_plugin_") };
        assert_eq!(size as usize, size_of::<Plugin>());
        assert!(unsafe { *server.symbol::<c_int>("_maria_plugin_interface_version_") } >= 0x010d);
        let plugin = server.plugin();
        assert_eq!((plugin.kind, text(plugin.name).as_str()), (9, name));
        assert!(plugin.maturity >= 4, "a stable server refuses less than gamma");
        assert_eq!(text(plugin.version_info), env!("CARGO_PKG_VERSION"));
        let end = unsafe { &*ptr::from_ref(plugin).add(1) };
        assert!(end.kind == 0 && end.info.is_null(), "the list has no end");
        let f = server.functions();
        assert_eq!(f.interface_version, 0x0300);
        assert!(f.latest.is_some() && f.get_key.is_some());
        // All five or none: the server would fill a gap with its own cipher's.
        assert!(f.ctx_size.is_some() && f.init.is_some() && f.update.is_some());
        assert!(f.finish.is_some() && f.encrypted_length.is_some());
    }
}

#[test]
fn file_key_management_has_the_originals_variables() {
    let server = Server::open("file_key_management");
    let shape: Vec<_> =
        server.variables().into_iter().map(|v| unsafe { (text((*v).name), (*v).flags) }).collect();
    let expected = [
        ("encryption_algorithm", 0x0206),
        ("filekey", 0x0205),
        ("filename", 0x0205),
        ("digest", 0x0206),
        ("use_pbkdf2", 0x0282),
    ];
    assert_eq!(shape.len(), expected.len());
    for ((name, flags), expected) in shape.iter().zip(expected) {
        assert_eq!((name.as_str(), *flags), expected);
    }
}

#[test]
fn answers_before_init_are_legal() {
    let server = Server::open("keyward");
    assert_eq!(server.latest(1), INVALID);
    assert_eq!(server.get_key(1, 1, 32).0, INVALID);
    assert!(unsafe { server.functions().ctx_size.unwrap()(1, 1) } > 0);
    assert!(unsafe { server.functions().encrypted_length.unwrap()(100, 1, 1) } >= 112);
    assert_eq!(server.crypt(&Job::default(), b"text"), Err(FAILED));
    assert_eq!(server.set("rotate_key", 1), 1);
    assert!(server.status().is_empty());
    assert_eq!(server.deinit(), 0);
}

#[test]
fn a_failed_init_leaves_nothing_and_can_be_repeated() {
    let server = Server::open("file_key_management");
    server.set_text("filename", Path::new(""));
    assert_eq!(server.init(), 1);
    let told = messages_with("file-key-management-filename is not set");
    assert_eq!(told.len(), 1, "{told:?}");
    // Number 15 and ME_ERROR_LOG, as the original.
    assert_eq!((told[0].0, told[0].1), (15, 64));
    assert_eq!(server.latest(1), INVALID);
    server.set_text("filename", &server.write("good.txt", &format!("1;{}\n", "ab".repeat(16))));
    for _ in 0..3 {
        assert_eq!(server.init(), 0);
        assert_eq!(server.latest(1), 1);
        assert_eq!(server.deinit(), 0);
        assert_eq!(server.latest(1), INVALID);
    }
}

#[test]
fn an_open_plugin_cannot_be_loaded_under_a_second_name() {
    // The server checks the version behind this symbol at each load. While the plugin is open it
    // must find something else there; afterwards, the version again.
    let server = Server::open("file_key_management");
    let service: *mut *const c_void = server.symbol("my_print_error_service");
    let version = |service: *mut *const c_void| unsafe { *service }.addr();
    assert_eq!(server.init(), 1);
    assert_eq!(version(service), 0x0100);
    server.set_text("filename", &server.write("k.txt", &format!("1;{}\n", "ab".repeat(16))));
    unsafe { *service = (&raw const MESSAGES).cast() };
    assert_eq!(server.init(), 0);
    assert_ne!(version(service), 0x0100);
    server.deinit();
    assert_eq!(version(service), 0x0100);
}

#[test]
fn a_file_that_is_not_there_is_named_once() {
    let server = Server::open("file_key_management");
    server.set_text("filename", &server.folder.path().join("no\nsuch.txt"));
    assert_eq!(server.init(), 1);
    let told = messages_with("such.txt");
    let errors: Vec<_> = told.iter().filter(|(_, flags, _)| *flags == 64).collect();
    assert_eq!(errors.len(), 1, "{told:?}");
    assert!(!errors[0].2.contains('\n'), "a file's name can forge a line");
}

#[test]
fn status_has_numbers_for_collectors() {
    let server = Server::with_keys(0);
    let status = server.status();
    let value = |name: &str| {
        status.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str()).unwrap()
    };
    assert_eq!((value("state"), value("degraded"), value("degraded_since")), ("ok", "0", "0"));
    assert_eq!((value("keys"), value("key_versions"), value("rotations")), ("3", "3", "0"));
    assert_eq!(value("degraded_reason"), "");
}

#[test]
fn status_has_each_metric_of_the_table() {
    let status = Server::with_keys(0).status();
    let mut names: Vec<_> = status.iter().map(|(name, _)| name.as_str()).collect();
    let ours = METRICS.iter().filter(|metric| metric.shown_by.contains(&Renderer::MariaDb));
    let mut wanted: Vec<_> = ours.map(Metric::name).collect();
    names.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
}

#[test]
fn no_thread_is_left_behind() {
    // Other tests of this process open libraries too, so look at a process of its own.
    if std::env::var_os("KEYWARD_TEST_THREADS").is_none() {
        let done = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "loading::no_thread_is_left_behind", "--test-threads=1"])
            .env("KEYWARD_TEST_THREADS", "1")
            .status();
        assert!(done.unwrap().success());
        return;
    }
    let server = Server::with_keys(0);
    // A thread takes its name after it has started.
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while our_threads() == 0 && std::time::Instant::now() < until {
        std::thread::yield_now();
    }
    assert_eq!(our_threads(), 1, "the worker");
    server.deinit();
    assert_eq!(our_threads(), 0);
}

fn our_threads() -> usize {
    std::fs::read_dir("/proc/self/task")
        .unwrap()
        .filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok())
        .filter(|name| name.trim() == "keyward")
        .count()
}
