//! bubblewrap's arguments for a policy, as data.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};

use crate::policy::{Access, DataFile, HOME, Policy, TEMPORARY};

/// Where the init is inside; also the name by which the program knows that it is the init.
pub const INIT: &str = "/run/corral/init";

/// The user and group inside, whoever runs the jail: root inside could mislead programs about what they may do.
const ID: &str = "1000";

/// One of bubblewrap's arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Argument {
    /// As it is.
    Text(OsString),
    /// The number of a descriptor that it inherits.
    Descriptor(Source),
}

/// What a descriptor leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The bind of this index in the policy.
    Bind(usize),
    /// The contents of the file of this index in [`files`].
    File(usize),
    /// The program that is running, which is the init as well.
    Init,
    /// A pipe by which bubblewrap tells its child's number.
    Told,
}

/// What of the host's layout the arguments depend on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Host {
    /// `/bin` and its like: where they lead to, or none where they are folders.
    pub roots: Vec<(&'static str, Option<PathBuf>)>,
    /// Those of [`ETC`] that are there.
    pub etc: Vec<(&'static str, Etc)>,
    /// Those of [`HIDDEN`] that are there.
    pub hidden: Vec<&'static str>,
}

/// Something in `/etc`. Each bind costs bubblewrap a look through all mounts, so only folders are bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Etc {
    /// A link to what is shown elsewhere.
    Link(PathBuf),
    /// A file, which is copied.
    File(Vec<u8>),
    /// A folder.
    Folder,
}

impl Etc {
    /// None where it is not there, or is nothing that can be shown.
    fn look(path: &Path) -> Option<Self> {
        let kind = fs::symlink_metadata(path).ok()?.file_type();
        if kind.is_symlink() {
            // Links among what is not shown would lead nowhere.
            let real = fs::canonicalize(path).ok()?;
            if real.starts_with("/usr") {
                return Some(Self::Link(real));
            }
        }
        if path.is_dir() { Some(Self::Folder) } else { fs::read(path).ok().map(Self::File) }
    }
}

/// What of `/etc` is shown: what programs need to find libraries, certificates, the time zone and terminals. No names of
/// users, no addresses, no settings of services.
const ETC: [&str; 23] = [
    "alternatives",
    "crypto-policies",
    "debian_version",
    "fonts",
    "inputrc",
    "ld.so.cache",
    "ld.so.conf",
    "localtime",
    "lsb-release",
    "magic",
    "mime.types",
    "os-release",
    "pki/ca-trust/extracted",
    "pki/tls/cert.pem",
    "pki/tls/certs",
    "protocols",
    "redhat-release",
    "services",
    "shells",
    "ssl/cert.pem",
    "ssl/certs",
    "ssl/openssl.cnf",
    "terminfo",
];

/// What of `/proc` would tell of more than the jail: the names of the user's keys, which no namespace hides from that user.
const HIDDEN: [&str; 1] = ["/proc/keys"];

impl Host {
    /// Looks at this machine.
    pub fn look() -> Self {
        let roots = ["bin", "sbin", "lib", "lib32", "lib64", "libx32"].into_iter().filter_map(|name| {
            let path = Path::new("/").join(name);
            let kind = fs::symlink_metadata(&path).ok()?.file_type();
            if kind.is_symlink() { Some((name, Some(fs::read_link(&path).ok()?))) } else { Some((name, None)) }
        });
        let etc = ETC.into_iter().filter_map(|name| Some((name, Etc::look(&Path::new("/etc").join(name))?)));
        let hidden = HIDDEN.into_iter().filter(|path| Path::new(path).exists());
        Self { roots: roots.collect(), etc: etc.collect(), hidden: hidden.collect() }
    }
}

/// The files with contents that are handed over: those that every jail has, those of `/etc`, then the policy's.
pub(crate) fn files(policy: &Policy, host: &Host) -> Vec<DataFile> {
    let passwd = format!(
        "root:x:0:0::/:/usr/sbin/nologin\nuser:x:{ID}:{ID}::{HOME}:/bin/bash\nnobody:x:65534:65534::/:/usr/sbin/nologin\n"
    );
    let group = format!("root:x:0:\nuser:x:{ID}:\nnogroup:x:65534:\n");
    let own = [
        ("/etc/passwd", passwd),
        ("/etc/group", group),
        ("/etc/hosts", "127.0.0.1 localhost corral\n".to_owned()),
        ("/etc/hostname", "corral\n".to_owned()),
        (
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files\nservices: files\nprotocols: files\n".to_owned(),
        ),
    ];
    let own = own.into_iter().map(|(at, content)| DataFile { at: at.into(), content: content.into_bytes() });
    let of_etc = host.etc.iter().filter_map(|(name, what)| match what {
        Etc::File(content) => Some(DataFile { at: Path::new("/etc").join(name), content: content.clone() }),
        Etc::Link(_) | Etc::Folder => None,
    });
    own.chain(of_etc).chain(policy.files.iter().cloned()).collect()
}

