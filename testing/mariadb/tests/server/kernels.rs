//! The page cipher's kernels on a real server: forced by name, they read each other's pages.

use keyward::cipher::Kernel;
use test_kit::{Result, ensure, seen};
use test_mariadb::rows::{self, Table};
use test_mariadb::server::Refusal;
use test_mariadb::{Launch, Server, Site};

use crate::site;

const TABLES: &[Table] = &[
    Table { name: "plain", options: "ENCRYPTED=YES", rows: 500 },
    Table { name: "packed", options: "ENCRYPTED=YES ROW_FORMAT=COMPRESSED", rows: 500 },
];

#[test]
fn each_kernel_reads_the_pages_of_the_others() -> Result<()> {
    let site = site("kernels")?;
    let kernels: Vec<Kernel> =
        Kernel::NAMES.iter().filter_map(|name| Kernel::named(name)).collect();
    for name in Kernel::NAMES.iter().filter(|name| Kernel::named(name).is_none()) {
        seen!("kernel {name}: not run, this CPU has not the instructions");
    }
    for writer in &kernels {
        let server = with_kernel(&site, writer.name())?;
        ensure!(server.status("Keyward_cipher_kernel")? == writer.name(), "another kernel runs");
        rows::create(&server, TABLES)?;
        server.stop()?;
        for reader in &kernels {
            let server = with_kernel(&site, reader.name())?;
            rows::check(&server, TABLES)?;
            server.stop()?;
        }
        let server = with_kernel(&site, writer.name())?;
        server.sql("DROP TABLE test.plain, test.packed")?;
        server.stop()?;
        seen!("pages written with kernel {writer}: read with {kernels:?}");
    }
    Ok(())
}

#[test]
fn an_unknown_kernel_is_named_with_those_there_are() -> Result<()> {
    let site = site("no-kernel")?;
    let Err(refusal) = with_kernel(&site, "vaes") else {
        return Err("the server started with a kernel that does not exist".into());
    };
    let line = refusal.log.lines().find(|line| line.contains("KEYWARD_CIPHER=vaes"));
    let line = line.and_then(|line| Some(line.split_once("[ERROR] ")?.1)).unwrap_or_default();
    seen!("an unknown kernel: {line}");
    for name in Kernel::NAMES {
        ensure!(line.contains(name), "{name} is not offered:\n{}", refusal.log);
    }
    Ok(())
}

fn with_kernel(site: &Site, name: &str) -> std::result::Result<Server, Refusal> {
    let environment = vec![("KEYWARD_CIPHER".to_owned(), name.to_owned())];
    site.launch(&Launch { environment, ..Launch::default() })
}
