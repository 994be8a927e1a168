//! Requests to the daemon of this home, and its answers.

use std::io::{self, BufRead, BufReader};
use std::net::SocketAddr;
use std::time::Duration;

use corral_api::dto::{DashboardAnswer, ErrorAnswer};
use corral_core::{Code, Error, Result, Secret};
use corral_daemon::{DaemonFile, Environment, Paths, read_token};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use ureq::Agent;
use ureq::http::{Request, Response, StatusCode};

const START_IT: &str = "start it with `corral serve`";

/// How long the daemon, on this machine, may take to take a connection.
const CONNECT: Duration = Duration::from_secs(2);

/// How long an answer may take that waits for nothing but a sleeping disk.
const ANSWER: Duration = Duration::from_secs(30);

/// How long to wait for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// As long as an answer takes that is there already.
    Short,
    /// As long as the operation takes.
    Endless,
}

/// Talks to the daemon of this home. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Client {
    agent: Agent,
    address: SocketAddr,
    token: Secret,
}

impl Client {
    /// A client of the daemon that runs for this home. [`Code::DaemonUnavailable`] where none says that it does.
    pub fn of_home(env: &Environment) -> Result<Self> {
        let paths = Paths::resolve(env)?;
        let daemon = DaemonFile::read(&paths).ok_or_else(|| {
            let message = format!("no Corral daemon runs (there is no {})", paths.daemon_file.display());
            Error::new(Code::DaemonUnavailable, message).hint(START_IT)
        })?;
        let config = Agent::config_builder()
            // Without these the token could travel to a proxy, or to wherever an answer points.
            .proxy(None)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT))
            .user_agent(concat!("corral/", env!("CARGO_PKG_VERSION")))
            .build();
        Ok(Self { agent: config.into(), address: daemon.management, token: read_token(&paths)? })
    }

    /// The dashboard's address, with the token behind `#`, which a browser keeps to itself.
    pub fn dashboard(&self) -> String {
        format!("http://{}/ui/#token={}", self.address, self.token.expose())
    }

    /// A way into the dashboard for a browser of this user: good once and soon, and for nobody else, so that it may stand
    /// on a command line.
    pub fn way_to_dashboard(&self) -> Result<String> {
        let answer: DashboardAnswer = self.parse(&self.post("/dashboard", &Value::Null, Patience::Short)?)?;
        Ok(answer.url)
    }

    /// The body of the answer to a `GET`.
    pub fn get(&self, path: &str) -> Result<Vec<u8>> {
        let request = self.agent.get(self.url(path)).header("Authorization", self.bearer());
        self.body(request.config().timeout_global(Some(ANSWER)).build().call())
    }

    /// The body of the answer to a `GET` of another of Corral's addresses, which needs no token and gets none.
    pub fn fetch(&self, url: &str) -> Result<Vec<u8>> {
        self.body(self.agent.get(url).config().timeout_global(Some(ANSWER)).build().call())
    }

    /// The body of the answer to a `POST` of a JSON value.
    pub fn post(&self, path: &str, body: &impl Serialize, patience: Patience) -> Result<Vec<u8>> {
        let request = self.agent.post(self.url(path)).header("Authorization", self.bearer());
        let timeout = (patience == Patience::Short).then_some(ANSWER);
        self.body(request.config().timeout_global(timeout).build().send_json(body))
    }

    /// The status and the body of the answer to any request, a refusal among them; null where there is no body.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Result<(u16, Value)> {
        let path = path.strip_prefix('/').filter(|path| !path.starts_with('/'));
        let url = path.map(|path| self.url(&format!("/{path}")));
        let request = url.and_then(|url| {
            let request = Request::builder().method(method).uri(url).header("Authorization", self.bearer());
            let request = if body.is_some() { request.header("Content-Type", "application/json") } else { request };
            request.body(body.map(Value::to_string).unwrap_or_default()).ok()
        });
        let Some(request) = request else {
            return Err(Error::new(Code::InvalidRequest, format!("`{method}` of that path is no request")));
        };
        let answer = self.agent.run(request).map_err(|error| self.unreachable(error))?;
        let (status, body) = self.read(answer)?;
        let body = if body.is_empty() { Value::Null } else { self.parse(&body)? };
        Ok((status.as_u16(), body))
    }

    /// The body of the answer to a `GET`, as it comes.
    pub fn stream(&self, path: &str) -> Result<impl BufRead + Send + use<>> {
        let answer = self.agent.get(self.url(path)).header("Authorization", self.bearer()).call();
        let answer = answer.map_err(|error| self.unreachable(error))?;
        if !answer.status().is_success() {
            return Err(self.read(answer).map_or_else(|error| error, |(status, body)| self.refused(status, &body)));
        }
        Ok(BufReader::new(answer.into_body().into_with_config().limit(u64::MAX).reader()))
    }

    /// The value of an answer. [`Code::DaemonUnavailable`] where it is none that Corral gives.
    pub fn parse<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T> {
        serde_json::from_slice(body).map_err(|error| {
            Error::new(Code::DaemonUnavailable, format!("the answer of {} was not understood", self.url("")))
                .because(error)
                .hint("is the daemon of another version? end it, and start it again with `corral serve`")
        })
    }

    /// The connection broke while an answer came.
    pub fn broken(&self, error: io::Error) -> Error {
        self.unreachable(ureq::Error::Io(error))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token.expose())
    }

    fn body(&self, answer: Result<Response<ureq::Body>, ureq::Error>) -> Result<Vec<u8>> {
        let (status, body) = self.read(answer.map_err(|error| self.unreachable(error))?)?;
        if status.is_success() { Ok(body) } else { Err(self.refused(status, &body)) }
    }

    fn read(&self, mut answer: Response<ureq::Body>) -> Result<(StatusCode, Vec<u8>)> {
        let body = answer.body_mut().with_config().limit(u64::MAX).read_to_vec();
        Ok((answer.status(), body.map_err(|error| self.unreachable(error))?))
    }

    fn unreachable(&self, error: ureq::Error) -> Error {
        let unreachable = |what: &str| Error::new(Code::DaemonUnavailable, format!("{what} at {}", self.url("")));
        match error {
            ureq::Error::Io(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                unreachable("no Corral daemon answers").because(error).hint(START_IT)
            }
            ureq::Error::Io(error) => unreachable("the connection broke to the Corral daemon")
                .because(error)
                .hint("`corral status` says whether it still runs"),
            error => unreachable("no Corral daemon answers").because(error).hint(START_IT),
        }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> Error {
        if let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(body) {
            return answer.error.into();
        }
        if let Ok(NewerAnswer { error }) = serde_json::from_slice(body) {
            let told = Error::new(Code::Internal, error.message);
            return error.hint.into_iter().fold(told, Error::hint);
        }
        Error::new(Code::DaemonUnavailable, format!("what answers at {} is not Corral: HTTP {status}", self.url("")))
            .hint(START_IT)
    }
}

/// An error with a code that this version does not know.
#[derive(Deserialize)]
struct NewerAnswer {
    error: NewerError,
}

#[derive(Deserialize)]
struct NewerError {
    message: String,
    hint: Option<String>,
}
