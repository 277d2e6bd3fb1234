// SPDX-License-Identifier: Apache-2.0
//! The Kubernetes API server that a node's daemon talks to: the model, at the node's own loopback, off the fabric under test.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};

use serde_json::json;

use super::Node;
use crate::emulator::serve;
use crate::kube_http::KubeApi;
use crate::kube_http::resource::NODES;
use crate::topology::Topology;

/// Where it is, on every node.
const AT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 18_001);

impl Node {
    /// Tells the daemon of it, from its next start on; whether it is there or not.
    ///
    /// # Errors
    /// The kubeconfig cannot be written.
    pub fn name_api_server(&mut self) -> io::Result<()> {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{ "name": "c", "cluster": { "server": format!("http://{AT}") } }],
            "users": [{ "name": "u", "user": {} }],
            "contexts": [{ "name": "c", "context": { "cluster": "c", "user": "u" } }],
        });
        let path = self.log().with_file_name("kubeconfig");
        std::fs::write(&path, config.to_string())?;
        self.set("KUBECONFIG", &path.to_string_lossy());
        Ok(())
    }

    /// Serves it; to be called inside a runtime.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the socket cannot be used.
    pub fn serve_api(&self, api: &KubeApi) -> io::Result<()> {
        let listener = self.netns.run(|| TcpListener::bind(AT)).map_err(io::Error::other)??;
        serve(listener, api.router()).map(drop)
    }
}

impl Topology {
    /// The API server has an object for each node, and each is told where it answers; nobody answers there yet.
    pub fn introduce(&mut self, api: &KubeApi) -> io::Result<()> {
        for node in &mut self.nodes {
            let object = json!({ "metadata": { "name": node.name }, "spec": {}, "status": { "conditions": [] } });
            api.put(&NODES, None, object).map_err(|error| io::Error::other(format!("{error:?}")))?;
            node.name_api_server()?;
        }
        Ok(())
    }

    /// From now on it answers at each node's loopback.
    pub fn serve_api(&self, api: &KubeApi) -> io::Result<()> {
        let _inside = self.runtime.enter();
        self.nodes.iter().try_for_each(|node| node.serve_api(api))
    }
}
