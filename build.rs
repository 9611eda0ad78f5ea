//! Reads the server headers of the distribution, so that the plugin ABI is the installed one's, and lists the
//! documents, which the command shows.

use std::path::{Path, PathBuf};
use std::process::{Command, exit};
use std::{env, fs};

const OVERRIDE: &str = "KEYWARD_MARIADB_INCLUDE";
const WRAPPER: &str = "include/mariadb.h";
/// Where the pages are that `keyward help` shows.
const DOCUMENTS: [&str; 2] = ["docs", "docs/providers"];

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={WRAPPER}");
    println!("cargo::rerun-if-env-changed={OVERRIDE}");
    for folder in DOCUMENTS {
        println!("cargo::rerun-if-changed={folder}");
    }
    if let Err(what) = mariadb_abi().and_then(|()| pages()) {
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

/// Writes `$OUT_DIR/pages.rs`: each page's topic, which is its file's name, and its text.
fn pages() -> Result<(), String> {
    let [out, root] = ["OUT_DIR", "CARGO_MANIFEST_DIR"].map(env::var_os);
    let (out, root) = (out.ok_or("no OUT_DIR")?, root.ok_or("no CARGO_MANIFEST_DIR")?);
    let mut pages = Vec::new();
    for folder in DOCUMENTS {
        let cannot = |cause| format!("cannot list {folder}: {cause}");
        for entry in fs::read_dir(folder).map_err(cannot)? {
            let path = Path::new(&root).join(entry.map_err(cannot)?.path());
            if let (Some("md"), Some(topic)) =
                (path.extension().and_then(|end| end.to_str()), path.file_stem())
            {
                pages.push(format!("Page {{ topic: {topic:?}, text: include_str!({path:?}) }}"));
            }
        }
    }
    pages.sort();
    let list = format!("&[{}]", pages.join(",\n"));
    fs::write(Path::new(&out).join("pages.rs"), list)
        .map_err(|cause| format!("cannot write the list of pages: {cause}"))
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