/// The arguments, but for the program. What they say, in its order: namespaces and identity; the system's programs; what is private to the
/// jail; what the policy shows; files of our own; and then nothing more can be written but what is meant to be.
pub fn arguments(policy: &Policy, host: &Host) -> Vec<Argument> {
    let mut all = Arguments::default();
    all.texts(["--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"]);
    all.texts(["--unshare-cgroup-try", "--disable-userns", "--assert-userns-disabled"]);
    all.texts(["--uid", ID, "--gid", ID, "--hostname", "corral", "--cap-drop", "ALL"]);
    all.texts(["--die-with-parent", "--as-pid-1"]);
    all.text("--info-fd").descriptor(Source::Told);

    all.texts(["--ro-bind", "/usr", "/usr"]);
    for (name, leads_to) in &host.roots {
        let at = Path::new("/").join(name);
        match leads_to {
            Some(target) => all.text("--symlink").text(target).text(at),
            None => all.text("--ro-bind").text(&at).text(&at),
        };
    }
    for (name, what) in &host.etc {
        let at = Path::new("/etc").join(name);
        match what {
            Etc::Link(target) => all.text("--symlink").text(target).text(&at),
            Etc::Folder => all.text("--ro-bind").text(&at).text(&at),
            // Among the files below.
            Etc::File(_) => continue,
        };
    }

    all.texts(["--proc", "/proc", "--dev", "/dev"]);
    for path in &host.hidden {
        all.texts(["--ro-bind", "/dev/null", path]);
    }
    let size = policy.tmp_bytes.to_string();
    for at in TEMPORARY {
        all.texts(["--perms", "1777", "--size", &size, "--tmpfs", at]);
    }

    for (index, bind) in policy.binds.iter().enumerate() {
        let how = if bind.access == Access::Writable { "--bind-fd" } else { "--ro-bind-fd" };
        all.text(how).descriptor(Source::Bind(index)).text(&bind.at);
    }
    for (index, file) in files(policy, host).iter().enumerate() {
        // They lie in the root itself, which is made read-only below.
        all.texts(["--perms", "0444", "--file"]);
        all.descriptor(Source::File(index)).text(&file.at);
    }
    all.text("--ro-bind-fd").descriptor(Source::Init).text(INIT);
    // Folders on the way to what is shown are writable until here.
    all.texts(["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/"]);
    all.0
}

#[derive(Default)]
struct Arguments(Vec<Argument>);

impl Arguments {
    fn text(&mut self, text: impl AsRef<OsStr>) -> &mut Self {
        self.0.push(Argument::Text(text.as_ref().to_owned()));
        self
    }

    fn texts<const N: usize>(&mut self, texts: [&str; N]) -> &mut Self {
        self.0.extend(texts.map(|text| Argument::Text(text.into())));
        self
    }

    fn descriptor(&mut self, source: Source) -> &mut Self {
        self.0.push(Argument::Descriptor(source));
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::OwnedFd;

    /// The arguments in lines, one for each option.
    fn lines(arguments: &[Argument]) -> String {
        let words = arguments.iter().map(|argument| match argument {
            Argument::Text(text) => text.to_string_lossy().into_owned(),
            Argument::Descriptor(source) => format!("{{{source:?}}}"),
        });
        words.collect::<Vec<_>>().join(" ").replace(" --", "\n--")
    }

    #[test]
    fn a_policy_becomes_these_arguments() {
        let open = |path: &str| OwnedFd::from(File::open(path).expect("it is there"));
        let policy = Policy::empty()
            .with(open("/"), "/home/user", Access::Writable)
            .with(open("/"), "/work/a b", Access::Writable)
            .with(open("/"), "/work/a b/.git/config", Access::ReadOnly)
            .with_file("/etc/claude-code/managed-settings.json", "{}");
        let host = Host {
            roots: vec![("bin", Some("usr/bin".into())), ("lib", None)],
            etc: vec![
                ("ld.so.cache", Etc::File(b"cache".to_vec())),
                ("localtime", Etc::Link("/usr/share/zoneinfo/UTC".into())),
                ("ssl/certs", Etc::Folder),
            ],
            hidden: vec!["/proc/keys"],
        };
        let expected = "\
--unshare-user
--unshare-ipc
--unshare-pid
--unshare-net
--unshare-uts
--unshare-cgroup-try
--disable-userns
--assert-userns-disabled
--uid 1000
--gid 1000
--hostname corral
--cap-drop ALL
--die-with-parent
--as-pid-1
--info-fd {Told}
--ro-bind /usr /usr
--symlink usr/bin /bin
--ro-bind /lib /lib
--symlink /usr/share/zoneinfo/UTC /etc/localtime
--ro-bind /etc/ssl/certs /etc/ssl/certs
--proc /proc
--dev /dev
--ro-bind /dev/null /proc/keys
--perms 1777
--size 2147483648
--tmpfs /tmp
--perms 1777
--size 2147483648
--tmpfs /var/tmp
--perms 1777
--size 2147483648
--tmpfs /dev/shm
--bind-fd {Bind(0)} /home/user
--bind-fd {Bind(1)} /work/a b
--ro-bind-fd {Bind(2)} /work/a b/.git/config
--perms 0444
--file {File(0)} /etc/passwd
--perms 0444
--file {File(1)} /etc/group
--perms 0444
--file {File(2)} /etc/hosts
--perms 0444
--file {File(3)} /etc/hostname
--perms 0444
--file {File(4)} /etc/nsswitch.conf
--perms 0444
--file {File(5)} /etc/ld.so.cache
--perms 0444
--file {File(6)} /etc/claude-code/managed-settings.json
--ro-bind-fd {Init} /run/corral/init
--remount-ro /dev
--remount-ro /
--chdir /";
        assert_eq!(lines(&arguments(&policy, &host)), expected);
    }
}
