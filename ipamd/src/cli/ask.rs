// SPDX-License-Identifier: Apache-2.0
//! Asks the running daemon: HTTP/1.0 requests over a plain socket, no runtime, no client library.
//!
//! Where: at `--address` and nowhere else; by default at the control socket beside the plugin's, which root can always ask, and where
//! that cannot be reached at the introspection address.
//!
//! An answer that never ends (server-sent events) is read line by line: HTTP/1.0 has no chunks.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use ipamd_core::config::Bind;
use ipamd_core::{Config, Snapshot};
use serde::de::DeserializeOwned;

/// The control socket, in the folder of the plugin's.
pub const CONTROL_SOCKET: &str = "enid.sock";

/// The daemon answers from memory; longer means that it hangs.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who is followed says that he lives every 20 s.
const SILENCE: Duration = Duration::from_secs(65);

/// What commands that ask the daemon have in common.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// As JSON, not as text.
    pub json: bool,
    /// Where the daemon answers; `None`: where it does by default.
    pub address: Option<Bind>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// No daemon is there.
    NoDaemon(String),
    /// One is, and its answer has another status than 200: the status, and the whole as text.
    Status(u16, String),
    /// One is, and the answer is another than wanted.
    Other(String),
}

impl From<NoAnswer> for String {
    fn from(answer: NoAnswer) -> Self {
        match answer {
            NoAnswer::NoDaemon(text) | NoAnswer::Status(_, text) | NoAnswer::Other(text) => text,
        }
    }
}

/// Where the daemon may answer, the first place first.
#[derive(Clone, Debug)]
pub struct Daemon {
    places: Vec<Bind>,
}

impl Daemon {
    /// Of this node.
    #[must_use]
    pub fn of(config: &Config, address: Option<&Bind>) -> Self {
        if let Some(address) = address {
            return Self { places: vec![address.clone()] };
        }
        let control = Bind::Unix(config.socket.with_file_name(CONTROL_SOCKET));
        Self { places: std::iter::once(control).chain(config.introspection.clone()).collect() }
    }

    /// The body of an answer with status 200.
    ///
    /// # Errors
    /// No daemon is there, it does not answer, or its answer has another status: that and the body.
    pub fn get(&self, path: &str) -> Result<String, NoAnswer> {
        let (place, stream) = self.connect()?;
        let mut answer = String::new();
        let asked = stream.patience(PATIENCE).and_then(|()| stream.ask(path));
        asked
            .and_then(|mut stream| stream.read_to_string(&mut answer))
            .map_err(|error| not_answered(&place, &error))?;
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| not_http(&place))?;
        let status = head.lines().next().unwrap_or_default();
        match code(status) {
            Some(200) => Ok(body.to_owned()),
            Some(code) => Err(NoAnswer::Status(code, format!("{status}: {body}"))),
            None => Err(not_http(&place)),
        }
    }

    /// The same, read as JSON.
    ///
    /// # Errors
    /// As of [`Self::get`]; or the answer is of a daemon of another version.
    pub fn json<T: DeserializeOwned>(&self, path: &str) -> Result<T, NoAnswer> {
        let body = self.get(path)?;
        serde_json::from_str(&body).map_err(|error| {
            let hint = "is the daemon of another version than this command? ask it with its own `ipamd`";
            NoAnswer::Other(format!("the daemon's answer to {path} cannot be read: {error}; {hint}"))
        })
    }

    /// The state.
    ///
    /// # Errors
    /// As of [`Self::json`].
    pub fn status(&self) -> Result<Snapshot, NoAnswer> {
        self.json("/v1/status")
    }

    /// An answer without an end: its lines, as long as the daemon lives.
    ///
    /// # Errors
    /// As of [`Self::get`].
    pub fn follow(&self, path: &str) -> Result<impl Iterator<Item = io::Result<String>> + use<>, NoAnswer> {
        let (place, stream) = self.connect()?;
        let asked = stream.patience(SILENCE).and_then(|()| stream.ask(path));
        let mut lines = BufReader::new(asked.map_err(|error| not_answered(&place, &error))?).lines();
        let status = lines.next().ok_or_else(|| not_http(&place))?.map_err(|error| not_answered(&place, &error))?;
        match code(&status) {
            Some(200) => {}
            Some(code) => return Err(NoAnswer::Status(code, format!("{status} (asked for {path})"))),
            None => return Err(not_http(&place)),
        }
        let head = lines.by_ref().take_while(|line| line.as_ref().is_ok_and(|line| !line.is_empty()));
        head.for_each(drop);
        Ok(lines)
    }

    /// The first place where somebody listens.
    fn connect(&self) -> Result<(Bind, Stream), NoAnswer> {
        let mut refused = Vec::new();
        for place in &self.places {
            match Stream::to(place) {
                Ok(stream) => return Ok((place.clone(), stream)),
                Err(error) if is_absent(&error) => refused.push((place, error)),
                Err(error) => return Err(not_answered(place, &error)),
            }
        }
        Err(NoAnswer::NoDaemon(nobody(&refused)))
    }
}

/// Of a status line.
fn code(status: &str) -> Option<u16> {
    status.strip_prefix("HTTP/")?.split(' ').nth(1)?.parse().ok()
}

/// Nobody listens there, or not for this user.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused | io::ErrorKind::PermissionDenied)
}

