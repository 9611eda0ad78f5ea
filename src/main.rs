//! The `keyward` command: the whole life of a key, outside the server.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    keyward::cli::run(std::env::args_os()).into()
}
