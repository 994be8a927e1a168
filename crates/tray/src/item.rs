//! The tray icon on the desktop's panel: a `StatusNotifierItem`.

use corral_core::tray::{Entry, Tray, TrayEvent};
use ksni::menu::{CheckmarkItem, MenuItem, StandardItem, SubMenu};
use ksni::{Category, OfflineReason, Status, ToolTip};
use tokio::sync::mpsc::UnboundedSender;

use crate::app::Message;
use crate::icons::Icons;

/// What the desktop asks about the icon, and what it tells of it.
pub(crate) struct Item {
    /// What is shown.
    pub(crate) tray: Tray,
    /// Which picture of the moving mark.
    pub(crate) frame: usize,
    icons: Icons,
    happened: UnboundedSender<Message>,
}

impl Item {
    /// An item that shows this and tells what happens to it.
    pub(crate) fn new(tray: Tray, icons: Icons, happened: UnboundedSender<Message>) -> Self {
        Self { tray, frame: 0, icons, happened }
    }

    fn tell(&self, message: Message) {
        // Nobody listens any more at the end only.
        let _ = self.happened.send(message);
    }
}

impl ksni::Tray for Item {
    fn id(&self) -> String {
        "corral".to_owned()
    }

    fn category(&self) -> Category {
        Category::ApplicationStatus
    }

    fn title(&self) -> String {
        "Corral".to_owned()
    }

    fn status(&self) -> Status {
        Status::Active
    }

    fn icon_pixmap(&self) -> Vec<ksni::Icon> {
        self.icons.of(self.tray.icon, self.frame).to_vec()
    }

    fn tool_tip(&self) -> ToolTip {
        let (title, description) = self.tray.tooltip.clone();
        ToolTip { title, description: escaped(&description), ..ToolTip::default() }
    }

    fn activate(&mut self, _x: i32, _y: i32) {
        self.tell(Message::Asked(TrayEvent::Dashboard));
    }

    fn menu(&self) -> Vec<MenuItem<Self>> {
        self.tray.menu.iter().map(item).collect()
    }

    fn watcher_online(&self) {
        self.tell(Message::Panel);
    }

    fn watcher_offline(&self, _: OfflineReason) -> bool {
        self.tell(Message::NoPanel);
        // It may come back, or only come later.
        true
    }
}

fn item(entry: &Entry) -> MenuItem<Item> {
    match entry {
        Entry::Line(label) => StandardItem { label: plain(label), enabled: false, ..StandardItem::default() }.into(),
        Entry::Action { label, event } => StandardItem {
            label: plain(label),
            enabled: event.is_some(),
            activate: asks(event.clone()),
            ..StandardItem::default()
        }
        .into(),
        Entry::Check { label, checked, event } => CheckmarkItem {
            label: plain(label),
            enabled: event.is_some(),
            checked: *checked,
            activate: asks(event.clone()),
            ..CheckmarkItem::default()
        }
        .into(),
        Entry::Submenu { label, entries } => SubMenu {
            label: plain(label),
            enabled: !entries.is_empty(),
            submenu: entries.iter().map(item).collect(),
            ..SubMenu::default()
        }
        .into(),
        Entry::Separator => MenuItem::Separator,
    }
}

fn asks(event: Option<TrayEvent>) -> Box<dyn Fn(&mut Item) + Send> {
    Box::new(move |item| {
        if let Some(event) = &event {
            item.tell(Message::Asked(event.clone()));
        }
    })
}

/// A label as it is to be read: a single underscore would mark a key.
fn plain(label: &str) -> String {
    label.replace('_', "__")
}

/// A tooltip as it is to be read: it may hold a few tags of HTML, and ends its lines as that does.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('\n', "<br/>")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_shown_as_they_are() {
        assert_eq!(plain("Q4_K_M"), "Q4__K__M");
        assert_eq!(escaped("a <b> & c\nd"), "a &lt;b&gt; &amp; c<br/>d");
    }
}
