//! A real MariaDB under sysbench's load while its cloud fails: what that costs, and how it comes back.

use std::net::{SocketAddr, TcpStream};
use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::listening::{Listening, join};
use test_kit::{Result, ensure, seen};
use test_mariadb::load::MIXED;
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
    OutOfOrder,
    /// Nobody listens where the region was.
    Away,
}

impl Trouble {
    /// All of them.
    const ALL: [Self; 5] =
        [Self::KeyDisabled, Self::TokenRefused, Self::Throttled, Self::OutOfOrder, Self::Away];
}

/// A cloud that can fail.
pub trait Cloud {
    /// Lets the trouble begin, or, with none, end. One that is away needs nothing done.
    fn suffer(&self, trouble: Option<Trouble>) -> Result<()>;

    /// Words that keyward's reason has, while it lasts.
    fn words(&self, trouble: Trouble) -> &'static str;
}

/// A port that hands on what comes to `cloud`, and can be closed.
pub fn front(cloud: SocketAddr) -> Result<Listening> {
    Listening::start(move |client| {
        // Whoever is called while nobody is there hangs up, too.
        let Ok(cloud) = TcpStream::connect(cloud) else { return };
        join(&client, &cloud, &|| false, [&mut || (), &mut || ()]);
    })
}

/// Each trouble under load on the server of `site`, which reaches the cloud by `front`: no transaction fails or
/// waits, a rotation is refused with its reason, and goes well as soon as it is over. Then the server is killed
/// under load.
pub fn through(site: &Site, cloud: &impl Cloud, front: &Listening) -> Result<()> {
    let server = site.start()?;
    MIXED.prepare(&server)?;
    seen!("trouble | failed of | longest | restart safe, reason | recovery");
    for trouble in Trouble::ALL {
        let outcome = one(&server, cloud, front, trouble);
        outcome.map_err(|error| error.within(format!("{trouble:?}")))?;
    }
    MIXED.complete(&server)?;
    MIXED.killed(site, server)
}

fn one(server: &Server, cloud: &impl Cloud, front: &Listening, trouble: Trouble) -> Result<()> {
    let load = MIXED.start(server, SECONDS)?;
    sleep(Duration::from_millis(500));
    cloud.suffer(Some(trouble))?;
    front.refuse(trouble == Trouble::Away);
    let said = server.sql_refused(ROTATE)?;
    ensure!(said.contains("no new key is made"), "{said}");
    let figures = load.finish()?;
    ensure!(figures.longest < LONGEST, "a transaction took {:.0} ms", figures.longest);
    let safe = server.status("Keyward_restart_safe")?;
    let reason = server.status("Keyward_restart_safe_reason")?;
    ensure!(safe != "yes" && reason.contains(cloud.words(trouble)), "{safe}: {reason}");
    cloud.suffer(None)?;
    front.refuse(false);
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
