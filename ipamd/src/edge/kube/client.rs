// SPDX-License-Identifier: Apache-2.0
//! How the API server is reached: a kubeconfig, else the pod's service account; at the cluster's endpoint, else at the Service.
//!
//! Never through a proxy, as it is in the VPC or near it: HTTPS_PROXY is for AWS's endpoints. A `proxy-url` in a kubeconfig is refused.
//!
//! Not `kube::Config::infer`, which would read the environment a second time, and take `~/.kube/config` on a machine of ours.

use std::path::{Path, PathBuf};
use std::time::Duration;

use ipamd_core::Config;
use kube::config::{KubeConfigOptions, Kubeconfig, KubeconfigError};

/// Where kubelet mounts a pod's service account (Kubernetes documentation, "Accessing the Kubernetes API from a Pod").
pub(super) const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// One try to connect.
const CONNECT: Duration = Duration::from_secs(5);

/// No client can be made, for now.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The file of `KUBECONFIG`.
    #[error("reading KUBECONFIG {}", path.display())]
    Kubeconfig {
        path: PathBuf,
        #[source]
        source: KubeconfigError,
    },
    /// `CLUSTER_ENDPOINT`, or what Kubernetes set.
    #[error("`{endpoint}` is no address of an API server: a host, with or without a port, or a URL")]
    Endpoint { endpoint: String },
    /// Certificates.
    #[error("making a client")]
    Kube(#[source] kube::Error),
}

/// A client, not connected yet; `None`: nothing says how.
pub(super) async fn client(config: &Config) -> Result<Option<kube::Client>, ClientError> {
    let Some(mut settings) = settings(config, Path::new(SERVICE_ACCOUNT)).await? else { return Ok(None) };
    settings.connect_timeout = Some(CONNECT);
    // Retries are ours: they are bounded, and shown.
    settings.default_retry = false;
    kube::Client::try_from(settings).map(Some).map_err(ClientError::Kube)
}

async fn settings(config: &Config, account: &Path) -> Result<Option<kube::Config>, ClientError> {
    if let Some(path) = &config.kubernetes.kubeconfig {
        let failed = |source| ClientError::Kubeconfig { path: path.clone(), source };
        let file = Kubeconfig::read_from(path).map_err(failed)?;
        let own_proxy =
            file.clusters.iter().filter_map(|named| named.cluster.as_ref()).any(|it| it.proxy_url.is_some());
        let read = kube::Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
        let mut read = read.map_err(failed)?;
        if !own_proxy {
            // The environment's is for AWS's endpoints; kube takes it, and makes no client then.
            read.proxy_url = None;
        }
        return Ok(Some(read));
    }
    let (token, certificates) = (account.join("token"), account.join("ca.crt"));
    let Some(url) = url(config).filter(|_| token.is_file()) else { return Ok(None) };
    let parsed = url.parse().map_err(|_| ClientError::Endpoint { endpoint: url })?;
    let mut settings = kube::Config::new(parsed);
    settings.root_cert_file = Some(certificates);
    settings.auth_info.token_file = Some(token.to_string_lossy().into_owned());
    Ok(Some(settings))
}

/// `CLUSTER_ENDPOINT` has no port, or its own; the reference takes a host or a URL.
fn url(config: &Config) -> Option<String> {
    match (&config.kubernetes.endpoint, &config.service_host) {
        (Some(endpoint), _) if endpoint.contains("://") => Some(endpoint.clone()),
        (Some(host), _) => Some(format!("https://{host}")),
        (None, Some(host)) => {
            let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
            Some(format!("https://{host}:{}", config.kubernetes.service_port.unwrap_or(443)))
        }
        (None, None) => None,
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "files that a cluster would mount")]
mod tests {
    use super::*;

    fn read(config: &Config, account: &Path) -> Result<Option<kube::Config>, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(settings(config, account))
    }

    #[test]
    fn the_service_account_is_used_at_the_endpoint_or_the_service() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { service_host: Some("172.20.0.1".to_owned()), ..Config::default() };
        assert!(read(&config, folder.path()).unwrap().is_none(), "no token");
        std::fs::write(folder.path().join("token"), "secret").unwrap();
        let found = read(&config, folder.path()).unwrap().unwrap();
        assert_eq!(found.cluster_url.to_string(), "https://172.20.0.1:443/");
        assert_eq!(found.auth_info.token_file, Some(folder.path().join("token").display().to_string()));
        config.kubernetes.service_port = Some(6443);
        assert_eq!(read(&config, folder.path()).unwrap().unwrap().cluster_url.to_string(), "https://172.20.0.1:6443/");
        config.kubernetes.endpoint = Some("ABC.gr7.us-east-1.eks.amazonaws.com".to_owned());
        let found = read(&config, folder.path()).unwrap().unwrap();
        assert_eq!(found.cluster_url.host(), Some("ABC.gr7.us-east-1.eks.amazonaws.com"));
        config.kubernetes.endpoint = Some("no host".to_owned());
        assert!(matches!(read(&config, folder.path()), Err(ClientError::Endpoint { .. })));
        let nothing = Config::default();
        assert!(read(&nothing, folder.path()).unwrap().is_none());
    }

    #[test]
    fn a_kubeconfig_goes_first_and_one_that_is_not_there_is_an_error_that_passes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        let mut config = Config::default();
        config.kubernetes.kubeconfig = Some(path.clone());
        let error = read(&config, folder.path()).unwrap_err();
        assert!(error.to_string().starts_with("reading KUBECONFIG "), "{error}");
        let text = "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{name: c, cluster: {server: 'http://127.0.0.1:8001'}}]\n\
                    users: [{name: u, user: {}}]\ncontexts: [{name: c, context: {cluster: c, user: u}}]\n";
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&config, folder.path()).unwrap().unwrap().cluster_url.to_string(), "http://127.0.0.1:8001/");
    }
}
