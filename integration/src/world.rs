// SPDX-License-Identifier: Apache-2.0
//! A world of one's own: the network and mount namespaces in which a test, a benchmark or the demo does everything.
//!
//! It decides where namespaces, sockets and state folders live: under `/run`, which in the world is an empty tmpfs. It does
//! not make nodes or links (`netns`, `fabric`, `node`).
//!
//! Invariant: nothing outside the world changes. The namespaces have no name outside it, so the kernel takes them away with
//! the last process in them, after a crash too.
//!
//! ```text
//! test thread ── unshare(NEWNET|NEWNS) ── / made private, tmpfs on /run ── every thread and child started from here
//! ```
//!
//! [`World::enter`] changes the calling thread; threads inherit from the thread that starts them, so it comes first in a test
//! and in `main`, before any runtime.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

use crate::tools::{ToolError, Tools};

/// Where named network namespaces are, as `ip netns` has it (ip-netns(8)).
pub const NETNS_FOLDER: &str = "/run/netns";

/// Why a world cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum WorldError {
    /// Namespaces and mounts need root.
    #[error("the emulated VPC needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) to make namespaces: {doing}")]
    Setup {
        /// The step that failed.
        doing: String,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// `ip` or `nft` is missing.
    #[error(transparent)]
    Tools(#[from] ToolError),
}

/// The world that the calling thread, and what it starts, is in.
#[derive(Debug)]
pub struct World {
    /// The programs that build it.
    pub tools: Tools,
}

impl World {
    /// Moves the calling thread into a world of its own.
    ///
    /// # Errors
    /// Not root, or `ip` or `nft` is not to be had: the caller fails with this reason, it never skips.
    pub fn enter() -> Result<Self, WorldError> {
        let tools = Tools::find()?;
        unshare(UnshareFlags::NEWNET | UnshareFlags::NEWNS)
            .map_err(failed("unshare of the network and mount namespaces"))?;
        rustix::mount::mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            .map_err(failed("making all mounts private"))?;
        empty_folder(Path::new("/run"))?;
        // Debian links /var/run to /run; elsewhere it may be a folder of its own.
        if fs::canonicalize("/var/run").is_ok_and(|path| path != Path::new("/run")) {
            empty_folder(Path::new("/var/run"))?;
            make_folder(Path::new("/var/run/netns"))?;
        }
        make_folder(Path::new(NETNS_FOLDER))?;
        Ok(Self { tools })
    }

    /// A folder for `name`'s files, on the world's tmpfs; made when it is not there.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn folder(&self, name: &str) -> Result<PathBuf, WorldError> {
        let path = Path::new("/run/enid").join(name);
        make_folder(&path)?;
        Ok(path)
    }

    /// Mounts a tmpfs of `bytes` on `folder`: a disk that fills up.
    ///
    /// # Errors
    /// The mount is refused.
    pub fn small_disk(&self, folder: &Path, bytes: u64) -> Result<(), WorldError> {
        let options = std::ffi::CString::new(format!("size={bytes},mode=0755")).expect("digits hold no NUL");
        rustix::mount::mount("enid", folder, "tmpfs", MountFlags::empty(), options.as_c_str())
            .map_err(failed("mounting a small tmpfs"))
    }

    /// Makes a folder of the host's, such as /etc, the world's own: what is written there stays in the world.
    ///
    /// # Errors
    /// The mount is refused.
    pub fn own(&self, path: &str) -> Result<(), WorldError> {
        let [upper, work] = ["upper", "work"].map(|name| self.folder(&format!("own{path}/{name}")));
        let options = format!("lowerdir={path},upperdir={},workdir={}", upper?.display(), work?.display());
        let options = std::ffi::CString::new(options).expect("paths hold no NUL");
        rustix::mount::mount("overlay", path, "overlay", MountFlags::empty(), options.as_c_str())
            .map_err(failed(&format!("mounting an overlay on {path}")))
    }

    /// Makes a folder read-only.
    ///
    /// # Errors
    /// The mount is refused.
    pub fn make_read_only(&self, folder: &Path) -> Result<(), WorldError> {
        let doing = format!("mounting {} read-only", folder.display());
        rustix::mount::mount_bind(folder, folder).map_err(failed(&doing))?;
        rustix::mount::mount_remount(folder, MountFlags::BIND | MountFlags::RDONLY, c"").map_err(failed(&doing))
    }

    /// Takes the last mount on a folder away.
    ///
    /// # Errors
    /// There is none.
    pub fn unmount(&self, folder: &Path) -> Result<(), WorldError> {
        rustix::mount::unmount(folder, rustix::mount::UnmountFlags::DETACH)
            .map_err(failed(&format!("unmounting {}", folder.display())))
    }

    /// Shows `file` in place of the host's `path`, which must be there.
    ///
    /// # Errors
    /// The mount is refused.
    pub fn show_file(&self, file: &Path, path: &Path) -> Result<(), WorldError> {
        let doing = format!("mounting {} on {}", file.display(), path.display());
        rustix::mount::mount_bind(file, path).map_err(failed(&doing))
    }
}

/// Moves the calling thread into new namespaces of the given kinds.
#[expect(unsafe_code, reason = "unshare is unsafe for CLONE_FILES only, which is not passed here")]
pub(crate) fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    let flags = flags & (UnshareFlags::NEWNET | UnshareFlags::NEWNS);
    // SAFETY: file descriptor tables stay shared: only namespace flags pass the mask above.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

fn empty_folder(path: &Path) -> Result<(), WorldError> {
    rustix::mount::mount("enid", path, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, c"mode=0755")
        .map_err(failed(&format!("mounting a tmpfs on {}", path.display())))
}

fn make_folder(path: &Path) -> Result<(), WorldError> {
    fs::create_dir_all(path).map_err(|source| WorldError::Setup { doing: format!("making {}", path.display()), source })
}

fn failed(doing: &str) -> impl FnOnce(rustix::io::Errno) -> WorldError + use<> {
    let doing = doing.to_owned();
    move |errno| WorldError::Setup { doing, source: errno.into() }
}
