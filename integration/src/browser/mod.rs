// SPDX-License-Identifier: Apache-2.0
//! A real Chromium, without a window, in a network namespace: opened, typed into, asked what it shows.
//!
//! It is driven by chromedriver over the WebDriver protocol (W3C, "WebDriver", and Chromium's own additions under `goog/` and `se/`). What
//! a page is to show is the tests' business. Browser and driver live in a process namespace of their own that ends with this, with
//! everything in it; the browser's profile is a new folder on the world's tmpfs.
//!
//! Where they come from: `scripts/browser.sh`.
#![expect(clippy::disallowed_methods, reason = "the environment names the folder of pictures, which are files")]

mod wire;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::eventually::eventually;
use crate::netns::{Namespace, NetnsError};
use crate::process::{ProcessError, Program, Running};
use crate::world::{World, WorldError};

use wire::Wire;

/// A browser that starts on a busy machine.
const START: Duration = Duration::from_secs(60);

/// Now and then a browser exits as it starts: what a test is about has not begun by then.
const TRIES: u32 = 3;

/// Without a window, and without anything that it does of its own accord: no updates, no reports, no other hosts.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-default-apps",
    "--disable-extensions",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
];

/// Keys that have no character (WebDriver, "Keyboard actions").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Enter.
    Enter,
    /// Escape.
    Escape,
    /// Arrow up.
    Up,
    /// Arrow down.
    Down,
    /// Arrow left.
    Left,
    /// Arrow right.
    Right,
    /// Home.
    Home,
    /// Page down.
    PageDown,
}

impl Key {
    fn code(self) -> char {
        match self {
            Self::Enter => '\u{e007}',
            Self::Escape => '\u{e00c}',
            Self::PageDown => '\u{e00f}',
            Self::Home => '\u{e011}',
            Self::Left => '\u{e012}',
            Self::Up => '\u{e013}',
            Self::Right => '\u{e014}',
            Self::Down => '\u{e015}',
        }
    }
}

