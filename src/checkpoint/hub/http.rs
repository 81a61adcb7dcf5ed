//! Asking the hub: redirects, patience, and what its refusals mean.

use std::time::Duration;

use ureq::Agent;
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Body, Proxy};

use super::id::{Id, MAIN};
use super::token::Token;
use crate::error::{Error, Result};

/// How often one thing is asked for while the hub is busy, and while it is not reached.
const ATTEMPTS: u32 = 4;
const CONNECTIONS: u32 = 2;
/// The pause before the second attempt; each further one is twice as long, unless the hub says how long.
const PAUSE: Duration = Duration::from_millis(250);
/// The longest pause that the hub may ask for.
const PATIENCE: Duration = Duration::from_secs(60);
const REDIRECTS: usize = 10;

/// Something that answers as the hub does.
pub(super) struct Client {
    agent: Agent,
    /// Without a slash at its end.
    endpoint: String,
    token: Option<Token>,
}

/// What is asked for, and whether with its content.
pub(super) struct Request<'a> {
    pub(super) id: &'a Id,
    /// A file of the repository at this commit; none for the list of its files.
    pub(super) file: Option<(&'a str, &'a str)>,
    /// The byte to begin at; none for the headers alone.
    pub(super) from: Option<u64>,
}

/// What came back.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Body,
    /// Hash and size of a file in large storage, as the hub says before it redirects there.
    linked: [Option<String>; 2],
}

