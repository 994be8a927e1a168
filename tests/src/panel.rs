//! What a desktop has for a tray icon, in a D-Bus of the test's own: a panel, and something that shows notifications.
//! Both stand in for a desktop's; they take what the specifications say and remember it.

#![allow(
    clippy::needless_pass_by_value,
    clippy::unused_self,
    clippy::used_underscore_binding,
    reason = "the bus's interfaces are methods of a given form"
)]

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use zbus::blocking::{Connection, Proxy, connection};
use zbus::names::UniqueName;
use zbus::zvariant::{OwnedValue, Structure, Value};

use crate::{PATIENCE, until};

const WATCHER: &str = "org.kde.StatusNotifierWatcher";
const NOTIFICATIONS: &str = "org.freedesktop.Notifications";

/// A bus of the test's own; ended when dropped.
#[derive(Debug)]
pub struct Bus {
    server: Child,
    address: String,
}

impl Bus {
    /// Starts one.
    #[track_caller]
    pub fn start() -> Self {
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--nopidfile", "--print-address=1"]);
        let mut server =
            command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("dbus-daemon, which setup brings");
        let mut address = String::new();
        BufReader::new(server.stdout.take().expect("its output")).read_line(&mut address).expect("its address");
        Self { server, address: address.trim().to_owned() }
    }

    /// What `DBUS_SESSION_BUS_ADDRESS` has to be.
    pub fn address(&self) -> &str {
        &self.address
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[derive(Debug, Default)]
struct Seen {
    items: Vec<(String, Instant)>,
    notifications: Vec<Shown>,
}

/// A notification, as it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// Its number.
    pub id: u32,
    /// The number of the one that it replaces, or 0.
    pub replaces: u32,
    /// Its heading.
    pub summary: String,
    /// Its text.
    pub body: String,
    /// Keys and labels of its buttons, in turns.
    pub actions: Vec<String>,
    /// Milliseconds until it goes by itself; 0 for never, -1 where the desktop decides.
    pub timeout: i32,
}

struct Watcher(Arc<Mutex<Seen>>);

#[zbus::interface(name = "org.kde.StatusNotifierWatcher")]
impl Watcher {
    fn register_status_notifier_item(&self, service: &str, #[zbus(header)] header: zbus::message::Header<'_>) {
        let sender = header.sender().map(UniqueName::to_string).unwrap_or_default();
        let name = if service.starts_with('/') { sender } else { service.to_owned() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).items.push((name, Instant::now()));
    }

    fn register_status_notifier_host(&self, _service: &str) {}

    #[zbus(property)]
    fn registered_status_notifier_items(&self) -> Vec<String> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.items.iter().map(|(name, _)| name.clone()).collect()
    }

    #[zbus(property)]
    fn is_status_notifier_host_registered(&self) -> bool {
        true
    }

    #[zbus(property)]
    fn protocol_version(&self) -> i32 {
        0
    }
}

struct Notifications(Arc<Mutex<Seen>>);

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Notifications {
    #[allow(clippy::too_many_arguments, reason = "the specification has them")]
    fn notify(
        &self,
        _app: &str,
        replaces: u32,
        _icon: &str,
        summary: &str,
        body: &str,
        actions: Vec<String>,
        _hints: HashMap<String, OwnedValue>,
        timeout: i32,
    ) -> u32 {
        let mut seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = u32::try_from(seen.notifications.len()).unwrap_or(u32::MAX) + 1;
        let id = if replaces == 0 { next } else { replaces };
        let (summary, body) = (summary.to_owned(), body.to_owned());
        seen.notifications.push(Shown { id, replaces, summary, body, actions, timeout });
        id
    }

    fn get_capabilities(&self) -> Vec<String> {
        vec!["actions".to_owned(), "body".to_owned()]
    }

    fn close_notification(&self, _id: u32) {}

    fn get_server_information(&self) -> (String, String, String, String) {
        ["test", "corral", "1", "1.2"].map(str::to_owned).into()
    }
}

/// A panel on a bus.
#[derive(Debug)]
pub struct Panel {
    connection: Connection,
    seen: Arc<Mutex<Seen>>,
}

