// SPDX-License-Identifier: Apache-2.0
//! The start, as a list of named steps, and the end.
//!
//! | step | may fail the start | why in this place |
//! |---|---|---|
//! | telemetry | yes | everything after it is logged |
//! | lock | yes | nothing is read or replaced while another daemon lives |
//! | kernel | yes | living pods testify before anything is given out |
//! | journal, settings | only when they cannot be read at all | corrupt files are set aside: a node must come up |
//! | layers | no | what they came to last holds from the first decision on |
//! | socket | yes | pods are served from here on, with what journal and kernel say |
//! | Kubernetes, introspection, configuration list, watch, facts | no, they try again | remote or optional |
//!
//! The end (SIGTERM, SIGINT): stop accepting, refuse who waits, write the journal. The kernel state stays: pods go on.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datapath::apply::ledger::Ledger;
use ipam_api::server::{ConnectionEvent, ServeError, ServeOptions, Services, bind, serve};
use ipamd_aws::Imds;
use ipamd_core::action::Effects;
use ipamd_core::config::{NatBlocks, Note, Provisioning, Source};
use ipamd_core::event::InstanceFacts;
use ipamd_core::reason::ReasonCode;
use ipamd_core::{Config, Core, Now, Restored};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::alarm::Alarm;
use crate::cli::Environment;
use crate::driver::Driver;
use crate::edge::conflist::Conflist;
use crate::edge::facts::{FactsEdge, ec2_settings};
use crate::edge::flush::Flusher;
use crate::edge::host::{self, Host};
use crate::edge::http::{self, Introspection};
use crate::edge::kube::{self, Reporter};
use crate::edge::layers::{self, Board, Layering, NodeWords, RecordFile};
use crate::edge::lock::{InstanceLock, LockError};
use crate::edge::nat_file::NatFile;
use crate::edge::notify;
use crate::edge::ready::{self, ReadyMarker};
use crate::edge::rpc::Backend;
use crate::edge::runner::{Ec2Slot, Runner};
use crate::edge::settings;
use crate::edge::store::{Store, StoreError};
use crate::edge::tombstones::{self, Tombstones};
use crate::edge::watcher;
use crate::inbox::Inbox;
use crate::observer::Observer;
use crate::{clock, memory, telemetry};

/// How long answers given at the end may take to leave.
const LAST_ANSWERS: Duration = Duration::from_secs(2);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct InitError {
    step: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Makes an error of a step.
fn step<E>(name: &str) -> impl FnOnce(E) -> InitError
where
    E: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let step = format!("start, step {name}");
    move |source| InitError { step, source: source.into() }
}

impl InitError {
    /// The error with its causes in one line.
    #[must_use]
    pub fn chain(&self) -> String {
        telemetry::chain(self)
    }
}

/// Runs the daemon until it is told to stop.
///
/// # Errors
/// A step of the start that cannot be done without.
pub fn run(config: Config, notes: &[Note]) -> Result<(), InitError> {
    let began = clock::now();
    memory::share_one_heap();
    telemetry::start(&config.log).map_err(step("telemetry"))?;
    telemetry::abort_on_panic();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), ?config, "starting");
    for note in notes {
        tracing::warn!(code = %ReasonCode::SettingIneffective, variable = note.variable, "{}", note.text);
    }
    let folder = host::state_folder(&config).to_owned();
    std::fs::create_dir_all(&folder).map_err(step("state folder"))?;
    let _lock = InstanceLock::take(&folder).map_err(step::<LockError>("lock"))?;
    let found = restore(&config, began)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(step("runtime"))?;
    let record = RecordFile::beside(&config.journal);
    let layering = Layering::new(Box::new(Environment), &config, record, known_facts(&found).as_ref());
    let config = layering.config().clone();
    telemetry::set_level(config.log.level);
    runtime.block_on(serve_until_stopped(config, folder, found, layering))?;
    // Tasks under way (EC2 calls) are in the journal as intents; they are not waited for.
    runtime.shutdown_background();
    tracing::info!("stopped");
    Ok(())
}

/// What the journal and the kernel say, and the files they came from.
struct Found {
    store: Store,
    restored: Restored,
    ledger: Ledger,
    boot_id: String,
    /// When the process did.
    began: Now,
}

