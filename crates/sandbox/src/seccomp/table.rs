//! The calls that are refused: what the default profiles of container runtimes refuse to a container without
//! capabilities, and what has no use in a jail but to look for a way out.

use libc::c_long;
use seccompiler::SeccompAction;

/// The newest call that was looked at: `file_setattr`, of Linux 6.17. All architectures number alike from 424 on.
pub(super) const NEWEST: u32 = 469;

// Calls that the libc crate does not have yet.
const SYS_STATMOUNT: c_long = 457;
const SYS_LISTMOUNT: c_long = 458;
const SYS_LSM_SET_SELF_ATTR: c_long = 460;
const SYS_OPEN_TREE_ATTR: c_long = 467;

/// A call, and when it is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Its number.
    pub call: c_long,
    /// Its arguments, by index, that make it a refused one: all of these. None: it is refused always.
    pub when: Vec<(u8, Is)>,
    /// What it answers.
    pub answer: Answer,
}

/// What an argument has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Is {
    Equal(u32),
    Not(u32),
    Masked { mask: u32, value: u32 },
}

/// What a refused call answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// No such kind of socket.
    UnknownFamily,
    /// No such protocol.
    UnknownProtocol,
    /// The kernel is too old to have it: makes programs use what came before.
    NotImplemented,
    /// Not without privileges.
    NotPermitted,
}

impl Answer {
    /// In the order in which they are looked for.
    pub(super) const ALL: [Self; 4] =
        [Self::UnknownFamily, Self::UnknownProtocol, Self::NotImplemented, Self::NotPermitted];

    pub(super) fn errno(self) -> u32 {
        let errno = match self {
            Self::UnknownFamily => libc::EAFNOSUPPORT,
            Self::UnknownProtocol => libc::EPROTONOSUPPORT,
            Self::NotImplemented => libc::ENOSYS,
            Self::NotPermitted => libc::EPERM,
        };
        errno.unsigned_abs()
    }

    pub(super) fn action(self) -> SeccompAction {
        SeccompAction::Errno(self.errno())
    }
}

/// Refused always.
const NOT_PERMITTED: &[c_long] = &[
    // Mounts and namespaces: with them, what the jail shows read-only or not at all could be had otherwise.
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_open_tree,
    SYS_OPEN_TREE_ATTR,
    libc::SYS_move_mount,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    // Files by their number on the disk, around every path.
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    libc::SYS_fanotify_init,
    // Other processes' memory and descriptors: the init's are the jail's way out.
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_process_madvise,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    // Large parts of the kernel that an ordinary program has no use for.
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_lookup_dcookie,
    SYS_LSM_SET_SELF_ATTR,
    // Where memory lies: of use on machines with several memories, a source of holes on all.
    libc::SYS_mbind,
    libc::SYS_get_mempolicy,
    libc::SYS_set_mempolicy,
    libc::SYS_set_mempolicy_home_node,
    libc::SYS_migrate_pages,
    libc::SYS_move_pages,
    // The machine as a whole.
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_syslog,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_vhangup,
];

/// The same, where only this architecture has them: its ports, its segments, and what was obsolete before others came.
#[cfg(target_arch = "x86_64")]
const NOT_PERMITTED_HERE: &[c_long] = &[
    libc::SYS_iopl,
    libc::SYS_ioperm,
    libc::SYS_modify_ldt,
    libc::SYS_uselib,
    libc::SYS_ustat,
    libc::SYS_sysfs,
    libc::SYS__sysctl,
];
#[cfg(not(target_arch = "x86_64"))]
const NOT_PERMITTED_HERE: &[c_long] = &[];

