//! The jail in plain words.

use std::path::Path;

use corral_sandbox::memory::gib;
use corral_sandbox::support::Support;

use super::Plan;
use crate::args::Network;
use crate::output::visible;

/// What a jail shows and allows, and what it stands on.
pub(crate) fn explain(plan: &Plan, support: &Support) -> String {
    let shown = |path: &Path| visible(&path.to_string_lossy());
    let workspace = plan.workspace.path();
    let mut text = Text::default();
    text.part("Files");
    text.line(&format!("can be changed: {}", shown(workspace)));
    text.line(&format!("can be changed: /home/user, which is {}", shown(&plan.paths.profile)));
    text.line("can be changed, and is gone at the end: /tmp, /var/tmp, /dev/shm (2 GiB each)");
    for item in &plan.protection.protected {
        text.line(&format!("can be read only: {}", shown(&workspace.join(&item.relative))));
    }
    for socket in &plan.protection.sockets {
        text.line(&format!("is hidden, for somebody outside listens: {}", shown(&workspace.join(socket))));
    }
    if let Some(outside) = &plan.protection.git_dir {
        text.line(&format!("can be changed, but for hooks and settings: {}", shown(&outside.path)));
    }
    text.line("can be read: the system's programs and libraries in /usr, and of /etc what they need");
    text.line("all else is not there: your home, your keys, other users' files, sockets");
    text.line(&format!(
        "what is left in the folder and would run by itself is moved to {} at the end",
        shown(&plan.paths.quarantine)
    ));
    text.part("Network");
    match plan.network {
        Network::Local => {
            text.line("127.0.0.1:8080, the models; 127.0.0.1:8081, to look and to switch; its own loopback");
        }
        Network::None => text.line("its own loopback"),
    }
    if let Some(ide) = &plan.ide {
        text.line(&format!(
            "127.0.0.1:{}, of your editor, {}: diagnostics and the selection in this folder, none of its other tools",
            ide.port(),
            visible(ide.name())
        ));
    }
    text.line("no names, no other machine, no other port of this one");
    text.part("Rights");
    text.line("none: no capabilities, no way to more, no namespaces or mounts of its own, no tracing");
    text.line("its own processes only, which end with it; at most 4096 of them");
    match &support.memory {
        Ok(ram) => text.line(&format!("{} of memory for all of them together", gib(*ram))),
        Err(why) => text.line(&format!("no bound of memory: {why}; {}", why.mend())),
    }
    text.line("when the machine's memory runs out, the kernel ends them first");
    text.line("a terminal of its own: it cannot type into yours");
    text.part("Stands on");
    match support.jail() {
        Ok(bwrap) => text.line(&format!("bubblewrap {} at {}", bwrap.version, bwrap.path.display())),
        Err(error) => text.line(&format!("nothing: {error}; it would not start")),
    }
    text.line(if support.seccomp { "seccomp: a filter of system calls" } else { "no seccomp: it would not start" });
    match support.landlock {
        Some(version) => text.line(&format!("Landlock, version {version}: who may write where, a second time")),
        None => text.line("no Landlock in this kernel: the mounts alone say who may write where"),
    }
    text.0
}

#[derive(Default)]
struct Text(String);

impl Text {
    fn part(&mut self, name: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0.push_str(name);
        self.0.push('\n');
    }

    fn line(&mut self, line: &str) {
        self.0.push_str("  ");
        self.0.push_str(line);
        self.0.push('\n');
    }
}
