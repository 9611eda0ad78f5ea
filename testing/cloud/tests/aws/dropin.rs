//! In the place of MariaDB's `aws_key_management`, and from there into a keystore.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::sync::Arc;

use test_cloud::{FakeAws, REGION, Shared, shared};
use test_kit::account::give_to_server;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::rows::{Table, check, create};
use test_mariadb::{Launch, Server, Site};

pub(crate) const TABLES: &[Table] = &[
    Table { name: "one", options: "ENCRYPTED=YES", rows: 1000 },
    Table { name: "nine", options: "ENCRYPTED=YES ENCRYPTION_KEY_ID=9", rows: 1000 },
];

/// Makes a key file as the vendor's SDK for Python makes one.
const BOTO3: &str = "
import boto3, sys
made = boto3.client('kms').generate_data_key(KeyId=sys.argv[1], KeySpec=sys.argv[2])
open(sys.argv[3], 'wb').write(made['CiphertextBlob'])
";

/// A site whose plugin is the stand-in, and the KMS that it calls.
pub(crate) struct Bench {
    pub(crate) site: Site,
    kms: FakeAws,
    key: String,
    shared: Arc<Shared>,
}

impl Bench {
    pub(crate) fn new(name: &str) -> Result<Self> {
        let shared = Shared::get()?;
        // It is killed right after a rotation.
        let (site, kms) = (Site::on_disk(name)?, FakeAws::before(shared.localstack.address())?);
        let key = shared.localstack.new_key(REGION)?;
        let link = site.path("plugin/aws_key_management.so");
        if link.symlink_metadata().is_ok() {
            fs::remove_file(&link)?;
        }
        symlink("keyward.so", &link)?;
        let mut bench = Self { site, kms, key, shared };
        bench.site.set("plugin_load_add = aws_key_management");
        for line in bench.options() {
            bench.site.set(&line);
        }
        bench.site.encrypt_everything();
        bench.site.set("innodb_fast_shutdown = 0");
        files::write(&bench.credentials(), shared::credentials())?;
        files::chmod(&bench.credentials(), 0o600)?;
        give_to_server(&bench.credentials())?;
        Ok(bench)
    }

    fn options(&self) -> [String; 4] {
        [
            format!("aws_key_management_master_key_id = {}", self.key),
            format!("aws_key_management_region = {REGION}"),
            format!("aws_key_management_endpoint_url = {}", self.kms.url()),
            "aws_key_management_key_spec = AES_256".to_owned(),
        ]
    }

    fn credentials(&self) -> PathBuf {
        self.site.path("etc/aws-credentials")
    }

    /// What the unit or the shell has where these are used.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let path = self.credentials().display().to_string();
        vec![("AWS_SHARED_CREDENTIALS_FILE".to_owned(), path)]
    }

    pub(crate) fn start(&self) -> Result<Server> {
        Ok(self.site.launch(&Launch { environment: self.environment(), ..Launch::default() })?)
    }

    pub(crate) fn key_files(&self) -> Vec<String> {
        let name =
            |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let all = files::list(&self.site.data());
        all.iter().filter_map(name).filter(|name| name.contains("aws-kms-key")).collect()
    }

    /// Has boto3 make a key file in the data folder.
    fn boto3(&self, name: &str, spec: &str) -> Result<()> {
        let path = self.site.data().join(name);
        let at = path.display().to_string();
        self.shared.localstack.python(BOTO3, &[&self.key, spec, &at])?;
        give_to_server(&path)
    }
}