/// Said not to exist: programs have another way, and take any other error for a failure of what they do.
const NOT_IMPLEMENTED: &[c_long] = &[
    // Its flags are in memory, where a filter cannot see them; without it libraries use `clone`.
    libc::SYS_clone3,
    // A second way to make nearly every call, which no filter sees.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // Lists of mounts, which /proc has as well.
    SYS_STATMOUNT,
    SYS_LISTMOUNT,
    // Its mode is in memory as well, and what it resolves is no more than `openat` does.
    libc::SYS_openat2,
    // Gives pages to a pipe; those who use it write as ever without it.
    libc::SYS_vmsplice,
];

/// Every kind of namespace that `clone` and `unshare` can make.
const NEW_NAMESPACES: [i32; 7] = [
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];
/// One more of `unshare` alone; to `clone` this bit is a part of a signal's number.
const NEW_TIME: u32 = 0x80;

// Requests that type into a terminal as if its user did, and one that changes which code drives it.
pub(super) const TIOCSTI: u32 = 0x5412;
pub(super) const TIOCLINUX: u32 = 0x541c;
pub(super) const TIOCSETD: u32 = 0x5423;

/// What an ordinary program opens. All else is not confined to the network namespace, as vsock, or loads a module.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];
/// The same of the internet's protocols: the rest would load modules, as SCTP does.
const PROTOCOLS: [i32; 6] =
    [0, libc::IPPROTO_ICMP, libc::IPPROTO_TCP, libc::IPPROTO_UDP, libc::IPPROTO_ICMPV6, libc::IPPROTO_MPTCP];

/// The bits of a socket's type that are not flags.
const SOCKET_TYPE: u32 = 0xf;
const SOCKET_RAW: u32 = 3;
const SOCKET_PACKET: u32 = 10;

/// `personality(0xffffffff)` only asks.
const PERSONALITY_QUERY: u32 = u32::MAX;

/// What a file is made or changed with to run as its owner, whoever starts it. The jail itself ignores it; on the host, where
/// the file stays, it counts. Set-group-id is another matter: to a folder it says that what is made in it has its group,
/// which shared repositories live on, and a filter cannot tell a folder from a file.
const SET_USER_ID: u32 = 0o4000;

/// Flags of `open` with which its mode counts.
const MAKES_A_FILE: [u32; 2] = [libc::O_CREAT.unsigned_abs(), 0o2000_0000];

/// The calls that give a file its mode, and which of their arguments it is.
const MODES: [(c_long, u8); 4] =
    [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (libc::SYS_fchmodat2, 2), (libc::SYS_mknodat, 2)];

/// The same of `open` and its like, whose flags come before the mode.
const OPENS: [(c_long, u8); 1] = [(libc::SYS_openat, 3)];

/// The same, where only this architecture has them.
#[cfg(target_arch = "x86_64")]
const MODES_HERE: &[(c_long, u8)] = &[(libc::SYS_chmod, 1), (libc::SYS_creat, 1), (libc::SYS_mknod, 1)];
#[cfg(target_arch = "x86_64")]
const OPENS_HERE: &[(c_long, u8)] = &[(libc::SYS_open, 2)];
#[cfg(not(target_arch = "x86_64"))]
const MODES_HERE: &[(c_long, u8)] = &[];
#[cfg(not(target_arch = "x86_64"))]
const OPENS_HERE: &[(c_long, u8)] = &[];

/// The init, which has the same user as what runs in the jail.
const INIT: Is = Is::Equal(1);

/// Calls that say when a process runs, by its number in the first argument.
const SCHEDULING: [c_long; 4] =
    [libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr, libc::SYS_sched_setaffinity];

/// The same with a kind in the first argument, and by that a process, a group or a user in the second; the user's kind.
const PRIORITIES: [(c_long, u32); 2] = [(libc::SYS_setpriority, libc::PRIO_USER), (libc::SYS_ioprio_set, 3)];