impl Client {
    pub(super) fn new(endpoint: String, token: Option<Token>) -> Result<Client> {
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        let Some(host) = origin(&endpoint) else {
            let message = "HF_ENDPOINT is not the address of a hub";
            return Err(Error::usage(message, "it should read https://HOST, without a name or password"));
        };
        let host = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host);
        // a proxy does not lead back to this machine
        let local = ["//localhost", "//127.0.0.1", "//[::1]"].iter().any(|own| host.ends_with(own));
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(if local { None } else { Proxy::try_from_env() })
            .user_agent(concat!("glassbox/", env!("CARGO_PKG_VERSION")))
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(Duration::from_secs(60)))
            .timeout_per_read(Some(Duration::from_secs(60)))
            .build()
            .new_agent();
        Ok(Client { agent, endpoint, token })
    }

    /// An answer that is not a refusal. While the hub is busy or not reached it is asked again, a few times.
    pub(super) fn send(&self, request: &Request) -> Result<Answer> {
        let (mut attempt, mut pause) = (0, PAUSE);
        loop {
            attempt += 1;
            let (wait, refusal) = match self.follow(request) {
                Ok(answer) if answer.status.is_success() || answer.is_past_the_end() => return Ok(answer),
                Ok(answer) => {
                    let busy = matches!(answer.status.as_u16(), 429 | 500 | 502 | 503 | 504);
                    let asked = answer.header("retry-after").and_then(|text| text.parse().ok());
                    let wait = asked.map_or(pause, Duration::from_secs);
                    let again = busy && attempt < ATTEMPTS && wait <= PATIENCE;
                    (again.then_some(wait), self.refusal(request, &answer))
                }
                Err(cause) => {
                    let message = format!("the hub at {} is not reached: {cause}", self.endpoint);
                    let hint = format!(
                        "check the network, a proxy (HTTPS_PROXY) or a mirror (HF_ENDPOINT); elsewhere, `{}` \
                         fetches the model into a folder that can be copied here and given to `--model`",
                        request.id.by_hand()
                    );
                    ((attempt < CONNECTIONS).then_some(pause), Error::input(message, hint))
                }
            };
            let Some(wait) = wait else { return Err(refusal) };
            std::thread::sleep(wait);
            pause *= 2;
        }
    }

    /// One request, redirected where it is redirected to. The token goes to the hub itself and to no other host.
    fn follow(&self, request: &Request) -> std::result::Result<Answer, String> {
        let mut url = self.address(request);
        let mut linked = [None, None];
        for _ in 0..REDIRECTS {
            let response = self.once(&url, request.from).map_err(|e| e.to_string())?;
            let (parts, body) = response.into_parts();
            let answer = Answer { status: parts.status, headers: parts.headers, body, linked: [None, None] };
            for (known, name) in linked.iter_mut().zip(["x-linked-etag", "x-linked-size"]) {
                *known = known.take().or_else(|| answer.header(name).map(str::to_owned));
            }
            let known = request.from.is_none() && linked.iter().all(Option::is_some);
            let next = answer.header("location").filter(|_| answer.status.is_redirection());
            let Some(next) = next.map(|next| join(&url, next)) else {
                return Ok(Answer { linked, ..answer });
            };
            if known {
                return Ok(Answer { status: StatusCode::OK, linked, ..answer });
            }
            if url.starts_with("https:") && !next.starts_with("https:") {
                return Err("it redirects to an address that is not encrypted".to_owned());
            }
            url = next;
        }
        Err(format!("it redirects more than {REDIRECTS} times"))
    }

    fn once(&self, url: &str, from: Option<u64>) -> std::result::Result<Response<Body>, ureq::Error> {
        let mut request = if from.is_some() { self.agent.get(url) } else { self.agent.head(url) };
        request = request.header("Accept-Encoding", "identity"); // lengths and ranges are of the file as it is
        if let Some(from) = from.filter(|&from| from > 0) {
            request = request.header("Range", format!("bytes={from}-"));
        }
        if let Some(token) = self.token.as_ref().filter(|_| origin(url) == origin(&self.endpoint)) {
            request = request.header("Authorization", token.header());
        }
        request.call()
    }

    fn address(&self, request: &Request) -> String {
        let (endpoint, name) = (&self.endpoint, request.id.name());
        match request.file {
            Some((commit, file)) => format!("{endpoint}/{name}/resolve/{commit}/{}", escaped(file)),
            None => {
                let revision = escaped(request.id.revision.as_deref().unwrap_or(MAIN));
                format!("{endpoint}/api/models/{name}/revision/{revision}")
            }
        }
    }

    /// What a refusal means, and the way out. The hub says of a private model that it does not exist.
    fn refusal(&self, request: &Request, answer: &Answer) -> Error {
        let (name, hub) = (request.id.name(), &self.endpoint);
        let status = answer.status.as_u16();
        let code = answer.header("x-error-code").unwrap_or_default();
        let how = "`--token-file FILE`, HF_TOKEN or `hf auth login`";
        let (message, hint) = match (status, code) {
            (_, "GatedRepo") | (403, _) => {
                let hint = match self.token {
                    Some(_) => {
                        "the token that was sent has no access: accept the terms with its account, or use another"
                    }
                    None => "accept the terms there, then set a token",
                };
                let message =
                    format!("{name} is gated: {hub}/{name} asks readers to accept its terms ({status})");
                (message, format!("{hint} ({how})"))
            }
            (401, code) if self.token.is_some() && code != "RepoNotFound" => (
                format!("the hub at {hub} does not accept the token ({status})"),
                format!("set one that is valid ({how}), or none for a public model"),
            ),
            (404, "EntryNotFound") | (404, "") if let Some((commit, file)) = request.file => (
                format!("the hub at {hub} has no {file} of {name} at {commit} (404)"),
                "its list of files names it: try again later, or take another revision".to_owned(),
            ),
            (404, "RevisionNotFound") | (404, "") if let Some(revision) = &request.id.revision => (
                format!("the hub at {hub} has no revision {revision} of {name} (404)"),
                format!("a revision is a branch, a tag or a commit: {hub}/{name}/tree/main lists them"),
            ),
            (401 | 404, _) => (
                format!("the hub at {hub} has no model {name}, or does not show it ({status})"),
                format!("check the name, OWNER/NAME; for a private model set a token ({how})"),
            ),
            (429, _) => {
                let long = answer.header("retry-after").map(|seconds| format!(" for {seconds} s"));
                let message =
                    format!("the hub at {hub} wants to be left alone{} (429)", long.unwrap_or_default());
                (message, format!("try again later; with a token one may ask more often ({how})"))
            }
            _ => (
                format!("the hub at {hub} answers {status} when asked for {name}"),
                "try again later; what was fetched is kept".to_owned(),
            ),
        };
        Error::input(message, hint)
    }
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok().map(str::trim)
    }

    /// What the file is called in the cache: its hash, or whatever the server calls it.
    pub(super) fn etag(&self) -> Option<&str> {
        let etag = self.linked[0].as_deref().or_else(|| self.header("etag"))?;
        let etag = etag.trim_start_matches("W/").trim_matches('"');
        let plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
        (etag.chars().all(plain) && !etag.is_empty() && !etag.starts_with('.')).then_some(etag)
    }

    /// The size of the whole file.
    pub(super) fn size(&self) -> Option<u64> {
        self.linked[1].as_deref().or_else(|| self.header("content-length"))?.parse().ok()
    }

    /// The byte of the file that the body begins with, be it not the one asked for; none if it holds nothing of the file.
    pub(super) fn begins_at(&self) -> Option<u64> {
        match self.status {
            StatusCode::PARTIAL_CONTENT => {
                let range = self.header("content-range")?.strip_prefix("bytes ")?;
                range.split_once('-')?.0.trim().parse().ok()
            }
            _ => (!self.is_past_the_end()).then_some(0),
        }
    }

    /// Whether more was asked for than the file has.
    fn is_past_the_end(&self) -> bool {
        self.status == StatusCode::RANGE_NOT_SATISFIABLE
    }
}