fn nobody(refused: &[(&Bind, io::Error)]) -> String {
    let places: Vec<String> = refused.iter().map(|(place, error)| format!("{} ({error})", shown(place))).collect();
    let is_denied = refused.iter().any(|(_, error)| error.kind() == io::ErrorKind::PermissionDenied);
    let hint = if is_denied {
        "only root may ask there: run this as root"
    } else {
        "is ipamd running on this node? look at its log (systemctl status enid-ipamd, or the pod's); --address names another place"
    };
    format!("no daemon answers on {}: {hint}", places.join(" or "))
}

fn not_answered(place: &Bind, error: &io::Error) -> NoAnswer {
    let hint = match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
            ": it hangs, or the node is very busy; `ipamd probe live` asks whether its loop turns"
        }
        _ => "",
    };
    NoAnswer::Other(format!("asking the daemon on {}: {error}{hint}", shown(place)))
}

fn not_http(place: &Bind) -> NoAnswer {
    NoAnswer::Other(format!("what answers on {} does not speak HTTP: is it ipamd?", shown(place)))
}

fn shown(bind: &Bind) -> String {
    match bind {
        Bind::Tcp(address) => address.to_string(),
        Bind::Unix(path) => format!("unix:{}", path.display()),
    }
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    fn to(place: &Bind) -> io::Result<Self> {
        match place {
            Bind::Tcp(address) => TcpStream::connect_timeout(address, PATIENCE).map(Self::Tcp),
            Bind::Unix(path) => UnixStream::connect::<&Path>(path.as_ref()).map(Self::Unix),
        }
    }

    fn patience(&self, limit: Duration) -> io::Result<()> {
        let limit = Some(limit);
        match self {
            Self::Tcp(stream) => stream.set_read_timeout(limit),
            Self::Unix(stream) => stream.set_read_timeout(limit),
        }
    }

    fn ask(mut self, path: &str) -> io::Result<Self> {
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        match &mut self {
            Self::Tcp(stream) => stream.write_all(request.as_bytes())?,
            Self::Unix(stream) => stream.write_all(request.as_bytes())?,
        }
        Ok(self)
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(stream) => stream.read(buffer),
            Self::Unix(stream) => stream.read(buffer),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::PathBuf;

    use super::*;

    /// Answers each connection with the next text.
    fn serve(path: &Path, answers: &'static [&'static str]) {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
                while lines.next().is_some_and(|line| !line.unwrap().is_empty()) {}
                stream.write_all(answer.as_bytes()).unwrap();
            }
        });
    }

    fn config(folder: &Path) -> Config {
        let introspection = Some(Bind::Unix(folder.join("introspection.sock")));
        Config { socket: folder.join("ipamd.sock"), introspection, ..Config::default() }
    }

    #[test]
    fn the_control_socket_goes_first_then_the_introspection_address_and_an_address_that_is_given_alone() {
        const OK: &[&str] = &["HTTP/1.0 200 OK\r\nx: y\r\n\r\nintrospection"];
        const CONTROL: &[&str] = &["HTTP/1.0 200 OK\r\n\r\ncontrol"];
        let folder = tempfile::tempdir().unwrap();
        let config = config(folder.path());
        let daemon = Daemon::of(&config, None);
        let NoAnswer::NoDaemon(text) = daemon.get("/").unwrap_err() else { panic!("somebody is there") };
        for part in ["enid.sock", "introspection.sock", "is ipamd running on this node?"] {
            assert!(text.contains(part), "{text}");
        }
        serve(&folder.path().join("introspection.sock"), OK);
        assert_eq!(daemon.get("/"), Ok("introspection".to_owned()));
        serve(&folder.path().join(CONTROL_SOCKET), CONTROL);
        assert_eq!(daemon.get("/"), Ok("control".to_owned()));
        let elsewhere = Bind::Unix(PathBuf::from("/nonexistent"));
        let NoAnswer::NoDaemon(text) = Daemon::of(&config, Some(&elsewhere)).get("/").unwrap_err() else { panic!() };
        assert!(text.contains("/nonexistent") && !text.contains("enid.sock"), "{text}");
    }

    #[test]
    fn another_status_and_another_language_are_told() {
        const ANSWERS: &[&str] =
            &["HTTP/1.0 503 Service Unavailable\r\n\r\nstopping", "220 mail\r\n", "HTTP/1.0 200 OK\r\n\r\n{"];
        let folder = tempfile::tempdir().unwrap();
        serve(&folder.path().join(CONTROL_SOCKET), ANSWERS);
        let daemon = Daemon::of(&config(folder.path()), None);
        let said = |answer: NoAnswer| String::from(answer);
        assert!(said(daemon.get("/").unwrap_err()).contains("503 Service Unavailable: stopping"));
        assert!(said(daemon.get("/").unwrap_err()).contains("does not speak HTTP"));
        assert!(said(daemon.status().unwrap_err()).contains("of another version"));
    }

    #[test]
    fn an_answer_without_an_end_is_read_line_by_line() {
        const ANSWERS: &[&str] = &["HTTP/1.0 200 OK\r\ncontent-type: text/event-stream\r\n\r\nid: 1\ndata: {}\n\n"];
        let folder = tempfile::tempdir().unwrap();
        serve(&folder.path().join(CONTROL_SOCKET), ANSWERS);
        let lines = Daemon::of(&config(folder.path()), None).follow("/v1/events/follow").unwrap();
        assert_eq!(lines.map(Result::unwrap).collect::<Vec<_>>(), ["id: 1", "data: {}", ""]);
    }
}