/// What a browser could not do.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// It is not there.
    #[error("{} is not there: run `make browser`, or name a folder with it in ENID_BROWSER", .0.display())]
    NotUnpacked(PathBuf),
    /// The driver does not answer.
    #[error("asking chromedriver {doing}")]
    Wire {
        /// What was asked.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The driver refused.
    #[error("chromedriver refused {doing}: {said}")]
    Refused {
        /// What was asked.
        doing: String,
        /// What it said.
        said: String,
    },
    /// A file.
    #[error("{doing}")]
    File {
        /// What.
        doing: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The driver does not answer, or its browser does not start.
    #[error("no browser starts: {cause}\nthe end of their log:\n{log}")]
    NotStarted {
        /// What was waited for, or why it was refused.
        cause: String,
        /// The end of the driver's and the browser's log.
        log: String,
    },
    /// The process.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The namespace.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The folder.
    #[error(transparent)]
    World(#[from] WorldError),
}

/// A browser with one page open. Fields end in this order.
#[derive(Debug)]
pub struct Browser {
    wire: Wire,
    /// `/session/<id>`.
    session: String,
    _driver: Running,
}

impl Browser {
    /// Starts one in `netns`, in a window of 1280 by 900.
    ///
    /// # Errors
    /// It is not there, or does not start.
    pub fn start(world: &World, netns: &Namespace) -> Result<Self, BrowserError> {
        let [browser, driver] = programs()?;
        let folder = world.folder(&format!("{}/browser", netns.name()))?;
        let (log, home) = (folder.join("chromedriver.log"), folder.display().to_string());
        let port = format!("--port={}", wire::PORT);
        // A process namespace ends with its first process, and that one with who started it.
        let words = ["--pid", "--fork", "--kill-child=KILL", "--mount-proc"].map(str::to_owned).into_iter();
        let program = Program {
            path: PathBuf::from("unshare"),
            // What the browser says goes into the driver's log.
            arguments: words.chain([driver.display().to_string(), port, "--enable-chrome-logs".to_owned()]).collect(),
            environment: [
                ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"),
                ("HOME", home.as_str()),
                ("TMPDIR", home.as_str()),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
            log: log.clone(),
        };
        let running = Running::start(netns, &program)?;
        let wire = Wire::new(netns);
        let failed = |cause: String| BrowserError::NotStarted { cause, log: crate::process::tail(&log, 40) };
        eventually("chromedriver answers", START, || {
            wire.ask("GET", "/status", None).map_err(|error| error.to_string())
        })
        .map_err(|cause| failed(cause.to_string()))?;
        let mut tries = 1;
        let session = loop {
            match session(&wire, &browser, &format!("{home}/profile-{tries}")) {
                Ok(session) => break session,
                Err(error @ BrowserError::Refused { .. }) if tries < TRIES => started_again(&failed(error.to_string())),
                Err(error) => return Err(failed(error.to_string())),
            }
            tries += 1;
        };
        Ok(Self { wire, session, _driver: running })
    }

    /// Opens an address, and waits until its document is loaded.
    ///
    /// # Errors
    /// It cannot be had.
    pub fn open(&self, address: &str) -> Result<(), BrowserError> {
        self.post("url", &json!({ "url": address })).map(drop)
    }

    /// Runs the body of a function in the page: what it returns.
    ///
    /// # Errors
    /// It throws.
    pub fn run(&self, body: &str) -> Result<Value, BrowserError> {
        self.post("execute/sync", &json!({ "script": body, "args": [] }))
    }

    /// Types characters, as on a keyboard, wherever the focus is.
    ///
    /// # Errors
    /// The driver does not answer.
    pub fn type_text(&self, text: &str) -> Result<(), BrowserError> {
        self.keys(text.chars())
    }

    /// Presses keys one after the other.
    ///
    /// # Errors
    /// The driver does not answer.
    pub fn press(&self, keys: &[Key]) -> Result<(), BrowserError> {
        self.keys(keys.iter().map(|key| key.code()))
    }

    fn keys(&self, codes: impl Iterator<Item = char>) -> Result<(), BrowserError> {
        let strokes: Vec<Value> = codes
            .flat_map(|code| ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": code.to_string() })))
            .collect();
        self.post("actions", &json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] })).map(drop)
    }

    /// Gives the page a screen of so many pixels; narrow ones are a phone's.
    ///
    /// # Errors
    /// The driver does not answer.
    pub fn resize(&self, width: u32, height: u32) -> Result<(), BrowserError> {
        let phone = width < 500;
        let screen = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone });
        self.chromium("Emulation.setDeviceMetricsOverride", &screen)
    }

    /// Lets the page believe that its reader likes it dark, and without motion.
    ///
    /// # Errors
    /// The driver does not answer.
    pub fn darken(&self) -> Result<(), BrowserError> {
        let likes = [("prefers-color-scheme", "dark"), ("prefers-reduced-motion", "reduce")];
        let features: Vec<Value> = likes.iter().map(|(name, value)| json!({ "name": name, "value": value })).collect();
        self.chromium("Emulation.setEmulatedMedia", &json!({ "features": features }))
    }

    /// A command of Chromium's own protocol.
    fn chromium(&self, command: &str, parameters: &Value) -> Result<(), BrowserError> {
        self.post("goog/cdp/execute", &json!({ "cmd": command, "params": parameters })).map(drop)
    }

    /// What the console has said since this was asked last, one line a message: `SEVERE …`, `WARNING …`, `INFO …`.
    ///
    /// # Errors
    /// The driver does not answer.
    pub fn console(&self) -> Result<Vec<String>, BrowserError> {
        let messages = self.post("se/log", &json!({ "type": "browser" }))?;
        let line = |message: &Value| {
            let text = |field: &str| message[field].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("level"), text("message"))
        };
        Ok(messages.as_array().map(|all| all.iter().map(line).collect()).unwrap_or_default())
    }

    /// Writes what the page looks like now into `<build folder>/enid/screenshots/<name>.png`.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn screenshot(&self, name: &str) -> Result<PathBuf, BrowserError> {
        let answer = self.wire.ask("GET", &format!("{}/screenshot", self.session), None)?;
        let picture = wire::base64(answer.as_str().unwrap_or_default());
        let build = std::env::var_os("ENID_BUILD").map(PathBuf::from).or_else(crate::tools::build_folder);
        let folder = build.unwrap_or_default().join("enid/screenshots");
        let path = folder.join(format!("{name}.png"));
        let written = std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(&path, picture));
        written.map_err(|source| BrowserError::File { doing: format!("writing {}", path.display()), source })?;
        Ok(path)
    }

    fn post(&self, what: &str, body: &Value) -> Result<Value, BrowserError> {
        self.wire.ask("POST", &format!("{}/{what}", self.session), Some(body))
    }
}

/// A window with a new profile: its path below the driver's address.
fn session(wire: &Wire, browser: &Path, profile: &str) -> Result<String, BrowserError> {
    let profile = format!("--user-data-dir={profile}");
    let flags: Vec<&str> = FLAGS.into_iter().chain(["--window-size=1280,900", &profile]).collect();
    let wanted = json!({ "capabilities": { "alwaysMatch": {
        "goog:loggingPrefs": { "browser": "ALL" },
        "goog:chromeOptions": { "binary": browser, "args": flags },
    }}});
    let answer = wire.ask("POST", "/session", Some(&wanted))?;
    let id = answer["sessionId"].as_str().ok_or_else(|| BrowserError::Refused {
        doing: "POST /session".to_owned(),
        said: format!("no session: {answer}"),
    })?;
    Ok(format!("/session/{id}"))
}

#[expect(clippy::print_stderr, reason = "what went wrong is known also where the next try goes well")]
fn started_again(error: &BrowserError) {
    eprintln!("{error}\nit is started again");
}

/// The browser and its driver.
fn programs() -> Result<[PathBuf; 2], BrowserError> {
    let folder = crate::tools::built("ENID_BROWSER", "enid/browser");
    let both = ["chromium", "chromedriver"].map(|program| folder.join(program));
    match both.iter().find(|path: &&PathBuf| !Path::exists(path)) {
        Some(missing) => Err(BrowserError::NotUnpacked(missing.clone())),
        None => Ok(both),
    }
}
