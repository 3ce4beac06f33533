"""From the configuration to the verifier of programs."""

from holdfast.config.code import CodeSettings
from holdfast.config.settings import SourceSettings
from holdfast.data.task import Verify
from holdfast.errors import ConfigError
from holdfast.sandbox.limits import MIB
from holdfast.sandbox.sandbox import sandbox
from holdfast.tasks.code.fusion import FusionRunner
from holdfast.tasks.code.runner import ProgramRunner
from holdfast.tasks.code.verifier import ProgramVerifier


def program_verifier(settings: SourceSettings) -> Verify:
    """The verifier of a task or suite of programs.

    Raises:
        ConfigError: there can be no such sandbox on this machine.
    """
    code = settings.code or CodeSettings()
    runner = program_runner(settings, code)
    require_sandbox(settings)
    return ProgramVerifier(runner, code.reward, code.feedback_length)


def program_runner(settings: SourceSettings, code: CodeSettings) -> ProgramRunner | FusionRunner:
    """What runs the programs of a task or suite: in its sandbox, or without one if the user said so."""
    kind = sandbox_kind(settings)
    if kind == "sandbox-fusion":
        assert settings.sandbox.url is not None  # guaranteed by SandboxSettings
        return FusionRunner(settings.sandbox.url, code.time_limit, code.memory_mb, code.reward == "all")
    return ProgramRunner(
        kind,
        settings.sandbox.image,
        code.time_limit,
        code.memory_mb * MIB,
        code.total_time_limit,
        stops_at_failure=code.reward == "all",
    )


def sandbox_kind(settings: SourceSettings) -> str:
    """The sandbox that a task or suite asks for, as `holdfast.sandbox.sandbox` names it."""
    return "unprotected" if settings.run_code == "unprotected" else settings.sandbox.kind


def require_sandbox(settings: SourceSettings) -> None:
    """Make sure that the code of a task or suite can run in its sandbox, before anything is trained.

    Raises:
        ConfigError: there can be no such sandbox on this machine.
    """
    kind = sandbox_kind(settings)
    if kind == "sandbox-fusion":
        return
    try:
        sandbox(kind, image=settings.sandbox.image).check()
    except ConfigError as error:
        raise ConfigError(error.what, where=repr(settings.name), fix=error.fix) from None
