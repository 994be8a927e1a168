use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::process::Command;

use libc::c_long;
use proptest::prelude::{any, prop_assert_eq, proptest};
use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::{AddressFamily, SocketType, netlink, socket};
use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space};
use seccompiler::{BpfProgram, sock_filter};

use super::table::{self, Answer, Is};
use super::{apply, program};

/// What the filter says to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allowed,
    Refused(i32),
    Killed,
}

#[cfg(target_arch = "x86_64")]
const HERE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const HERE: u32 = 0xc000_00b7;
/// 32-bit programs, as on `x86_64`.
const I386: u32 = 0x4000_0003;

/// Runs the program as the kernel would: the part of classic BPF that seccompiler uses.
fn run(program: &BpfProgram, architecture: u32, number: u32, arguments: [u64; 6]) -> Verdict {
    let word = |offset: u32| match offset {
        0 => number,
        4 => architecture,
        16.. => {
            let argument = arguments[usize::try_from((offset - 16) / 8).unwrap()];
            let half = if offset.is_multiple_of(8) { argument } else { argument >> 32 };
            u32::try_from(half & 0xffff_ffff).unwrap()
        }
        _ => panic!("reads at {offset}"),
    };
    let (mut at, mut accumulator) = (0, 0);
    loop {
        let sock_filter { code, jt, jf, k } = program[at];
        at += 1;
        let skip = |condition: bool| usize::from(if condition { jt } else { jf });
        match code {
            0x20 => accumulator = word(k),
            0x54 => accumulator &= k,
            0x05 => at += usize::try_from(k).unwrap(),
            0x15 => at += skip(accumulator == k),
            0x25 => at += skip(accumulator > k),
            0x35 => at += skip(accumulator >= k),
            0x06 => {
                return match k & 0xffff_0000 {
                    0x7fff_0000 => Verdict::Allowed,
                    0x0005_0000 => Verdict::Refused(i32::try_from(k & 0xffff).unwrap()),
                    0x8000_0000 => Verdict::Killed,
                    _ => panic!("answers {k:x}"),
                };
            }
            _ => panic!("instruction {code:x}"),
        }
    }
}

fn asked(call: c_long, arguments: &[u64]) -> Verdict {
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    run(&program().unwrap(), HERE, u32::try_from(call).unwrap(), all)
}

fn bits(flags: i32) -> u64 {
    flags.unsigned_abs().into()
}

const EPERM: Verdict = Verdict::Refused(libc::EPERM);

#[test]
fn every_call_of_the_table_answers_as_the_table_says() {
    let refusals = table::refusals();
    // The rules of sockets overlap: they have a test of their own.
    let of_sockets = [libc::SYS_socket, libc::SYS_socketpair];
    for refusal in refusals.iter().filter(|refusal| !of_sockets.contains(&refusal.call)) {
        let mut arguments = [0; 6];
        for &(index, is) in &refusal.when {
            arguments[usize::from(index)] = match is {
                Is::Equal(value) | Is::Masked { value, .. } => value.into(),
                // Something that no rule allows.
                Is::Not(_) => 0x00ff_ff20,
            };
        }
        let errno = i32::try_from(refusal.answer.errno()).unwrap();
        assert_eq!(asked(refusal.call, &arguments), Verdict::Refused(errno), "{refusal:?}");
        assert!(refusal.call <= table::NEWEST.into(), "{refusal:?}");
    }
    let always = refusals.iter().filter(|refusal| refusal.when.is_empty());
    let mut calls: Vec<_> = always.map(|refusal| refusal.call).collect();
    calls.sort_unstable();
    let listed = calls.len();
    calls.dedup();
    assert_eq!(calls.len(), listed, "a call is listed twice");
    assert!(refusals.iter().all(|refusal| refusal.when.is_empty() || !calls.contains(&refusal.call)));
}

