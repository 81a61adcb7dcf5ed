//! A hub on this machine: a repository served from memory, over two listeners, with the faults a test asks for.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::json;
use sha2::{Digest, Sha256};

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub range: Option<String>,
    pub token: Option<String>,
}

/// What goes back.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The connection drops after this many bytes of the body.
    pub cut: Option<usize>,
}

impl Reply {
    pub fn status(status: u16, headers: &[(&'static str, &str)]) -> Reply {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        Reply { status, headers, ..Reply::default() }
    }
}

/// What a test changes: given a request, how often its path was asked for before, and the usual reply.
type Fault = Box<dyn Fn(&Seen, usize, Reply) -> Reply + Send + Sync>;

/// The repository `some/model` at one commit. Files whose name ends in `.safetensors` are in large storage, at another port.
pub struct StandIn {
    pub endpoint: String,
    seen: Arc<Mutex<Vec<Seen>>>,
}

pub const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

impl StandIn {
    pub fn of(files: BTreeMap<String, Vec<u8>>) -> StandIn {
        StandIn::with(files, |_, _, usual| usual)
    }

    pub fn with(
        files: BTreeMap<String, Vec<u8>>,
        fault: impl Fn(&Seen, usize, Reply) -> Reply + Send + Sync + 'static,
    ) -> StandIn {
        let listeners = [0, 1].map(|_| TcpListener::bind("127.0.0.1:0").unwrap());
        let [endpoint, storage] = listeners.each_ref().map(|l| format!("http://{}", l.local_addr().unwrap()));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (files, fault): (_, Arc<Fault>) = (Arc::new(files), Arc::new(Box::new(fault)));
        for listener in listeners {
            let (seen, files, fault, storage) =
                (Arc::clone(&seen), Arc::clone(&files), Arc::clone(&fault), storage.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let (seen, files, fault, storage) =
                        (Arc::clone(&seen), Arc::clone(&files), Arc::clone(&fault), storage.clone());
                    std::thread::spawn(move || answer(stream, &seen, &files, fault.as_ref(), &storage));
                }
            });
        }
        StandIn { endpoint, seen }
    }

    /// Every connection so far, in order: one request each.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The requests for the content of a file in large storage.
    pub fn storage(&self) -> Vec<Seen> {
        self.seen().into_iter().filter(|seen| seen.path.starts_with("/storage/")).collect()
    }
}

fn answer(
    stream: TcpStream,
    log: &Mutex<Vec<Seen>>,
    files: &BTreeMap<String, Vec<u8>>,
    fault: &Fault,
    storage: &str,
) {
    let mut reader = BufReader::new(&stream);
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => break,
            Ok(_) if line.trim().is_empty() => break,
            Ok(_) => lines.push(line.trim().to_owned()),
        }
    }
    let header = |name: &str| {
        let pairs = lines.iter().filter_map(|line| line.split_once(": "));
        pairs.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned()).next()
    };
    let first = lines.first().cloned().unwrap_or_default();
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let seen = Seen { method, path, range: header("range"), token: header("authorization") };
    let before = {
        let mut log = log.lock().unwrap();
        let before = log.iter().filter(|s| s.path == seen.path && s.method == seen.method).count();
        log.push(seen.clone());
        before
    };
    let reply = fault(&seen, before, usual(&seen, files, storage));
    let mut head = format!("HTTP/1.1 {} Stand-In\r\nConnection: close\r\n", reply.status);
    if !reply.headers.iter().any(|(name, _)| *name == "Content-Length") {
        head += &format!("Content-Length: {}\r\n", reply.body.len());
    }
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let body = if seen.method == "HEAD" { &[] } else { &reply.body[..reply.cut.unwrap_or(reply.body.len())] };
    let _ = (&stream).write_all(format!("{head}\r\n").as_bytes()).and_then(|()| (&stream).write_all(body));
}

/// What the hub says.
fn usual(seen: &Seen, files: &BTreeMap<String, Vec<u8>>, storage: &str) -> Reply {
    if seen.path.starts_with("/api/models/some/model/revision/") {
        let siblings: Vec<_> = files.keys().map(|name| json!({ "rfilename": name })).collect();
        let body = json!({ "id": "some/model", "sha": COMMIT, "siblings": siblings }).to_string();
        return Reply { status: 200, body: body.into_bytes(), ..Reply::default() };
    }
    let resolved = seen.path.strip_prefix(&format!("/some/model/resolve/{COMMIT}/"));
    let Some(name) = resolved.or_else(|| seen.path.strip_prefix("/storage/")) else {
        return Reply::status(404, &[("X-Error-Code", "RepoNotFound")]);
    };
    let Some(bytes) = files.get(name) else {
        return Reply::status(404, &[("X-Error-Code", "EntryNotFound")]);
    };
    let large = name.ends_with(".safetensors");
    if large && resolved.is_some() {
        let (etag, size) = (format!("\"{}\"", sha256(bytes)), bytes.len().to_string());
        let place = format!("{storage}/storage/{name}");
        return Reply::status(
            302,
            &[("X-Linked-Etag", &etag), ("X-Linked-Size", &size), ("Location", &place)],
        );
    }
    let etag = if large { "\"of-the-storage\"".to_owned() } else { format!("W/\"{}\"", git_blob(bytes)) };
    let from = seen.range.as_ref().map(|range| {
        range.strip_prefix("bytes=").unwrap().strip_suffix('-').unwrap().parse::<usize>().unwrap()
    });
    let mut reply = Reply { headers: vec![("ETag", etag)], ..Reply::default() };
    match from {
        Some(from) if from >= bytes.len() => reply.status = 416,
        Some(from) => {
            reply.status = 206;
            reply.body = bytes[from..].to_vec();
            let range = format!("bytes {from}-{}/{}", bytes.len() - 1, bytes.len());
            reply.headers.push(("Content-Range", range));
        }
        None => (reply.status, reply.body) = (200, bytes.clone()),
    }
    if seen.method == "HEAD" {
        reply.headers.push(("Content-Length", bytes.len().to_string()));
    }
    reply
}

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Names that git gives the small files of the tests, as `git hash-object` prints them.
fn git_blob(bytes: &[u8]) -> String {
    let known = [
        ("{}", "9e26dfeeb6e641a33dae4961196235bdb965b21b"),
        ("", "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
    ];
    let name = known.iter().find(|(text, _)| text.as_bytes() == bytes);
    // other files carry a mark that is no hash, as mirrors have it
    name.map_or_else(|| format!("mark-{}", bytes.len()), |(_, name)| (*name).to_owned())
}
