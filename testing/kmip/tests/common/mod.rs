//! What the suites ask of keyward, whichever KMIP server they ask.

use std::sync::Arc;
use std::time::Duration;

use keyward::backend::http::TlsConfig;
use keyward::backend::kmip::{
    Address, KeyChoice, KmipServer, KmipWrapper, ServerSettings, Settings, WrapMechanism,
    WrapperSettings,
};
use keyward::env::{Deadline, System};
use keyward::key::{KeyId, KeyRef, KeyVersion, PageMode};
use keyward::provider::{KeyWrapper, WrapContext};
use keyward::secret::DataKey;
use test_kit::Certificates;
use test_kit::{Result, ensure};

pub(crate) fn soon() -> Deadline {
    Deadline::after(Duration::from_secs(30))
}

pub(crate) fn context() -> WrapContext {
    WrapContext { keystore: "6ba7b810-9dad-41d1-80b4-00c04fd430c8".into(), store_key: 1 }
}

/// How to reach a server on `port`.
pub(crate) fn settings_of(certificates: &Certificates, port: u16) -> Settings {
    let file = |name| Some(certificates.path(name));
    Settings {
        servers: vec![at(port)],
        trust: TlsConfig {
            ca_file: file("ca.pem"),
            client_certificate: file("client.pem"),
            client_key: file("client.key"),
            ..TlsConfig::default()
        },
        version: None,
    }
}

pub(crate) fn at(port: u16) -> Address {
    Address { host: "127.0.0.1".into(), port }
}

pub(crate) fn wrapper(kmip: Settings, key: &str, way: Option<WrapMechanism>) -> KmipWrapper {
    wrapper_of(kmip, KeyChoice::Name(key.into()), way)
}

pub(crate) fn wrapper_of(
    kmip: Settings,
    key: KeyChoice,
    way: Option<WrapMechanism>,
) -> KmipWrapper {
    KmipWrapper::new(WrapperSettings { kmip, key, way }, Arc::new(System))
}

pub(crate) fn server(kmip: Settings, prefix: &str) -> KmipServer {
    let (prefix, refresh) = (prefix.into(), Duration::from_secs(10));
    let settings = ServerSettings { kmip, prefix, mode: PageMode::Ctr, refresh };
    KmipServer::new(settings, Arc::new(System))
}

pub(crate) fn key(id: u32, version: u32) -> Result<KeyRef> {
    Ok(KeyRef::new(said(KeyId::try_from(id))?, said(KeyVersion::try_from(version))?))
}

pub(crate) fn data() -> Result<DataKey> {
    said(DataKey::generate(32, &System))
}

/// Wraps and unwraps; how that was done.
pub(crate) fn works(wrapper: &KmipWrapper) -> Result<String> {
    let data = data()?;
    let wrapped = said(wrapper.wrap(&data, &context(), soon()))?;
    let opened = said(wrapper.unwrap(&wrapped, &context(), soon()))?;
    ensure!(opened.expose() == data.expose(), "another key came back");
    Ok(wrapped.algorithm)
}

pub(crate) fn said<T>(result: keyward::Result<T>) -> Result<T> {
    result.map_err(|error| error.to_string().into())
}
