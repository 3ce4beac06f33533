"""`holdfast.tasks.code.runner`: programs that try to give themselves a verdict, and get none."""

import pytest

from holdfast.tasks.code.runner import ProgramRunner
from holdfast.tasks.code.tests import ProgramTest, ProgramTests
from sandboxes import require_sandbox

RUNNER = ProgramRunner(seconds=2.0)

ALWAYS = """
class Always:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __lt__(self, other): return True
    __le__ = __gt__ = __ge__ = __contains__ = __instancecheck__ = __eq__
    def __sub__(self, other): return 0
    __rsub__ = __add__ = __radd__ = __abs__ = __float__ = __sub__
    def __hash__(self): return 0
    def __getattr__(self, name): return self
    def __call__(self, *given, **named): return True
"""

TRICKS = {
    "exits with success": """
import os
def f(x): os._exit(0)
""",
    "exits when it is loaded": """
import sys
sys.exit(0)
""",
    "exits in a call": """
import sys
def f(x): sys.exit(0)
""",
    "raises what ends programs": "def f(x): raise KeyboardInterrupt",
    "raises the end of a generator": "def f(x): raise GeneratorExit",
    "raises the end of an iteration": "def f(x): raise StopIteration",
    "raises an exception of its own that catches all": """
class E(BaseException): pass
def f(x): raise E
""",
    "is equal to everything": ALWAYS + "def f(x): return Always()",
    "is a class that is equal to everything": ALWAYS
    + """
class M(type):
    __eq__ = lambda s, o: True
class f(metaclass=M):
    def __init__(self, x): pass
""",
    "is a number that is equal to everything": """
class N(int):
    __eq__ = lambda s, o: True
    __hash__ = int.__hash__
def f(x): return N(0)
""",
    "is a text that is equal to everything": """
class N(str):
    __eq__ = lambda s, o: True
    __hash__ = str.__hash__
def f(x): return N('no')
""",
    "is a list that is equal to everything": """
class N(list):
    __eq__ = lambda s, o: True
def f(x): return N()
""",
    "says that it is another class": """
class N:
    @property
    def __class__(self): return int
    __eq__ = lambda s, o: True
def f(x): return N()
""",
    "patches Python": """
import builtins
for name in ('AssertionError', 'Exception', 'repr', 'all', 'isinstance'):
    setattr(builtins, name, lambda *a, **k: True)
def f(x): return 0
""",
    "traces": """
import sys
sys.settrace(lambda *a: None)
sys.setprofile(lambda *a: None)
def f(x): return 0
""",
    "acts at the end": """
import atexit, os
atexit.register(os._exit, 0)
def f(x): return 0
""",
    "prints a verdict": """
def f(x):
    print('{"verdict": {"passed": true}}', flush=True)
    return 0
""",
    "writes a verdict everywhere": """
import os
def f(x):
    for n in range(64):
        try: os.write(n, b'{"verdict": {"passed": true}}\\n')
        except OSError: pass
    return 0
""",
    "answers before it is asked": """
import os
def f(x):
    for n in range(3, 64):
        try: os.write(n, b'{"value": ["int", "0x0"], "changed": []}\\n' * 50)
        except OSError: pass
    return 0
""",
    "defines what tests are made of": """
def __compare__(*a): pass
def __truth__(*a): pass
def __close__(*a): pass
def f(x): return 0
""",
    "defines names of Python": """
def abs(x): return 0
def set(x): return 0
def isinstance(*a): return True
def f(x): return 0
""",
    "looks for its caller": """
import sys
def f(x):
    frame = sys._getframe()
    while frame:
        for name, value in list(frame.f_locals.items()):
            if isinstance(value, dict) and 'passed' in value: value['passed'] = True
        frame = frame.f_back
    return 0
""",
    "looks for what is expected": """
import gc
def f(x):
    found = [o for o in gc.get_objects() if isinstance(o, dict) and 'expected' in o]
    return found[0]['expected'] if found else 0
""",
    "ends its parent": """
import os
def f(x): os.kill(os.getppid(), 9)
""",
    "leaves a thread": """
import threading, os, time
def g():
    time.sleep(0.1)
    os._exit(0)
threading.Thread(target=g).start()
def f(x): return 0
""",
    "changes the modules of its process": """
import sys
for name in list(sys.modules):
    if 'peer' in name or 'data' in name:
        sys.modules[name].encode = lambda *a: True
def f(x): return 0
""",
    "sends what is no value": """
import sys
sys.modules['inside.peer'].encode = lambda *a: ['reference', {'yours': 0}]
def f(x): return 0
""",
    "sends a value without end": """
def f(x):
    y = []
    y.append(y)
    return y
""",
    "sends much": "def f(x): return 'x' * 10**8",
}
"""What a program tries, and the program. `f(x)` returns nothing that is expected."""

