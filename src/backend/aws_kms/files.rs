//! The files that the SDK works by: profiles, tokens of log-ins, authorities. Whoever can write one
//! chooses whose credentials are sent, and where.

#![forbid(unsafe_code)]

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use aws_runtime::env_config::file::{EnvConfigFileKind, EnvConfigFiles};

use super::super::http::judge_authorities;
use super::settings::Settings;
use crate::error::{Error, Result};
use crate::trust::{self, Folder, Refusal};

/// The longest file of profiles, in bytes.
const MAX_PROFILES: u64 = 1 << 20;

/// The longest file with a token, in bytes.
const MAX_TOKEN: u64 = 1 << 16;

/// Each file of profiles: the variable that names it, and where it is otherwise.
const PROFILES: [(EnvConfigFileKind, &str, &str); 2] = [
    (EnvConfigFileKind::Config, "AWS_CONFIG_FILE", "~/.aws/config"),
    (EnvConfigFileKind::Credentials, "AWS_SHARED_CREDENTIALS_FILE", "~/.aws/credentials"),
];

/// The variables that name a file with a token.
const TOKENS: [&str; 2] = ["AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"];

/// Where `aws sso login` leaves its tokens.
const LOGINS: &str = "~/.aws/sso/cache";

/// The profiles that `settings` and the environment name, read from files that others cannot write; the
/// other files by which the SDK works are looked at, too. Under the original's name it reads all itself.
pub(super) fn profiles(
    settings: &Settings,
    variable: impl Fn(&str) -> Option<OsString> + Copy,
) -> Result<EnvConfigFiles> {
    if settings.as_original {
        return Ok(EnvConfigFiles::default());
    }
    judge_authorities(variable)?;
    for file in TOKENS.into_iter().filter_map(variable) {
        judge_token(Path::new(&file))?;
    }
    let mut files = EnvConfigFiles::builder();
    let configured = [&settings.config_file, &settings.credentials_file];
    for ((kind, name, usual), configured) in PROFILES.into_iter().zip(configured) {
        let text = match configured {
            Some(path) => trust::read_text(path, MAX_PROFILES)
                .map_err(|refusal| refusal.of("cannot read", path))?,
            None => {
                let path = variable(name).map_or_else(|| usual.into(), PathBuf::from);
                below_home(path, variable).map_or(Ok(String::new()), |path| usual_text(&path))?
            }
        };
        values(&text, "web_identity_token_file").map(Path::new).try_for_each(judge_token)?;
        if let Some(folder) = below_home(LOGINS.into(), variable)
            && ["sso_session", "sso_start_url"]
                .iter()
                .any(|key| values(&text, key).next().is_some())
        {
            judge_logins(&folder)?;
        }
        files = files.with_contents(kind, text);
    }
    Ok(files.build())
}

/// `path` with the home in place of a `~`; none where there is no home.
fn below_home(path: PathBuf, variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(rest) => Some(PathBuf::from(variable("HOME")?).join(rest)),
        Err(_) => Some(path),
    }
}

/// The text of a file that nobody configured: none where it cannot be had, as for the SDK.
fn usual_text(path: &Path) -> Result<String> {
    let is_nothing = path == Path::new("/dev/null") || path.symlink_metadata().is_err();
    match if is_nothing { Ok(String::new()) } else { trust::read_text(path, MAX_PROFILES) } {
        Ok(text) => Ok(text),
        Err(Refusal::Io(_)) => Ok(String::new()),
        Err(refusal) => Err(refusal.of("cannot read", path)),
    }
}

/// What the profiles of `text` say of `key`, whichever of them is used.
fn values<'a>(text: &'a str, key: &'a str) -> impl Iterator<Item = &'a str> {
    let settings = text.lines().filter_map(|line| line.split_once('='));
    settings.filter(move |(name, _)| name.trim().eq_ignore_ascii_case(key)).map(|(_, value)| {
        let end = [" #", " ;"].iter().filter_map(|remark| value.find(remark)).min();
        value[..end.unwrap_or(value.len())].trim()
    })
}

/// One that cannot be had is the SDK's to complain of.
fn judge_token(path: &Path) -> Result<()> {
    match trust::check(path, MAX_TOKEN) {
        Err(refusal @ Refusal::Untrusted(_)) => Err(refusal.of("cannot read", path)),
        _ => Ok(()),
    }
}

