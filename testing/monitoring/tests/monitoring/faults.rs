//! Each alert with a fault that was planted for it: it comes, and goes when the fault is gone.

use std::fs;
use std::path::Path;

use test_kit::{Result, ensure, files, seen};
use test_mariadb::Launch;

use crate::room::Room;

/// A fault: the alerts that it brings, how it is planted, how it is put right.
struct Fault {
    alerts: &'static [&'static str],
    /// Whether mysqld_exporter's alerts of the same names come, too.
    by_exporter: bool,
    /// Whether the timer goes on writing metrics.
    writes: bool,
    plant: fn(&mut Room) -> Result<()>,
    repair: fn(&mut Room) -> Result<()>,
}

const FAULTS: &[Fault] = &[
    Fault {
        alerts: &["KeywardDestructionPlanned"],
        by_exporter: false,
        writes: true,
        // The dashboards were looked at with it.
        plant: |_| Ok(()),
        repair: |room| cancel_destruction(room),
    },
    Fault {
        alerts: &["KeywardCertificateExpires"],
        by_exporter: false,
        writes: true,
        plant: |room| {
            room.vault.certificates().issue("short", "extendedKeyUsage=clientAuth", "1")?;
            let (pem, key) = (room.give("short.pem")?, room.give("short.key")?);
            let lines =
                format!("client_certificate_file = {pem:?}\nclient_key_file = {key:?}\ntoken_file");
            configure(room, "token_file", &lines)
        },
        repair: |room| {
            let text = files::text(&room.site.config())?;
            let without = text.lines().filter(|line| !line.starts_with("client_"));
            let text = without.map(|line| format!("{line}\n")).collect::<String>();
            files::write(&room.site.config(), text)
        },
    },
    Fault {
        alerts: &["KeywardTokenExpires"],
        by_exporter: false,
        writes: true,
        plant: |room| room.token("1h"),
        repair: |room| room.token("240h"),
    },
    Fault {
        alerts: &["KeywardTrailBroken"],
        by_exporter: false,
        writes: true,
        plant: |room| {
            let trail = trail(room);
            fs::copy(&trail, room.site.path("etc/audit.jsonl"))?;
            let text = files::text(&trail)?;
            // In place: its owner stays.
            files::write(&trail, text.replacen("\"rotated\"", "\"retired\"", 1))
        },
        repair: |room| files::write(&trail(room), files::read(&room.site.path("etc/audit.jsonl"))?),
    },
    Fault {
        alerts: &["KeywardTrailNotCopied", "KeywardTrailLinesLost"],
        by_exporter: false,
        writes: true,
        plant: |room| {
            let text = files::text(&room.site.config())?;
            fs::copy(room.site.config(), room.site.path("etc/keyward.toml"))?;
            let sink =
                "\n[[sink]]\ntype = \"syslog\"\naddress = \"unix:/nowhere/log\"\nmax_waiting = 1\n";
            files::write(&room.site.config(), text + sink)?;
            // Its first look is where it begins.
            room.write()?;
            room.sql("SET GLOBAL keyward_rotate_key = 7").map(drop)
        },
        repair: |room| {
            let before = files::read(&room.site.path("etc/keyward.toml"))?;
            files::write(&room.site.config(), before)
        },
    },
    Fault {
        alerts: &["KeywardKeysNotBackedUp"],
        by_exporter: false,
        writes: true,
        plant: |room| {
            move_to(&room.backups(), &room.site.path("etc/away"))?;
            // The next call knows of no backup and makes one at once.
            fs::remove_file(room.site.keys().join("backups.json"))?;
            let failed = room.back_up()?;
            ensure!(failed.code == 1, "a backup without a folder: {}", failed.text());
            Ok(())
        },
        repair: |room| {
            move_to(&room.site.path("etc/away"), &room.backups())?;
            room.back_up()?.ok().map(drop)
        },
    },
    Fault {
        alerts: &["KeywardReencryptionStalled"],
        by_exporter: false,
        writes: true,
        plant: |room| {
            room.sql("SET GLOBAL innodb_encryption_threads = 0")?;
            room.sql("SET GLOBAL keyward_rotate_key = 1").map(drop)
        },
        repair: |room| room.sql("SET GLOBAL innodb_encryption_threads = 4").map(drop),
    },
    Fault {
        alerts: &["KeywardProviderDown"],
        by_exporter: false,
        writes: true,
        plant: |room| room.vault.seal(),
        repair: |room| room.vault.unseal(),
    },
    Fault {
        alerts: &["KeywardKeystoreDoesNotOpen", "KeywardProviderDown"],
        by_exporter: false,
        writes: true,
        plant: |room| {
            room.vault.seal()?;
            move_to(&room.site.key_file(), &room.site.path("etc/away"))
        },
        repair: |room| {
            move_to(&room.site.path("etc/away"), &room.site.key_file())?;
            room.vault.unseal()
        },
    },
    Fault {
        alerts: &["KeywardRestartUnsafe"],
        by_exporter: true,
        writes: true,
        plant: |room| {
            room.vault.seal()?;
            move_to(&room.site.key_file(), &room.site.path("etc/away"))?;
            room.sql("SET GLOBAL keyward_refresh = ON").map(drop)
        },
        repair: |room| {
            move_to(&room.site.path("etc/away"), &room.site.key_file())?;
            room.vault.unseal()?;
            room.sql("SET GLOBAL keyward_refresh = ON").map(drop)
        },
    },
    Fault {
        alerts: &["KeywardDegraded"],
        by_exporter: true,
        writes: true,
        plant: |room| move_to(&room.site.keystore(), &room.site.path("etc/away")),
        repair: |room| move_to(&room.site.path("etc/away"), &room.site.keystore()),
    },
    Fault {
        alerts: &["KeywardGenerationDiffers"],
        by_exporter: false,
        writes: true,
        plant: |room| {
            let (keys, older) = (room.site.keys(), room.site.path("etc/older"));
            files::copy(&keys, &older)?;
            room.sql("SET GLOBAL keyward_rotate_key = 7")?;
            files::copy(&keys, &room.site.path("etc/newer"))?;
            room.restore(&older, &keys)
        },
        repair: |room| room.restore(&room.site.path("etc/newer"), &room.site.keys()),
    },
    Fault {
        alerts: &["KeywardProviderSilent"],
        by_exporter: true,
        writes: true,
        // Nobody asks it before the hour is over.
        plant: |room| room.sql("SET GLOBAL keyward_refresh = ON").map(drop),
        repair: |room| room.sql("SET GLOBAL keyward_refresh = ON").map(drop),
    },
    Fault {
        alerts: &["KeywardMetricsStale"],
        by_exporter: false,
        writes: false,
        plant: |_| Ok(()),
        repair: |_| Ok(()),
    },
    Fault {
        alerts: &["KeywardMemoryNotLocked", "KeywardLibraryReplaced"],
        by_exporter: true,
        writes: true,
        plant: |room| {
            room.stop()?;
            let under = ["prlimit", "--memlock=0:0"].map(str::to_owned).into();
            room.start(&Launch { under, ..Launch::default() })?;
            // As a package's upgrade does it: another file in its place.
            let library = room.site.path("plugin/keyward.so");
            let new = room.site.path("plugin/keyward.new");
            fs::copy(&library, &new)?;
            move_to(&new, &library)
        },
        repair: |room| {
            room.stop()?;
            room.start(&Launch::default())
        },
    },
    Fault {
        alerts: &["KeywardServerDown", "KeywardRotationOverdue"],
        by_exporter: false,
        writes: true,
        plant: |room| {
            room.stop()?;
            configure(room, "rotate_after = \"90d\"", "rotate_after = \"1s\"")
        },
        repair: |room| {
            configure(room, "rotate_after = \"1s\"", "rotate_after = \"90d\"")?;
            room.start(&Launch::default())
        },
    },
];

