// SPDX-License-Identifier: Apache-2.0
//! The HTTP client of EC2 and of the sources of credentials: a request goes straight, or through a proxy.
//!
//! Which one is decided by [`Proxies::route`] for each request; the SDK's own reading of the environment knows neither ports nor
//! `*.` in NO_PROXY, spares nothing that is link-local, and passes over a proxy that it cannot read.
//!
//! Invariant: a request has one client, so connections of one path are never used on another.
//!
//! ```text
//! SDK ─► Routed ─ route(url) ─┬─ direct ──────────────────────────► destination
//!                             ├─ http:  absolute form ──► proxy ──► destination
//!                             └─ https: CONNECT ────────► proxy ══► destination (TLS end to end)
//! ```

use std::sync::Arc;

use aws_sdk_ec2::config::ConfigBag;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};

use ipamd_core::config::{Proxies, ProxyUrl, Route};

use crate::config::ConnectError;

/// Clients, one for each way that there is.
#[derive(Debug)]
struct Routed<T> {
    proxies: Arc<Proxies>,
    direct: T,
    http: Option<T>,
    https: Option<T>,
}

/// The client of these proxies.
pub(crate) fn http_client(tls: &TlsContext, proxies: &Proxies) -> Result<SharedHttpClient, ConnectError> {
    let way = |url: &Option<ProxyUrl>, config: fn(String) -> Result<ProxyConfig, _>| {
        let Some(url) = url else { return Ok(None) };
        let unusable = |error: aws_smithy_http_client::proxy::ProxyError| ConnectError(format!("proxy {url}: {error}"));
        Ok(Some(client(tls, Some(config(url.secret().to_owned()).map_err(unusable)?))))
    };
    Ok(SharedHttpClient::new(Routed {
        proxies: Arc::new(proxies.clone()),
        direct: client(tls, None),
        http: way(&proxies.http, ProxyConfig::http)?,
        https: way(&proxies.https, ProxyConfig::https)?,
    }))
}

/// A client that takes one way for everything: rustls on ring.
fn client(tls: &TlsContext, proxy: Option<ProxyConfig>) -> SharedHttpClient {
    let tls = tls.clone();
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = ConnectorBuilder::default();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        builder.set_proxy_config(proxy.clone());
        builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build()
    })
}

impl HttpClient for Routed<SharedHttpClient> {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let connector = |client: &SharedHttpClient| client.http_connector(settings, components);
        SharedHttpConnector::new(Routed {
            proxies: Arc::clone(&self.proxies),
            direct: connector(&self.direct),
            http: self.http.as_ref().map(connector),
            https: self.https.as_ref().map(connector),
        })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.direct.validate_base_client_config(components, config)
    }

    fn validate_final_config(&self, components: &RuntimeComponents, config: &ConfigBag) -> Result<(), BoxError> {
        self.direct.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.direct.connector_metadata()
    }
}

impl HttpConnector for Routed<SharedHttpConnector> {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let (proxy, way) = match self.proxies.route(request.uri()) {
            Route::Direct => (None, None),
            Route::HttpProxy => (self.proxies.http.clone(), self.http.as_ref()),
            Route::HttpsProxy => (self.proxies.https.clone(), self.https.as_ref()),
        };
        let (Some(proxy), Some(way)) = (proxy, way) else { return self.direct.call(request) };
        let answer = way.call(request);
        HttpConnectorFuture::new(async move { answer.await.map_err(|error| through(&proxy, error)) })
    }
}

/// What went wrong on the way through a proxy; without its name one would look for the fault at AWS's endpoint.
#[derive(Debug, thiserror::Error)]
#[error("through the proxy {proxy}")]
struct Through {
    proxy: ProxyUrl,
    #[source]
    source: ConnectorError,
}

/// The same error with the proxy's name: of the same kind, for the SDK's retries go by that.
fn through(proxy: &ProxyUrl, error: ConnectorError) -> ConnectorError {
    let (timeout, io, user, kind) = (error.is_timeout(), error.is_io(), error.is_user(), error.as_other());
    let named: BoxError = Box::new(Through { proxy: proxy.clone(), source: error });
    match (timeout, io, user) {
        (true, ..) => ConnectorError::timeout(named),
        (_, true, _) => ConnectorError::io(named),
        (_, _, true) => ConnectorError::user(named),
        _ => ConnectorError::other(named, kind),
    }
}