/// Scheme, host and port of an address, the port only where it is not the scheme's own; none if it has a password in it or is
/// no address.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let host = rest.split(['/', '?', '#']).next()?.to_ascii_lowercase();
    let scheme = scheme.to_ascii_lowercase();
    let usual = match scheme.as_str() {
        "https" => ":443",
        "http" => ":80",
        _ => return None,
    };
    let host = host.strip_suffix(usual).unwrap_or(&host);
    (!host.is_empty() && !host.contains('@')).then(|| format!("{scheme}://{host}"))
}

/// Where a redirect leads that was met at an address.
fn join(url: &str, location: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let scheme_of = |location: &str| location.split_once("://").map(|(scheme, _)| scheme.to_owned());
    if scheme_of(location).is_some_and(|scheme| scheme.chars().all(|c| c.is_ascii_alphanumeric())) {
        location.to_owned()
    } else if location.starts_with("//") {
        format!("{scheme}:{location}")
    } else if location.starts_with('/') {
        format!("{scheme}://{host}{location}")
    } else {
        let path = rest.split(['?', '#']).next().unwrap_or_default();
        let folder = path.rsplit_once('/').map_or(host, |(folder, _)| folder);
        format!("{scheme}://{folder}/{location}")
    }
}

/// Text as one part of an address.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_lead_where_a_browser_would_go() {
        let at = "https://hub.example:8443/a/b?c=/d";
        for (location, whole) in [
            ("/x", "https://hub.example:8443/x"),
            ("x?y", "https://hub.example:8443/a/x?y"),
            ("/x?to=http://a", "https://hub.example:8443/x?to=http://a"),
            ("//other.example/x", "https://other.example/x"),
            ("http://other.example/x?to=http://a", "http://other.example/x?to=http://a"),
        ] {
            assert_eq!(join(at, location), whole);
        }
        assert_eq!(join("http://hub.example", "x"), "http://hub.example/x");
    }

    #[test]
    fn one_host_is_told_from_another() {
        let same = |a: &str, b: &str| origin(a).is_some() && origin(a) == origin(b);
        assert!(same("https://Hub.example", "https://hub.example:443/x"));
        assert!(same("http://hub.example:80", "http://hub.example?x"));
        for other in [
            "http://hub.example",
            "https://hub.example:444",
            "https://hub.example.evil.example",
            "https://hub.example@evil.example",
            "https://evil.example/https://hub.example",
            "ftp://hub.example",
            "hub.example",
        ] {
            assert!(!same("https://hub.example", other), "{other}");
        }
    }

    #[test]
    fn parts_of_an_address_are_escaped() {
        assert_eq!(escaped("refs/pr/1"), "refs%2Fpr%2F1");
        assert_eq!(escaped("model-00001-of-00002.safetensors"), "model-00001-of-00002.safetensors");
    }
}
