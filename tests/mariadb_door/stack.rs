//! How deep the server's calls go: on the thread of a connection, as `INSTALL SONAME` and `SET` do.

use std::sync::Arc;

use keyward::assemble::{create_key_file, create_keystore};
use keyward::config::Config;
use keyward::env::fake::FakeLog;
use keyward::env::{Env, System};
use keyward::source::Reason;

use super::server::Server;

#[path = "../common/stack.rs"]
mod measure;

/// `keyward` with a keystore of keys 1 and 2.
fn with_keystore() -> Server {
    let server = Server::open("keyward");
    let at = |name: &str| server.folder.path().join(name);
    create_key_file(&at("local.key"), &System).unwrap();
    let (keystore, key) = (at("keystore.json"), at("local.key"));
    let text = format!(
        "[keystore]\npath = {keystore:?}\n[[provider]]\nname = \"local\"\ntype = \"local\"\nkey_file = {key:?}\n"
    );
    let config = server.write("keyward.toml", &text);
    let reason = Reason { actor: "test", text: "because" };
    let env = Env::system(Arc::new(FakeLog::default()));
    create_keystore(&Config::load(&config).unwrap(), reason, &env).unwrap();
    server.set_text("config", &config);
    server
}

#[test]
fn a_connection_keeps_most_of_its_stack() {
    let ((), taken) = measure::taken(|| {
        let server = with_keystore();
        assert_eq!(server.init(), 0);
        assert_eq!(server.set("rotate_key", -1), 0);
        assert_eq!(server.latest(1), 3);
        assert_eq!(server.latest(33), u32::MAX);
        assert_eq!(server.get_key(1, 1, 32).0, 0);
        assert!(!server.status().is_empty());
    });
    assert!(taken <= measure::MAY_TAKE, "{} KiB of the caller's stack", taken >> 10);
}
