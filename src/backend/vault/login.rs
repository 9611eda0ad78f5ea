//! The ways to log in to Vault, as a configuration names them.

#![forbid(unsafe_code)]

use std::path::PathBuf;

use super::super::http::TlsConfig;
use super::path;
use crate::config::Section;
use crate::error::{Error, Result};
use crate::secret::source::SecretSource;

/// Where Kubernetes puts a pod's token. It is open to all of the pod, and meant to be.
const POD_TOKEN: &str = "/var/run/secrets/kubernetes.io/serviceaccount/token";

/// The log-ins that a cloud's own signature proves, each with the cloud (ADR 109).
const CLOUDS: &[(&str, &str)] = &[("aws", "AWS"), ("azure", "Azure"), ("gcp", "Google Cloud")];

/// How to log in. Each secret is read again for each log-in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// With a token made elsewhere; it is renewed if it can be.
    Token(SecretSource),
    /// As a machine (AppRole).
    AppRole {
        /// Where the method is mounted.
        mount: String,
        /// Which role.
        role_id: RoleId,
        /// The role's secret.
        secret_id: SecretSource,
        /// Whether the secret is a token that unwraps it, once.
        wrapped: bool,
    },
    /// With a signed token of somebody that Vault trusts, such as Kubernetes.
    Jwt {
        /// Where the method is mounted: `jwt` or `kubernetes`.
        mount: String,
        /// Which role.
        role: String,
        /// The signed token.
        jwt: Jwt,
    },
    /// As a user whom Vault knows (`userpass`) or finds in a directory (`ldap`).
    User {
        /// Where the method is mounted.
        mount: String,
        /// The name that the user logs in by.
        name: String,
        /// The user's password.
        password: SecretSource,
    },
    /// With the TLS client certificate.
    Certificate {
        /// Where the method is mounted.
        mount: String,
        /// Which role; without it Vault finds one that fits.
        role: Option<String>,
    },
}

/// The name of an AppRole, in the configuration or beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RoleId {
    /// In the configuration.
    Given(String),
    /// Elsewhere.
    From(SecretSource),
}

/// Where a signed token comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Jwt {
    /// A secret as any other.
    Secret(SecretSource),
    /// A pod's own file, with whatever permissions Kubernetes gave it.
    Pod(PathBuf),
}

impl Login {
    /// What a `[[provider]]` section says.
    pub(super) fn read(section: &Section, trust: &TlsConfig) -> Result<Self> {
        let auth = section.text("auth")?.unwrap_or_else(|| "token".to_owned());
        let mount = path(section, "auth_mount", &auth)?;
        match auth.as_str() {
            "token" => {
                let token =
                    section.secret("token", ["token_file", "token_env", "token_credential"])?;
                token.map(Self::Token).ok_or_else(|| section.lacks("token_file"))
            }
            "approle" => Self::read_approle(section, mount),
            "jwt" | "kubernetes" => Self::read_jwt(section, mount, auth == "kubernetes"),
            "userpass" | "ldap" => Self::read_user(section, mount),
            "cert" if trust.client_certificate.is_none() => {
                Err(section.lacks("client_certificate_file"))
            }
            "cert" => Ok(Self::Certificate { mount, role: section.text("role")? }),
            other => Err(no_login(section, other)),
        }
    }

    fn read_approle(section: &Section, mount: String) -> Result<Self> {
        let keys = ["role_id_file", "role_id_env", "role_id_credential"];
        let role_id = match section.text("role_id")? {
            Some(role_id) => RoleId::Given(role_id),
            None => section
                .secret("role-id", keys)?
                .map(RoleId::From)
                .ok_or_else(|| section.lacks("role_id"))?,
        };
        let keys = ["secret_id_file", "secret_id_env", "secret_id_credential"];
        let secret_id =
            section.secret("secret_id", keys)?.ok_or_else(|| section.lacks("secret_id_file"))?;
        let wrapped = section.boolean("secret_id_wrapped")?.unwrap_or(false);
        Ok(Self::AppRole { mount, role_id, secret_id, wrapped })
    }

    fn read_user(section: &Section, mount: String) -> Result<Self> {
        let name = section.required("user")?;
        // It is a part of the request's path.
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_.@$+~".contains(c);
        if matches!(name.as_str(), "" | "." | "..") || !name.chars().all(is_plain) {
            return Err(section.wrong("user", "may have letters, digits and - _ . @ $ + ~"));
        }
        let keys = ["password_file", "password_env", "password_credential"];
        let password =
            section.secret("password", keys)?.ok_or_else(|| section.lacks("password_file"))?;
        Ok(Self::User { mount, name, password })
    }

    fn read_jwt(section: &Section, mount: String, in_pod: bool) -> Result<Self> {
        let role = section.required("role")?;
        let jwt = match section.secret("jwt", ["jwt_file", "jwt_env", "jwt_credential"])? {
            Some(SecretSource::File(path)) if in_pod => Jwt::Pod(path),
            Some(source) => Jwt::Secret(source),
            None if in_pod => Jwt::Pod(POD_TOKEN.into()),
            None => return Err(section.lacks("jwt_file")),
        };
        Ok(Self::Jwt { mount, role, jwt })
    }
}

/// The error for a way to log in that is none of ours.
fn no_login(section: &Section, auth: &str) -> Error {
    match CLOUDS.iter().find(|(name, _)| *name == auth) {
        Some((name, cloud)) => section
            .wrong("auth", &format!("is a log-in that only {cloud} can sign for, and is not supported"))
            .advise(format!(
                "use jwt where {cloud} gives the machine a signed token in a file, cert, approle, or the \
                 token_file of an agent that logs in by {name}"
            )),
        None => section
            .wrong("auth", "is no way to log in")
            .advise("use token, approle, jwt, kubernetes, cert, userpass or ldap"),
    }
}