/// An entry of a menu.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MenuEntry {
    id: i32,
    /// What it says, as a person reads it; empty for a line between.
    pub label: String,
    /// Whether it can be clicked.
    pub enabled: bool,
    /// Whether its mark is set; none where it has none.
    pub checked: Option<bool>,
    /// What it opens.
    pub children: Vec<MenuEntry>,
}

impl Panel {
    /// Appears on the bus, with its notifications.
    #[track_caller]
    pub fn start(bus: &Bus) -> Self {
        let panel = Self::without_icons(bus);
        let watcher = Watcher(panel.seen.clone());
        let served = panel.connection.object_server().at("/StatusNotifierWatcher", watcher);
        assert_eq!(served, Ok(true), "a place on the bus");
        panel.connection.request_name(WATCHER).expect("a name on the bus");
        panel
    }

    /// Notifications only: the panel of a desktop that shows no icons.
    #[track_caller]
    pub fn without_icons(bus: &Bus) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let builder = connection::Builder::address(bus.address()).expect("an address");
        let connection = builder
            .serve_at("/org/freedesktop/Notifications", Notifications(seen.clone()))
            .and_then(|builder| builder.name(NOTIFICATIONS))
            .and_then(connection::Builder::build);
        Self { connection: connection.expect("a place on the bus"), seen }
    }

    /// Waits for an icon, and returns it.
    #[track_caller]
    pub fn item(&self) -> Item {
        let service = until(PATIENCE, "an icon registers", || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            seen.items.last().map(|(name, _)| name.clone())
        });
        Item { connection: self.connection.clone(), service }
    }

    /// The icons that have registered.
    pub fn items(&self) -> usize {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).items.len()
    }

    /// Waits for the icon after the first `count`, and says when it came.
    #[track_caller]
    pub fn registered(&self, count: usize) -> Instant {
        until(PATIENCE, "an icon registers", || {
            self.seen.lock().unwrap_or_else(PoisonError::into_inner).items.get(count).map(|(_, when)| *when)
        })
    }

    /// All notifications so far.
    pub fn notifications(&self) -> Vec<Shown> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).notifications.clone()
    }

    /// Waits for a notification whose heading has these words.
    #[track_caller]
    pub fn notification(&self, words: &str) -> Shown {
        until(PATIENCE, &format!("a notification of {words:?}"), || {
            self.notifications().into_iter().rev().find(|shown| shown.summary.contains(words))
        })
    }

    /// Clicks a button of a notification.
    #[track_caller]
    pub fn click_button(&self, notification: &Shown, key: &str) {
        let body = (notification.id, key);
        let path = "/org/freedesktop/Notifications";
        self.connection
            .emit_signal(None::<&str>, path, NOTIFICATIONS, "ActionInvoked", &body)
            .expect("a signal can be sent");
    }
}

/// A tray icon, from the panel's side.
#[derive(Debug, Clone)]
pub struct Item {
    connection: Connection,
    service: String,
}

type Node = (i32, HashMap<String, OwnedValue>, Vec<OwnedValue>);

