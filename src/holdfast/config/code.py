"""Code that a model wrote in the configuration: tests of programs, and the sandbox that runs them."""

from typing import Literal, Self

from pydantic import Field, model_validator

from holdfast.config.base import Settings
from holdfast.sandbox.containers import IMAGE

LAB_PROGRAMS = "programs"
"""The task of the lab whose answers are programs."""


class SandboxSettings(Settings):
    """Where [code that a model wrote](code.md) runs."""

    kind: Literal["bubblewrap", "docker", "podman", "sandbox-fusion"] = "bubblewrap"
    """What makes the sandbox. `bubblewrap` needs Linux and the program `bwrap`; the next two run a container for each
    answer; `sandbox-fusion` is a server that runs programs, for tasks with `reader: code` only."""
    image: str = IMAGE
    """Image of the containers, with Python 3.11 or newer. It is never pulled: fetch it before."""
    url: str | None = None
    """Address of the `sandbox-fusion` server, such as `http://localhost:8080`."""

    @model_validator(mode="after")
    def _url_of_the_server(self) -> Self:
        if (self.kind == "sandbox-fusion") != (self.url is not None):
            raise ValueError("`url` is the address of the server of `kind: sandbox-fusion`; give both or neither")
        if self.url is not None and not self.url.startswith(("http://", "https://")):
            raise ValueError(f"`url` is {self.url!r}; write http://HOST:PORT")
        return self


class CodeSettings(Settings):
    """How [programs](code.md) are tested."""

    reward: Literal["all", "share"] = "all"
    """`all`: 1 if a program passes all tests, else 0. `share`: the share of tests that it passes."""
    time_limit: float = Field(default=6.0, gt=0, le=600)
    """Seconds of CPU time for one test. It may take three times as long by the clock."""
    total_time_limit: float = Field(default=60.0, gt=0, le=3600)
    """Seconds for all tests of one program. Tests for which no time is left count as failed."""
    memory_mb: int = Field(default=1024, ge=128)
    """Memory of the program, in MiB of address space."""
    public_tests: int | None = Field(default=None, ge=0)
    """Only the first tests of each record that many may be shown in the prompt and in feedback. By default all that the
    record does not mark as hidden."""
    feedback_length: int = Field(default=400, ge=50)
    """Characters of each part of the feedback: the message, the input, the expected and the actual result."""
