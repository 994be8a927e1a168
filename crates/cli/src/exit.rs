//! What the program ends with.

use corral_core::Code;

/// Done.
pub(crate) const DONE: u8 = 0;
/// It failed.
pub(crate) const FAILED: u8 = 1;
/// The command line is wrong.
pub(crate) const USAGE: u8 = 2;
/// No daemon or engine answers.
pub(crate) const UNAVAILABLE: u8 = 69;
/// A command was killed for it took too long, as timeout(1) has it.
pub(crate) const TIMED_OUT: u8 = 124;
/// The configuration is wrong, or the jail cannot be built.
pub(crate) const CONFIG: u8 = 78;

/// The exit code for an error.
pub(crate) fn of(code: Code) -> u8 {
    match code {
        Code::DaemonUnavailable | Code::EngineUnavailable => UNAVAILABLE,
        // What is asked to run in a jail does not run without one.
        Code::CatalogInvalid
        | Code::ModelInvalid
        | Code::JailUnavailable
        | Code::JailFailed
        | Code::WorkspaceInvalid
        | Code::ProgramMissing
        | Code::ProfileInvalid => CONFIG,
        Code::CatalogChanged
        | Code::InvalidRequest
        | Code::UnknownModel
        | Code::NotFound
        | Code::MethodNotAllowed
        | Code::Unauthorized
        | Code::ForbiddenHost
        | Code::ForbiddenOrigin
        | Code::Forbidden
        | Code::BodyTooLarge
        | Code::HeadTooLarge
        | Code::RequestTimeout
        | Code::SwitchNotAllowed
        | Code::QueueFull
        | Code::HoldTimeout
        | Code::Cut
        | Code::Busy
        | Code::AlreadyRunning
        | Code::Superseded
        | Code::ShuttingDown
        | Code::ModelFileMissing
        | Code::ModelFileTruncated
        | Code::ModelFileInvalid
        | Code::EngineFailed
        | Code::ImageMissing
        | Code::BinaryMissing
        | Code::GpuRuntimeMissing
        | Code::PortTaken
        | Code::LoadFailed
        | Code::LoadTimeout
        | Code::InsufficientMemory
        | Code::OutOfMemory
        | Code::ServerExited
        | Code::ServerKilled
        | Code::StopFailed
        | Code::DaemonRunning
        | Code::Io
        | Code::Internal => FAILED,
    }
}