impl Item {
    fn proxy(&self, path: &'static str, interface: &'static str) -> Proxy<'static> {
        // Each look is a fresh one.
        zbus::blocking::proxy::Builder::new(&self.connection)
            .destination(self.service.clone())
            .and_then(|builder| builder.path(path))
            .and_then(|builder| builder.interface(interface))
            .map(|builder| builder.cache_properties(zbus::proxy::CacheProperties::No))
            .and_then(zbus::blocking::proxy::Builder::build)
            .expect("the icon's side")
    }

    fn icon(&self) -> Proxy<'static> {
        self.proxy("/StatusNotifierItem", "org.kde.StatusNotifierItem")
    }

    /// The pictures: width, height, bytes.
    #[track_caller]
    pub fn pictures(&self) -> Vec<(i32, i32, Vec<u8>)> {
        self.icon().get_property("IconPixmap").expect("pictures")
    }

    /// The tooltip's heading and text.
    #[track_caller]
    pub fn tooltip(&self) -> (String, String) {
        type Tip = (String, Vec<(i32, i32, Vec<u8>)>, String, String);
        let (_, _, title, text) = self.icon().get_property::<Tip>("ToolTip").expect("a tooltip");
        (title, text)
    }

    /// Clicks the icon itself.
    #[track_caller]
    pub fn activate(&self) {
        self.icon().call::<_, _, ()>("Activate", &(0_i32, 0_i32)).expect("a click");
    }

    /// The menu as it is now; none where the icon has gone.
    pub fn try_menu(&self) -> Option<Vec<MenuEntry>> {
        let menu = self.proxy("/MenuBar", "com.canonical.dbusmenu");
        let asked = (0_i32, -1_i32, Vec::<String>::new());
        let (_, root): (u32, Node) = menu.call("GetLayout", &asked).ok()?;
        Some(children(root.2))
    }

    /// The menu as it is now.
    #[track_caller]
    pub fn menu(&self) -> Vec<MenuEntry> {
        self.try_menu().expect("a menu")
    }

    /// The entry that these labels lead to, as it is now.
    pub fn entry(&self, labels: &[&str]) -> Option<MenuEntry> {
        let (last, menus) = labels.split_last()?;
        let mut entries = self.try_menu()?;
        for label in menus {
            entries = entries.into_iter().find(|entry| entry.label == *label)?.children;
        }
        entries.into_iter().find(|entry| entry.label == *last)
    }

    /// Clicks the entry that these labels lead to, once it can be clicked.
    #[track_caller]
    pub fn click(&self, labels: &[&str]) {
        let menu = self.proxy("/MenuBar", "com.canonical.dbusmenu");
        until(PATIENCE, &format!("{labels:?} can be clicked"), || {
            let entry = self.entry(labels).filter(|entry| entry.enabled)?;
            let event = (entry.id, "clicked", Value::I32(0), 0_u32);
            match menu.call::<_, _, ()>("Event", &event) {
                Ok(()) => Some(()),
                // The menu is another one since: a panel reads it again, too.
                Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with(".InvalidArgs") => None,
                // A program that was told to end may do so before it answers.
                Err(zbus::Error::MethodError(name, ..)) if name.as_str().ends_with(".NoReply") => Some(()),
                Err(error) => panic!("a click on {labels:?}: {error}"),
            }
        });
    }

    /// Waits until the first line of the menu says this.
    #[track_caller]
    pub fn says(&self, line: &str) {
        let what = format!("the menu says {line:?}");
        until(PATIENCE, &what, || self.try_menu()?.first().is_some_and(|first| first.label == line).then_some(()));
    }

    /// Waits until the models' marks are these.
    #[track_caller]
    pub fn marks(&self, expected: &[(&str, bool)]) {
        let what = format!("the marks are {expected:?}");
        until(PATIENCE, &what, || {
            let models = self.entry(&["Models"])?.children;
            let marks: Vec<_> =
                models.iter().map(|entry| (entry.label.as_str(), entry.checked.unwrap_or_default())).collect();
            (marks == expected).then_some(())
        });
    }
}

fn children(nodes: Vec<OwnedValue>) -> Vec<MenuEntry> {
    let node =
        |node: OwnedValue| -> zbus::zvariant::Result<Node> { Structure::try_from(Value::from(node))?.try_into() };
    nodes.into_iter().map(|child| entry(node(child).expect("a node of the menu"))).collect()
}

fn entry((id, mut properties, nodes): Node) -> MenuEntry {
    let mut text = |name: &str| properties.remove(name).and_then(|value| String::try_from(value).ok());
    let label = text("label").unwrap_or_default().replace("__", "_");
    let kind = text("toggle-type");
    let enabled = properties.remove("enabled").and_then(|value| bool::try_from(value).ok()).unwrap_or(true);
    let state = properties.remove("toggle-state").and_then(|value| i32::try_from(value).ok());
    let checked = kind.filter(|kind| !kind.is_empty()).map(|_| state == Some(1));
    MenuEntry { id, label, enabled, checked, children: children(nodes) }
}
