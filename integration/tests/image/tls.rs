// SPDX-License-Identifier: Apache-2.0
//! TLS in front of the emulated EC2, with a certificate of an authority that only this test knows.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use integration::netns::Namespace;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::io::copy_bidirectional;
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::TlsAcceptor;

/// A front.
pub(crate) struct Front {
    /// Its port on the node's loopback.
    pub(crate) port: u16,
    /// The authority's certificate, PEM.
    pub(crate) authority: String,
    /// Handshakes that were completed.
    served: Arc<AtomicUsize>,
}

impl Front {
    /// Puts a front for `name` on the node's loopback; what comes decrypted goes to `behind`, also there.
    pub(crate) fn serve(runtime: &Runtime, netns: &Namespace, name: &str, behind: SocketAddrV4) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "authority of a test");
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let listener = netns.run(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0))).unwrap().unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let served = Arc::new(AtomicUsize::new(0));
        let (acceptor, count, netns) = (TlsAcceptor::from(Arc::new(config)), served.clone(), netns.clone());
        runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (outside, _) = listener.accept().await.unwrap();
                let (acceptor, count, netns) = (acceptor.clone(), count.clone(), netns.clone());
                tokio::spawn(async move {
                    // A client that does not trust the certificate ends the handshake.
                    let Ok(mut outside) = acceptor.accept(outside).await else { return };
                    count.fetch_add(1, Ordering::Relaxed);
                    let inside =
                        tokio::task::spawn_blocking(move || netns.run(|| std::net::TcpStream::connect(behind)));
                    let inside = inside.await.unwrap().unwrap().unwrap();
                    inside.set_nonblocking(true).unwrap();
                    let mut inside = TcpStream::from_std(inside).unwrap();
                    // Either side may go away at any time.
                    let _ = copy_bidirectional(&mut outside, &mut inside).await;
                });
            }
        });
        Self { port, authority: authority.pem(), served }
    }

    /// Handshakes that were completed.
    pub(crate) fn served(&self) -> usize {
        self.served.load(Ordering::Relaxed)
    }
}
