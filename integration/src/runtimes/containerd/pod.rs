// SPDX-License-Identifier: Apache-2.0
//! A pod as kubelet makes it: a sandbox, then containers in it.

use std::net::Ipv4Addr;

use ipam_api::cri::{
    ContainerConfig, ContainerMetadata, ImageSpec, LinuxContainerConfig, LinuxContainerSecurityContext,
    LinuxPodSandboxConfig, LinuxSandboxSecurityContext, NamespaceMode, NamespaceOption, PodSandboxConfig,
    PodSandboxMetadata, PortMapping, Protocol,
};
use serde_json::Value;

use super::Containerd;
use crate::runtimes::image::BUSYBOX;
use crate::runtimes::{CALL, RuntimesError, called};

/// A pod to be.
#[derive(Clone, Debug, Default)]
pub struct PodSpec {
    /// Its name.
    pub name: String,
    /// TCP: port of the container, port of the host.
    pub host_ports: Vec<(u16, u16)>,
    /// Which sandbox of the pod this is: kubelet counts up.
    pub attempt: u32,
}

impl PodSpec {
    /// A pod of this name.
    #[must_use]
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }
}

/// A running pod. Dropping it leaves it running.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its sandbox's id, which is the `CNI_CONTAINERID`.
    pub id: String,
    /// What containerd says is its address.
    pub address: Ipv4Addr,
    config: PodSandboxConfig,
}

/// What a command in a container left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its exit code.
    pub code: i32,
    /// What it printed.
    pub output: String,
}

impl Containerd {
    /// Makes a sandbox.
    ///
    /// # Errors
    /// containerd refuses: of a failed ADD with the plugin's words.
    pub fn run_pod(&self, spec: &PodSpec) -> Result<Pod, RuntimesError> {
        let config = self.sandbox_config(spec);
        let id = self.client.run_sandbox(&config, CALL).map_err(called(&format!("running pod {}", spec.name)))?;
        let address = self.address_of(&id)?;
        Ok(Pod { id, address, config })
    }

    /// The address that containerd has for a sandbox.
    ///
    /// # Errors
    /// It has none, or does not know the sandbox.
    pub fn address_of(&self, id: &str) -> Result<Ipv4Addr, RuntimesError> {
        let reply = self.client.sandbox(id, CALL).map_err(called("asking for a sandbox"))?;
        let network = reply.status.unwrap_or_default().network.unwrap_or_default();
        network.ip.parse().map_err(|_| RuntimesError::Odd(format!("sandbox {id} has the address {:?}", network.ip)))
    }

    /// The CNI result that containerd keeps for a sandbox.
    ///
    /// # Errors
    /// It does not know the sandbox, or keeps none.
    pub fn cni_result(&self, pod: &Pod) -> Result<Value, RuntimesError> {
        let reply = self.client.sandbox(&pod.id, CALL).map_err(called("asking for a sandbox"))?;
        let info = reply.info.get("info").cloned().unwrap_or_default();
        let info: Value = serde_json::from_str(&info)
            .map_err(|error| RuntimesError::Odd(format!("sandbox {}: {error}: {info}", pod.id)))?;
        Ok(info["cniResult"].clone())
    }

    /// Ends a pod's sandbox: the first DEL.
    ///
    /// # Errors
    /// containerd refuses.
    pub fn stop_pod(&self, pod: &Pod) -> Result<(), RuntimesError> {
        self.client.stop_sandbox(&pod.id, CALL).map_err(called(&format!("stopping sandbox {}", pod.id)))
    }

    /// Removes a pod's sandbox: another DEL, without a network namespace when it was stopped before.
    ///
    /// # Errors
    /// containerd refuses.
    pub fn remove_pod(&self, pod: &Pod) -> Result<(), RuntimesError> {
        self.client.remove_sandbox(&pod.id, CALL).map_err(called(&format!("removing sandbox {}", pod.id)))
    }

    /// Starts a container in a pod; its id.
    ///
    /// # Errors
    /// containerd refuses.
    pub fn run_container(&self, pod: &Pod, name: &str) -> Result<String, RuntimesError> {
        let config = ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: BUSYBOX.to_owned(), user_specified_image: BUSYBOX.to_owned() }),
            log_path: format!("{name}.log"),
            linux: Some(LinuxContainerConfig {
                security_context: Some(LinuxContainerSecurityContext { namespace_options: Some(own_processes()) }),
            }),
        };
        let made = self.client.create_container(&pod.id, &config, &pod.config, CALL);
        let id = made.map_err(called(&format!("making container {name}")))?;
        self.client.start_container(&id, CALL).map_err(called(&format!("starting container {name}")))?;
        Ok(id)
    }

    /// Runs a command line of the shell in a container.
    ///
    /// # Errors
    /// containerd cannot run it; a command that fails is none.
    pub fn exec(&self, container: &str, line: &str) -> Result<Ran, RuntimesError> {
        let ran =
            self.client.exec(container, &["sh", "-c", line], CALL).map_err(called(&format!("running `{line}`")))?;
        let output = [ran.stdout, ran.stderr].concat();
        Ok(Ran { code: ran.exit_code, output: String::from_utf8_lossy(&output).trim().to_owned() })
    }

    fn sandbox_config(&self, spec: &PodSpec) -> PodSandboxConfig {
        let port = |(container, host): &(u16, u16)| PortMapping {
            protocol: Protocol::Tcp.into(),
            container_port: i32::from(*container),
            host_port: i32::from(*host),
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: spec.name.clone(),
                uid: format!("uid-of-{}", spec.name),
                namespace: "default".to_owned(),
                attempt: spec.attempt,
            }),
            hostname: spec.name.clone(),
            log_directory: self.folder.join("pod-logs").join(&spec.name).display().to_string(),
            port_mappings: spec.host_ports.iter().map(port).collect(),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: format!("/{}", self.cgroup),
                security_context: Some(LinuxSandboxSecurityContext { namespace_options: Some(own_processes()) }),
            }),
        }
    }
}

/// The pod's network, each container its own processes.
fn own_processes() -> NamespaceOption {
    NamespaceOption { pid: NamespaceMode::Container.into() }
}
