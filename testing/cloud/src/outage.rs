//! A real MariaDB under sysbench's load while its cloud fails: what that costs, and how it comes back.

use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::{Result, ensure, seen};
use test_mariadb::load::{self, Load};
use test_mariadb::{Server, Site};

/// How long each trouble lasts under load, in seconds.
const SECONDS: u64 = 4;

/// No transaction may wait as long as keyward waits for a cloud, in milliseconds.
const LONGEST: f64 = 3000.0;

/// A rotation, which asks the cloud.
const ROTATE: &str = "SET GLOBAL keyward_rotate_key = 3";

/// What goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Somebody disabled the wrapping key.
    KeyDisabled,
    /// No token is accepted any more, and none is given.
    TokenRefused,
    /// The cloud wants fewer calls.
    Throttled,
    /// The region is out of order.
    Away,
}

/// A cloud of ours that can fail.
pub trait Cloud {
    /// Lets the trouble begin, or, with none, end.
    fn suffer(&self, trouble: Option<Trouble>);

    /// Words that keyward's reason has, while it lasts.
    fn words(&self, trouble: Trouble) -> &'static str;
}

/// Each trouble under load on the server of `site`: no transaction fails or waits, a rotation is refused with
/// its reason, and goes well as soon as it is over. Then the server is killed under load.
pub fn through(site: &Site, cloud: &impl Cloud) -> Result<()> {
    let server = site.start()?;
    load::prepare(&server)?;
    seen!("trouble | failed of | longest | restart safe, reason | recovery");
    for trouble in [Trouble::KeyDisabled, Trouble::TokenRefused, Trouble::Throttled, Trouble::Away]
    {
        one(&server, cloud, trouble).map_err(|error| error.within(format!("{trouble:?}")))?;
    }
    load::complete(&server)?;
    killed(site, server)
}

fn one(server: &Server, cloud: &impl Cloud, trouble: Trouble) -> Result<()> {
    let load = Load::start(server, SECONDS)?;
    sleep(Duration::from_millis(500));
    cloud.suffer(Some(trouble));
    let said = server.sql_refused(ROTATE)?;
    ensure!(said.contains("no new key is made"), "{said}");
    let figures = load.finish()?;
    ensure!(figures.longest < LONGEST, "a transaction took {:.0} ms", figures.longest);
    let safe = server.status("Keyward_restart_safe")?;
    let reason = server.status("Keyward_restart_safe_reason")?;
    ensure!(safe != "yes" && reason.contains(cloud.words(trouble)), "{safe}: {reason}");
    cloud.suffer(None);
    let began = Instant::now();
    while let Err(error) = server.sql(ROTATE) {
        ensure!(began.elapsed() < Duration::from_secs(60), "it does not recover: {error}");
        sleep(Duration::from_millis(200));
    }
    let took = began.elapsed();
    ensure!(server.status("Keyward_restart_safe")? == "yes", "{}", server.log());
    seen!(
        "{trouble:?} | 0 of {} ({} deadlocks) | {:.0} ms | {safe}: {reason} | {:.1} s",
        figures.transactions,
        figures.deadlocks,
        figures.longest,
        took.as_secs_f64()
    );
    Ok(())
}

/// SIGKILL under load; each row whose insertion was acknowledged is there after the restart.
fn killed(site: &Site, server: Server) -> Result<()> {
    const ROWS: u32 = 100;
    server.sql("CREATE TABLE sb.told (i INT PRIMARY KEY) ENCRYPTED=YES ENCRYPTION_KEY_ID=3")?;
    let load = Load::start(&server, SECONDS)?;
    for row in 0..ROWS {
        server.sql(&format!("INSERT INTO sb.told VALUES ({row})"))?;
    }
    server.kill()?;
    // It lost its server.
    drop(load.finish());
    let server = site.start()?;
    let rows = server.sql("SELECT COUNT(*) FROM sb.told")?;
    ensure!(rows == ROWS.to_string(), "{rows} of {ROWS} acknowledged rows are there");
    load::complete(&server)?;
    seen!("killed under load: {rows} of {ROWS} acknowledged rows are there");
    server.stop().map(drop)
}
