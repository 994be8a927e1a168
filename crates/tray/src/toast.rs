//! Notifications of the desktop: each replaces the one before, unless that is to stay.

use std::time::Duration;

use corral_core::snapshot::NoticeLevel;
use corral_core::tray::TrayEvent;
use notify_rust::{ActionResponse, Hint, Notification, Timeout, Urgency};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender};

use crate::app::{Message, Toast};

/// What the button is called in messages on the bus.
const LOGS: &str = "logs";

/// How long a notification's button is listened for.
const BUTTON: Duration = Duration::from_mins(10);

/// How long the desktop may take to show one.
const SHOWN_WITHIN: Duration = Duration::from_secs(5);

/// Shows what comes until nothing comes any more.
pub(crate) async fn show(mut toasts: UnboundedReceiver<Toast>, happened: UnboundedSender<Message>) {
    let mut last = None;
    let mut listening: Option<tokio::task::JoinHandle<()>> = None;
    while let Some(toast) = toasts.recv().await {
        let mut notification = notification(&toast);
        if let Some(id) = last {
            notification.id(id);
        }
        let shown = tokio::time::timeout(SHOWN_WITHIN, notification.show_async()).await;
        let handle = match shown {
            Ok(Ok(handle)) => handle,
            Ok(Err(error)) => {
                tracing::warn!("the desktop shows no notification: {error}; it was: {}", toast.summary);
                continue;
            }
            Err(_) => {
                tracing::warn!("the desktop does not answer for notifications; it was: {}", toast.summary);
                continue;
            }
        };
        last = (!toast.stays).then(|| handle.id());
        if let Some(listening) = listening.take() {
            listening.abort();
        }
        if toast.logs {
            let happened = happened.clone();
            listening = Some(tokio::spawn(async move {
                let clicked = handle.wait_for_action_async(|response| {
                    if matches!(response, ActionResponse::Custom(LOGS)) {
                        let _ = happened.send(Message::Asked(TrayEvent::Logs));
                    }
                });
                let _ = tokio::time::timeout(BUTTON, clicked).await;
            }));
        }
    }
}

fn notification(toast: &Toast) -> Notification {
    let mut notification = Notification::new();
    notification.appname("Corral").summary(&toast.summary).body(&escaped(&toast.body)).icon("corral");
    notification.hint(Hint::DesktopEntry("corral".to_owned()));
    notification.urgency(match toast.level {
        NoticeLevel::Info => Urgency::Low,
        NoticeLevel::Warning | NoticeLevel::Error => Urgency::Normal,
    });
    if toast.stays {
        notification.timeout(Timeout::Never);
    }
    if toast.logs {
        notification.action(LOGS, "Show logs");
    }
    notification
}

/// A body as it is to be read: it may hold a few tags of HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
