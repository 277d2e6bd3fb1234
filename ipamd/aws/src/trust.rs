// SPDX-License-Identifier: Apache-2.0
//! Whom the AWS clients trust: the system's certificate authorities, or those of one file (`AWS_CA_BUNDLE`).
//!
//! The system's are looked for by rustls-native-certs: in `SSL_CERT_FILE` and `SSL_CERT_DIR` where these name something, else at
//! the distributions' usual places, of which the image has `/etc/ssl/certs/ca-certificates.crt`. `AWS_CA_BUNDLE`, which other AWS
//! SDKs read and the Rust one does not, takes their place as it does there; nothing of the system's is trusted beside it.
//!
//! Invariant: the SDK's client is given only certificates that it can use. It would panic at others, at its first connection.
#![expect(clippy::disallowed_methods, reason = "reads the file of certificate authorities, once")]

use std::path::Path;

use aws_smithy_http_client::tls::{TlsContext, TrustStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use crate::config::ConnectError;

/// The system's authorities, or those of `bundle`.
pub(crate) fn tls_context(bundle: Option<&Path>) -> Result<TlsContext, ConnectError> {
    let store = match bundle {
        None => TrustStore::default(),
        Some(path) => TrustStore::empty().with_pem_certificate(read(path)?),
    };
    TlsContext::builder().with_trust_store(store).build().map_err(|error| ConnectError(crate::chain(&error)))
}

/// A bundle's text, when every certificate in it can be an authority and there is one at least.
fn read(path: &Path) -> Result<Vec<u8>, ConnectError> {
    let failed = |problem: String| ConnectError(format!("AWS_CA_BUNDLE {}: {problem}", path.display()));
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
        let result = tls_context(Some(&file));
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
        let missing = tls_context(Some(Path::new("/nonexistent/bundle.pem"))).unwrap_err().to_string();
        assert!(missing.contains("/nonexistent/bundle.pem") && missing.contains("No such file"), "{missing}");
    }
}
