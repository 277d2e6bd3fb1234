// SPDX-License-Identifier: Apache-2.0
//! The HTTP client of EC2 and of the sources of credentials: a request goes straight, or through a proxy.
//!
//! Which one is decided by [`Proxies::route`] for each request; the SDK's own reading of the environment knows neither ports nor
//! `*.` in NO_PROXY, spares nothing that is link-local, and passes over a proxy that it cannot read.
//!
//! Invariants: a request has one client, so connections of one path are never used on another. A request without TLS needs nobody to be
//! trusted; one with TLS, while there is nobody, fails before it leaves, and says so ([`NoAuthorities`]).
//!
//! ```text
//! SDK ─► Routed ─ route(url) ─┬─ direct ──────────────────────────► destination
//!                             ├─ http:  absolute form ──► proxy ──► destination
//!                             └─ https: CONNECT ────────► proxy ══► destination (TLS end to end)
//! ```

use std::sync::{Arc, OnceLock};

use aws_sdk_ec2::config::ConfigBag;
use aws_smithy_http_client::proxy::ProxyConfig;
use aws_smithy_http_client::tls::{Provider, TlsContext, rustls_provider::CryptoMode};
use aws_smithy_http_client::{Builder, ConnectorBuilder};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::connector_metadata::ConnectorMetadata;
use aws_smithy_runtime_api::client::http::{
    HttpClient, HttpConnector, HttpConnectorFuture, HttpConnectorSettings, SharedHttpClient, SharedHttpConnector,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use aws_smithy_runtime_api::client::runtime_components::{RuntimeComponents, RuntimeComponentsBuilder};

use ipamd_core::config::{Proxies, ProxyUrl, Route};

use crate::config::ConnectError;
use crate::trust::{NoAuthorities, Trust};

/// One of each way that there is.
#[derive(Debug)]
struct Ways<T> {
    direct: T,
    http: Option<T>,
    https: Option<T>,
}

impl<T> Ways<T> {
    fn map<U>(&self, of: impl Fn(&T) -> U) -> Ways<U> {
        Ways { direct: of(&self.direct), http: self.http.as_ref().map(&of), https: self.https.as_ref().map(&of) }
    }
}

/// All there is to send a request by.
#[derive(Debug)]
struct Clients {
    proxies: Proxies,
    trust: Trust,
    configs: Ways<Option<ProxyConfig>>,
    idle: Idle,
    /// For what goes by TLS: made when it is first needed and there is somebody to trust.
    secure: OnceLock<Ways<SharedHttpClient>>,
    plain: Ways<SharedHttpClient>,
}

#[derive(Clone, Debug)]
struct Routed(Arc<Clients>);

/// What the SDK would have a connector for; which one it is, a request's URL says.
#[derive(Clone, Debug)]
struct Connector {
    clients: Routed,
    settings: HttpConnectorSettings,
    components: RuntimeComponents,
}

/// Whose end of an idle connection closes it.
#[derive(Clone, Copy, Debug)]
enum Idle {
    /// Ours, after the SDK's time.
    Ours,
    /// The other one.
    Theirs,
}

/// The client of these proxies.
pub(crate) fn http_client(trust: Trust, proxies: &Proxies) -> Result<SharedHttpClient, ConnectError> {
    let way = |url: &Option<ProxyUrl>, config: fn(String) -> Result<ProxyConfig, _>| {
        let Some(url) = url else { return Ok(None) };
        let unusable = |error: aws_smithy_http_client::proxy::ProxyError| ConnectError(format!("proxy {url}: {error}"));
        Ok(Some(Some(config(url.secret().to_owned()).map_err(unusable)?)))
    };
    let (http, https) = (way(&proxies.http, ProxyConfig::http)?, way(&proxies.https, ProxyConfig::https)?);
    Ok(Routed::shared(trust, proxies.clone(), Ways { direct: None, http, https }, Idle::Ours))
}

/// The client of IMDS, which is link-local: no proxy. Its connection is closed by IMDS, not by us after a time: the pool would wake
/// the thread again and again to look at it.
pub(crate) fn imds_http_client() -> SharedHttpClient {
    let direct = Ways { direct: None, http: None, https: None };
    Routed::shared(Trust::System, Proxies::default(), direct, Idle::Theirs)
}

/// A client that takes one way for everything: rustls on ring, or no TLS.
fn client(tls: Option<&TlsContext>, proxy: &Option<ProxyConfig>, idle: Idle) -> SharedHttpClient {
    let (tls, proxy) = (tls.cloned(), proxy.clone());
    Builder::new().build_with_connector_fn(move |settings, components| {
        let mut builder = ConnectorBuilder::default();
        builder.set_connector_settings(settings.cloned());
        builder.set_sleep_impl(components.and_then(|components| components.sleep_impl()));
        builder.set_proxy_config(proxy.clone());
        if matches!(idle, Idle::Theirs) {
            builder.set_pool_idle_timeout(Some(None));
        }
        match &tls {
            Some(tls) => builder.tls_provider(Provider::Rustls(CryptoMode::Ring)).tls_context(tls.clone()).build(),
            None => builder.build_http(),
        }
    })
}

impl Clients {
    fn secure(&self) -> Result<&Ways<SharedHttpClient>, NoAuthorities> {
        if let Some(secure) = self.secure.get() {
            return Ok(secure);
        }
        let tls = self.trust.context()?;
        Ok(self.secure.get_or_init(|| self.configs.map(|proxy| client(Some(&tls), proxy, self.idle))))
    }

    fn proxy(&self, url: &str) -> Option<&ProxyUrl> {
        match self.proxies.route(url) {
            Route::Direct => None,
            Route::HttpProxy => self.proxies.http.as_ref(),
            Route::HttpsProxy => self.proxies.https.as_ref(),
        }
    }

    /// Whether the certificate authorities have to be read before a request can go to a URL.
    fn lacks_trust(&self, url: &str) -> bool {
        self.secure.get().is_none() && by_tls(url, self.proxy(url))
    }

    /// The client for a URL, and the proxy that it goes through.
    fn of(&self, url: &str) -> Result<(&SharedHttpClient, Option<&ProxyUrl>), NoAuthorities> {
        let proxy = self.proxy(url);
        let ways = if by_tls(url, proxy) { self.secure()? } else { &self.plain };
        let way = if is_https(url) { ways.https.as_ref() } else { ways.http.as_ref() };
        Ok(match (way, proxy) {
            (Some(way), Some(proxy)) => (way, Some(proxy)),
            _ => (&ways.direct, None),
        })
    }
}

fn by_tls(url: &str, proxy: Option<&ProxyUrl>) -> bool {
    is_https(url) || proxy.is_some_and(|proxy| is_https(proxy.secret()))
}

fn is_https(url: &str) -> bool {
    url.split_once("://").is_some_and(|(scheme, _)| scheme.eq_ignore_ascii_case("https"))
}

impl Routed {
    fn shared(trust: Trust, proxies: Proxies, configs: Ways<Option<ProxyConfig>>, idle: Idle) -> SharedHttpClient {
        let plain = configs.map(|proxy| client(None, proxy, idle));
        SharedHttpClient::new(Self(Arc::new(Clients { proxies, trust, configs, idle, secure: OnceLock::new(), plain })))
    }
}

impl HttpClient for Routed {
    fn http_connector(&self, settings: &HttpConnectorSettings, components: &RuntimeComponents) -> SharedHttpConnector {
        let (settings, components) = (settings.clone(), components.clone());
        SharedHttpConnector::new(Connector { clients: self.clone(), settings, components })
    }

    fn validate_base_client_config(
        &self,
        components: &RuntimeComponentsBuilder,
        config: &ConfigBag,
    ) -> Result<(), BoxError> {
        self.0.plain.direct.validate_base_client_config(components, config)
    }

    fn validate_final_config(&self, components: &RuntimeComponents, config: &ConfigBag) -> Result<(), BoxError> {
        self.0.plain.direct.validate_final_config(components, config)
    }

    fn connector_metadata(&self) -> Option<ConnectorMetadata> {
        self.0.plain.direct.connector_metadata()
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        if !self.clients.0.lacks_trust(request.uri()) {
            return match self.way(request.uri()) {
                Ok(way) => HttpConnectorFuture::new(way.send(request)),
                Err(error) => HttpConnectorFuture::ready(Err(error)),
            };
        }
        // A hundred files and more, twice: not on a thread that answers plugins.
        let (connector, url) = (self.clone(), request.uri().to_owned());
        let found = tokio::task::spawn_blocking(move || connector.way(&url));
        HttpConnectorFuture::new(async move {
            let way = found.await.map_err(|error| ConnectorError::other(error.into(), None))??;
            way.send(request).await
        })
    }
}

impl Connector {
    fn way(&self, url: &str) -> Result<Way, ConnectorError> {
        let (client, proxy) = self.clients.0.of(url).map_err(|missing| ConnectorError::user(missing.into()))?;
        Ok(Way { connector: client.http_connector(&self.settings, &self.components), proxy: proxy.cloned() })
    }
}

/// What a request goes by.
struct Way {
    connector: SharedHttpConnector,
    proxy: Option<ProxyUrl>,
}

impl Way {
    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let answer = self.connector.call(request).await;
        match &self.proxy {
            Some(proxy) => answer.map_err(|error| through(proxy, error)),
            None => answer,
        }
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
