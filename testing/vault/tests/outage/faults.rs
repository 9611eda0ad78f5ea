//! Each way in which a Vault can be away, under load: what it costs the running server, and what a
//! start meets during it, with a stash and without.

use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::certificates::SERVER;
use test_kit::{Result, ensure, files, seen};
use test_mariadb::{Server, Site};
use test_vault::{Fault, Proxy, Vault};

use crate::{TIMEOUT, extended, lines, secrets, site};
use test_mariadb::load::{Figures, MIXED};

/// What goes wrong.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// Between us and the Vault.
    Between(Fault),
    /// The Vault is sealed.
    Sealed,
    /// Its certificate has expired.
    Expired,
}

/// Each trouble, its name, and words that its line in the log has.
const TROUBLES: &[(Trouble, &str, &str)] = &[
    (Trouble::Between(Fault::Refused), "refused", "connection refused"),
    (Trouble::Between(Fault::BlackHole), "black-holed", "no answer in time"),
    (Trouble::Between(Fault::BadLine), "200 ms, 30 % lost", "no answer in time"),
    (Trouble::Between(Fault::Reset), "reset in mid-body", "the connection was reset"),
    (Trouble::Between(Fault::Drip), "slow drip", "no answer in time"),
    (Trouble::Between(Fault::Garbage), "garbage", "returned an unexpected response"),
    (Trouble::Between(Fault::Huge), "10 MB of JSON", "answers with more than 8 MiB"),
    (Trouble::Between(Fault::Unavailable), "503", "is out of order (status 503)"),
    (Trouble::Sealed, "sealed", "is sealed"),
    (Trouble::Expired, "certificate expired", "its certificate has expired"),
];

/// Nobody has this key.
const UNKNOWN: &str = "CREATE TABLE sb.unknown (i INT) ENCRYPTED=YES ENCRYPTION_KEY_ID=99";

/// How long each lasts under load.
fn length() -> Duration {
    Duration::from_secs(if extended() { 60 } else { 4 })
}

/// Over a line that is bad but not dead, some calls get through.
fn may_pass(trouble: Trouble) -> bool {
    trouble == Trouble::Between(Fault::BadLine)
}

#[test]
fn no_fault_of_vaults_fails_a_transaction_or_keeps_a_server_with_a_stash_from_starting()
-> Result<()> {
    let vault = Vault::start()?;
    vault.certificates().issue_expired("expired", SERVER)?;
    let proxy = Proxy::start(vault.port(), vault.certificates())?;
    let site = site("outage-faults", &vault, &proxy.address())?;
    let mut server = site.start()?;
    MIXED.prepare(&server)?;
    let calm = MIXED.start(&server, length().as_secs())?.finish()?;
    seen!(
        "{} s each; without any fault: {} transactions, the longest {:.0} ms",
        length().as_secs(),
        calm.transactions,
        calm.longest
    );
    seen!("fault | failed of | longest | in the log | start without stash | with | recovery");
    for (trouble, name, words) in TROUBLES {
        let mut field = Field { vault: &vault, proxy: &proxy, site: &site, trouble: *trouble };
        server = field.through(server, name, words).map_err(|error| error.within(name))?;
    }
    MIXED.complete(&server)?;
    secrets::not_in_memory(&vault, &site, &server)?;
    server.stop()?;
    secrets::not_in_logs(&vault, &site)
}

struct Field<'a> {
    vault: &'a Vault,
    proxy: &'a Proxy,
    site: &'a Site,
    trouble: Trouble,
}