#[test]
fn the_known_ways_out_are_in_the_table() {
    let calls = [
        libc::SYS_mount,
        libc::SYS_setns,
        libc::SYS_open_by_handle_at,
        libc::SYS_ptrace,
        libc::SYS_process_vm_writev,
        libc::SYS_pidfd_getfd,
        libc::SYS_bpf,
        libc::SYS_userfaultfd,
        libc::SYS_keyctl,
        libc::SYS_finit_module,
        libc::SYS_kexec_file_load,
    ];
    for call in calls {
        assert_eq!(asked(call, &[]), EPERM, "{call}");
    }
    assert_eq!(asked(libc::SYS_io_uring_setup, &[]), Verdict::Refused(libc::ENOSYS));
}

#[test]
fn what_programs_live_on_is_allowed() {
    let calls = [
        libc::SYS_read,
        libc::SYS_write,
        libc::SYS_openat,
        libc::SYS_statx,
        libc::SYS_mmap,
        libc::SYS_mprotect,
        libc::SYS_futex,
        libc::SYS_execve,
        libc::SYS_clone,
        libc::SYS_wait4,
        libc::SYS_kill,
        libc::SYS_pidfd_open,
        libc::SYS_pidfd_send_signal,
        libc::SYS_epoll_pwait2,
        libc::SYS_inotify_add_watch,
        libc::SYS_memfd_create,
        libc::SYS_getrandom,
        libc::SYS_prctl,
        libc::SYS_seccomp,
        libc::SYS_landlock_restrict_self,
        libc::SYS_setsid,
        libc::SYS_rseq,
        libc::SYS_copy_file_range,
        libc::SYS_clock_gettime,
        libc::SYS_sched_setaffinity,
    ];
    for call in calls {
        assert_eq!(asked(call, &[]), Verdict::Allowed, "{call}");
    }
    assert_eq!(asked(table::NEWEST.into(), &[]), Verdict::Allowed);
}

#[test]
fn processes_and_threads_can_be_made_but_no_namespaces() {
    let thread = libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    for flags in [libc::SIGCHLD, thread, libc::CLONE_VFORK | libc::CLONE_VM | libc::SIGCHLD] {
        assert_eq!(asked(libc::SYS_clone, &[bits(flags)]), Verdict::Allowed, "{flags:x}");
        assert_eq!(asked(libc::SYS_clone, &[bits(flags | libc::CLONE_NEWUSER)]), EPERM, "{flags:x}");
        // The kernel drops what is above 32 bits.
        assert_eq!(asked(libc::SYS_clone, &[bits(libc::CLONE_NEWNET) | 1 << 40]), EPERM);
    }
    assert_eq!(asked(libc::SYS_unshare, &[bits(libc::CLONE_FILES | libc::CLONE_FS)]), Verdict::Allowed);
    assert_eq!(asked(libc::SYS_unshare, &[bits(libc::CLONE_FILES | libc::CLONE_NEWNS)]), EPERM);
    assert_eq!(asked(libc::SYS_unshare, &[0x80]), EPERM);
    assert_eq!(asked(libc::SYS_clone3, &[]), Verdict::Refused(libc::ENOSYS));
}

#[test]
fn limits_are_for_other_processes_than_the_init() {
    for (pid, verdict) in [(0, Verdict::Allowed), (2, Verdict::Allowed), (1, Verdict::Refused(libc::EPERM))] {
        assert_eq!(asked(libc::SYS_prlimit64, &[pid]), verdict, "{pid}");
    }
}

#[test]
fn when_the_init_runs_is_not_for_the_jail_to_say() {
    let set = [libc::SYS_sched_setscheduler, libc::SYS_sched_setparam, libc::SYS_sched_setattr];
    for call in [&set[..], &[libc::SYS_sched_setaffinity]].concat() {
        for (pid, verdict) in [(0, Verdict::Allowed), (2, Verdict::Allowed), (1, EPERM), (1 << 32 | 1, EPERM)] {
            assert_eq!(asked(call, &[pid]), verdict, "{call} {pid}");
        }
    }
    // PRIO_PROCESS and its like: one's own, another's, the init's; the init's group; the user's own processes, all of them.
    let priority =
        [(0, 0, true), (0, 2, true), (0, 1, false), (1, 0, true), (1, 1, false), (2, 0, false), (2, 5, false)];
    for (which, who, is_allowed) in priority {
        let verdict = if is_allowed { Verdict::Allowed } else { EPERM };
        assert_eq!(asked(libc::SYS_setpriority, &[which, who, 19]), verdict, "{which} {who}");
        // IOPRIO_WHO_PROCESS is 1, where PRIO_PROCESS is 0.
        assert_eq!(asked(libc::SYS_ioprio_set, &[which + 1, who, 3 << 13]), verdict, "{which} {who}");
    }
}