fn restore(config: &Config, began: Now) -> Result<Found, InitError> {
    let kernel = host::observe(&config.veth_prefix).map_err(step("kernel"))?;
    let boot_id = ready::boot_id().map_err(step("boot id"))?;
    let store = Store::new(&config.journal);
    let loaded = store.load().map_err(step::<StoreError>("journal"))?;
    if let Some(later) = loaded.out_of_date {
        retire_own(&store, later)?;
    }
    let restored = Restored::read(loaded.reference.as_deref(), loaded.own.as_deref(), kernel, boot_id.clone());
    if restored.reference.is_some() && restored.own.is_none() {
        host::notice_legacy_rules();
    }
    let unix_seconds = clock::now().unix_nanos / 1_000_000_000;
    if let Some(Err(error)) = &restored.own {
        let aside = store.set_own_aside(unix_seconds).map_err(step::<StoreError>("journal"))?;
        tracing::error!(
            code = %ReasonCode::JournalUnreadable, %error, aside = %aside.display(),
            "enid.json cannot be used, it was set aside"
        );
    }
    if let Some(Err(error)) = &restored.reference {
        let aside = store.set_reference_aside(unix_seconds).map_err(step::<StoreError>("journal"))?;
        tracing::error!(
            code = %ReasonCode::JournalUnreadable, %error, aside = %aside.display(),
            "ipam.json cannot be used, it was set aside"
        );
    }
    let ledger = settings::open(host::state_folder(config), &boot_id, unix_seconds).map_err(step("settings"))?;
    Ok(Found { store, restored, ledger, boot_id, began })
}

/// The reference has had the node since `enid.json` was written: which ENIs and addresses there are, and what is free, it does not know
/// any more.
fn retire_own(store: &Store, later: Duration) -> Result<(), InitError> {
    if let Some(aside) = store.retire_own().map_err(step::<StoreError>("journal"))? {
        tracing::warn!(
            code = %ReasonCode::TakenOver,
            seconds = later.as_secs(),
            aside = %aside.display(),
            "ipam.json was written so much later than enid.json: amazon-vpc-cni-k8s has had the node since, this is a takeover"
        );
    }
    Ok(())
}

/// Facts of the journal, when they are of this boot.
fn known_facts(found: &Found) -> Option<InstanceFacts> {
    let own = found.restored.own.as_ref()?.as_ref().ok()?;
    own.facts.clone().filter(|_| own.boot_id == found.boot_id)
}

/// What is watched while everything runs, for settings that are others then.
struct Watching {
    layering: Layering,
    words: watch::Receiver<Option<NodeWords>>,
    nat_file: NatFile,
    /// The lists of blocks as the variables have them.
    variables: watch::Sender<NatBlocks>,
}

impl Watching {
    fn start(self, edges: &Edges) {
        let inbox = edges.inbox.clone();
        tokio::spawn(self.nat_file.watch(self.variables.subscribe(), inbox.clone(), edges.blocks.clone()));
        let ends = layers::Ends { inbox, blocks: self.variables, reporter: edges.reporter.clone() };
        tokio::spawn(self.layering.run(edges.facts.subscribe(), self.words, ends));
    }
}

/// What the edges share.
struct Edges {
    inbox: Inbox,
    facts: watch::Sender<Option<InstanceFacts>>,
    blocks: watch::Sender<NatBlocks>,
    settings: Board,
    reporter: Reporter,
    kubernetes: kube::Status,
    conflist: watch::Sender<Vec<String>>,
    observer: Observer,
}

async fn serve_until_stopped(
    mut config: Config,
    folder: PathBuf,
    found: Found,
    layering: Layering,
) -> Result<(), InitError> {
    let listener = bind(&config.socket).await.map_err(step::<ServeError>("socket"))?;
    let (inbox, receiver) = Inbox::new();
    let variables = watch::Sender::new(config.snat.blocks.clone());
    let nat_file = nat_file(&mut config);
    let started = kube::start(&config, inbox.clone(), layering.board());
    let kube::Ends { reporter, status: kubernetes, words } = started.map_err(step::<io::Error>("kube thread"))?;
    let edges = Edges {
        facts: watch::Sender::new(known_facts(&found)),
        blocks: watch::Sender::new(config.snat.blocks.clone()),
        inbox: inbox.clone(),
        settings: layering.board(),
        reporter,
        kubernetes,
        conflist: watch::Sender::default(),
        observer: Observer::new(found.began),
    };
    overhear(&edges);
    let serving = watch::Sender::new(false);
    if let Some(conflist) = Conflist::new(&config, edges.conflist.clone()) {
        tokio::spawn(conflist.run(serving.subscribe(), inbox.beats()));
    }
    let (core, pending): (Core, Effects) = Core::new(config.clone(), found.restored, clock::now());
    let ec2 = watch::Sender::new(None);
    let host = Host::start(config.clone(), inbox.clone(), found.ledger).map_err(step::<io::Error>("host thread"))?;
    let flusher = Flusher::start(inbox.clone()).map_err(step::<io::Error>("flush thread"))?;
    let driver = Driver {
        core,
        inbox: receiver,
        store: found.store,
        tombstones: Tombstones::new(&folder),
        runner: runner(&config, &inbox, (host.clone(), flusher), ec2.subscribe()),
        ready: ReadyMarker::new(&folder, found.boot_id, serving),
        heartbeat: inbox.heartbeat(),
        alarm: Alarm::new().map_err(step::<io::Error>("timer"))?,
        reporter: edges.reporter.clone(),
        observer: edges.observer.clone(),
        waiting: std::collections::HashMap::new(),
        pending,
        untold: None,
    };
    let (stop, rpc) = serve_plugin(&config, listener, &edges);
    edges.observer.metrics().serves(edges.kubernetes.show().state != "off");
    serve_introspection(&config, &edges).map_err(step::<io::Error>("http thread"))?;
    let systemd = Environment.get("NOTIFY_SOCKET");
    notify::ready(systemd.as_deref());
    watcher::start(config.veth_prefix.clone(), inbox.clone(), host).map_err(step::<io::Error>("watch thread"))?;
    tokio::spawn(tombstones::watch(folder.clone(), inbox.clone()));
    Watching { layering, words, nat_file, variables }.start(&edges);
    let mut settings = ec2_settings(&config);
    settings.watcher = Some(Arc::new(edges.observer.metrics().clone()));
    let provisioning = config.provisioning;
    tokio::spawn(FactsEdge { settings, provisioning, inbox: inbox.clone(), ec2, facts: edges.facts }.run());
    let signals = stop_at_signal(inbox, stop).map_err(step::<io::Error>("signals"))?;
    // A task as the others: waking it is no system call, as waking this one is.
    let _ = tokio::spawn(driver.run()).await;
    notify::stopping(systemd.as_deref());
    signals.abort();
    // The listener closed at the signal; what is open gets its answer.
    let _ = timeout(LAST_ANSWERS, rpc).await;
    Ok(())
}

