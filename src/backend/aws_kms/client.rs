//! Calls to KMS: with which credentials, over which connection, again or not.

#![forbid(unsafe_code)]

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_runtime::env_config::file::EnvConfigFiles;
use aws_sdk_kms::config::http::HttpRequest;
use aws_sdk_kms::config::interceptors::BeforeTransmitInterceptorContextRef;
use aws_sdk_kms::config::retry::RetryConfig;
use aws_sdk_kms::config::timeout::TimeoutConfig;
use aws_sdk_kms::config::{
    AppName, ConfigBag, HttpClient as _, Intercept, ProvideCredentials, RuntimeComponents,
    SharedCredentialsProvider, SharedHttpClient,
};
use aws_sdk_kms::error::{BoxError, ProvideErrorMetadata, SdkError};
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider as Tls, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder as HttpBuilder, Connector};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::result::ConnectorError;
use tokio::runtime::{Builder, Runtime};

use super::super::http::{Url, is_private, place};
use super::arn::region_of;
use super::failure::{self, CallContext};
use super::files;
use super::settings::Settings;
use crate::env::{Deadline, Retry, Rng, run_apart};
use crate::error::{Error, Kind, Result};

/// How often a region that nobody answers in is tried: another provider may be waiting.
const CONNECT_TRIES: u32 = 3;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// KMS as the configuration has it. Nothing of a call outlives it, no credentials either.
pub(super) struct Client {
    settings: Settings,
    rng: Arc<dyn Rng>,
}

impl Client {
    pub(super) fn new(settings: Settings, rng: Arc<dyn Rng>) -> Self {
        Self { settings, rng }
    }

    /// Does `work`, an operation that `what` names, apart: the SDK's futures are far too large for
    /// the stack of a server's connection.
    pub(super) fn run<T: Send>(
        &self,
        what: &str,
        by: Deadline,
        work: impl FnOnce(&Call<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        by.left(what)?;
        run_apart(|| work(&self.call(by)?))?
    }

    /// Finds region and credentials, as the SDK does.
    fn call(&self, by: Deadline) -> Result<Call<'_>> {
        let runtime = Builder::new_current_thread().enable_all().build().map_err(|cause| {
            Error::new(Kind::Internal, format!("cannot prepare calls to AWS: {cause}"))
        })?;
        let guard = Arc::new(EndpointGuard::default());
        let found = runtime.block_on(async {
            let left = by.left("looking for AWS credentials")?;
            let found = tokio::time::timeout(left, self.configure(Arc::clone(&guard)));
            found.await.unwrap_or_else(|_| Err(failure::slow_credentials()))
        });
        Ok(Call { kms: found?, client: self, guard, by, runtime })
    }

    async fn configure(&self, guard: Arc<EndpointGuard>) -> Result<aws_sdk_kms::Client> {
        let config =
            self.load(files::profiles(&self.settings, |name| std::env::var_os(name))?).await;
        let otherwise = self.settings.default_region.map(Region::new);
        let region = config.region().cloned().or(otherwise).ok_or_else(failure::no_region)?;
        let provider = config.credentials_provider().ok_or_else(failure::no_provider)?;
        let credentials = provider
            .provide_credentials()
            .await
            .map_err(|error| failure::no_credentials(&error, self.settings.profile.as_deref()))?;
        let mut builder = aws_sdk_kms::config::Builder::from(&config).region(region);
        // The chain would be asked again, and fail with fewer words.
        builder.set_credentials_provider(Some(SharedCredentialsProvider::new(credentials)));
        if let Some(endpoint) = &self.settings.endpoint {
            builder.set_endpoint_url(Some(endpoint.as_str().to_owned()));
        }
        let timeouts = TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build();
        // Calls are made again here, where the deadline and the cause are known.
        let builder = builder
            .retry_config(RetryConfig::disabled())
            .timeout_config(timeouts)
            .interceptor(Guard(guard));
        Ok(aws_sdk_kms::Client::from_conf(builder.build()))
    }

