//! Whether Claude Code, or anything, can be jailed here.

use corral_sandbox::support::Support;

use super::{Finding, Status};

/// What the jail stands on.
pub(super) fn judge(support: &Support) -> Finding {
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
        Support { bwrap: Some(bwrap), obstacle, landlock, seccomp: true }
    }

    #[test]
    fn the_layers_are_named_and_what_is_missing_is_no_obstacle_to_models() {
        let found = judge(&support(Some(7), None));
        assert_eq!((found.status, found.message.as_str()), (Status::Ok, "bubblewrap 0.11.0, seccomp, Landlock 7"));
        let found = judge(&support(None, None));
        assert!(found.status == Status::Warning && found.message.contains("lacks Landlock"), "{found:?}");
        let found = judge(&support(Some(7), Some(Obstacle::NoNamespaces)));
        assert!(found.status == Status::Warning && found.message.contains("max_user_namespaces is 0"), "{found:?}");
        assert!(found.remedy.is_some_and(|remedy| remedy.contains("sysctl")));
    }
}
