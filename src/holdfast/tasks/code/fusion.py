"""Runs programs on a `sandbox-fusion` server (github.com/bytedance/SandboxFusion): `POST /run_code`.

The server runs one whole program for each request. A test of printed output is compared here, as in `runner`.
Assertions and calls can only be appended to the program: there a program that knows how may forge its verdict, by
patching what an assertion uses or by printing the mark of success itself once it has found it in its own source. So
tests of that kind are safe for the machine, and not against a model that learns to cheat.
"""

import json
import secrets
import time
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from holdfast import stop
from holdfast.errors import DataError
from holdfast.tasks.code.runner import same_output
from holdfast.tasks.code.tests import ProgramError, ProgramOutcome, ProgramTest, ProgramTests

MOST_BYTES = 32 * 2**20
WAIT_SECONDS = 30.0
"""How much longer than the program the server may take."""


@dataclass(frozen=True)
class FusionRunner:
    """Runs programs on a server.

    Args:
        url: of the server.
        seconds: of one test, by the clock.
        memory_mb: of the program, in MiB.
        stops_at_failure: leave out the tests after the first that fails.
    """

    url: str
    seconds: float = 6.0
    memory_mb: int = 1024
    stops_at_failure: bool = True

    def run(self, program: str, given: ProgramTests) -> list[ProgramOutcome]:
        """Run a program against its tests, in their order. One outcome for each test.

        Raises:
            DataError: the server cannot be reached, or does not answer as such a server does.
        """
        outcomes: list[ProgramOutcome] = []
        for test in given.tests:
            if self.stops_at_failure and any(each.ending != "passed" for each in outcomes):
                outcomes.append(ProgramOutcome(test, "not_run"))
            else:
                outcomes.append(self._outcome(program, test, given))
        return outcomes

    def request(self, code: str, stdin: str) -> dict[str, Any]:
        """What is sent for one program."""
        limits = {"run_timeout": self.seconds, "compile_timeout": self.seconds, "memory_limit_MB": self.memory_mb}
        return {"code": code, "stdin": stdin, "language": "python", "files": {}, "fetch_files": [], **limits}

    def _outcome(self, program: str, test: ProgramTest, given: ProgramTests) -> ProgramOutcome:
        mark = secrets.token_hex(16)
        code = program if test.kind == "stdio" else f"{program}\n{_appended(test, given)}\nprint({mark!r})\n"
        found = self._post(self.request(code, test.input if test.kind == "stdio" else ""))
        result = found.get("run_result")
        if not isinstance(result, Mapping) or found.get("status") == "SandboxError":
            raise self._strange(f"it says: {str(found.get('message', ''))[:200]}")
        out, err = str(result.get("stdout") or ""), str(result.get("stderr") or "")
        outcome = ProgramOutcome(test, "passed", input=test.code or test.input, expected=test.output)
        if result.get("status") == "TimeLimitExceeded":
            return replace(outcome, ending="time")
        if result.get("return_code") != 0:
            last = (err.strip().splitlines() or ["it ended early"])[-1]
            name, _, message = last.partition(":")
            error = ProgramError(name.strip()[:100], name.strip().isidentifier(), message.strip())
            return replace(outcome, ending="wrong" if name == "AssertionError" else "raised", error=error)
        if test.kind == "stdio":
            return replace(outcome, actual=out, ending="passed" if same_output(out, test.output) else "wrong")
        return outcome if out.rstrip().endswith(mark) else replace(outcome, ending="died")

    def _post(self, body: Mapping[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/run_code",
            json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        stop.poll()
        deadline = time.monotonic() + self.seconds + WAIT_SECONDS
        try:
            with urllib.request.urlopen(request, timeout=self.seconds + WAIT_SECONDS) as answer:
                found = json.loads(_body(answer, deadline))
        except (OSError, ValueError, RecursionError) as error:
            raise self._strange(str(error)[:200]) from error
        if not isinstance(found, dict):
            raise self._strange("its answer is no object")
        return found

    def _strange(self, what: str) -> DataError:
        return DataError(
            f"the sandbox-fusion server cannot be used: {what}",
            where=self.url,
            fix="check that it runs and that `sandbox.url` is its address",
        )


def _body(answer: Any, deadline: float) -> bytes:
    """What a server sends. One that sends it drop by drop is given up on in time."""
    body = bytearray()
    while part := answer.read1(2**16):
        stop.poll()
        body += part
        if len(body) > MOST_BYTES:
            raise ValueError("its answer is too long")
        if time.monotonic() > deadline:
            raise TimeoutError("its answer takes too long")
    return bytes(body)


def _appended(test: ProgramTest, given: ProgramTests) -> str:
    """A test as code after the program."""
    if test.kind == "assert":
        return f"{given.setup}\n{test.code}"
    arguments = [json.loads(line) for line in test.input.splitlines() if line.strip()]
    target = f"(Solution().{given.function} if 'Solution' in globals() else {given.function})"
    return f"assert {target}(*{arguments!r}) == {json.loads(test.output)!r}"