/// One after the other; then every rule has had its turn.
pub(crate) fn each(room: &mut Room) -> Result<()> {
    let mut rules = room.watch.rules()?;
    for fault in FAULTS {
        let names = fault.alerts.join(", ");
        one(room, fault).map_err(|error| error.within(&names))?;
        let exporter = if fault.by_exporter { ", by both ways" } else { "" };
        seen!("{names}: came with its fault and went with it{exporter}");
        for name in fault.alerts {
            let turns = if fault.by_exporter { 2 } else { 1 };
            for _ in 0..turns {
                let at = rules.iter().position(|rule| rule == name);
                at.map(|at| rules.remove(at));
            }
        }
    }
    // The same by mysqld_exporter needs a server that cannot rotate: promtool's tests have it.
    rules.retain(|rule| rule != "KeywardRotationOverdue");
    ensure!(rules.is_empty(), "no fault was planted for {rules:?}");
    Ok(())
}

fn one(room: &mut Room, fault: &Fault) -> Result<()> {
    (fault.plant)(room)?;
    let fires = |room: &Room| -> Result<Vec<bool>> {
        let alerts = room.watch.alerts()?;
        let by = |name: &str, exporter: bool| {
            let is_its = |at: &String| (*at == room.watch.exporter) == exporter;
            alerts.iter().any(|(alert, at)| alert == name && is_its(at))
        };
        let ways: &[bool] = if fault.by_exporter { &[false, true] } else { &[false] };
        let names = fault.alerts.iter();
        Ok(names.flat_map(|name| ways.iter().map(|way| by(name, *way))).collect())
    };
    room.watch.until("the alert", |_| {
        if fault.writes {
            room.write()?;
        }
        Ok(!fires(room)?.contains(&false))
    })?;
    (fault.repair)(room)?;
    room.watch.until("its end", |_| {
        room.write()?;
        Ok(!fires(room)?.contains(&true))
    })
}

/// Has a version be destroyed in days to come.
pub(crate) fn plan_destruction(room: &Room) -> Result<()> {
    // The newest two stay.
    for _ in 0..2 {
        room.site.keyward(&["rotate", "7"])?.ok()?;
    }
    let socket = room.site.path("run/sock").display().to_string();
    let data = room.site.data().display().to_string();
    let words = ["keys", "destroy", "7", "1", "--datadir", &data, "--socket", &socket];
    room.site.keyward(&words)?.ok().map(drop)
}

fn cancel_destruction(room: &Room) -> Result<()> {
    room.site.keyward(&["keys", "destroy", "7", "1", "--cancel"])?.ok().map(drop)
}

fn trail(room: &Room) -> std::path::PathBuf {
    room.site.keys().join("audit.jsonl")
}

fn configure(room: &Room, from: &str, to: &str) -> Result<()> {
    let text = files::text(&room.site.config())?;
    ensure!(text.contains(from), "no {from} in the configuration");
    files::write(&room.site.config(), text.replacen(from, to, 1))
}

fn move_to(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(|error| format!("{}: {error}", from.display()).into())
}
