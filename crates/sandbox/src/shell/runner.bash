# Makes a shell ready for one command, as the last one left it. $1: the file with that state; the rest: the command,
# in pieces. Names that begin with __corral_ are not part of the state, nor are traps, jobs and open files.
#
# The state is saved where the shell ends by itself, at the end of the command or by `exit`; one that becomes another
# program, or is killed, leaves the file as it was.

__corral_state=$1 __corral_saved= __corral_set=
builtin printf -v __corral_command %s "${@:2}"
builtin set --
builtin unset -v BASH_EXECUTION_STRING __corral_runner
# As at a prompt, what `alias` says counts.
builtin shopt -s expand_aliases
__corral_default=:$BASHOPTS:
builtin shopt -u expand_aliases

# Which options differ from those of a fresh shell, as words for `set`; and what `shopt` has to do.
__corral_options() {
    builtin local __corral_rest __corral_name
    __corral_set= __corral_on= __corral_off=
    for __corral_name in braceexpand hashall interactive-comments; do
        [[ $1 == *:$__corral_name:* ]] || __corral_set+="+o $__corral_name "
    done
    __corral_rest=${1#:}
    while [[ $__corral_rest ]]; do
        __corral_name=${__corral_rest%%:*} __corral_rest=${__corral_rest#*:}
        case $__corral_name in
            # With these no command would run any more.
            braceexpand | hashall | interactive-comments | noexec | onecmd) ;;
            *) __corral_set+="-o $__corral_name " ;;
        esac
    done
    __corral_rest=${2#:}
    while [[ $__corral_rest ]]; do
        __corral_name=${__corral_rest%%:*} __corral_rest=${__corral_rest#*:}
        [[ $__corral_default == *:$__corral_name:* ]] || __corral_on+=" $__corral_name"
    done
    __corral_rest=${__corral_default#:}
    while [[ $__corral_rest ]]; do
        __corral_name=${__corral_rest%%:*} __corral_rest=${__corral_rest#*:}
        [[ $2 == *:$__corral_name:* ]] || __corral_off+=" $__corral_name"
    done
}

# The names of `__corral_lines` that are of the state, in `__corral_names`.
__corral_choose() {
    __corral_names=()
    for __corral_line in "${__corral_lines[@]}"; do
        case $__corral_line in
            BASH_ENV | BASH_COMPAT) __corral_names+=("$__corral_line") ;;
            __corral_* | BASH* | _ | COMP_WORDBREAKS | DIRSTACK | EPOCH* | EUID | FUNCNAME | GROUPS | HISTCMD) ;;
            LINENO | PIPESTATUS | PPID | PWD | RANDOM | SECONDS | SHELLOPTS | SRANDOM | UID) ;;
            *) __corral_names+=("$__corral_line") ;;
        esac
    done
}

__corral_variables() {
    builtin compgen -v >|"$__corral_state.names" && builtin mapfile -t __corral_lines <"$__corral_state.names"
    __corral_choose
}

__corral_write() {
    builtin local __corral_depth=${#FUNCNAME[@]} __corral_names __corral_lines __corral_line __corral_pass
    builtin printf '__corral_directory=%q __corral_before=%q __corral_set=%q\n' "$PWD" "${OLDPWD-}" "$__corral_set"
    builtin printf '%s\n' "$1"
    [[ ! $__corral_on ]] || builtin printf 'builtin shopt -s%s\n' "${__corral_on// expand_aliases/}"
    [[ ! $__corral_off ]] || builtin printf 'builtin shopt -u%s\n' "$__corral_off"
    builtin alias -p
    __corral_variables
    builtin declare -p "${__corral_names[@]}"
    # Where a function called `exit`, its variables hide others of the same name: these show when those are gone. One
    # that hides nothing cannot be told from others, and stays.
    for ((__corral_pass = 2; __corral_pass < __corral_depth; __corral_pass++)); do
        builtin unset -v "${__corral_names[@]}"
        __corral_variables
        ((${#__corral_names[@]})) || break
        builtin printf 'builtin unset -v'
        builtin printf ' %q' "${__corral_names[@]}"
        builtin printf '\n'
        builtin declare -p "${__corral_names[@]}"
    done
    builtin declare -F >|"$__corral_state.names" && builtin mapfile -t __corral_lines <"$__corral_state.names"
    for __corral_line in "${__corral_lines[@]}"; do
        [[ ${__corral_line##* } != __corral_* ]] || continue
        builtin declare -f "${__corral_line##* }"
        [[ $__corral_line == 'declare -f '* ]] || builtin printf 'builtin %s\n' "$__corral_line"
    done
    [[ $__corral_off == *' expand_aliases'* ]] || builtin printf 'builtin shopt -s expand_aliases\n'
}

__corral_save() {
    builtin local __corral_code=$? __corral_set __corral_on __corral_off
    [[ ! $__corral_saved ]] || builtin return "$__corral_code"
    __corral_saved=1
    builtin set -- ":$SHELLOPTS:" ":$BASHOPTS:"
    # Whatever the command has set must not be in the way of this.
    builtin set +aefnuvx +o posix
    builtin shopt -u nocasematch
    __corral_options "$@"
    # A file that is made has to be readable.
    builtin set -- "$(builtin umask -p)"
    builtin umask 077
    __corral_write "$1" >|"$__corral_state.new" && builtin command -p mv -f -- "$__corral_state.new" "$__corral_state"
    builtin return "$__corral_code"
}

# Read as a whole before any of it runs, so that no alias of the state changes it.
{
    if [[ -r $__corral_state ]]; then
        {
            for __corral_name in $(builtin compgen -e); do
                [[ $__corral_name == PWD ]] || builtin unset -v "$__corral_name"
            done
            builtin source "$__corral_state"
        } 2>/dev/null
        builtin cd -- "$__corral_directory" && OLDPWD=$__corral_before
    else
        builtin shopt -s expand_aliases
    fi
    builtin trap '{ __corral_save; } 2>/dev/null' EXIT
}
