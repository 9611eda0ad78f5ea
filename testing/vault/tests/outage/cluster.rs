//! A Vault of three nodes: the one that leads is killed, then each is sealed in turn, under load.

use std::thread::sleep;
use std::time::{Duration, Instant};

use test_kit::{Result, ensure, files, seen};
use test_vault::Vault;

use crate::{lines, rotated, secrets, site};
use test_mariadb::load::MIXED;

/// An election takes a while, and the nodes send us to the dead leader meanwhile.
const PATIENCE: Duration = Duration::from_secs(120);

/// The three nodes in the order of the configuration, the first of which leads at first.
struct Cluster(Vec<Vault>);

impl Cluster {
    fn start() -> Result<Self> {
        let first = Vault::start()?;
        let others = [Vault::join(&first, "n2")?, Vault::join(&first, "n3")?];
        first.wait_for_voters(3)?;
        Ok(Self([first].into_iter().chain(others).collect()))
    }

    /// Which node leads, once one does.
    fn leader(&self) -> Result<usize> {
        let since = Instant::now();
        loop {
            // A node that is down or sealed answers with an error.
            let leads = |node: &Vault| node.leads().unwrap_or(false);
            if let Some(at) = self.0.iter().position(leads) {
                return Ok(at);
            }
            ensure!(since.elapsed() < PATIENCE, "no node leads after {PATIENCE:?}");
            sleep(Duration::from_millis(200));
        }
    }
}

#[test]
fn a_leader_killed_and_each_node_sealed_fail_no_transaction() -> Result<()> {
    let mut cluster = Cluster::start()?;
    let site = site("outage-cluster", &cluster.0[0], &cluster.0[0].address())?;
    let config = files::text(&site.config())?;
    let one = format!("address = {:?}", cluster.0[0].address());
    ensure!(config.contains(&one), "{config}");
    let all: Vec<_> = cluster.0.iter().map(Vault::address).collect();
    files::write(&site.config(), config.replace(&one, &format!("address = {all:?}")))?;

    let server = site.start()?;
    MIXED.prepare(&server)?;
    rotated(&server, Duration::ZERO)?;
    let load = MIXED.start(&server, if crate::extended() { 300 } else { 45 })?;
    let killed = cluster.leader()?;
    cluster.0[killed].kill()?;
    let took = rotated(&server, PATIENCE)?;
    seen!("leader killed: the next rotation is done after {:.1} s", took.as_secs_f64());
    cluster.0[killed].run()?;
    cluster.0[killed].unseal()?;
    for at in 0..cluster.0.len() {
        let leads = cluster.leader()? == at;
        cluster.0[at].seal_this()?;
        let took = rotated(&server, PATIENCE)?;
        let role = if leads { "the leader" } else { "a standby" };
        seen!(
            "node {} ({role}) sealed: a rotation is done after {:.1} s",
            at + 1,
            took.as_secs_f64()
        );
        cluster.0[at].unseal()?;
    }
    let figures = load.finish()?;
    seen!("{} transactions, 0 failed, the longest {:.0} ms", figures.transactions, figures.longest);
    ensure!(server.status("Keyward_degraded")? == "0", "{}", lines(&server.log()).join("\n"));
    MIXED.complete(&server)?;
    secrets::not_in_memory(&cluster.0[0], &site, &server)?;
    server.stop()?;
    // Any one node is enough for a start, the first in the list or not.
    cluster.0[0].kill()?;
    cluster.leader()?;
    let began = Instant::now();
    let server = site.start()?;
    seen!("a start without the first node takes {:.1} s", began.elapsed().as_secs_f64());
    ensure!(server.status("Keyward_stash_in_use")? == "0", "the stash was needed");
    MIXED.complete(&server)?;
    server.stop()?;
    secrets::not_in_logs(&cluster.0[1], &site)
}