    async fn load(&self, profiles: EnvConfigFiles) -> SdkConfig {
        let Settings { key, region, fips, profile, .. } = &self.settings;
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
            .http_client(https())
            .profile_files(profiles);
        if let Ok(name) = AppName::new(concat!("keyward-", env!("CARGO_PKG_VERSION"))) {
            loader = loader.app_name(name);
        }
        if let Some(region) = region.as_deref().or_else(|| region_of(key)) {
            loader = loader.region(Region::new(region.to_owned()));
        }
        if *fips {
            loader = loader.use_fips(true);
        }
        if let Some(profile) = profile {
            loader = loader.profile_name(profile);
        }
        loader.load().await
    }
}

/// HTTPS by rustls with *ring*, over the proxy that the environment names; plain HTTP to nobody on a
/// network, be it KMS or a service that gives credentials.
fn https() -> SharedHttpClient {
    let client = HttpBuilder::new().build_with_connector_fn(|settings, components| {
        let mut builder = Connector::builder()
            .tls_provider(Tls::Rustls(CryptoMode::Ring))
            .proxy_config(proxy(|name| std::env::var(name).ok()));
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(RuntimeComponents::sleep_impl));
        builder.build()
    });
    http_client_fn(move |settings, components| {
        SharedHttpConnector::new(Private(client.http_connector(settings, components)))
    })
}

/// The proxy for HTTPS, which it carries by CONNECT. One for plain HTTP would read the credentials that the
/// machine's metadata service gives.
fn proxy(variable: impl Fn(&str) -> Option<String>) -> ProxyConfig {
    let first =
        |names: [&str; 2]| names.into_iter().filter_map(&variable).find(|value| !value.is_empty());
    let named = first(["HTTPS_PROXY", "https_proxy"]).or_else(|| first(["ALL_PROXY", "all_proxy"]));
    let Some(config) = named.and_then(|url| ProxyConfig::https(url).ok()) else {
        return ProxyConfig::disabled();
    };
    let without = first(["NO_PROXY", "no_proxy"]).unwrap_or_default();
    config.no_proxy(format!("localhost,127.0.0.0/8,::1,{without}"))
}

/// A connector that sends nothing in the clear where a network could read it.
#[derive(Debug)]
struct Private(SharedHttpConnector);

impl HttpConnector for Private {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if Url::parse(request.uri()).is_ok_and(|url| may_call(&url)) {
            return self.0.call(request);
        }
        let refused = ConnectorError::user("not over a network in the clear".into());
        HttpConnectorFuture::ready(Err(refused))
    }
}

/// Whether a request may go to `url`: also to where EC2, ECS and EKS give an instance its credentials.
/// Those link-local addresses are the hypervisor's or the node's, speak no TLS, and are on no network.
fn may_call(url: &Url) -> bool {
    const METADATA: [&str; 5] =
        ["169.254.169.254", "[fd00:ec2::254]", "169.254.170.2", "169.254.170.23", "[fd00:ec2::23]"];
    let is_metadata = || url.host_str().is_some_and(|host| METADATA.contains(&host));
    is_private(url) || (url.scheme() == "http" && is_metadata())
}

/// One operation: some requests, over connections that end with it.
pub(super) struct Call<'a> {
    // Before the runtime, so that its connections end while that still stands.
    kms: aws_sdk_kms::Client,
    client: &'a Client,
    guard: Arc<EndpointGuard>,
    by: Deadline,
    runtime: Runtime,
}

