//! Which plugin this library is: the one whose name the server opened it under.

#![forbid(unsafe_code)]

use std::path::Path;

use super::keyward;
use crate::compat::{self, Plugin};

/// The plugin for a library that was opened as `file`; an unknown name means our own.
pub(super) fn of(file: &Path) -> &'static Plugin {
    let stem = file.file_stem().unwrap_or_default();
    let is_it = |plugin: &&&Plugin| stem == plugin.name.to_string_lossy().as_ref();
    compat::PLUGINS.iter().find(is_it).copied().unwrap_or(&keyward::PLUGIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_name_chooses() {
        let name = |file| of(Path::new(file)).name.to_str().unwrap();
        assert_eq!(name("/usr/lib/mysql/plugin/file_key_management.so"), "file_key_management");
        assert_eq!(name("/usr/lib/mysql/plugin/keyward.so"), "keyward");
        #[cfg(feature = "aws-kms")]
        assert_eq!(name("aws_key_management.so"), "aws_key_management");
        assert_eq!(name("kmip_key_management.so"), "kmip_key_management");
        assert_eq!(name("libkeyward.so"), "keyward");
        assert_eq!(name(""), "keyward");
    }
}
