"""`holdfast.tasks.code.fusion`: a sandbox-fusion server, played by a small one that answers as it does."""

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from holdfast.errors import DataError
from holdfast.tasks.code.fusion import FusionRunner, _body
from holdfast.tasks.code.tests import ProgramTest, ProgramTests

PRINTED = ProgramTests(
    (ProgramTest("stdio", input="3\n", output="6\n"), ProgramTest("stdio", input="4\n", output="8\n"))
)


class Server(HTTPServer):
    """Keeps what it is sent, and answers with what the test says."""

    requests: list[dict[str, Any]]
    answers: list[Any]


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        self.server.requests.append(
            json.loads(self.rfile.read(int(self.headers["Content-Length"]))) | {"path": self.path}
        )
        answer = self.server.answers.pop(0)
        answer = answer(self.server.requests[-1]) if callable(answer) else answer
        body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), _Handler) as found:
        found.requests, found.answers = [], []
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        yield found
        found.shutdown()
        thread.join()


def runner(server: Server) -> FusionRunner:
    return FusionRunner(f"http://127.0.0.1:{server.server_address[1]}/", seconds=2.0)


def ran(stdout: str = "", stderr: str = "", code: int = 0, status: str = "Finished") -> dict[str, Any]:
    """As the server answers `POST /run_code`."""
    result = {"status": status, "execution_time": 0.1, "return_code": code, "stdout": stdout, "stderr": stderr}
    return {"status": "Success" if code == 0 else "Failed", "message": "", "compile_result": None, "run_result": result}


def test_printed_output_is_compared_here(server: Server) -> None:
    server.answers = [ran("6\n"), ran("9\n")]
    outcomes = runner(server).run("print(2 * int(input()))", PRINTED)
    assert [(each.ending, each.actual) for each in outcomes] == [("passed", "6\n"), ("wrong", "9\n")]
    first = server.requests[0]
    assert (first["path"], first["language"], first["stdin"], first["run_timeout"]) == (
        "/run_code",
        "python",
        "3\n",
        2.0,
    )
    assert first["code"] == "print(2 * int(input()))"
    assert "6" not in first["code"]


def test_assertions_count_only_with_the_mark_of_this_request(server: Server) -> None:
    tests = ProgramTests((ProgramTest("assert", "assert f(1) == 1"),))

    def mark(request: dict[str, Any]) -> dict[str, Any]:
        return ran(request["code"].rstrip().rpartition("\n")[2].removeprefix("print('").removesuffix("')") + "\n")

    server.answers = [mark, ran(""), ran("ok"), ran(stderr="Traceback\nAssertionError", code=1)]
    server.answers += [ran(stderr="Traceback\nValueError: no", code=1), ran(status="TimeLimitExceeded", code=1)]
    endings = [runner(server).run("def f(x): return x", tests)[0] for _ in range(6)]
    assert [each.ending for each in endings] == ["passed", "died", "died", "wrong", "raised", "time"]
    assert endings[4].error is not None
    assert (endings[4].error.type, endings[4].error.message) == ("ValueError", "no")


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b"<html>", {"status": "SandboxError", "message": "full", "run_result": {}}]
)
def test_a_server_that_is_none_is_named(server: Server, answer: Any) -> None:
    server.answers = [answer]
    with pytest.raises(DataError, match="sandbox-fusion server cannot be used"):
        runner(server).run("x", PRINTED)


class _Drops:
    """An answer that never ends."""

    def read1(self, size: int) -> bytes:
        return b" "


def test_a_server_that_answers_drop_by_drop_is_given_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(TimeoutError, match="takes too long"):
        _body(_Drops(), time.monotonic() + 0.01)
    monkeypatch.setattr("holdfast.tasks.code.fusion.MOST_BYTES", 1000)
    with pytest.raises(ValueError, match="too long"):
        _body(_Drops(), time.monotonic() + 600)


def test_no_server_is_named() -> None:
    with pytest.raises(DataError, match="cannot be used"):
        FusionRunner("http://127.0.0.1:9").run("x", PRINTED)