/// The watched file, read once: what it says holds from the start.
fn nat_file(config: &mut Config) -> NatFile {
    let mut file = NatFile::new(config.snat.file.clone(), config.snat.blocks.clone());
    config.snat.blocks = file.read().clone();
    file
}

/// What edges warn of by themselves is told like what the core says.
fn overhear(edges: &Edges) {
    let (observer, reporter) = (edges.observer.clone(), edges.reporter.clone());
    telemetry::listen(move |notice| {
        observer.noticed(notice);
        reporter.noticed(notice);
    });
}

fn runner(config: &Config, inbox: &Inbox, (host, flusher): (Host, Flusher), ec2: Ec2Slot) -> Runner {
    Runner { inbox: inbox.clone(), host, flusher, ec2, imds: imds_only(config), runtime: config.runtime.clone() }
}

/// Instance metadata in EC2's place, where EC2 must not be asked.
fn imds_only(config: &Config) -> Option<Imds> {
    (config.provisioning == Provisioning::ImdsOnly).then(Imds::new)
}

/// Serves the plugin; the sender stops it.
fn serve_plugin(config: &Config, listener: UnixListener, edges: &Edges) -> (watch::Sender<bool>, JoinHandle<()>) {
    let ends = (edges.inbox.clone(), edges.reporter.clone(), edges.observer.clone());
    let backend = Arc::new(Backend::new(config, ends, edges.facts.subscribe(), edges.blocks.subscribe()));
    let services = Services { backend: backend.clone(), config: backend };
    let on_event = |event: &ConnectionEvent| {
        tracing::warn!(
            code = %ReasonCode::ConnectionRefused, ?event,
            "a connection to the socket came to nothing"
        )
    };
    let options = ServeOptions { on_event: Arc::new(on_event), ..ServeOptions::default() };
    let (stop, mut stopped) = watch::channel(false);
    let until = async move {
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    let task = tokio::spawn(async move {
        if let Err(error) = serve(listener, services, options, until).await {
            tracing::error!(
                code = %ReasonCode::DaemonAborted, error = %telemetry::chain(&error),
                "the plugin is not served any more, ending"
            );
            std::process::abort();
        }
    });
    tracing::info!(socket = %config.socket.display(), "serving");
    (stop, task)
}

fn serve_introspection(config: &Config, edges: &Edges) -> io::Result<()> {
    http::start(Introspection {
        inbox: edges.inbox.clone(),
        settings: edges.settings.clone(),
        kubernetes: edges.kubernetes.clone(),
        conflist: edges.conflist.subscribe(),
        config: Arc::new(config.clone()),
        blocks: edges.blocks.subscribe(),
        observer: edges.observer.clone(),
        scraped: Default::default(),
    })
}

fn stop_at_signal(inbox: Inbox, stop: watch::Sender<bool>) -> io::Result<JoinHandle<()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(tokio::spawn(async move {
        let name = tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        };
        tracing::info!(signal = name, "stopping");
        stop.send_replace(true);
        inbox.stop();
        // Keeps the sender until the end: its loss would look like a stop.
        std::future::pending::<()>().await;
    }))
}
