"""From the configuration to the verifier of programs."""

from holdfast.config.code import CodeSettings
from holdfast.config.settings import SourceSettings
from holdfast.data.task import Verify
from holdfast.sandbox.limits import MIB
from holdfast.tasks.code.fusion import FusionRunner
from holdfast.tasks.code.runner import ProgramRunner
from holdfast.tasks.code.verifier import ProgramVerifier


def program_verifier(settings: SourceSettings) -> Verify:
    """The verifier of a task or suite of programs."""
    code = settings.code or CodeSettings()
    runner = program_runner(settings, code)
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
