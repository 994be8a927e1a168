//! The dashboard's window for real: `corral-dashboard` in `WebKitGTK`, driven by its own `WebDriver` as a person
//! drives it.

use std::collections::BTreeSet;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fantoccini::elements::Element;
use fantoccini::error::CmdError;
use fantoccini::{Client, ClientBuilder, Locator};
use hyper_util::client::legacy::connect::HttpConnector;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{Daemon, PATIENCE, process, until};

/// How long one step of the driver may take: with the processes of a web view gone, some are never answered.
const STEP: Duration = Duration::from_secs(30);

/// A window that shows a daemon; ended when dropped, with its driver and all that they started.
#[derive(Debug)]
pub struct Window {
    client: Client,
    runtime: Runtime,
    driver: Child,
}

/// What a window shows, as pixels.
#[derive(Debug)]
pub struct Picture {
    /// Pixels from left to right.
    pub width: u32,
    /// Pixels from top to bottom.
    pub height: u32,
    /// Different colours.
    pub colours: usize,
}

impl Window {
    /// Opens one, with the daemon's environment, which has to name a display.
    #[track_caller]
    pub fn open(daemon: &Daemon, args: &[&str]) -> Self {
        Self::open_with(daemon, args, &[])
    }

    /// The same with more variables in its environment.
    #[track_caller]
    pub fn open_with(daemon: &Daemon, args: &[&str], env: &[(&str, &str)]) -> Self {
        Self::open_program(&daemon.of("corral-dashboard", args), env)
    }