/// The whole table.
pub(super) fn refusals() -> Vec<Refusal> {
    let always = |answer| move |&call: &c_long| Refusal { call, when: Vec::new(), answer };
    let mut all: Vec<_> = NOT_PERMITTED.iter().chain(NOT_PERMITTED_HERE).map(always(Answer::NotPermitted)).collect();
    all.extend(NOT_IMPLEMENTED.iter().map(always(Answer::NotImplemented)));

    let refuse = |call, when, answer| Refusal { call, when, answer };
    let has = |bits| Is::Masked { mask: bits, value: bits };
    for namespace in NEW_NAMESPACES.map(i32::unsigned_abs) {
        all.push(refuse(libc::SYS_unshare, vec![(0, has(namespace))], Answer::NotPermitted));
        all.push(refuse(libc::SYS_clone, vec![(0, has(namespace))], Answer::NotPermitted));
    }
    all.push(refuse(libc::SYS_unshare, vec![(0, has(NEW_TIME))], Answer::NotPermitted));
    // An executable stack, fixed addresses, other numbers of errors: each undoes a protection.
    let personality = vec![(0, Is::Not(0)), (0, Is::Not(PERSONALITY_QUERY))];
    all.push(refuse(libc::SYS_personality, personality, Answer::NotPermitted));
    // The limits of the init, which has the same user: without files to open it could not go on, and the jail neither.
    all.push(refuse(libc::SYS_prlimit64, vec![(0, INIT)], Answer::NotPermitted));
    // Where it never had its turn, it could not end the jail. Its group has its number, and nobody else in it.
    all.extend(SCHEDULING.map(|call| refuse(call, vec![(0, INIT)], Answer::NotPermitted)));
    for (call, of_users) in PRIORITIES {
        all.push(refuse(call, vec![(1, INIT)], Answer::NotPermitted));
        all.push(refuse(call, vec![(0, Is::Equal(of_users))], Answer::NotPermitted));
    }
    let set_user_id = has(SET_USER_ID);
    let modes = MODES.iter().chain(MODES_HERE);
    all.extend(modes.map(|&(call, mode)| refuse(call, vec![(mode, set_user_id)], Answer::NotPermitted)));
    for &(call, mode) in OPENS.iter().chain(OPENS_HERE) {
        let made = |flag| refuse(call, vec![(mode - 1, has(flag)), (mode, set_user_id)], Answer::NotPermitted);
        all.extend(MAKES_A_FILE.map(made));
    }
    for request in [TIOCSTI, TIOCLINUX, TIOCSETD] {
        all.push(refuse(libc::SYS_ioctl, vec![(1, Is::Equal(request))], Answer::NotPermitted));
    }
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        all.extend(sockets().map(|(when, answer)| Refusal { call, when, answer }));
    }
    all
}

/// Which sockets are refused: of their family, their type and their protocol, in this order.
fn sockets() -> impl Iterator<Item = (Vec<(u8, Is)>, Answer)> {
    let family = |family: i32| Is::Equal(family.unsigned_abs());
    let none_of = |argument, values: &[i32]| -> Vec<_> {
        values.iter().map(|value| (argument, Is::Not(value.unsigned_abs()))).collect()
    };
    let of_type = |value| (1, Is::Masked { mask: SOCKET_TYPE, value });
    let other_protocol = |of: i32| [vec![(0, family(of))], none_of(2, &PROTOCOLS)].concat();
    let other_netlink = vec![(0, family(libc::AF_NETLINK)), (2, Is::Not(libc::NETLINK_ROUTE.unsigned_abs()))];
    // All of netlink is "raw": it says nothing there.
    let raw = vec![(0, Is::Not(libc::AF_NETLINK.unsigned_abs())), of_type(SOCKET_RAW)];
    [
        (none_of(0, &FAMILIES), Answer::UnknownFamily),
        (other_netlink, Answer::UnknownFamily),
        (other_protocol(libc::AF_INET), Answer::UnknownProtocol),
        (other_protocol(libc::AF_INET6), Answer::UnknownProtocol),
        (raw, Answer::NotPermitted),
        (vec![of_type(SOCKET_PACKET)], Answer::NotPermitted),
    ]
    .into_iter()
}
