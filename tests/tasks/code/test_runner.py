"""`holdfast.tasks.code.runner`: what comes of programs and their tests."""

import resource

import pytest

from holdfast.tasks.code.runner import ProgramRunner, same_output
from holdfast.tasks.code.tests import ProgramOutcome, ProgramTest, ProgramTests
from sandboxes import require_sandbox

RUNNER = ProgramRunner(seconds=2.0, total_seconds=60.0, stops_at_failure=False)


@pytest.fixture(autouse=True)
def _sandboxed() -> None:
    require_sandbox()


def asserts(*tests: str, setup: str = "") -> ProgramTests:
    return ProgramTests(tuple(ProgramTest("assert", test) for test in tests), setup)


def prints(*cases: tuple[str, str]) -> ProgramTests:
    return ProgramTests(tuple(ProgramTest("stdio", input=given, output=out) for given, out in cases), has_prelude=True)


def run(program: str, tests: ProgramTests, runner: ProgramRunner = RUNNER) -> list[ProgramOutcome]:
    return runner.run(program, tests)


def endings(program: str, tests: ProgramTests, runner: ProgramRunner = RUNNER) -> list[str]:
    return [each.ending for each in run(program, tests, runner)]


def test_assertions_of_a_function() -> None:
    tests = asserts("assert add(1, 2) == 3", "assert add(-1, 1) == 0")
    assert endings("def add(a, b):\n    return a + b\n", tests) == ["passed", "passed"]
    first, second = run("def add(a, b):\n    return abs(a) + b\n", tests)
    assert first.ending == "passed"
    assert (second.ending, second.input, second.expected, second.actual) == ("wrong", "add(-1, 1)", "0", "2")


def test_what_a_program_raises_has_its_line() -> None:
    (outcome,) = run("def f(x):\n    y = 1\n    return y / x\n", asserts("assert f(0) == 1"))
    assert outcome.ending == "raised"
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.message, outcome.error.line) == (
        "ZeroDivisionError",
        "division by zero",
        3,
    )
    (outcome, *others) = run("def f(x:\n    return x\n", asserts("assert f(0) == 0", "assert f(1) == 1"))
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.line) == ("SyntaxError", 1)
    assert [each.ending for each in others] == ["not_run"]


@pytest.mark.parametrize(
    ("program", "test"),
    [
        ("def sort(x):\n    x.sort()", "x = [3, 1]\nsort(x)\nassert x == [1, 3]"),
        ("def each(f, xs):\n    return [f(x) for x in xs]", "assert each(lambda x: x + 1, (1, 2)) == [2, 3]"),
        ("def count(n):\n    yield from range(n)", "assert list(count(3)) == [0, 1, 2]"),
        ("class Node:\n    left = None\ndef f(n):\n    return n.left", "n = Node()\nn.left = 5\nassert f(n) == 5"),
        ("class Box(list):\n    pass\ndef f():\n    return Box([1])", "assert f() == [1]"),
        (
            "class E(ValueError):\n    pass\ndef f():\n    raise E('x')",
            "try:\n    f()\n    assert False\nexcept E:\n    pass",
        ),
        ("def f():\n    raise KeyError('x')", "try:\n    f()\n    assert False\nexcept KeyError:\n    pass"),
        ("def sum(a, b):\n    return a - b", "assert sum(3, 1) == 2"),
        ("def f(a, *, peer=0, name=1):\n    return a + peer + name", "assert f(1, peer=2, name=3) == 6"),
        ("import math\ndef f():\n    return math.pi", "assert math.isclose(f(), 3.14159, rel_tol=1e-3)"),
        (
            "def f():\n    return {1: {'a': (1.5, None, True)}, 'b': {2, 3}}",
            "assert f() == {1: {'a': (1.5, None, True)}, 'b': {2, 3}}",
        ),
        ("def f():\n    return 10 ** 5000", "assert f() == 10 ** 5000"),
        (
            "class P:\n    def __init__(s, x):\n        s.x = x\n    def __eq__(s, o):\n        return s.x == o.x",
            "assert P(1) == P(1)\nassert P(1) != P(2)",
        ),
        ("def f(xs):\n    return max(xs, key=len)", "assert f(iter(['a', 'bb'])) == 'bb'"),
        ("def f():\n    return b'x', 1j, range(3)", "assert f() == (b'x', 1j, range(3))"),
        ("from collections import Counter\ndef f(s):\n    return Counter(s)", "assert f('aab') == {'a': 2, 'b': 1}"),
        ("CONSTANT = 7\ndef f():\n    return CONSTANT", "assert f() == CONSTANT"),
        ("def f(t):\n    return t.value", "class T:\n    value = 3\nassert f(T()) == 3"),
        (
            "def f(x):\n    return x",
            "def check(candidate):\n    for i in range(3):\n        assert candidate(i) == i\ncheck(f)",
        ),
    ],
)
def test_ways_in_which_tests_use_programs(program: str, test: str) -> None:
    (outcome,) = run(program, asserts(test))
    assert outcome.ending == "passed", outcome


