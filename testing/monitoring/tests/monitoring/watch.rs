//! Prometheus with its exporters, each a process of its own on a port of the loopback.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use test_kit::{Process, Result, Scratch, artefacts, ensure, files, free_port, run};

/// How long anything may take to be seen.
const PATIENCE: Duration = Duration::from_secs(90);
const TICK: Duration = Duration::from_millis(500);

/// The rules wait for minutes and days; here they wait for seconds. Each pair must be found.
const FASTER: &[(&str, &[(&str, &str)])] = &[
    (
        "keyward.rules.yml",
        &[
            ("> 1800", "> 20"),
            ("> 3 * 3600", "> 60"),
            ("> 86400", "> 5"),
            ("[6h]", "[10s]"),
            ("offset 6h", "offset 10s"),
            ("[1h]", "[10s]"),
            ("14 * 86400", "86400"),
            ("7 * 86400", "86400"),
        ],
    ),
    ("keyward-exporter.rules.yml", &[("> 3 * 3600", "> 60"), ("> 86400", "> 5")]),
];

/// Those that run; they end with this value.
pub(crate) struct Watch {
    prometheus: Process,
    node: Process,
    mysqld: Process,
    url: String,
    /// Where mysqld_exporter is, which is the label `instance` of its metrics.
    pub(crate) exporter: String,
    scratch: Scratch,
}

impl Watch {
    /// Watches the server at `socket`.
    pub(crate) fn start(socket: &Path) -> Result<Self> {
        let scratch = Scratch::new("watch")?;
        let [port, node, mysqld] = [free_port()?, free_port()?, free_port()?];
        let at = |port: u16| format!("127.0.0.1:{port}");
        let mut watch = Self {
            prometheus: Process::default(),
            node: Process::default(),
            mysqld: Process::default(),
            url: format!("http://{}", at(port)),
            exporter: at(mysqld),
            scratch,
        };
        fs::create_dir(watch.textfiles())?;
        let mut command = Process::command("prometheus-node-exporter");
        command.args(["--collector.disable-defaults", "--collector.textfile"]);
        command.arg(format!("--collector.textfile.directory={}", watch.textfiles().display()));
        command.arg(format!("--web.listen-address={}", at(node)));
        watch.node.start(command, &watch.path("node.log"))?;
        let mut command = Process::command("prometheus-mysqld-exporter");
        command.arg(format!("--web.listen-address={}", at(mysqld)));
        command.env("DATA_SOURCE_NAME", format!("root@unix({})/", socket.display()));
        watch.mysqld.start(command, &watch.path("mysqld.log"))?;
        watch.node.wait_for_port(node)?;
        watch.mysqld.wait_for_port(mysqld)?;
        let config = watch.write_config(&at(node), &at(mysqld))?;
        let mut command = Process::command("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", watch.path("data").display()));
        command.arg(format!("--web.listen-address={}", at(port)));
        watch.prometheus.start(command, &watch.path("prometheus.log"))?;
        watch.prometheus.wait_for_port(port)?;
        Ok(watch)
    }

    fn write_config(&self, node: &str, mysqld: &str) -> Result<PathBuf> {
        let kept = artefacts::repository().join("packaging/monitoring");
        for (name, faster) in FASTER {
            let mut text = files::text(&kept.join(name))?;
            for (slow, fast) in *faster {
                ensure!(text.contains(slow), "{name} has no {slow:?}");
                text = text.replace(slow, fast);
            }
            let lines = text.lines().filter(|line| !line.trim_start().starts_with("for: "));
            files::write(&self.path(name), lines.collect::<Vec<_>>().join("\n"))?;
        }
        let text = format!(
            "global:\n  scrape_interval: 1s\n  evaluation_interval: 1s\n\
             rule_files: [\"*.rules.yml\"]\nscrape_configs:\n\
             - job_name: node\n  static_configs: [{{targets: [\"{node}\"]}}]\n\
             - job_name: mysqld\n  static_configs: [{{targets: [\"{mysqld}\"]}}]\n"
        );
        let config = self.path("prometheus.yml");
        files::write(&config, text)?;
        Ok(config)
    }

    /// The folder whose files node_exporter reads.
    pub(crate) fn textfiles(&self) -> PathBuf {
        self.path("textfiles")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path().join(name)
    }

    /// The names of all metrics that ever came.
    pub(crate) fn metrics(&self) -> Result<BTreeSet<String>> {
        let names = self.get("/api/v1/label/__name__/values", &[])?;
        Ok(texts(&names).collect())
    }

    /// Whatever `query` finds.
    pub(crate) fn query(&self, query: &str) -> Result<Vec<Value>> {
        let found = self.get("/api/v1/query", &[("query", query)])?;
        found["result"].as_array().cloned().ok_or_else(|| format!("{query}: {found}").into())
    }

    /// The values of `label` in the series that `selector` finds.
    pub(crate) fn labels(&self, label: &str, selector: &str) -> Result<Vec<String>> {
        let values =
            self.get(&format!("/api/v1/label/{label}/values"), &[("match[]", selector)])?;
        Ok(texts(&values).collect())
    }

    /// The rules, each of which can be evaluated.
    pub(crate) fn rules(&self) -> Result<Vec<String>> {
        let groups = self.get("/api/v1/rules", &[])?;
        let mut names = Vec::new();
        for group in groups["groups"].as_array().into_iter().flatten() {
            for rule in group["rules"].as_array().into_iter().flatten() {
                ensure!(rule["health"] == "ok", "{rule}");
                names.extend(rule["name"].as_str().map(str::to_owned));
            }
        }
        Ok(names)
    }

    /// The alerts that fire: name and instance.
    pub(crate) fn alerts(&self) -> Result<BTreeSet<(String, String)>> {
        let found = self.get("/api/v1/alerts", &[])?;
        let text = |alert: &Value, label: &str| {
            alert["labels"][label].as_str().unwrap_or_default().to_owned()
        };
        let alerts = found["alerts"].as_array().into_iter().flatten();
        let firing = alerts.filter(|alert| alert["state"] == "firing");
        Ok(firing.map(|alert| (text(alert, "alertname"), text(alert, "instance"))).collect())
    }

    /// Waits until `holds`; `what` names it.
    pub(crate) fn until(&self, what: &str, holds: impl Fn(&Self) -> Result<bool>) -> Result<()> {
        let since = Instant::now();
        while !holds(self)? {
            if since.elapsed() > PATIENCE {
                let alerts = self.alerts()?;
                return Err(format!("waiting for {what}; alerts: {alerts:?}").into());
            }
            sleep(TICK);
        }
        Ok(())
    }

    fn get(&self, path: &str, fields: &[(&str, &str)]) -> Result<Value> {
        let mut words = vec!["-sS".to_owned(), "--get".to_owned(), format!("{}{path}", self.url)];
        for (name, value) in fields {
            words.extend(["--data-urlencode".to_owned(), format!("{name}={value}")]);
        }
        let text = run("curl", words)?;
        let answer: Value =
            serde_json::from_str(&text).map_err(|error| format!("{path}: {error}: {text}"))?;
        ensure!(answer["status"] == "success", "{path} {fields:?}: {text}");
        Ok(answer["data"].clone())
    }
}

fn texts(values: &Value) -> impl Iterator<Item = String> {
    values.as_array().into_iter().flatten().filter_map(|value| value.as_str().map(str::to_owned))
}
