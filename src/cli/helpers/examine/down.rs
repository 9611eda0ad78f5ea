//! A MariaDB that does not run: what its option files would have it load, and what it last said of us.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::catalogue::{ERROR_LOG, LOAD_OPTION, OPTION_FILES};
use super::findings::Findings;
use crate::cli::helpers::print::Mark;
use crate::cli::helpers::server::find_client;
use crate::compat::{my_cnf, plugin_names};
use crate::config::DEFAULT_PATH;
use crate::trust;

/// Our own name as a plugin.
const OURS: &str = "keyward";

/// How our lines begin, behind the date and what else the server puts before them.
const OUR_LINES: [&str; 2] = [" keyward: ", " keyward cannot start"];

/// How much of the end of an error log is read, in bytes.
const TAIL: u64 = 1 << 20;

/// Where Debian's and others' servers keep their plugins.
const PLUGIN_FOLDERS: [&str; 4] = [
    "/usr/lib/mysql/plugin",
    "/usr/lib64/mysql/plugin",
    "/usr/lib64/mariadb/plugin",
    "/usr/local/mysql/lib/plugin",
];

/// What the option files say to a server, the last of a name last.
struct Options(Vec<(String, String)>);

/// Looks at the option files of the server that reads its configuration at `config`, if they are its own;
/// where it keeps its data then.
pub(super) fn check(findings: &mut Findings, config: &Path) -> Option<PathBuf> {
    let options = match ask() {
        Ok(options) if options.config() == config => options,
        Ok(_) => {
            let config = config.display();
            let what = format!("option files: the server that they are for does not use {config}");
            findings.add(&OPTION_FILES, Mark::Skipped, what, None);
            return None;
        }
        // Without the server's own tool there is no server here either.
        Err(None) => return None,
        Err(Some(words)) => {
            let advice = "correct the option files: the server reads them as well";
            findings.fail(&OPTION_FILES, format!("option files: {words}"), advice);
            return None;
        }
    };
    plugins(findings, &options);
    error_log(findings, &options);
    Some(options.datadir())
}

/// Asks the server's own tool; `Err(None)` where it is not installed.
fn ask() -> Result<Options, Option<String>> {
    let tool = find_client("my_print_defaults").ok_or(None)?;
    let mut command = Command::new(tool);
    command.args(my_cnf::SECTIONS).stdin(Stdio::null());
    let output = command.output().map_err(|cause| Some(cause.to_string()))?;
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match output.status.success() {
        true => Ok(Options::parse(&words(&output.stdout))),
        false => Err(Some(words(&output.stderr).lines().next().unwrap_or("refused").to_owned())),
    }
}

impl Options {
    fn parse(text: &str) -> Self {
        let option = |line: &str| {
            let line = line.strip_prefix("--")?;
            let (name, value) = line.split_once('=').unwrap_or((line, ""));
            let name = name.replace('-', "_").to_ascii_lowercase();
            let name = name.strip_prefix("loose_").unwrap_or(&name).to_owned();
            Some((name, value.to_owned()))
        };
        Self(text.lines().filter_map(option).collect())
    }

    fn last(&self, name: &str) -> Option<&str> {
        self.0.iter().rfind(|(one, _)| one == name).map(|(_, value)| value.as_str())
    }

    /// The plugins that it has loaded, by their files' names without the ending.
    fn loaded(&self) -> Vec<String> {
        let mut libraries: Vec<&str> = Vec::new();
        for (name, value) in &self.0 {
            match name.as_str() {
                "plugin_load" => libraries = value.split([';', ':']).collect(),
                "plugin_load_add" => libraries.extend(value.split([';', ':'])),
                _ => {}
            }
        }
        let file = |one: &str| {
            let file = one.split_once('=').map_or(one, |(_, file)| file).trim();
            file.strip_suffix(".so").unwrap_or(file).to_owned()
        };
        libraries.into_iter().map(file).filter(|name| !name.is_empty()).collect()
    }

