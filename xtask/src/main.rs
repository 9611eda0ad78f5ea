//! keyward's own tasks. `cargo xtask` alone lists them.

mod age;
mod bochs;
mod build;
mod cosmian;
mod demo;
mod fakecloud;
mod feature_bench;
mod go;
mod job;
mod kernels;
mod keyring_bench;
mod kryoptic;
mod kubernetes;
mod layer;
mod mtr;
mod mysql;
mod openbao;
mod package;
mod podman;
mod python;
mod roots;
mod server_bench;
mod setup;
mod sweep;
mod test;
mod vault;
mod vault_mtr;

use std::process::ExitCode;

use test_kit::Result;

/// A task by the name it is called by.
struct Task {
    name: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Result<()>,
}

const TASKS: &[Task] = &[
    Task {
        name: "setup",
        about: "install the packages that the other tasks need",
        run: setup::task,
    },
    Task { name: "demo", about: "see keyward at work on a server of its own", run: demo::task },
    Task {
        name: "test",
        about: "run the tests: [LAYER...] [--extended] [--list]",
        run: test::task,
    },
    Task {
        name: "mtr",
        about: "run MariaDB's own suites: [SUITE...] [--baseline] [--11.8|--sid] [--kernel=NAME]",
        run: mtr::task,
    },
    Task {
        name: "package",
        about: "make debs, rpm, tarball and SBOM in target/package: [deb] [rpm] [tarball] [sbom]",
        run: package::task,
    },
    Task {
        name: "bench",
        about: "run the benchmarks; `server [ROUNDS]`: a whole server; `keyring`: many keys in MySQL; `model`: kernels on other CPUs; `features`: what each adds",
        run: build::bench,
    },
];

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    match sweep::guard().and_then(|_root| run(&words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: &[String]) -> Result<()> {
    let name = words.first().map_or("", String::as_str);
    match TASKS.iter().find(|task| task.name == name) {
        Some(task) => (task.run)(&words[1..]),
        None => Err(format!("no task {name:?}\n\n{}", usage()).into()),
    }
}

fn usage() -> String {
    let lines = TASKS.iter().map(|task| format!("  cargo xtask {:7} {}\n", task.name, task.about));
    lines.collect()
}
