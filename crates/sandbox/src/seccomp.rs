//! What the kernel refuses to everything in the jail, whatever its namespaces and files would allow.
//!
//! All calls are allowed but those of the table, and those that it cannot know: numbers beyond the newest one. A
//! refused call answers an error, so that programs which only probe go on without it. Calls of another architecture
//! than the program's own end the process, for the table does not fit them.

mod table;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use corral_core::{Code, Error, Result};
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, sock_filter,
};
use table::{Answer, Is, Refusal};

// Classic BPF, from linux/bpf_common.h and linux/seccomp.h.
const LOAD_WORD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;
/// Where `struct seccomp_data` has the number of the call.
const NUMBER: u32 = 0;

/// Stands for "no rule of this answer applies" until the parts are linked. No rule answers so.
const UNDECIDED: SeccompAction = SeccompAction::Log;

/// The filter, for the architecture that this program was built for.
pub fn program() -> Result<BpfProgram> {
    compile()
        .map_err(|error| Error::new(Code::Internal, "the table of refused calls cannot be compiled").because(error))
}

/// Puts the calling thread, and all that it starts from now on, under the filter. It cannot be taken off.
pub fn apply() -> Result<()> {
    seccompiler::apply_filter(&program()?).map_err(|error| {
        Error::new(Code::JailUnavailable, "the kernel does not take the jail's filter of system calls")
            .because(error)
            .hint("a kernel with CONFIG_SECCOMP_FILTER is needed; `corral doctor` says what this machine offers")
    })
}

fn compile() -> Result<BpfProgram, BackendError> {
    let mut program = unknown_numbers();
    for answer in Answer::ALL {
        program.extend(part(answer)?);
    }
    program.push(statement(RETURN, SeccompAction::Allow.into()));
    Ok(program)
}

/// Refuses what is newer than the table, and on `x86_64` the x32 calls, whose numbers have bit 30 set and which would
/// go past every rule. Own instructions, since seccompiler compares numbers for equality only.
fn unknown_numbers() -> BpfProgram {
    vec![
        statement(LOAD_WORD, NUMBER),
        sock_filter { code: JUMP_IF_AT_LEAST, jt: 0, jf: 1, k: table::NEWEST + 1 },
        statement(RETURN, Answer::NotImplemented.action().into()),
    ]
}

/// The rules of one answer, going on behind their end where none applies: seccompiler knows one answer in a program.
fn part(answer: Answer) -> Result<BpfProgram, BackendError> {
    let mut rules = BTreeMap::<_, Vec<_>>::new();
    for Refusal { call, when, .. } in table::refusals().into_iter().filter(|refusal| refusal.answer == answer) {
        let of_call = rules.entry(call).or_default();
        if !when.is_empty() {
            of_call.push(SeccompRule::new(when.iter().map(condition).collect::<Result<_, _>>()?)?);
        }
    }
    let target = TargetArch::try_from(std::env::consts::ARCH)?;
    let filter = SeccompFilter::new(rules, UNDECIDED, answer.action(), target)?;
    let mut part = BpfProgram::try_from(filter)?;
    let undecided = statement(RETURN, UNDECIDED.into());
    let instructions = u32::try_from(part.len()).unwrap_or(u32::MAX);
    for (behind, instruction) in (1..=instructions).zip(&mut part) {
        if *instruction == undecided {
            *instruction = statement(JUMP, instructions - behind);
        }
    }
    Ok(part)
}

/// All arguments that the table looks at are of 32 bits to the kernel, which ignores what is set above them.
fn condition(&(argument, is): &(u8, Is)) -> Result<SeccompCondition, BackendError> {
    let (operator, value) = match is {
        Is::Equal(value) => (SeccompCmpOp::Eq, value),
        Is::Not(value) => (SeccompCmpOp::Ne, value),
        Is::Masked { mask, value } => (SeccompCmpOp::MaskedEq(mask.into()), value),
    };
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value.into())
}

fn statement(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
}