def test_programs_that_read_and_print() -> None:
    tests = prints(("3\n", "6\n"), ("10\n", "20"), ("0\n", "0\n"))
    assert endings("print(2 * int(input()))", tests) == ["passed"] * 3
    assert endings("import sys\nfor line in sys.stdin:\n    print(2 * int(line))", tests) == ["passed"] * 3
    assert endings("print(6)", tests) == ["passed", "wrong", "wrong"]
    assert endings("import sys\nprint(6)\nsys.exit(1)", tests)[0] == "died"
    assert endings("print(2 * int(input()))\nexit()", tests) == ["passed"] * 3
    assert run("x = Counter(input())\nprint(x[input()])", prints(("aab\na\n", "2")))[0].ending == "passed"


def test_functions_of_contests() -> None:
    tests = ProgramTests((ProgramTest("call", input="[1, 2]\n3", output="[4, 5]"),), function="add", has_prelude=True)
    method = "class Solution:\n    def add(self, xs: List[int], k: int):\n        return tuple(x + k for x in xs)"
    assert endings(method, tests) == ["passed"]
    assert endings("def add(xs, k):\n    return xs", tests) == ["wrong"]
    assert run("def add(xs, k):\n    return xs", tests)[0].input == "add([1, 2], 3)"


@pytest.mark.parametrize(
    ("program", "ending"),
    [
        ("while True: pass", "time"),
        ("import time\ntime.sleep(100)", "time"),
        ("print('x' * 10**8)", "output"),
        ("x = bytearray(10**10)", "raised"),
        ("import os\nos.fork()", "raised"),
        ("import os\nos.kill(os.getpid(), 11)", "died"),
        ("import ctypes\nctypes.string_at(0)", "died"),
        ("import os\nos.kill(os.getppid(), 9)", "died"),
        ("def f(): f()\nf()", "raised"),
    ],
)
def test_programs_that_do_not_end_well(program: str, ending: str) -> None:
    assert endings(program, prints(("", "x")))[0] == ending
    kept = asserts("assert f() == 1")
    found = endings(f"{program}\ndef f():\n    return 1", kept)[0]
    assert found == ("passed" if ending == "output" else ending)


def test_a_program_that_reads_an_input_which_it_does_not_get_is_told() -> None:
    (outcome,) = run("def f():\n    return int(input())", asserts("assert f() == 1"))
    assert outcome.ending == "raised"
    assert outcome.error is not None
    assert (outcome.error.type, outcome.error.line) == ("EOFError", 2)


@pytest.mark.parametrize(
    "said",
    ['{"types": 5}', '{"types": {"a": 1}}', '{"type": [], "types": []}', '{"line": true, "message": [[1]]}', "5"],
)
def test_whatever_a_program_says_about_its_error_is_data(said: str) -> None:
    """It finds the pipe of its errors among its open files."""
    writes = f"import os\nfor n in range(3, 64):\n    try: os.write(n, {said.encode()!r})\n    except OSError: pass\n"
    assert endings(f"{writes}os._exit(1)", prints(("", "1"))) == ["died" if said == "5" else "raised"]


