// SPDX-License-Identifier: Apache-2.0
//! Who is who in a cluster: one authority, and a certificate for each program and node, as Kubernetes' documentation has them ("PKI
//! certificates and requirements"); and the kubeconfigs that name them.
//!
//! | file | common name | organization |
//! |---|---|---|
//! | `apiserver` | `kube-apiserver`, for its addresses | - |
//! | `admin` | `admin` | `system:masters` |
//! | `controller-manager`, `scheduler`, `<node>-proxy` | `system:kube-…` | - |
//! | `<node>` | `system:node:<node>` | `system:nodes` |
//!
//! Keys are P-256. The authority lives as long as the test.
#![expect(clippy::disallowed_methods, reason = "certificates are files")]

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use serde_json::{Value, json};

use super::ClusterError;

/// The authority, and where its files are.
#[derive(Debug)]
pub(super) struct Authority {
    folder: PathBuf,
    server: String,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    /// Makes it, its certificate `ca.crt`, and the keys that service accounts' tokens are signed with and known by, `sa.key` and
    /// `sa.pub`. `server`: the URL of the API server.
    pub(super) fn make(folder: PathBuf, server: &str) -> Result<Self, ClusterError> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        let made = Self { folder, server: server.to_owned(), issuer };
        made.write("ca.crt", &made.issuer.pem())?;
        let tokens = KeyPair::generate()?;
        made.write("sa.key", &tokens.serialize_pem())?;
        made.write("sa.pub", &tokens.public_key_pem())?;
        Ok(made)
    }

    /// One of its files.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The certificate of the API server: `<name>.crt` and `<name>.key`.
    pub(super) fn server(&self, name: &str, addresses: &[Ipv4Addr]) -> Result<(), ClusterError> {
        let names = addresses.iter().map(Ipv4Addr::to_string).chain(["kubernetes.default.svc".to_owned()]);
        let mut params = CertificateParams::new(names.collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, "kube-apiserver");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(name, &params)
    }

    /// The certificate of a client, and a kubeconfig that has both: its path.
    pub(super) fn client(&self, name: &str, common: &str, organization: &str) -> Result<PathBuf, ClusterError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common);
        if !organization.is_empty() {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(name, &params)?;
        let (certificate, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        self.kubeconfig(name, &json!({ "client-certificate": certificate, "client-key": key }))
    }

    /// A kubeconfig for a user with a token.
    pub(super) fn with_token(&self, name: &str, token: &str) -> Result<PathBuf, ClusterError> {
        self.kubeconfig(name, &json!({ "token": token }))
    }

    fn kubeconfig(&self, name: &str, user: &Value) -> Result<PathBuf, ClusterError> {
        let cluster = json!({ "server": self.server, "certificate-authority": self.path("ca.crt") });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": cluster }],
            "users": [{ "name": "u", "user": user }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        let file = format!("{name}.kubeconfig");
        self.write(&file, &config.to_string())?;
        Ok(self.path(&file))
    }

    fn sign(&self, name: &str, params: &CertificateParams) -> Result<(), ClusterError> {
        let key = KeyPair::generate()?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        self.write(&format!("{name}.crt"), &certificate.pem())?;
        self.write(&format!("{name}.key"), &key.serialize_pem())
    }

    fn write(&self, name: &str, text: &str) -> Result<(), ClusterError> {
        let path = self.path(name);
        fs::write(&path, text).map_err(ClusterError::file(&writing(&path)))
    }
}

fn writing(path: &Path) -> String {
    format!("writing {}", path.display())
}