    fn datadir(&self) -> PathBuf {
        self.last("datadir").map_or_else(my_cnf::default_datadir, PathBuf::from)
    }

    /// Which configuration of keyward's they name.
    fn config(&self) -> &Path {
        Path::new(self.last("keyward_config").unwrap_or(DEFAULT_PATH))
    }

    fn plugin_dir(&self) -> Option<PathBuf> {
        let named = self.last("plugin_dir").map(PathBuf::from);
        named.or_else(|| PLUGIN_FOLDERS.iter().map(PathBuf::from).find(|folder| folder.is_dir()))
    }
}

/// One key plugin, ours, forced, and one that the server's maturity lets in.
fn plugins(findings: &mut Findings, options: &Options) {
    let is_of_keys = |name: &String| *name == OURS || plugin_names().any(|known| known == name);
    let mut found: Vec<_> = options.loaded().into_iter().filter(is_of_keys).collect();
    found.sort();
    found.dedup();
    let name = match &*found {
        [] => {
            let what = "option files: they load no plugin for keys";
            return findings.fail(&OPTION_FILES, what, "add plugin_load_add = keyward to my.cnf");
        }
        [one] => one,
        several => {
            let what = format!(
                "option files: they load {} plugins for keys: {}",
                several.len(),
                several.join(", ")
            );
            let advice =
                "a server takes one: leave the others out; their keys come with keyward import";
            return findings.fail(&OPTION_FILES, what, advice);
        }
    };
    if name != OURS && !is_ours(options, name) {
        let what = format!("option files: they load {name}, which is not keyward's");
        let advice = "load keyward instead (plugin_load_add = keyward), or link that name to keyward.so: \
                      `keyward help stand-ins`";
        return findings.fail(&OPTION_FILES, what, advice);
    }
    if options.last("plugin_maturity").is_some_and(|least| least.eq_ignore_ascii_case("stable")) {
        let what = "option files: plugin_maturity = stable keeps keyward out, which is gamma";
        findings.fail(&OPTION_FILES, what, "set plugin_maturity = gamma, a server's own default");
    } else {
        findings.ok(&OPTION_FILES, format!("option files: they load {name}"));
    }
    let forced = options.last(name).unwrap_or("ON");
    findings.option(
        &LOAD_OPTION,
        forced.eq_ignore_ascii_case("FORCE_PLUS_PERMANENT"),
        &format!("option files: {name} = {forced}"),
        &format!(
            "{name} = FORCE_PLUS_PERMANENT, or a server whose keys failed starts without its tables"
        ),
    );
}

/// Whether the library called `name` is ours under another's name.
fn is_ours(options: &Options, name: &str) -> bool {
    let real = |file: &str| options.plugin_dir()?.join(file).canonicalize().ok();
    let ours = real(&format!("{OURS}.so"));
    ours.is_some() && real(&format!("{name}.so")) == ours
}

/// The last line of ours, if the server keeps an error log of its own.
fn error_log(findings: &mut Findings, options: &Options) {
    let named = options.last("log_error").filter(|value| !value.is_empty());
    let path = named.map(|name| options.datadir().join(name));
    let Some(text) = path.as_deref().and_then(tail) else {
        let what = "error log: the option files name no file that can be read";
        let advice = "journalctl -u mariadb -g keyward shows what went to the journal";
        return findings.add(&ERROR_LOG, Mark::Skipped, what, Some(advice));
    };
    let shown = path.unwrap_or_default();
    match last_line(&text) {
        None => findings
            .ok(&ERROR_LOG, format!("error log: {} has no line of keyward", shown.display())),
        Some(line) => {
            let what = format!("error log: {}: {line}", shown.display());
            match line.contains("[ERROR]") {
                true => findings.warn(&ERROR_LOG, what, "correct that, then start the server"),
                false => findings.ok(&ERROR_LOG, what),
            }
        }
    }
}

/// The last line that begins with our name; what the server itself says of a plugin is less.
fn last_line(text: &str) -> Option<&str> {
    let is_ours = |line: &&str| OUR_LINES.iter().any(|words| line.contains(words));
    text.lines().rfind(is_ours)
}

