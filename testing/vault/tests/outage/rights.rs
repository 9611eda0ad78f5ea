//! Each right that a policy must give, taken away in turn: `doctor` says which, in rules that can be
//! added as they are.

use test_kit::command::answer;
use test_kit::{Answer, Result, Scratch, artefacts, ensure, files, seen};
use test_vault::Shared;

/// A path of a policy and what may be done there.
type Rule = (String, Vec<&'static str>);

/// Vault as `doctor` asks it, with a token of one policy.
struct Clinic<'a> {
    shared: &'a Shared,
    scratch: Scratch,
    policy: String,
    /// The provider's lines of the configuration.
    provider: String,
}

#[test]
fn of_a_kv_engine() -> Result<()> {
    let shared = Shared::get()?;
    let prefix = shared.new_name();
    let data = format!("data={}", "6e".repeat(32));
    shared.vault.vault(&["kv", "put", "-mount=secret", &format!("{prefix}/1"), &data])?;
    let write = vec!["create", "read", "update"];
    let rules = [
        (format!("secret/metadata/{prefix}/"), vec!["list"]),
        (format!("secret/metadata/{prefix}/*"), write.clone()),
        (format!("secret/data/{prefix}/*"), write),
        ("secret/config".to_owned(), vec!["read"]),
    ];
    let provider = format!("type = \"vault-kv\"\nprefix = {prefix:?}\n");
    Clinic::new(&shared, provider)?.take_away_each(&rules)
}

#[test]
fn of_a_transit_key() -> Result<()> {
    let shared = Shared::get()?;
    let key = shared.new_name();
    shared.vault.vault(&["write", "-f", &format!("transit/keys/{key}")])?;
    let rules = [
        (format!("transit/encrypt/{key}"), vec!["update"]),
        (format!("transit/decrypt/{key}"), vec!["update"]),
        (format!("transit/keys/{key}"), vec!["read"]),
    ];
    let provider = format!("type = \"vault-transit\"\nkey = {key:?}\n");
    Clinic::new(&shared, provider)?.take_away_each(&rules)
}

impl<'a> Clinic<'a> {
    fn new(shared: &'a Shared, provider: String) -> Result<Self> {
        let (scratch, policy) = (Scratch::new("rights")?, shared.new_name());
        Ok(Self { shared, scratch, policy, provider })
    }

    fn take_away_each(&self, rules: &[Rule]) -> Result<()> {
        let mut all = rules.to_vec();
        // What the policy "default" gives, by itself: so that each can be taken away as well.
        let own = ["auth/token/lookup-self", "auth/token/renew-self", "sys/capabilities-self"];
        let rights = [vec!["read"], vec!["update"], vec!["update"]];
        all.extend(own.map(str::to_owned).into_iter().zip(rights));
        let healthy = self.doctor(&all)?;
        ensure!(
            self.provider_line(&healthy)?.contains("all that are needed"),
            "{}",
            healthy.text()
        );
        let mut taken = 0;
        // Without the last none can be told, and without the first no token is accepted.
        for (at, (path, rights)) in rules.iter().chain([&all[rules.len() + 1]]).enumerate() {
            let at = if at == rules.len() { at + 1 } else { at };
            for right in rights {
                let mut fewer = all.clone();
                fewer[at].1.retain(|one| one != right);
                let said = self.doctor(&fewer)?;
                let line = self.provider_line(&said)?;
                ensure!(said.code == 1, "{right} on {path} is not missed:\n{}", said.text());
                let wanted = format!("path {path:?} {{ capabilities = [");
                ensure!(
                    line.contains(&wanted) && line.contains(right),
                    "{right} on {path}: {line}"
                );
                // With what it prints the patient is well.
                let rules = &line[line.find("path \"").unwrap_or_default()..];
                let said = self.doctor_with(&(hcl(&fewer) + rules))?;
                let line = self.provider_line(&said)?;
                ensure!(line.contains("all that are needed"), "{right} on {path}, added: {line}");
                taken += 1;
            }
        }
        seen!(
            "{}: {taken} rights taken away one by one, each named and corrected",
            self.provider.lines().next().unwrap_or_default()
        );
        Ok(())
    }

    fn doctor(&self, rules: &[Rule]) -> Result<Answer> {
        self.doctor_with(&hcl(rules))
    }

    /// What `doctor` says with a token of this policy and of no other.
    fn doctor_with(&self, policy: &str) -> Result<Answer> {
        let vault = &self.shared.vault;
        vault.policy(&self.policy, policy)?;
        let option = format!("-policy={}", self.policy);
        let words = ["token", "create", "-no-default-policy", &option, "-ttl=1h", "-field=token"];
        let token = vault.vault(&words)?;
        let at = |name: &str| self.scratch.path().join(name);
        files::write(&at("token"), token.trim())?;
        files::chmod(&at("token"), 0o600)?;
        let config = format!(
            "[keystore]\npath = {:?}\n[[provider]]\nname = \"v\"\n{}address = {:?}\nca_file = {:?}\n\
             token_file = {:?}\n",
            at("keystore.json"),
            self.provider,
            vault.address(),
            vault.certificates().path("ca.pem"),
            at("token"),
        );
        files::write(&at("keyward.toml"), config)?;
        let mut command = std::process::Command::new(artefacts::command());
        command.arg("--config").arg(at("keyward.toml")).arg("doctor");
        let said = answer(&mut command)?;
        ensure!(!said.text().contains(token.trim()), "the token shows: {}", said.text());
        Ok(said)
    }

    /// What it says of the provider, with the advice on the line below.
    fn provider_line(&self, said: &Answer) -> Result<String> {
        let mut lines = said.out.lines().skip_while(|line| !line.contains("provider \"v\""));
        let line =
            lines.next().ok_or_else(|| format!("no line of the provider:\n{}", said.text()))?;
        let advice = lines.next().filter(|line| line.trim().starts_with("->")).unwrap_or_default();
        Ok(format!("{line} {}", advice.trim()))
    }
}

fn hcl(rules: &[Rule]) -> String {
    let given = rules.iter().filter(|(_, rights)| !rights.is_empty());
    given.map(|(path, rights)| format!("path {path:?} {{ capabilities = {rights:?} }}\n")).collect()
}