def test_a_program_that_does_not_end_after_its_test_has_passed_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.tasks.code.runner.END_SECONDS", 0.2)
    program = (
        "import sys, time\nPeer = sys.modules['inside.peer'].Peer\nserve = Peer.serve\n"
        "def waits(self, until_reply=False):\n"
        "    said = serve(self, until_reply)\n"
        "    return said if until_reply else time.sleep(60)\n"
        "Peer.serve = waits\n"
        "def f(): return 1"
    )
    tests = asserts("assert f() == 1", "assert f() == 2", "assert f() == 1")
    assert endings(program, tests) == ["passed", "wrong", "passed"]


@pytest.mark.slow
def test_what_a_program_sends_takes_no_memory_of_this_process_to_speak_of() -> None:
    """It writes to the channel of its process. As Python's objects, these 30 MB of brackets would be 800."""
    many = "many = b'[' + b'[],' * 10_000_000 + b'[]]'\n"
    writes = "for n in range(3, 64):\n    try: os.write(n, b'{%s: ' + many + b'}\\n')\n    except OSError: pass\n"
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for key in (b'"names"', b'"error"'):
        program = f"import os\n{many}{writes.replace('%s', key.decode())}def f(): return 1"
        assert endings(program, asserts("assert f() == 1")) != ["passed"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000, "in kB"


def test_a_program_cannot_end_the_order_of_its_test_and_begin_another() -> None:
    line = b'{"names": {}, "setup": "", "test": "pass"}, "setup": "", "test": "pass", "x": {"a": 1}\n'
    program = (
        f"import os\nfor n in range(3, 64):\n    try: os.write(n, {line!r})\n    except OSError: pass\n"
        "def f(): return 0"
    )
    assert endings(program, asserts("assert f() == 1")) != ["passed"]


def test_after_a_program_has_ended_its_process_the_next_test_runs() -> None:
    program = "import os\ndef f(x):\n    if x == 1: os._exit(3)\n    while x == 2: pass\n    return x"
    assert endings(program, asserts(*(f"assert f({i}) == {i}" for i in range(4)))) == [
        "passed",
        "died",
        "time",
        "passed",
    ]


def test_tests_do_not_see_each_other_and_nothing_is_left_behind() -> None:
    program = "import os\nn = 0\ndef f():\n    global n\n    n += 1\n    return n, sorted(os.listdir('.'))"
    assert endings(program, asserts(*["assert f() == (1, [])"] * 2)) == ["passed", "passed"]
    leaves = "import os\nprint(*map(os.listdir, ('/box', '/dev/shm')))\nopen('left', 'w')\nopen('/dev/shm/left', 'w')"
    for _ in range(2):  # another answer is another sandbox
        assert endings(leaves, prints(("", "[] []"))) == ["passed"]


def test_the_same_program_gives_the_same_result() -> None:
    program = "import random\nprint(random.random(), hash('a'), list({'a', 'b', 'c'}))"
    first, second = (run(program, prints(("", "")))[0].actual for _ in range(2))
    assert first == second != ""


def test_a_test_that_is_no_code_is_named() -> None:
    (outcome,) = run("x = 1", asserts("assert ("))
    assert (outcome.ending, outcome.detail[:11]) == ("broken", "SyntaxError")


def test_the_rest_is_left_out_after_a_failure_and_when_time_is_over() -> None:
    tests = prints(("", "1"), ("", "2"), ("", "1"))
    assert endings("print(1)", tests, ProgramRunner(seconds=2)) == ["passed", "wrong", "not_run"]
    short = ProgramRunner(seconds=2, total_seconds=0.5, stops_at_failure=False)
    assert endings("import time\ntime.sleep(60)", tests, short) == ["time", "not_run", "not_run"]


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        ("1\n2\n", "1\n2", True),
        ("1 2 ", "1 2", True),
        ("1.0", "1", True),
        ("1.50 2", "1.5 2.0", True),
        ("a", "A", False),
        ("1\n\n2", "1\n2", False),
        ("12", "1 2", False),
        ("", "1", False),
        ("nan", "nan", True),
        ("nan", "1", False),
        ("sNaN", "1", False),
        ("1e999999999", "1", False),
    ],
)
def test_when_outputs_are_the_same(actual: str, expected: str, same: bool) -> None:
    assert same_output(actual, expected) is same