#[test]
fn keys_are_made_on_first_use_rotated_and_read_again() -> Result<()> {
    let bench = Bench::new("aws-dropin")?;
    // Key 1 already exists, made by the vendor's own SDK; key 9 is not.
    bench.boto3("aws-kms-key.1.1", "AES_128")?;
    let server = bench.start()?;
    create(&server, TABLES)?;
    let made = bench.key_files();
    ensure!(made.contains(&"aws-kms-key.1.1".to_owned()), "{made:?}");
    ensure!(made.contains(&"aws-kms-key.9.1".to_owned()), "{made:?}");
    server.sql("SET GLOBAL aws_key_management_rotate_key = 9")?;
    server.sql("SET GLOBAL aws_key_management_rotate_key = -1")?;
    let rotated = bench.key_files();
    for name in ["aws-kms-key.1.2", "aws-kms-key.9.2", "aws-kms-key.9.3"] {
        ensure!(rotated.contains(&name.to_owned()), "no {name}: {rotated:?}");
    }
    let refused = server.sql_refused("SET GLOBAL aws_key_management_rotate_key = 77")?;
    ensure!(refused.contains("no key 77"), "{refused}");
    ensure!(refused.contains("ENCRYPTION_KEY_ID=77 makes it"), "{refused}");
    server.kill()?;

    let server = bench.start()?;
    check(&server, TABLES)?;
    // As the original: MariaDB takes these keys for CBC.
    let log = server.stop()?;
    ensure!(log.contains("key 9 was made") || bench.key_files().len() >= 5, "{log}");
    let actions = bench.kms.take_actions();
    let made = actions.iter().filter(|name| *name == "GenerateDataKeyWithoutPlaintext").count();
    seen!(
        "drop-in: {} key files, {made} of them made by KMS; a file of boto3's opens",
        rotated.len()
    );
    a_damaged_file_is_named(&bench)
}

fn a_damaged_file_is_named(bench: &Bench) -> Result<()> {
    let path = bench.site.data().join("aws-kms-key.9.1");
    let mut bytes = files::read(&path)?;
    *bytes.last_mut().ok_or("an empty key file")? ^= 1;
    files::write(&path, bytes)?;
    let launch = Launch { environment: bench.environment(), ..Launch::default() };
    let refusal = bench.site.launch(&launch).err().ok_or("it starts with a damaged key file")?;
    let log = refusal.log;
    let line = log.lines().find(|line| line.contains("ERROR") && line.contains("aws-kms-key.9.1"));
    let line = line.ok_or_else(|| format!("no line names the file:\n{log}"))?;
    ensure!(line.contains("restore the file from a backup"), "{line}");
    Ok(())
}

#[test]
fn imported_its_keys_read_every_page_as_it_is() -> Result<()> {
    let bench = Bench::new("aws-import")?;
    let server = bench.start()?;
    create(&server, TABLES)?;
    server.sql("SET GLOBAL aws_key_management_rotate_key = -1")?;
    let sums = server.sql("CHECKSUM TABLE test.one, test.nine EXTENDED")?;
    server.stop()?;
    let pages = table_files(&bench.site)?;

    let my_cnf = bench.site.path("etc/old.cnf");
    let lines = bench.options().join("\n");
    let datadir = bench.site.data();
    files::write(&my_cnf, format!("[mariadb]\ndatadir = {}\n{lines}\n", datadir.display()))?;
    let Bench { site, .. } = &bench;
    let folder = site.path("keyward").display().to_string();
    site.keyward(&["init", "--dir", &folder, "--empty"])?.ok()?;
    let from = my_cnf.display().to_string();
    let import = |more: &[&str]| -> Result<String> {
        let words = [&["import", "--from-mycnf", &from], more].concat();
        let mut command = site.keyward_command(&words);
        test_kit::command::answer(command.envs(bench.environment()))?.ok()
    };
    let before = files::read(&site.keystore())?;
    let planned = import(&["--dry-run"])?;
    ensure!(
        planned.contains("nothing was changed") && planned.contains("aes-256-cbc"),
        "{planned}"
    );
    ensure!(files::read(&site.keystore())? == before, "a dry run changed the keystore");
    let done = import(&[])?;
    ensure!(done.contains("all check values right"), "{done}");
    seen!("import: {}", done.lines().find(|line| line.contains("arrived")).unwrap_or_default());

    let Bench { mut site, kms, .. } = bench;
    site.unset("aws_key_management");
    site.load_keyward();
    drop(kms);
    let server = site.start()?;
    check(&server, TABLES)?;
    ensure!(server.sql("CHECKSUM TABLE test.one, test.nine EXTENDED")? == sums, "other rows");
    server.stop()?;
    ensure!(table_files(&site)? == pages, "pages were rewritten");
    Ok(())
}