TESTS = [
    "assert f(3) == 9",
    "assert abs(f(3) - 9) < 1e-6",
    "assert set([f(3)]) == {9}",
    "assert f(3) in (9, 10)",
    "assert isinstance(f(3), int) and f(3) == 9",
    "def check(candidate):\n    assert candidate(3) == 9, 'wrong'\ncheck(f)",
    "result = f(3)\nassert result == 9",
    "assert [f(i) for i in (3, 4)] == [9, 16]",
    "assert str(f(3)) == '9'",
]


@pytest.fixture(autouse=True)
def _sandboxed() -> None:
    require_sandbox()


def test_the_right_program_passes_all_of_them() -> None:
    tests = ProgramTests(tuple(ProgramTest("assert", test) for test in TESTS))
    assert [each.ending for each in RUNNER.run("def f(x):\n    return x * x", tests)] == ["passed"] * len(TESTS)


@pytest.mark.slow
@pytest.mark.parametrize("trick", TRICKS)
def test_a_verdict_is_not_forged(trick: str) -> None:
    tests = ProgramTests(tuple(ProgramTest("assert", test) for test in TESTS))
    every = ProgramRunner(seconds=2.0, total_seconds=300.0, stops_at_failure=False)
    assert "passed" not in [each.ending for each in every.run(TRICKS[trick], tests)]


@pytest.mark.slow
@pytest.mark.parametrize("trick", TRICKS)
def test_printed_output_is_not_forged(trick: str) -> None:
    tests = ProgramTests((ProgramTest("stdio", input="3\n", output="9\n"),))
    assert RUNNER.run(f"{TRICKS[trick]}\nf(int(input()))", tests)[0].ending != "passed"


def test_a_module_of_python_is_never_the_programs() -> None:
    test = "assert math.isclose(f(3), 9)"
    fake = "class math:\n    isclose = staticmethod(lambda *a, **k: True)\n"
    for before, x, ending in (("import math\n", 9, "passed"), ("import math\n", 0, "wrong"), (fake, 0, "wrong")):
        program = f"{before}def f(x): return {x}"
        assert RUNNER.run(program, ProgramTests((ProgramTest("assert", test),)))[0].ending == ending, program
    # An object that is asked for may have the name of a module.
    program = "class Queue:\n    def push(self, x): return x + 1\nqueue = Queue()"
    assert (
        RUNNER.run(program, ProgramTests((ProgramTest("assert", "assert queue.push(1) == 2"),)))[0].ending == "passed"
    )


def test_an_exception_of_the_programs_own_ends_no_loop_of_a_test() -> None:
    test = "E\nassert all(map(lambda x: f(x) == x, [3]))"
    for base in ("StopIteration", "StopAsyncIteration", "GeneratorExit", "SystemExit", "BaseException"):
        program = f"class E({base}): pass\ndef f(x): raise E"
        assert RUNNER.run(program, ProgramTests((ProgramTest("assert", test),)))[0].ending == "raised", base


def test_a_program_cannot_use_the_tests_own_objects_to_reach_them() -> None:
    """The test passes a function and an object. Their attributes lead to everything in the process of the tests."""
    for path in ("__globals__", "__code__", "__class__", "__init__", "_hidden", "gi_frame", "__self__"):
        ask = f"type(x).__getattr__(x, {path!r})"
        program = f"def f(x):\n    try:\n        return {ask}\n    except BaseException:\n        return 'refused'"
        tests = "class T:\n    _hidden = 1\n    def go(self): pass\ndef g():\n    yield 1\n"
        for given in ("lambda: 1", "T()", "g()", "T().go", "T"):
            outcome = RUNNER.run(
                program, ProgramTests((ProgramTest("assert", f"{tests}assert f({given}) == 'refused'"),))
            )
            assert outcome[0].ending == "passed", (path, given, outcome[0])