fn judge_logins(folder: &Path) -> Result<()> {
    match Folder::open(folder) {
        Ok(_) => {}
        Err(Refusal::Io(_)) => return Ok(()),
        Err(refusal) => return Err(refusal.of("cannot open the folder", folder)),
    }
    let failed = |cause: std::io::Error| Error::io("cannot list", folder, &cause);
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            judge_token(&path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    /// A home with a file `name` that has `text`, and what is said of it with `variables`.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new(files: &[(&str, &str)]) -> Self {
            let home = Self(tempfile::tempdir().unwrap());
            for (name, text) in files {
                fs::create_dir_all(home.path(name).parent().unwrap()).unwrap();
                fs::write(home.path(name), text.replace("HOME", home.0.path().to_str().unwrap()))
                    .unwrap();
                home.chmod(name, 0o600);
            }
            home
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.path().join(name)
        }

        fn chmod(&self, name: &str, mode: u32) {
            fs::set_permissions(self.path(name), Permissions::from_mode(mode)).unwrap();
        }

        fn read(&self, variables: &[(&str, &str)], as_original: bool) -> Result<EnvConfigFiles> {
            let settings = Settings { as_original, ..Settings::default() };
            profiles(&settings, |name| match name {
                "HOME" => Some(self.0.path().into()),
                _ => {
                    let found = variables.iter().find(|(known, _)| *known == name);
                    found.map(|(_, file)| match file.starts_with('/') {
                        true => OsString::from(file),
                        false => self.path(file).into(),
                    })
                }
            })
        }

        fn refused(&self, variables: &[(&str, &str)]) -> String {
            self.read(variables, false).unwrap_err().to_string()
        }
    }

    /// A variable, the file that it or the home names, and files that lead there.
    type Place<'a> = (&'a [(&'a str, &'a str)], &'a str, &'a [(&'a str, &'a str)]);

    const PLACES: [Place<'_>; 9] = [
        (&[], ".aws/config", &[]),
        (&[], ".aws/credentials", &[]),
        (&[("AWS_CONFIG_FILE", "file")], "file", &[]),
        (&[("AWS_SHARED_CREDENTIALS_FILE", "file")], "file", &[]),
        (&[("AWS_WEB_IDENTITY_TOKEN_FILE", "file")], "file", &[]),
        (&[("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", "file")], "file", &[]),
        (&[("SSL_CERT_FILE", "file")], "file", &[]),
        (
            &[],
            "token",
            &[(".aws/config", "[profile a]\nweb_identity_token_file = HOME/token # here\n")],
        ),
        (&[], ".aws/sso/cache/a.json", &[(".aws/config", "[default]\nsso_session = corp\n")]),
    ];

    #[test]
    fn a_file_that_others_can_write_is_refused_whoever_names_it() {
        for (variables, name, leading) in PLACES {
            let home = Home::new(&[leading, &[(name, "")][..]].concat());
            home.read(variables, false).unwrap();
            home.chmod(name, 0o666);
            let words = format!("{} can be written by others", home.path(name).display());
            let said = home.refused(variables);
            assert!(said.contains(&words) && said.contains("chmod go-w"), "{name}: {said}");
            home.read(variables, true).unwrap();
            // As the advice has it.
            home.chmod(name, 0o644);
            home.read(variables, false).unwrap();
            fs::remove_file(home.path(name)).unwrap();
            let mode = nix::sys::stat::Mode::S_IRUSR;
            nix::unistd::mkfifo(&home.path(name), mode).unwrap();
            assert!(home.refused(variables).contains("is not a regular file"), "{name}");
            fs::remove_file(home.path(name)).unwrap();
            fs::File::create(home.path(name)).unwrap().set_len(1 << 42).unwrap();
            assert!(home.refused(variables).contains("has more than"), "{name}");
        }
    }

    #[test]
    fn a_folder_of_authorities_or_log_ins_is_refused_where_others_can_write_it() {
        let config = (".aws/config", "[default]\nsso_start_url=https://a\n");
        let home = Home::new(&[config, (".aws/sso/cache/a.json", ""), ("ca/a.pem", "")]);
        let variables = [("SSL_CERT_DIR", "ca")];
        home.read(&variables, false).unwrap();
        for name in [".aws/sso/cache", "ca"] {
            home.chmod(name, 0o777);
            assert!(home.refused(&variables).contains("can be written by others"), "{name}");
            home.chmod(name, 0o755);
        }
    }

    #[test]
    fn what_is_not_there_is_no_matter() {
        let home = Home::new(&[]);
        // As a container's, whose home has nothing of AWS's in it.
        home.chmod("", 0o777);
        home.read(&[], false).unwrap();
        home.read(&[("AWS_CONFIG_FILE", "/dev/null")], false).unwrap();
        home.chmod("", 0o755);
        for name in ["AWS_CONFIG_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "SSL_CERT_FILE"] {
            home.read(&[(name, "none")], false).unwrap();
        }
        symlink("none", home.path("dangling")).unwrap();
        home.read(&[("AWS_SHARED_CREDENTIALS_FILE", "dangling")], false).unwrap();
        let settings = Settings::default();
        profiles(&settings, |_| None).unwrap();
    }

    #[test]
    fn values_are_read_as_the_sdk_reads_them() {
        let text = "[default]\na = 1\n A=2 # b = 3\nb=4\n# a = 5\na.b = 6\n";
        assert_eq!(values(text, "a").collect::<Vec<_>>(), ["1", "2"]);
    }
}