/// The end of a log.
fn tail(path: &Path) -> Option<String> {
    let mut file: File = trust::open_untrusted(path).ok()?;
    let len = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(len.saturating_sub(TAIL))).ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(&'static str, Mark, String)> {
        let mut findings = Findings::default();
        plugins(&mut findings, &Options::parse(text));
        findings.0.into_iter().map(|one| (one.id, one.mark, one.what)).collect()
    }

    #[test]
    fn what_option_files_load_is_judged() {
        let good = "--plugin_load_add=keyward\n--keyward=FORCE_PLUS_PERMANENT\n";
        assert!(found(good).iter().all(|one| one.1 == Mark::Ok), "{:?}", found(good));
        for (text, id, mark, words) in [
            ("", "option-files", Mark::Failed, "they load no plugin for keys"),
            (
                "--plugin-load-add=keyward\n--plugin_load_add=file_key_management.so",
                "option-files",
                Mark::Failed,
                "they load 2 plugins for keys: file_key_management, keyward",
            ),
            (
                "--plugin_load_add=keyward\n--plugin_maturity=stable\n",
                "option-files",
                Mark::Failed,
                "plugin_maturity = stable keeps keyward out",
            ),
            (
                "--plugin_load_add=keyward\n--keyward=ON\n",
                "load-option",
                Mark::Warning,
                "keyward = ON",
            ),
            ("--plugin_load_add=keyward\n", "load-option", Mark::Warning, "keyward = ON"),
        ] {
            let all = found(text);
            let has =
                |one: &(&str, Mark, String)| one.0 == id && one.1 == mark && one.2.contains(words);
            assert!(all.iter().any(has), "{text}: {all:?}");
        }
        // The last of a name counts, and plugin_load begins the list again.
        let again = "--plugin_load_add=file_key_management\n--plugin_load=k=keyward.so;metadata_lock_info\n\
                     --keyward=OFF\n--loose-keyward=force_plus_permanent\n";
        assert!(found(again).iter().all(|one| one.1 == Mark::Ok), "{:?}", found(again));
    }

    #[test]
    fn a_stand_in_is_ours_where_its_name_leads_to_our_library() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("keyward.so"), "").unwrap();
        let text = format!(
            "--plugin_dir={}\n--plugin_load_add=file_key_management\n\
             --file_key_management=FORCE_PLUS_PERMANENT\n",
            folder.path().display()
        );
        assert_eq!(found(&text)[0].1, Mark::Failed);
        std::fs::write(at("file_key_management.so"), "").unwrap();
        assert!(found(&text)[0].2.contains("which is not keyward's"), "{:?}", found(&text));
        std::fs::remove_file(at("file_key_management.so")).unwrap();
        std::os::unix::fs::symlink("keyward.so", at("file_key_management.so")).unwrap();
        assert!(found(&text).iter().all(|one| one.1 == Mark::Ok), "{:?}", found(&text));
    }

    #[test]
    fn the_last_line_of_ours_is_found() {
        let log = "1 [ERROR] keyward cannot start: old\n2 [ERROR] keyward cannot start: new\n\
                   3 [ERROR] Plugin 'keyward' registration as a ENCRYPTION failed.\n";
        let good = "4 [Note] mariadbd: keyward: started with 3 keys";
        assert_eq!(last_line(&format!("{log}{good}\n5 x\n")), Some(good));
        assert_eq!(last_line(log), Some("2 [ERROR] keyward cannot start: new"));
        assert_eq!(last_line("3 [ERROR] Plugin 'keyward' failed\n"), None);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("error.log");
        std::fs::write(&path, "x".repeat(1 << 20) + "\nend\n").unwrap();
        let text = tail(&path).unwrap();
        assert!(text.len() == 1 << 20 && text.ends_with("x\nend\n"));
        assert_eq!(tail(&folder.path().join("none")), None);
    }
}