    /// Opens what this command opens, with more variables in its environment; its arguments are those of a dashboard.
    #[track_caller]
    pub fn open_program(program: &Command, env: &[(&str, &str)]) -> Self {
        let args: Vec<_> = program.get_args().filter_map(|word| word.to_str()).collect();
        let mut command = Command::new("WebKitWebDriver");
        command.arg("--port=0").env_clear().current_dir("/");
        command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
        command.envs([("TAURI_WEBVIEW_AUTOMATION", "true"), ("NO_AT_BRIDGE", "1")]).envs(env.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut driver = command.spawn().expect("WebKitWebDriver, which setup brings");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let port = until(PATIENCE, "the driver listens", || process::listens_at(driver.id()));
        let options = json!({ "binary": program.get_program().to_str(), "args": args });
        let capabilities = [("webkitgtk:browserOptions".to_owned(), options)].into_iter().collect();
        let client = runtime.block_on(async {
            let mut builder = ClientBuilder::new(HttpConnector::new());
            let driver = format!("http://127.0.0.1:{port}");
            tokio::time::timeout(PATIENCE, builder.capabilities(capabilities).connect(&driver)).await
        });
        match client {
            Ok(Ok(client)) => Self { client, runtime, driver },
            failed => {
                end(&mut driver);
                panic!("no window opens: {failed:?}");
            }
        }
    }

    /// Opens a browser: `WebKit`'s own small one.
    #[track_caller]
    pub fn browser(daemon: &Daemon) -> Self {
        let program = crate::parts::webkit().join("MiniBrowser");
        let usual = daemon.of("corral-dashboard", &[]);
        let mut command = Command::new(program);
        command.arg("--automation").envs(usual.get_envs().filter_map(|(name, value)| Some((name, value?))));
        Self::open_program(&command, &[])
    }

    /// Goes to an address.
    #[track_caller]
    pub fn visit(&self, url: &str) {
        self.step(self.client.goto(url)).unwrap_or_else(|error| panic!("{url}: {error}"));
    }

    fn step<T>(&self, step: impl Future<Output = Result<T, CmdError>>) -> Result<T, String> {
        let done = self.runtime.block_on(async { tokio::time::timeout(STEP, step).await });
        done.map_err(|_| format!("not within {STEP:?}"))?.map_err(|error| error.to_string())
    }

    fn element(&self, place: &str) -> Option<Element> {
        let locator = if place.starts_with("//") { Locator::XPath(place) } else { Locator::Css(place) };
        self.step(self.client.find(locator)).ok()
    }

    /// Does something with the first element at a place, by CSS or `XPath`; again, where the page draws it anew just then.
    #[track_caller]
    fn at<T>(&self, place: &str, what: &str, act: &impl AsyncFn(&Element) -> Result<T, CmdError>) -> T {
        let mut last = String::from("it is not there");
        let began = std::time::Instant::now();
        while began.elapsed() < PATIENCE {
            if let Some(element) = self.element(place) {
                match self.step(act(&element)) {
                    Ok(done) => return done,
                    Err(error) => last = error,
                }
            }
            std::thread::park_timeout(crate::wait::INTERVAL);
        }
        panic!("{what} {place}: {last}; the page says\n{}", self.text("body").unwrap_or_default());
    }

    /// What a person reads at a place; none where it is not there.
    pub fn text(&self, place: &str) -> Option<String> {
        let element = self.element(place)?;
        self.step(element.text()).ok()
    }

    /// Waits until a place has these words, and returns all that it says.
    #[track_caller]
    pub fn says(&self, place: &str, words: &str) -> String {
        let began = std::time::Instant::now();
        loop {
            let text = self.text(place);
            match text {
                Some(text) if text.contains(words) => return text,
                text => assert!(
                    began.elapsed() < PATIENCE,
                    "{place} says {words:?}: it says {text:?}; the page says\n{}",
                    self.text("body").unwrap_or_default()
                ),
            }
            std::thread::park_timeout(crate::wait::INTERVAL);
        }
    }

    /// Waits until nothing is at a place.
    #[track_caller]
    pub fn lacks(&self, place: &str) {
        until(PATIENCE, &format!("there is no {place}"), || self.element(place).is_none().then_some(()));
    }

    /// Clicks what is at a place.
    #[track_caller]
    pub fn click(&self, place: &str) {
        self.at(place, "a click on", &async |element| element.click().await);
    }

    /// Chooses from a list by what it says.
    #[track_caller]
    pub fn choose(&self, place: &str, label: &str) {
        self.at(place, "a choice at", &async |element| element.select_by_label(label).await);
    }

    /// Types a text in place of the one in a field.
    #[track_caller]
    pub fn fill(&self, place: &str, text: &str) {
        self.at(place, "typing into", &async |element| {
            element.clear().await?;
            element.send_keys(text).await
        });
    }

    /// What is in a field.
    #[track_caller]
    pub fn value(&self, place: &str) -> String {
        self.at(place, "the value of", &async |element| element.prop("value").await).unwrap_or_default()
    }

    /// Goes to a view by its entry, and waits for its heading.
    #[track_caller]
    pub fn go(&self, view: &str, heading: &str) {
        self.click(&format!("nav a[href=\"#{view}\"]"));
        self.says("h1", heading);
    }

    /// What a script in the page answers.
    #[track_caller]
    pub fn ask(&self, script: &str) -> Value {
        self.step(self.client.execute(script, Vec::new())).unwrap_or_else(|error| panic!("{script}: {error}"))
    }

    /// Takes a picture of what the window shows.
    #[track_caller]
    pub fn picture(&self) -> Picture {
        let file = self.step(self.client.screenshot()).unwrap_or_else(|error| panic!("a picture: {error}"));
        let mut decoder = png::Decoder::new(std::io::Cursor::new(file));
        decoder.set_transformations(png::Transformations::EXPAND | png::Transformations::ALPHA);
        let mut reader = decoder.read_info().expect("a picture");
        let mut pixels = vec![0; reader.output_buffer_size().expect("a picture that memory holds")];
        let info = reader.next_frame(&mut pixels).expect("a picture");
        let colours = pixels.chunks_exact(4).collect::<BTreeSet<_>>().len();
        Picture { width: info.width, height: info.height, colours }
    }

    /// The window's program and all that it has started.
    pub fn processes(&self) -> BTreeSet<u32> {
        let mut all = process::family(self.driver.id());
        all.remove(&self.driver.id());
        all
    }

    /// The process of this name among them.
    #[track_caller]
    pub fn process(&self, name: &str) -> u32 {
        until(PATIENCE, &format!("there is a {name}"), || {
            self.processes().into_iter().find(|pid| process::command_line(*pid).contains(name))
        })
    }

    /// Waits until all of these have ended.
    #[track_caller]
    pub fn until_ended(processes: &BTreeSet<u32>) {
        until(PATIENCE, "all of the window's processes have ended", || {
            processes.iter().all(|pid| !process::runs(*pid)).then_some(())
        });
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        end(&mut self.driver);
    }
}

/// Ends a driver and all that it has started.
fn end(driver: &mut Child) {
    let mut all = process::family(driver.id());
    all.remove(&driver.id());
    let _ = driver.kill();
    let _ = driver.wait();
    // The program first: it would start others anew.
    for pid in all {
        let number = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let _ = number.map(|number| rustix::process::kill_process(number, Signal::KILL));
    }
}
