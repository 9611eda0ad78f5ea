//! fakecloud's KMS, IAM and STS in one process, each request's signature checked and judged by the
//! policies of whoever signed it. fakecloud's own program serves a hundred services more and takes
//! half an hour to build.
//!
//! What is added to its KMS is what a policy for KMS can ask for beside the key: the names of an
//! encryption context, and both halves of `ReEncrypt` ("Condition keys for AWS KMS" and "AWS KMS
//! permissions", AWS KMS developer guide).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use async_trait::async_trait;
use axum::extract::Path;
use axum::routing::post;
use axum::{Extension, Router};
use fakecloud_core::auth::{IamAction, IamMode, MultiResourcePolicyProvider};
use fakecloud_core::dispatch::{self, DispatchConfig};
use fakecloud_core::multi_account::MultiAccountState;
use fakecloud_core::registry::ServiceRegistry;
use fakecloud_core::service::{AwsRequest, AwsResponse, AwsService, AwsServiceError};
use fakecloud_iam::credential_resolver::IamCredentialResolver;
use fakecloud_iam::policy_evaluator::IamPolicyEvaluatorImpl;
use fakecloud_iam::resource_policy::StsResourcePolicyProvider;
use fakecloud_iam::{SharedIamState, iam_service::IamService, sts_service::StsService};
use fakecloud_kms::resource_policy::KmsResourcePolicyProvider;
use fakecloud_kms::{KmsService, SharedKmsState};
use parking_lot::RwLock;

const ACCOUNT: &str = "111122223333";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let (Some(address), Some(region)) = (words.next(), words.next()) else {
        return Err("call it with ADDRESS:PORT REGION".into());
    };
    let listener = tokio::net::TcpListener::bind(address.parse::<SocketAddr>()?).await?;
    let url = format!("http://{address}");
    let iam: SharedIamState = Arc::new(RwLock::new(MultiAccountState::new(ACCOUNT, &region, &url)));
    let kms: SharedKmsState = Arc::new(RwLock::new(MultiAccountState::new(ACCOUNT, &region, &url)));
    let users = IamService::new(iam.clone());
    let sessions = StsService::new(iam.clone()).with_snapshot_lock(users.snapshot_lock());
    let mut registry = ServiceRegistry::new();
    registry.register(Arc::new(users));
    registry.register(Arc::new(sessions));
    registry.register(Arc::new(Kms { service: KmsService::new(kms.clone()), keys: kms.clone() }));
    let config = DispatchConfig {
        verify_sigv4: true,
        iam_mode: IamMode::Strict,
        credential_resolver: Some(IamCredentialResolver::shared(iam.clone())),
        policy_evaluator: Some(IamPolicyEvaluatorImpl::shared(iam.clone())),
        resource_policy_provider: Some(MultiResourcePolicyProvider::shared(vec![
            KmsResourcePolicyProvider::shared(kms),
            StsResourcePolicyProvider::shared(iam.clone()),
        ])),
        ..DispatchConfig::new(region, ACCOUNT)
    };
    let app = Router::new()
        .route("/expire/{access_key}", post(expire))
        .fallback(dispatch::dispatch)
        .layer(Extension(Arc::new(registry)))
        .layer(Extension(Arc::new(config)))
        .layer(Extension(iam));
    axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
    Ok(())
}

/// Ends a session: STS gives none shorter than a quarter of an hour.
async fn expire(
    Path(access_key): Path<String>,
    Extension(iam): Extension<SharedIamState>,
) -> String {
    let mut iam = iam.write();
    let session = iam.default_mut().sts_temp_credentials.get_mut(&access_key);
    let ended = session.map(|session| session.expiration = session.issued_at);
    ended.map_or("no such session", |()| "ended").to_owned()
}

/// KMS, with what policies can ask for of it.
struct Kms {
    service: KmsService,
    keys: SharedKmsState,
}

#[async_trait]
impl AwsService for Kms {
    fn service_name(&self) -> &str {
        self.service.service_name()
    }

    async fn handle(&self, request: AwsRequest) -> Result<AwsResponse, AwsServiceError> {
        self.service.handle(request).await
    }

    fn supported_actions(&self) -> &[&str] {
        self.service.supported_actions()
    }

    fn iam_enforceable(&self) -> bool {
        self.service.iam_enforceable()
    }

    fn iam_action_for(&self, request: &AwsRequest) -> Option<IamAction> {
        self.service.iam_action_for(request)
    }

    fn iam_actions_for(&self, request: &AwsRequest) -> Vec<IamAction> {
        if request.action != "ReEncrypt" {
            return self.service.iam_actions_for(request);
        }
        let body = request.json_body();
        let half = |action, of: &str| {
            let accounts = self.keys.read();
            let named = accounts.get(&request.account_id);
            let arn = named.zip(body[of].as_str()).and_then(|(keys, name)| {
                keys.resolve_key_arn(&request.region, name).map(str::to_owned)
            });
            IamAction { service: "kms", action, resource: arn.unwrap_or_else(|| "*".to_owned()) }
        };
        vec![half("ReEncryptFrom", "SourceKeyId"), half("ReEncryptTo", "DestinationKeyId")]
    }

    fn iam_condition_keys_for(
        &self,
        request: &AwsRequest,
        action: &IamAction,
    ) -> BTreeMap<String, Vec<String>> {
        let body = request.json_body();
        let name = match action.action {
            "ReEncryptFrom" => "SourceEncryptionContext",
            "ReEncryptTo" => "DestinationEncryptionContext",
            _ => "EncryptionContext",
        };
        let Some(context) = body[name].as_object() else { return BTreeMap::new() };
        let pair = |(name, value): (&String, _)| {
            let text = serde_json::Value::as_str(value)?.to_owned();
            Some((format!("kms:encryptioncontext:{}", name.to_lowercase()), vec![text]))
        };
        context.iter().filter_map(pair).collect()
    }
}
