//! The kernel's keyrings: a session's keys are inherited by all that it starts, through every namespace.

use corral_core::{Code, Error, Result};
use keyutils_raw::keyctl_join_session_keyring;

/// Gives the calling thread, and all that it starts from now on, a session keyring of its own without a key in it.
///
/// Where the kernel has no keyrings, or already refuses them to this process, there is nothing to hide.
pub fn join_empty() -> Result<()> {
    match keyctl_join_session_keyring(None) {
        Ok(_) => Ok(()),
        Err(refusal) if matches!(refusal.0, libc::ENOSYS | libc::EPERM) => {
            tracing::debug!("the session's keyring is out of reach: {refusal}");
            Ok(())
        }
        Err(refusal) => Err(Error::new(Code::JailFailed, "the kernel makes no keyring for the jail")
            .because(std::io::Error::from(refusal))
            .hint("`cat /proc/key-users` shows how much of its quota of keys each user has used up")),
    }
}

#[cfg(test)]
mod tests {
    use keyutils_raw::{KeyringSerial, add_key, keyctl_get_keyring_id, keyctl_search};

    use super::*;

    /// "My session's keyring", as the kernel spells it.
    fn session() -> KeyringSerial {
        KeyringSerial::new(-3).unwrap()
    }

    fn in_thread<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(run).join().unwrap())
    }

    #[test]
    fn keys_of_the_session_stay_behind() {
        in_thread(|| {
            // A session to be left, rather than that of the person who runs the test.
            keyctl_join_session_keyring(None).unwrap();
            let before = keyctl_get_keyring_id(session(), false).unwrap();
            add_key("user", "corral-test", b"secret", session()).unwrap();

            let find = || keyctl_search(session(), "user", "corral-test", None).map_err(|error| error.0);
            // The control: what a thread starts has the keys, unless it joins another session.
            in_thread(|| find().unwrap());
            in_thread(|| {
                join_empty().unwrap();
                assert_ne!(keyctl_get_keyring_id(session(), false).unwrap(), before);
                assert_eq!(find(), Err(libc::ENOKEY));
            });
            find().unwrap();
        });
    }

    #[test]
    fn where_keyrings_are_refused_there_is_nothing_to_leave() {
        in_thread(|| {
            crate::seccomp::apply().unwrap();
            assert_eq!(keyctl_join_session_keyring(None).map_err(|error| error.0), Err(libc::EPERM));
            join_empty().unwrap();
        });
    }
}
