//! Any bytes as a server's option file: the plugin that it configures, or one line of refusal with no
//! token and no passphrase in it. What was understood is understood again where it is written again.
#![no_main]
use std::path::Path;

use keyward::compat::Original;
use keyward::compat::my_cnf::parse as parse_option_file;
use keyward::key::PageMode;

mod told;
use told::{has_secret, line, told};

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    let path = Path::new("my.cnf");
    let is_name = |line: &[u8]| {
        let name = line.split(|byte| *byte == b'=').next().unwrap_or_default().trim_ascii_end();
        !["token", "secret_id", "filekey"].iter().any(|secret| name.ends_with(secret.as_bytes()))
    };
    let named = text.split(|byte| *byte == b'\n').any(|line| has_secret(line) && is_name(line));
    let parsed = parse_option_file(path, text);
    let found = if named { line(parsed) } else { told(parsed) };
    let Some(Original::KeyFile(file)) = found else { return };
    assert!(Path::new(&file.filename).is_absolute());
    let words = [Some(&file.filename), file.filekey.as_ref(), Some(&file.digest)];
    if words.into_iter().flatten().any(|word| word.contains(['"', '\'', '#', '\r', '\u{fffd}'])) {
        return;
    }
    let mode = if file.encryption == PageMode::Cbc { "AES_CBC" } else { "aes_ctr" };
    let mut again = format!(
        "[mariadb]\nfile-key-management-filename = \"{}\"\nloose_file_key_management_digest=\"{}\"\n\
         file_key_management_use_pbkdf2={}\nfile_key_management_encryption_algorithm={mode}\n",
        file.filename, file.digest, file.use_pbkdf2,
    );
    if let Some(filekey) = &file.filekey {
        again = format!("{again}file_key_management_filekey='{filekey}'\n");
    }
    let Ok(Original::KeyFile(same)) = parse_option_file(path, again.as_bytes()) else {
        panic!("not understood: {again}");
    };
    assert_eq!((same.filename, same.filekey), (file.filename, file.filekey));
    assert_eq!((same.digest, same.use_pbkdf2), (file.digest, file.use_pbkdf2));
    assert_eq!(same.encryption, file.encryption);
});