#[test]
fn no_file_gets_a_mode_by_which_it_runs_as_its_owner() {
    let of_mode: [(c_long, usize); 4] =
        [(libc::SYS_fchmod, 1), (libc::SYS_fchmodat, 2), (libc::SYS_fchmodat2, 2), (libc::SYS_mknodat, 2)];
    #[cfg(target_arch = "x86_64")]
    let here = [(libc::SYS_chmod, 1), (libc::SYS_creat, 1), (libc::SYS_mknod, 1)];
    #[cfg(not(target_arch = "x86_64"))]
    let here: [(c_long, usize); 0] = [];
    for (call, at) in of_mode.into_iter().chain(here) {
        let with = |mode: u64| {
            let mut arguments = [0; 6];
            arguments[at] = mode;
            asked(call, &arguments)
        };
        for mode in [0o4755, 0o4000, 0o6711, 0o10_4755] {
            assert_eq!(with(mode), EPERM, "{call} {mode:o}");
        }
        for mode in [0o755, 0o2775, 0o1777, 0o10_0644] {
            assert_eq!(with(mode), Verdict::Allowed, "{call} {mode:o}");
        }
    }
    let opens: [(c_long, usize); 1] = [(libc::SYS_openat, 2)];
    #[cfg(target_arch = "x86_64")]
    let here = [(libc::SYS_open, 1)];
    #[cfg(not(target_arch = "x86_64"))]
    let here: [(c_long, usize); 0] = [];
    for (call, at) in opens.into_iter().chain(here) {
        let with = |flags: i32, mode: u64| {
            let mut arguments = [0; 6];
            arguments[at..at + 2].copy_from_slice(&[bits(flags), mode]);
            asked(call, &arguments)
        };
        for flags in [libc::O_CREAT | libc::O_WRONLY, libc::O_CREAT | libc::O_EXCL, libc::O_TMPFILE | libc::O_RDWR] {
            assert_eq!(with(flags, 0o4755), EPERM, "{call} {flags:x}");
            assert_eq!(with(flags, 0o2755), Verdict::Allowed, "{call} {flags:x}");
        }
        // Where no file is made, the kernel does not look at the mode, and there may be anything.
        assert_eq!(with(libc::O_RDONLY | libc::O_DIRECTORY, 0o4755), Verdict::Allowed);
    }
    assert_eq!(asked(libc::SYS_openat2, &[]), Verdict::Refused(libc::ENOSYS));
}

#[test]
fn a_personality_may_be_asked_for_but_not_changed() {
    for (persona, verdict) in [(0, Verdict::Allowed), (0xffff_ffff, Verdict::Allowed), (0x0004_0000, EPERM), (8, EPERM)]
    {
        assert_eq!(asked(libc::SYS_personality, &[persona]), verdict, "{persona:x}");
    }
}

#[test]
fn terminals_cannot_be_typed_into() {
    for request in [table::TIOCSTI, table::TIOCLINUX, table::TIOCSETD].map(u64::from) {
        assert_eq!(asked(libc::SYS_ioctl, &[0, request]), EPERM, "{request:x}");
        assert_eq!(asked(libc::SYS_ioctl, &[0, request | 1 << 32]), EPERM, "the kernel looks at 32 bits");
        assert_eq!(asked(libc::SYS_ioctl, &[request, 0]), Verdict::Allowed);
    }
    // TCGETS, TIOCSCTTY, TIOCSWINSZ, FIONREAD, FIONBIO.
    for request in [0x5401, 0x540e, 0x5414, 0x541b, 0x5421] {
        assert_eq!(asked(libc::SYS_ioctl, &[0, request]), Verdict::Allowed, "{request:x}");
    }
}

