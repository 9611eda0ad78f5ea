//! Reads the server headers of the distribution, so that the plugin ABI is the installed one's.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

const OVERRIDE: &str = "KEYWARD_MARIADB_INCLUDE";
const WRAPPER: &str = "include/mariadb.h";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={WRAPPER}");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    if let Err(what) = mariadb_abi() {
        println!("cargo::error={what}");
        exit(1);
    }
}

/// Writes `$OUT_DIR/mariadb.rs`.
fn mariadb_abi() -> Result<(), String> {
    let headers = server_headers()?;
    println!("cargo::rerun-if-changed={}", headers.join("mysql/plugin.h").display());
    let out = env::var_os("OUT_DIR").ok_or("cargo has not set OUT_DIR")?;
    bindgen::Builder::default()
        .header(WRAPPER)
        .clang_arg(format!("-I{}", headers.display()))
        .allowlist_type(
            "st_maria_plugin|st_mariadb_encryption|st_mysql_show_var|st_mysql_value|\
             enum_mysql_show_type|enum_var_type|my_print_error_service_st|keyward_sysvar_.*",
        )
        .allowlist_var(
            "MARIA_PLUGIN_INTERFACE_VERSION|MariaDB_ENCRYPTION_.*|MariaDB_PLUGIN_MATURITY_.*|\
             PLUGIN_(VAR|LICENSE)_.*|ENCRYPTION_.*|ME_.*|MY_AES_.*|MYSQL_VALUE_TYPE_.*",
        )
        // These hold a union or a function that only a C compiler needs.
        .opaque_type("THD")
        .prepend_enum_name(false)
        .derive_debug(false)
        .layout_tests(false)
        .generate_comments(false)
        .generate()
        .map_err(|cause| {
            format!("cannot read the server headers in {}: {cause}", headers.display())
        })?
        .write_to_file(Path::new(&out).join("mariadb.rs"))
        .map_err(|cause| format!("cannot write the bindings: {cause}"))
}

/// The folder that holds `mysql/plugin_encryption.h` of the server (not of the client library).
fn server_headers() -> Result<PathBuf, String> {
    if let Some(given) = env::var_os(OVERRIDE) {
        return server_part(Path::new(&given)).ok_or_else(|| {
            format!("{OVERRIDE}={} has no mysql/plugin_encryption.h", given.display())
        });
    }
    include_folders().iter().find_map(|folder| server_part(folder)).ok_or_else(|| {
        format!(
            "no MariaDB server headers (mysql/plugin_encryption.h) found; install them \
             (Debian and Ubuntu: apt install libmariadbd-dev; Fedora: dnf install mariadb-devel) \
             or name their folder in {OVERRIDE}"
        )
    })
}

fn server_part(folder: &Path) -> Option<PathBuf> {
    [folder.join("server"), folder.to_path_buf()]
        .into_iter()
        .find(|folder| folder.join("mysql/plugin_encryption.h").is_file())
}

/// Where the installed tools say that MariaDB's headers are, then where they usually are.
fn include_folders() -> Vec<PathBuf> {
    let asked = [
        ("mariadb_config", &["--include"][..]),
        ("pkg-config", &["--cflags-only-I", "mariadb"][..]),
        ("mysql_config", &["--include"][..]),
    ];
    let mut folders = Vec::new();
    for (tool, arguments) in asked {
        // A tool that is not there is no error: another one may be.
        let Ok(answer) = Command::new(tool).args(arguments).output() else { continue };
        let flags = String::from_utf8_lossy(&answer.stdout).into_owned();
        folders.extend(
            flags.split_whitespace().filter_map(|f| f.strip_prefix("-I")).map(PathBuf::from),
        );
    }
    folders.extend(["/usr/include/mariadb", "/usr/include/mysql"].map(PathBuf::from));
    folders
}
