// SPDX-License-Identifier: Apache-2.0
//! The caller's end of a container runtime's socket: blocking calls of the [`cri`](crate::cri) with a time limit each. As with
//! the daemon, a socket that is missing or refuses is waited for within the limit (the runtime restarts).
//!
//! A call whose connection is lost is *not* repeated by most callers of a runtime; here it is, within the limit: all of these calls
//! but [`RuntimeClient::run_sandbox`] and [`RuntimeClient::create_container`] can be repeated. These two end with an error of the
//! runtime's, for the name is taken; where it was killed before it had noted the first, that one may be left behind.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tonic::{Code, Request, Response, Status};

use super::CallError;
use super::channel::{Caller, Channel, origin, within};
use crate::cri::runtime_service_client::RuntimeServiceClient;
use crate::cri::{
    ContainerConfig, CreateContainerRequest, ExecSyncRequest, ExecSyncResponse, ListPodSandboxRequest, PodSandbox,
    PodSandboxConfig, PodSandboxStatusRequest, PodSandboxStatusResponse, RemovePodSandboxRequest, RunPodSandboxRequest,
    RuntimeCondition, StartContainerRequest, StatusRequest, StopPodSandboxRequest, VersionRequest, VersionResponse,
};

/// The size that runtimes and kubelet agree on for one message (16 MiB).
const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;

/// Why a runtime's call brought no reply.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// Nothing accepted a connection within the limit.
    #[error("connecting to the container runtime at {}", socket.display())]
    Unreachable {
        /// Where it was looked for.
        socket: PathBuf,
        /// The last attempt's error.
        source: io::Error,
    },
    /// No answer within the limit.
    #[error("no answer from the container runtime at {} within {} ms", socket.display(), limit.as_millis())]
    TimedOut {
        /// Where it was asked.
        socket: PathBuf,
        /// The limit.
        limit: Duration,
    },
    /// It refused.
    #[error("the container runtime answered {code:?}: {message}")]
    Refused {
        /// gRPC status code.
        code: Code,
        /// Its words; of a failed ADD the plugin's.
        message: String,
    },
}

impl From<CallError> for RuntimeError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoDaemon { socket, source } => Self::Unreachable { socket, source },
            CallError::TimedOut { socket, budget } => Self::TimedOut { socket, limit: budget },
            CallError::VersionMismatch { message } => Self::Refused { code: Code::FailedPrecondition, message },
            CallError::Failed { code, message } => Self::Refused { code, message },
        }
    }
}

/// A way to the container runtime behind one socket. Holds no connection: each call makes its own.
#[derive(Clone, Debug)]
pub struct RuntimeClient(Caller);

type Stub = RuntimeServiceClient<Channel>;

impl RuntimeClient {
    /// A client of the runtime that listens, or will listen, on `socket`.
    #[must_use]
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self(Caller::new(socket))
    }

    /// Its version.
    ///
    /// # Errors
    /// See [`RuntimeError`], as of all calls here.
    pub fn version(&self, limit: Duration) -> Result<VersionResponse, RuntimeError> {
        self.call(VersionRequest::default(), limit, async |mut stub, request| stub.version(request).await)
    }

    /// Its conditions: `RuntimeReady`, `NetworkReady` and others.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn conditions(&self, limit: Duration) -> Result<Vec<RuntimeCondition>, RuntimeError> {
        let reply = self.call(StatusRequest::default(), limit, async |mut stub, request| stub.status(request).await)?;
        Ok(reply.status.unwrap_or_default().conditions)
    }

    /// Makes a sandbox, network included; its id.
    ///
    /// # Errors
    /// See [`RuntimeError`]; a failed ADD is `Refused` with the plugin's words.
    pub fn run_sandbox(&self, config: &PodSandboxConfig, limit: Duration) -> Result<String, RuntimeError> {
        let request = RunPodSandboxRequest { config: Some(config.clone()) };
        let reply = self.call(request, limit, async |mut stub, request| stub.run_pod_sandbox(request).await)?;
        Ok(reply.pod_sandbox_id)
    }

    /// Ends the sandbox's processes and its network; it stays listed.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn stop_sandbox(&self, id: &str, limit: Duration) -> Result<(), RuntimeError> {
        let request = StopPodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.call(request, limit, async |mut stub, request| stub.stop_pod_sandbox(request).await).map(drop)
    }

    /// Removes the sandbox.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn remove_sandbox(&self, id: &str, limit: Duration) -> Result<(), RuntimeError> {
        let request = RemovePodSandboxRequest { pod_sandbox_id: id.to_owned() };
        self.call(request, limit, async |mut stub, request| stub.remove_pod_sandbox(request).await).map(drop)
    }

    /// What it knows of a sandbox.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn sandbox(&self, id: &str, limit: Duration) -> Result<PodSandboxStatusResponse, RuntimeError> {
        let request = PodSandboxStatusRequest { pod_sandbox_id: id.to_owned(), verbose: true };
        self.call(request, limit, async |mut stub, request| stub.pod_sandbox_status(request).await)
    }

    /// All its sandboxes, stopped ones too.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn sandboxes(&self, limit: Duration) -> Result<Vec<PodSandbox>, RuntimeError> {
        let request = ListPodSandboxRequest::default();
        let reply = self.call(request, limit, async |mut stub, request| stub.list_pod_sandbox(request).await)?;
        Ok(reply.items)
    }

    /// Makes a container in a sandbox; its id.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn create_container(
        &self,
        sandbox: &str,
        config: &ContainerConfig,
        of: &PodSandboxConfig,
        limit: Duration,
    ) -> Result<String, RuntimeError> {
        let request = CreateContainerRequest {
            pod_sandbox_id: sandbox.to_owned(),
            config: Some(config.clone()),
            sandbox_config: Some(of.clone()),
        };
        let reply = self.call(request, limit, async |mut stub, request| stub.create_container(request).await)?;
        Ok(reply.container_id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// See [`RuntimeError`].
    pub fn start_container(&self, id: &str, limit: Duration) -> Result<(), RuntimeError> {
        let request = StartContainerRequest { container_id: id.to_owned() };
        self.call(request, limit, async |mut stub, request| stub.start_container(request).await).map(drop)
    }

    /// Runs a command in a container, to its end.
    ///
    /// # Errors
    /// See [`RuntimeError`]; a command that fails is none.
    pub fn exec(&self, id: &str, command: &[&str], limit: Duration) -> Result<ExecSyncResponse, RuntimeError> {
        let request = ExecSyncRequest {
            container_id: id.to_owned(),
            cmd: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: i64::try_from(limit.as_secs().max(1)).unwrap_or(i64::MAX),
        };
        self.call(request, limit, async |mut stub, request| stub.exec_sync(request).await)
    }

    fn call<Q: Clone, R>(
        &self,
        request: Q,
        limit: Duration,
        one: impl AsyncFn(Stub, Request<Q>) -> Result<Response<R>, Status>,
    ) -> Result<R, RuntimeError> {
        let reply = self.0.call(limit, async |channel, left| {
            let stub =
                RuntimeServiceClient::with_origin(channel, origin()).max_decoding_message_size(MAX_MESSAGE_BYTES);
            one(stub, within(left, request.clone())).await
        });
        Ok(reply?)
    }
}