#[test]
fn sockets_are_those_of_ordinary_programs() {
    let no_family = Verdict::Refused(libc::EAFNOSUPPORT);
    let no_protocol = Verdict::Refused(libc::EPROTONOSUPPORT);
    let (stream, datagram, raw) = (libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_RAW);
    // Deprecated, but still a way to a packet socket.
    let packet = 10;
    let flags = libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    let cases = [
        ((libc::AF_UNIX, stream, 0), Verdict::Allowed),
        ((libc::AF_INET, stream | flags, libc::IPPROTO_TCP), Verdict::Allowed),
        ((libc::AF_INET6, datagram, libc::IPPROTO_UDP), Verdict::Allowed),
        ((libc::AF_INET, stream, libc::IPPROTO_MPTCP), Verdict::Allowed),
        ((libc::AF_INET, stream, libc::IPPROTO_SCTP), no_protocol),
        ((libc::AF_INET6, 6, libc::IPPROTO_DCCP), no_protocol),
        ((libc::AF_INET, raw, libc::IPPROTO_ICMP), EPERM),
        ((libc::AF_INET6, raw | flags, libc::IPPROTO_ICMPV6), EPERM),
        ((libc::AF_INET, packet, 0), EPERM),
        ((libc::AF_NETLINK, raw | flags, libc::NETLINK_ROUTE), Verdict::Allowed),
        ((libc::AF_NETLINK, datagram, libc::NETLINK_ROUTE), Verdict::Allowed),
        ((libc::AF_NETLINK, raw, libc::NETLINK_NETFILTER), no_family),
        ((libc::AF_VSOCK, stream, 0), no_family),
        ((libc::AF_PACKET, raw, 0), no_family),
        ((libc::AF_ALG, libc::SOCK_SEQPACKET, 0), no_family),
        ((libc::AF_BLUETOOTH, raw, 0), no_family),
        ((libc::AF_UNSPEC, stream, 0), no_family),
    ];
    for call in [libc::SYS_socket, libc::SYS_socketpair] {
        for ((family, kind, protocol), verdict) in cases {
            let arguments = [bits(family), bits(kind), bits(protocol)];
            assert_eq!(asked(call, &arguments), verdict, "{family} {kind} {protocol}");
        }
    }
}

#[test]
fn calls_of_another_architecture_end_the_process() {
    let program = program().unwrap();
    for number in [0, 11, 120, 310, table::NEWEST] {
        assert_eq!(run(&program, I386, number, [0; 6]), Verdict::Killed, "{number}");
    }
}

proptest! {
    #[test]
    fn calls_that_the_table_cannot_know_do_not_exist(number in table::NEWEST + 1.., arguments in any::<[u64; 6]>()) {
        let not_implemented = Verdict::Refused(libc::ENOSYS);
        let program = program().unwrap();
        prop_assert_eq!(run(&program, HERE, number, arguments), not_implemented);
        // The x32 numbers of calls that are allowed otherwise.
        let x32 = (number % table::NEWEST) | 0x4000_0000;
        prop_assert_eq!(run(&program, HERE, x32, arguments), not_implemented);
    }

    #[test]
    fn whatever_the_arguments_the_filter_comes_to_an_answer(
        number in 0..=table::NEWEST,
        arguments in any::<[u64; 6]>(),
    ) {
        let verdict = run(&program().unwrap(), HERE, number, arguments);
        let known = Answer::ALL.map(|answer| Verdict::Refused(i32::try_from(answer.errno()).unwrap()));
        proptest::prop_assert!(verdict == Verdict::Allowed || known.contains(&verdict), "{verdict:?}");
    }
}

/// What a call answers in a thread of its own without the filter, and in one with it.
fn without_and_with<T: Send>(call: impl Fn() -> T + Sync) -> (T, T) {
    let without = std::thread::scope(|scope| scope.spawn(&call).join().unwrap());
    let with = std::thread::scope(|scope| {
        let filtered = || {
            apply().unwrap();
            call()
        };
        scope.spawn(filtered).join().unwrap()
    });
    (without, with)
}