impl Field<'_> {
    fn through(&mut self, server: Server, name: &str, words: &str) -> Result<Server> {
        let (figures, line) = self.under_load(&server, words)?;
        server.stop()?;
        let without = self.start_without_stash(words)?;
        let began = Instant::now();
        let server = self.site.start()?;
        let with = began.elapsed();
        MIXED.complete(&server)?;
        let in_use = server.status("Keyward_stash_in_use")? == "1";
        ensure!(in_use || may_pass(self.trouble), "it started without its stash\n{}", server.log());
        unknown_keys_cost_no_time(&server)?;
        if self.trouble == Trouble::Sealed {
            self.told_by_the_command()?;
        }
        self.lift()?;
        let began = Instant::now();
        let degraded = "SHOW GLOBAL STATUS LIKE 'Keyward_degraded'";
        server.wait_for(degraded, Duration::from_secs(60), |row| row.ends_with("\t0"))?;
        let recovery = began.elapsed();
        server.sql("SET GLOBAL keyward_rotate_key = 3")?;
        let Figures { transactions, deadlocks, longest } = figures;
        seen!(
            "{name} | 0 of {transactions} ({deadlocks} deadlocks) | {longest:.0} ms | {line} | \
             {without} | {:.1} s | {:.1} s",
            with.as_secs_f64(),
            recovery.as_secs_f64()
        );
        Ok(server)
    }

    /// The trouble begins while sysbench works; what that says, and the line in the log.
    fn under_load(&self, server: &Server, words: &str) -> Result<(Figures, String)> {
        let before = lines(&server.log()).len();
        let load = MIXED.start(server, length().as_secs() + 1)?;
        sleep(Duration::from_millis(500));
        self.begin()?;
        // The store may have been listed a moment ago; for a key that it does not know it is asked.
        server.sql_refused(UNKNOWN)?;
        let figures = load.finish()?;
        ensure!(
            figures.longest < TIMEOUT.as_secs_f64() * 1000.0,
            "a transaction took {:.0} ms: as long as keyward waits for Vault",
            figures.longest
        );
        let told: Vec<_> = lines(&server.log()).split_off(before);
        if told.is_empty() && may_pass(self.trouble) {
            return Ok((figures, "nothing".to_owned()));
        }
        // A call that the beginning cut off may have a line of its own.
        ensure!((1..=2).contains(&told.len()) || may_pass(self.trouble), "{}", told.join("\n"));
        let line = told.iter().find(|line| line.contains(words));
        let line = line.ok_or_else(|| format!("no line has {words:?}:\n{}", told.join("\n")))?;
        Ok((figures, self.nameless(line)))
    }

    /// A start with the same configuration but for the stash; in how long it refused.
    fn start_without_stash(&self, words: &str) -> Result<String> {
        let config = files::text(&self.site.config())?;
        let seal = config.find("\n[[provider]]                      # seals the stash");
        files::write(&self.site.config(), &config[..seal.ok_or("no stash is configured")?])?;
        let began = Instant::now();
        let outcome = self.site.launch(&test_mariadb::Launch::default());
        let took = began.elapsed().as_secs_f64();
        files::write(&self.site.config(), &config)?;
        match outcome {
            Ok(server) if may_pass(self.trouble) => {
                server.stop()?;
                Ok(format!("starts in {took:.1} s"))
            }
            Ok(_) => Err("it started though Vault was away".into()),
            Err(refusal) => {
                let line = refusal.log.lines().find(|line| line.contains("keyward cannot start"));
                let line = line.ok_or_else(|| format!("no line of ours:\n{}", refusal.log))?;
                ensure!(line.contains(words) || may_pass(self.trouble), "{line}");
                Ok(format!("refused in {took:.1} s"))
            }
        }
    }

    /// `status` and `doctor` tell of the stash, how old it is, and that it stands in.
    fn told_by_the_command(&self) -> Result<()> {
        let said = self.site.keyward(&["status"])?.ok()?;
        let value = |name: &str| {
            let value = said.lines().find_map(|line| line.strip_prefix(name));
            value.map(str::trim).ok_or_else(|| format!("no line {name:?}:\n{said}"))
        };
        let taken = value("stash taken ")?;
        ensure!(taken.ends_with(" ago)") && value("stash in use ")? == "yes", "{said}");
        ensure!(value("state ")? == "degraded", "{said}");
        ensure!(value("degraded reason ")?.contains("is sealed"), "{said}");
        let doctor = self.site.keyward(&["doctor"])?;
        let stands_in = "it stands in: the key store is away";
        ensure!(doctor.code == 1 && doctor.out.contains(stands_in), "{}", doctor.text());
        seen!("status: the stash was taken {taken}");
        Ok(())
    }

    fn begin(&self) -> Result<()> {
        match self.trouble {
            Trouble::Between(fault) => {
                self.proxy.fail(fault);
                Ok(())
            }
            Trouble::Sealed => self.vault.seal(),
            Trouble::Expired => self.use_certificate("expired"),
        }
    }

    fn lift(&self) -> Result<()> {
        match self.trouble {
            Trouble::Between(_) => {
                self.proxy.fail(Fault::None);
                Ok(())
            }
            Trouble::Sealed => self.vault.unseal(),
            Trouble::Expired => self.use_certificate("good"),
        }
    }

    /// Puts another certificate in the place of Vault's, of its own key.
    fn use_certificate(&self, name: &str) -> Result<()> {
        let at = |name: &str| self.vault.certificates().path(name);
        for ending in ["pem", "key"] {
            let server = at(&format!("server.{ending}"));
            if name == "expired" {
                files::write(&at(&format!("good.{ending}")), files::read(&server)?)?;
            }
            files::write(&server, files::read(&at(&format!("{name}.{ending}")))?)?;
        }
        self.vault.reload_certificate()
    }

    fn nameless(&self, line: &str) -> String {
        let line = line.split_once("go on serving: ").map_or(line, |(_, cause)| cause);
        let line = line.replace(&self.proxy.address(), "ADDRESS");
        line.replace("provider \"vault-kv\": ", "")
    }
}

/// Tables with a key that nobody has: of several statements one at most waits for Vault.
fn unknown_keys_cost_no_time(server: &Server) -> Result<()> {
    // The first may ask.
    server.sql_refused(UNKNOWN)?;
    let began = Instant::now();
    for _ in 0..3 {
        server.sql_refused(UNKNOWN)?;
    }
    let took = began.elapsed();
    ensure!(
        took < TIMEOUT + Duration::from_secs(1),
        "three statements with an unknown key took {took:?}"
    );
    Ok(())
}
