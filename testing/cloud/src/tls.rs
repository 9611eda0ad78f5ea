//! TLS as a server has it.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use test_kit::{Certificates, Result};

/// TLS as the server whose certificate this is.
pub(crate) fn server_config(certificates: &Certificates) -> Result<Arc<ServerConfig>> {
    let wrong = |error: &dyn std::fmt::Display| error.to_string();
    let chain = CertificateDer::pem_file_iter(certificates.path("server.pem"))
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| wrong(&error))?;
    let key = PrivateKeyDer::from_pem_file(certificates.path("server.key"));
    let key = key.map_err(|error| wrong(&error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
        .map_err(|error| wrong(&error))?;
    Ok(Arc::new(config))
}