impl Call<'_> {
    /// The SDK's client, for requests that [`send`](Self::send) is to run.
    pub(super) fn kms(&self) -> &aws_sdk_kms::Client {
        &self.kms
    }

    /// Where KMS is: `https://kms.eu-central-1.amazonaws.com`, once it was called.
    pub(super) fn place(&self) -> String {
        self.guard.place().unwrap_or_else(|| "AWS KMS".to_owned())
    }

    /// The error that the answer is not one of KMS's.
    pub(super) fn foreign(&self) -> Error {
        let what = format!("{} answers something else than KMS's API has", self.place());
        Error::new(Kind::Unavailable, what).advise("is `endpoint` the right address?")
    }

    /// Makes a request, again and again while the failures are transient, until the deadline. The
    /// error is the last cause. `action` is what a policy must allow, and `key` on what.
    pub(super) fn send<O, E, F>(
        &self,
        action: &str,
        key: &str,
        request: impl Fn() -> F,
    ) -> Result<O>
    where
        F: Future<Output = Result<O, SdkError<E>>>,
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        let mut retry = Retry::until(self.by, &*self.client.rng);
        let mut unreached = 0;
        loop {
            let left = self.by.left(format_args!("calling {}", self.place()))?;
            let answer = self.runtime.block_on(async {
                // The request is built in here: it wants the runtime.
                tokio::time::timeout(left, async { request().await }).await
            });
            let error = match answer {
                Ok(Ok(output)) => return Ok(output),
                Ok(Err(error)) => error,
                Err(_) => return Err(failure::late(&self.place())),
            };
            unreached +=
                u32::from(!matches!(error, SdkError::ServiceError(_) | SdkError::ResponseError(_)));
            let place = self.place();
            let cause = match self.guard.is_shut() {
                true => failure::in_the_clear(&place),
                false => failure::failed(&CallContext { action, key, place: &place }, &error),
            };
            let again = cause.kind() == Kind::Unavailable && unreached < CONNECT_TRIES;
            if !again || !retry.wait() {
                return Err(cause);
            }
        }
    }
}

/// Takes note of where requests go, and lets none pass that would cross a network in the clear:
/// the environment and the profile can name an endpoint as well.
#[derive(Debug, Default)]
struct EndpointGuard {
    place: Mutex<Option<String>>,
    shut: AtomicBool,
}

impl EndpointGuard {
    fn place(&self) -> Option<String> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn is_shut(&self) -> bool {
        self.shut.load(Ordering::Relaxed)
    }
}

/// As the SDK wants it, which owns what it is given.
#[derive(Debug)]
struct Guard(Arc<EndpointGuard>);

impl Intercept for Guard {
    fn name(&self) -> &'static str {
        "keyward"
    }

    fn read_before_transmit(
        &self,
        context: &BeforeTransmitInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let url = Url::parse(context.request().uri())?;
        *self.0.place.lock().unwrap_or_else(PoisonError::into_inner) = Some(place(&url));
        if is_private(&url) {
            return Ok(());
        }
        self.0.shut.store(true, Ordering::Relaxed);
        Err("not over a network in the clear".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_given_a_plain_request() {
        let config = |set: &[(&str, &str)]| {
            let set: Vec<_> = set.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
            let found = move |name: &str| {
                set.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
            };
            format!("{:?}", proxy(found))
        };
        let plain = [("HTTP_PROXY", "http://p:1"), ("http_proxy", "http://p:1")];
        assert_eq!(config(&plain), config(&[]));
        let https = config(&[("https_proxy", "http://p:1"), ("NO_PROXY", "a.example")]);
        assert!(https.contains("Https") && https.contains("a.example"), "{https}");
        assert!(config(&[("ALL_PROXY", "http://p:1")]).contains("Https"));
    }

    #[test]
    fn plain_requests_stay_on_the_machine_and_its_metadata_service() {
        for (url, may) in [
            ("https://sts.eu-central-1.amazonaws.com/", true),
            ("http://169.254.169.254/latest/api/token", true),
            ("http://[fd00:ec2::254]/latest/api/token", true),
            ("http://169.254.170.2/v2/credentials", true),
            ("http://127.0.0.1:4566/", true),
            ("http://sts.eu-central-1.amazonaws.com/", false),
            ("http://169.254.1.1/", false),
            ("http://10.0.0.1/", false),
        ] {
            assert_eq!(may_call(&Url::parse(url).unwrap()), may, "{url}");
        }
    }
}
