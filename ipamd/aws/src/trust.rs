// SPDX-License-Identifier: Apache-2.0
//! Whom the AWS clients trust: the system's certificate authorities, or those of one file (`AWS_CA_BUNDLE`).
//!
//! The system's are looked for by rustls-native-certs: in the file of `SSL_CERT_FILE`, else in the first of the distributions' usual files
//! that is there, of which the image has `/etc/ssl/certs/ca-certificates.crt`; and in `SSL_CERT_DIR` and the usual folders beside it.
//! `AWS_CA_BUNDLE`, which other AWS SDKs read and the Rust one does not, takes their place as it does there; nothing of the system's is
//! trusted beside it.
//!
//! Invariant: the SDK's client is given only certificates that it can use, and one at least. At others it would panic, and without any
//! it takes the system for one that has some: it panics or, optimised, calls every certificate's issuer unknown.
#![expect(clippy::disallowed_methods, reason = "reads the file of certificate authorities")]

use std::path::{Path, PathBuf};

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use rustls_native_certs::CertificateResult;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// There is nobody to trust, so no connection with TLS can be made. It is looked again at each call.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoAuthorities(pub(crate) String);

/// Where the authorities are.
#[derive(Clone, Debug)]
pub(crate) enum Trust {
    /// In the system's places.
    System,
    /// In the file of `AWS_CA_BUNDLE`.
    Bundle(PathBuf),
}

impl Trust {
    /// The system's authorities, or those of `bundle`.
    pub(crate) fn new(bundle: Option<&Path>) -> Self {
        bundle.map_or(Self::System, |path| Self::Bundle(path.to_owned()))
    }

    /// The authorities as they are now.
    pub(crate) fn context(&self) -> Result<TlsContext, NoAuthorities> {
        let store = match self {
            Self::System => is_any_usable(&rustls_native_certs::load_native_certs()).map(|()| TrustStore::default()),
            Self::Bundle(path) => read(path).map(|pem| TrustStore::empty().with_pem_certificate(pem)),
        }?;
        let built = TlsContext::builder().with_trust_store(store).build();
        built.map_err(|error| NoAuthorities(crate::chain(&error)))
    }
}

/// Whether the SDK, which reads them once more, will find an authority among the system's.
fn is_any_usable(found: &CertificateResult) -> Result<(), NoAuthorities> {
    let is_usable = |certificate: &CertificateDer<'_>| webpki::anchor_from_trusted_cert(certificate).is_ok();
    if found.certs.iter().any(is_usable) {
        return Ok(());
    }
    let what = match found.certs.len() {
        0 => "no CA certificates found".to_owned(),
        some => format!("none of {some} CA certificates found can be an authority"),
    };
    let errors: String = found.errors.iter().map(|error| format!("; {error}")).collect();
    Err(NoAuthorities(format!(
        "{what} in the system's places (/etc/ssl/certs, /etc/pki, SSL_CERT_FILE, SSL_CERT_DIR): install ca-certificates, or set \
         AWS_CA_BUNDLE{errors}"
    )))
}

/// A bundle's text, when every certificate in it can be an authority and there is one at least.
fn read(path: &Path) -> Result<Vec<u8>, NoAuthorities> {
    let failed = |problem: String| NoAuthorities(format!("AWS_CA_BUNDLE {}: {problem}", path.display()));
    let text = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let mut count = 0;
    for certificate in CertificateDer::pem_slice_iter(&text) {
        count += 1;
        let certificate = certificate.map_err(|error| failed(format!("certificate {count} is no PEM: {error:?}")))?;
        webpki::anchor_from_trusted_cert(&certificate)
            .map_err(|error| failed(format!("certificate {count} can be no authority: {error}")))?;
    }
    if count == 0 {
        return Err(failed("there is no certificate in it; PEM is expected".to_owned()));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A P-256 authority of openssl's, made for this test; nothing is ever signed by it.
    const AUTHORITY: &str = include_str!("trust/authority.pem");

    fn refusal(text: &str) -> String {
        let file = std::env::temp_dir().join(format!("enid-bundle-{}-{}", std::process::id(), text.len()));
        std::fs::write(&file, text).unwrap();
        let result = Trust::new(Some(&file)).context();
        std::fs::remove_file(&file).unwrap();
        result.map_or_else(|error| error.to_string(), |_| String::new())
    }

    #[test]
    fn a_bundle_of_several_authorities_is_taken() {
        assert_eq!(refusal(&format!("# comment\n{AUTHORITY}\n{AUTHORITY}")), "");
    }

    #[test]
    fn what_the_client_would_panic_at_is_an_error_that_names_file_and_certificate() {
        let garbage = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        for (text, problem) in [
            (String::new(), "no certificate"),
            ("just text\n".to_owned(), "no certificate"),
            (format!("{AUTHORITY}\n{garbage}"), "certificate 2 can be no authority"),
            ("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n".to_owned(), "certificate 1 is no PEM"),
        ] {
            let refusal = refusal(&text);
            assert!(refusal.contains("AWS_CA_BUNDLE /") && refusal.contains(problem), "{text}: {refusal}");
        }
        let missing = Trust::new(Some(Path::new("/nonexistent/bundle.pem"))).context().unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/bundle.pem") && missing.contains("No such file"), "{missing}");
    }

    #[test]
    fn a_system_without_a_usable_authority_is_told_with_what_to_do() {
        let none = CertificateResult::default();
        let (mut garbage, mut one) = (CertificateResult::default(), CertificateResult::default());
        for found in [&mut garbage, &mut one] {
            found.certs.push(CertificateDer::from(vec![0; 4]));
        }
        one.certs.extend(CertificateDer::pem_slice_iter(AUTHORITY.as_bytes()).map(Result::unwrap));
        for (found, problem) in
            [(&none, "no CA certificates found"), (&garbage, "none of 1 CA certificates found can be")]
        {
            let refusal = is_any_usable(found).unwrap_err().to_string();
            assert!(refusal.starts_with(problem) && refusal.contains("install ca-certificates"), "{refusal}");
        }
        assert!(is_any_usable(&one).is_ok());
    }
}
