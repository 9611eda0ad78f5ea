//! What a signed token says of itself (RFC 7519), to tell why a log-in with it was refused. Nothing is
//! verified here: that is Vault's part.

#![forbid(unsafe_code)]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use serde::Deserialize;

use crate::env::Timestamp;

/// The subject of an account of Kubernetes, before its namespace and name.
const ACCOUNT: &str = "system:serviceaccount:";

/// The longest name that is shown.
const LONGEST: usize = 253;

/// Whom a token is of and for whom, and how long it is good.
#[derive(Deserialize)]
pub(super) struct Claims {
    sub: String,
    #[serde(default)]
    aud: Audience,
    #[serde(default)]
    exp: Option<u64>,
}

/// One name or several.
#[derive(Default, Deserialize)]
#[serde(untagged)]
enum Audience {
    #[default]
    Nobody,
    One(String),
    Several(Vec<String>),
}

impl Claims {
    /// Those of `token`; nothing where it has none that can be shown.
    pub(super) fn of(token: &str) -> Option<Self> {
        let body = BASE64.decode(token.split('.').nth(1)?).ok()?;
        let claims: Self = serde_json::from_slice(&body).ok()?;
        let names = std::iter::once(claims.sub.as_str()).chain(claims.audiences());
        let is_plain = |name: &str| {
            name.len() <= LONGEST && !name.is_empty() && name.chars().all(|c| c.is_ascii_graphic())
        };
        let shown = names.into_iter().all(is_plain);
        shown.then_some(claims)
    }

    /// Why `role` at `auth/<mount>` refuses it, most likely, and what to do. `option` is `-namespace=N `, or nothing.
    pub(super) fn refused(
        &self,
        mount: &str,
        role: &str,
        option: &str,
        now: Timestamp,
    ) -> [String; 2] {
        let (subject, account) = (&self.sub, self.account());
        if let Some(end) = self.exp.map(Timestamp::from_unix).filter(|end| *end <= now) {
            let advice = match account {
                Some((namespace, name)) => format!(
                    "a pod's is replaced in time; elsewhere put a new one there: kubectl create token \
                     {name} --namespace={namespace}{}",
                    self.options()
                ),
                None => "put a new one there".to_owned(),
            };
            return [format!("the JWT of {subject} ended at {end}"), advice];
        }
        let for_whom = self.audiences().collect::<Vec<_>>().join(", ");
        let for_whom = if for_whom.is_empty() { "nobody".to_owned() } else { for_whom };
        let reason = format!("role {role} does not accept the JWT of {subject} for {for_whom}");
        let read = format!("vault read {option}auth/{mount}/role/{role}");
        let advice = match account {
            Some((namespace, name)) => format!(
                "does `kubectl get serviceaccount {name} --namespace={namespace}` find the account, and are \
                 it and the pod older than the token? does `{read}` name account, namespace and audience? \
                 does Vault reach Kubernetes?"
            ),
            None => format!(
                "does `{read}` name subject and audience? correct it, or put another JWT there"
            ),
        };
        [reason, advice]
    }

    /// Namespace and name of the account of Kubernetes that it is of.
    fn account(&self) -> Option<(&str, &str)> {
        self.sub.strip_prefix(ACCOUNT)?.split_once(':')
    }

    fn audiences(&self) -> impl Iterator<Item = &str> {
        let names = match &self.aud {
            Audience::Nobody => &[],
            Audience::One(name) => std::slice::from_ref(name),
            Audience::Several(names) => names.as_slice(),
        };
        names.iter().map(String::as_str)
    }

    fn options(&self) -> String {
        self.audiences().map(|audience| format!(" --audience={audience}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(claims: &str) -> String {
        format!("head.{}.signature", BASE64.encode(claims))
    }

    fn refused(claims: &str) -> Option<[String; 2]> {
        let now = Timestamp::from_unix(1_700_000_000);
        Claims::of(&token(claims)).map(|claims| claims.refused("kubernetes", "db", "", now))
    }

    #[test]
    fn an_account_of_kubernetes_is_named_with_its_audiences() {
        let [reason, advice] = refused(
            r#"{"sub":"system:serviceaccount:prod:mariadb","aud":["vault","other"],"exp":1800000000}"#,
        )
        .unwrap();
        let wanted = "role db does not accept the JWT of system:serviceaccount:prod:mariadb for vault, other";
        assert_eq!(reason, wanted);
        assert!(
            advice
                .contains("`kubectl get serviceaccount mariadb --namespace=prod` find the account")
        );
        assert!(advice.contains("`vault read auth/kubernetes/role/db` name account"));
    }

    #[test]
    fn one_that_is_over_is_told_so() {
        let claims =
            r#"{"sub":"system:serviceaccount:prod:mariadb","aud":"vault","exp":1600000000}"#;
        let [reason, advice] = refused(claims).unwrap();
        let wanted = "the JWT of system:serviceaccount:prod:mariadb ended at 2020-09-13T12:26:40Z";
        assert_eq!(reason, wanted);
        let line = "kubectl create token mariadb --namespace=prod --audience=vault";
        assert!(advice.ends_with(line), "{advice}");
    }

    #[test]
    fn others_are_named_by_their_subject() {
        let [reason, advice] = refused(r#"{"sub":"repo:db"}"#).unwrap();
        assert_eq!(reason, "role db does not accept the JWT of repo:db for nobody");
        let words = "does `vault read auth/kubernetes/role/db` name subject and audience?";
        assert!(advice.starts_with(words), "{advice}");
    }

    #[test]
    fn what_cannot_be_shown_is_not() {
        for claims in [r#"{"sub":"a\u001b[2J"}"#, r#"{"sub":""}"#, r#"{"aud":"vault"}"#, "[]", "{"]
        {
            assert!(refused(claims).is_none(), "{claims}");
        }
        let long = format!(r#"{{"sub":"{}"}}"#, "x".repeat(LONGEST + 1));
        assert!(refused(&long).is_none());
        assert!(Claims::of("no token").is_none());
    }
}
