//! Whether Claude Code, or anything, can be jailed here.

use corral_sandbox::memory::{Unbounded, gib};
use corral_sandbox::support::Support;

use super::{Finding, Status};

/// What the jail stands on, and whether its memory is bounded.
pub(super) fn judge(support: &Support) -> Vec<Finding> {
    let stands = stands(support);
    // What is bounded where nothing can be jailed is nobody's question.
    let memory = support.jail().is_ok().then(|| memory(&support.memory));
    std::iter::once(stands).chain(memory).collect()
}

fn memory(bound: &Result<u64, Unbounded>) -> Finding {
    let (status, message, remedy) = match bound {
        Ok(ram) => (Status::Ok, format!("a jail takes {} of memory at most", gib(*ram)), None),
        Err(why) => {
            let message = format!("how much memory a jail takes is not bounded: {why}");
            (Status::Warning, message, Some(why.mend().to_owned()))
        }
    };
    Finding { check: "jail".to_owned(), status, message, remedy }
}

fn stands(support: &Support) -> Finding {
    let (status, message, remedy) = match (support.jail(), support.landlock) {
        (Ok(bwrap), Some(version)) => {
            (Status::Ok, format!("bubblewrap {}, seccomp, Landlock {version}", bwrap.version), None)
        }
        (Ok(bwrap), None) => {
            let message =
                format!("bubblewrap {} and seccomp; this kernel lacks Landlock, which is a wall less", bwrap.version);
            (Status::Warning, message, Some("a kernel from 5.13 on, with `landlock` in its `lsm=`".to_owned()))
        }
        // Models are loaded all the same.
        (Err(error), _) => {
            let body = error.body();
            (Status::Warning, format!("`claude-local` cannot start: {}", body.message), body.hint)
        }
    };
    Finding { check: "jail".to_owned(), status, message, remedy }
}

#[cfg(test)]
mod tests {
    use corral_sandbox::support::{Bwrap, Obstacle};

    use super::*;

    fn support(landlock: Option<u8>, obstacle: Option<Obstacle>) -> Support {
        let bwrap = Bwrap { path: "/usr/bin/bwrap".into(), version: "0.11.0".to_owned() };
        Support { bwrap: Some(bwrap), obstacle, landlock, seccomp: true, memory: Ok(12 << 30) }
    }

    #[test]
    fn the_layers_are_named_and_what_is_missing_is_no_obstacle_to_models() {
        let found = stands(&support(Some(7), None));
        assert_eq!((found.status, found.message.as_str()), (Status::Ok, "bubblewrap 0.11.0, seccomp, Landlock 7"));
        let found = stands(&support(None, None));
        assert!(found.status == Status::Warning && found.message.contains("lacks Landlock"), "{found:?}");
        let found = stands(&support(Some(7), Some(Obstacle::NoNamespaces)));
        assert!(found.status == Status::Warning && found.message.contains("max_user_namespaces is 0"), "{found:?}");
        assert!(found.remedy.is_some_and(|remedy| remedy.contains("sysctl")));
    }

    #[test]
    fn memory_without_a_bound_is_warned_of_with_what_mends_it() {
        let good = judge(&support(Some(7), None));
        let said: Vec<_> = good.iter().map(|found| (found.status, found.message.as_str())).collect();
        let bounded = (Status::Ok, "a jail takes 12.0 GiB of memory at most");
        assert_eq!(said, [(Status::Ok, "bubblewrap 0.11.0, seccomp, Landlock 7"), bounded]);
        assert_eq!(judge(&support(Some(7), Some(Obstacle::NoNamespaces))).len(), 1);

        let refused = Unbounded::Refused { said: "Access denied".to_owned() };
        let cases = [
            (Unbounded::NoBus, "there is no bus", "XDG_RUNTIME_DIR"),
            (Unbounded::NoAnswer, "did not answer within 300 ms", "systemctl --user status"),
            (refused, "no control group: Access denied", "systemctl --user status"),
            (Unbounded::NoController, "does not bound memory", "systemd.unified_cgroup_hierarchy=1"),
        ];
        for (why, said, mend) in cases {
            let found = judge(&Support { memory: Err(why), ..support(Some(7), None) }).pop().unwrap();
            assert!(found.status == Status::Warning && found.message.contains(said), "{found:?}");
            assert!(found.remedy.as_ref().is_some_and(|remedy| remedy.contains(mend)), "{found:?}");
        }
    }
}