/// The error number of a call, none if it succeeds.
fn errno<T>(outcome: rustix::io::Result<T>) -> Option<Errno> {
    outcome.err()
}

#[test]
fn the_kernel_refuses_what_it_would_do_without_the_filter() {
    let (without, with) = without_and_with(|| errno(open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC)));
    assert_eq!((without, with), (None, Some(Errno::PERM)));

    let (without, with) = without_and_with(|| {
        let own = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
        errno(pidfd_getfd(&own, 0, PidfdGetfdFlags::empty()))
    });
    assert_eq!((without, with), (None, Some(Errno::PERM)));

    // Of a process with several threads the kernel says that it is no valid request, and of a file that it is none.
    #[expect(deprecated, reason = "its successor is unsafe for the sake of descriptors, which this flag leaves alone")]
    let (without, with) = without_and_with(|| errno(rustix::thread::unshare(UnshareFlags::NEWUSER)));
    assert_eq!((without, with), (Some(Errno::INVAL), Some(Errno::PERM)));
    let (without, with) = without_and_with(|| {
        let file = File::open("/proc/self/status").unwrap();
        errno(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)))
    });
    assert_eq!((without, with), (Some(Errno::INVAL), Some(Errno::PERM)));
}

#[test]
fn the_kernel_opens_no_sockets_but_ordinary_ones() {
    let open = |family, kind, protocol| without_and_with(move || errno(socket(family, kind, protocol)));
    let (raw, stream) = (SocketType::RAW, SocketType::STREAM);

    let (without, with) = open(AddressFamily::PACKET, SocketType::DGRAM, None);
    assert!(matches!(without, None | Some(Errno::PERM)), "{without:?}");
    assert_eq!(with, Some(Errno::AFNOSUPPORT));
    assert_eq!(open(AddressFamily::UNIX, raw, None), (None, Some(Errno::PERM)));
    let events = Some(netlink::KOBJECT_UEVENT);
    assert_eq!(open(AddressFamily::NETLINK, raw, events), (None, Some(Errno::AFNOSUPPORT)));
    // Not every kernel has vsock, which makes its own control worth nothing there.
    let (without, with) = open(AddressFamily::VSOCK, stream, None);
    assert!(matches!(without, None | Some(Errno::AFNOSUPPORT)), "{without:?}");
    assert_eq!(with, Some(Errno::AFNOSUPPORT));

    assert_eq!(open(AddressFamily::NETLINK, raw, None), (None, None));
    assert_eq!(open(AddressFamily::INET, stream, Some(rustix::net::ipproto::TCP)), (None, None));
    assert_eq!(open(AddressFamily::UNIX, stream, None), (None, None));
}

#[test]
fn programs_start_and_threads_run_under_the_filter() {
    let run = || -> io::Result<(String, i32)> {
        let thread = std::thread::spawn(|| 6 * 7);
        let output = Command::new("/bin/sh").args(["-c", "echo a | cat; (exit 3); echo $?"]).output()?;
        Ok((String::from_utf8_lossy(&output.stdout).into_owned(), thread.join().unwrap()))
    };
    let (without, with) = without_and_with(|| run().unwrap());
    assert_eq!(without, ("a\n3\n".to_owned(), 42));
    assert_eq!(with, without);
}

#[test]
fn the_filter_goes_on_to_what_is_started() {
    let status = || {
        let output = Command::new("/bin/cat").arg("/proc/self/status").output().unwrap();
        let status = String::from_utf8(output.stdout).unwrap();
        let field =
            |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
        (field("NoNewPrivs:"), field("Seccomp_filters:"))
    };
    let count = |filters: &Option<String>| filters.as_ref().and_then(|filters| filters.parse::<u32>().ok());
    let ((_, without), (no_new_privileges, with)) = without_and_with(status);
    assert_eq!(no_new_privileges.as_deref(), Some("1"));
    assert_eq!(count(&with), count(&without).map(|filters| filters + 1));
}

#[test]
fn the_process_itself_is_not_touched() {
    without_and_with(|| ());
    assert_eq!(errno(open_tree(CWD, "/", OpenTreeFlags::OPEN_TREE_CLOEXEC)), None);
}