fn table_files(site: &Site) -> Result<Vec<Vec<u8>>> {
    let read = |table: &Table| files::read(&site.data().join(format!("test/{}.ibd", table.name)));
    TABLES.iter().map(read).collect()
}

#[test]
fn without_a_master_key_what_there_is_opens_and_nothing_is_made() -> Result<()> {
    let mut bench = Bench::new("aws-no-master")?;
    let server = bench.start()?;
    create(&server, TABLES)?;
    server.stop()?;
    let before = bench.key_files();
    bench.site.unset("aws_key_management_master_key_id");
    let server = bench.start()?;
    check(&server, TABLES)?;
    let unset = "aws_key_management_master_key_id is not set";
    for id in [9, -1] {
        let refused =
            server.sql_refused(&format!("SET GLOBAL aws_key_management_rotate_key = {id}"))?;
        ensure!(refused.contains(unset) && refused.contains("alias/NAME"), "{refused}");
    }
    let refused = server.sql_refused("SET GLOBAL aws_key_management_rotate_key = 5")?;
    ensure!(refused.contains("no key 5; set aws_key_management_master_key_id"), "{refused}");
    server.sql_refused("CREATE TABLE test.five (id INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=5")?;
    ensure!(bench.key_files() == before, "{:?} in place of {before:?}", bench.key_files());
    let log = server.stop()?;
    let warned = log.lines().filter(|line| line.contains("Warning") && line.contains(unset));
    ensure!(warned.count() == 1, "{log}");
    Ok(())
}

/// As the original's documentation has them; numbers are wider where an id needs it.
const VARIABLES: &str = "\
aws_key_management_endpoint_url\tVARCHAR\t\tYES\tNULL
aws_key_management_keyfile_dir\tVARCHAR\t\tYES\tNULL
aws_key_management_key_spec\tENUM\tAES_128\tYES\tAES_128,AES_256
aws_key_management_log_level\tENUM\tOff\tYES\tOff,Fatal,Error,Warn,Info,Debug,Trace
aws_key_management_master_key_id\tVARCHAR\t\tYES\tNULL
aws_key_management_mock\tBOOLEAN\tOFF\tYES\tOFF,ON
aws_key_management_region\tVARCHAR\t\tYES\tNULL
aws_key_management_request_timeout\tINT UNSIGNED\t0\tYES\tNULL
aws_key_management_rotate_key\tBIGINT\t0\tNO\tNULL";

#[test]
fn its_variables_are_those_of_the_original() -> Result<()> {
    let mut bench = Bench::new("aws-variables")?;
    bench.site.unset("aws_key_management_");
    bench.site.unset("encrypt");
    let server = bench.start()?;
    let shown = server.sql(
        "SELECT LOWER(VARIABLE_NAME), VARIABLE_TYPE, DEFAULT_VALUE, READ_ONLY, ENUM_VALUE_LIST
         FROM information_schema.SYSTEM_VARIABLES
         WHERE VARIABLE_NAME LIKE 'AWS\\_KEY\\_MANAGEMENT%' ORDER BY 1",
    )?;
    ensure!(shown == VARIABLES, "{shown}");
    server.stop()?;
    Ok(())
}

#[test]
fn what_cannot_work_is_refused_with_one_line() -> Result<()> {
    for (change, words) in [
        ("aws_key_management_keyfile_dir = nowhere", "/nowhere"),
        ("aws_key_management_mock = ON", "in the clear"),
        ("aws_key_management_endpoint_url = http://kms.example.com", "is not https"),
    ] {
        let mut bench = Bench::new("aws-refusal")?;
        bench.site.set(change);
        let log = bench.site.refusal()?;
        let line = log.lines().find(|line| line.contains("ERROR") && line.contains(words));
        ensure!(line.is_some(), "{change}: no line has {words:?}:\n{log}");
        ensure!(bench.key_files().is_empty(), "a key was made");
    }
    Ok(())
}
