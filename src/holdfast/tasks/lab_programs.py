"""The lab's task `programs`: its records as the reader of programs takes them, and the judge of programs for them."""

from holdfast.config.code import CodeSettings
from holdfast.config.settings import SourceSettings
from holdfast.data.example import Example
from holdfast.data.task import Task
from holdfast.tasks.code.load import program_verifier
from holdfast.tasks.code.reader import program_examples
from holdfast.tasks.files import Record

FEEDBACK_LENGTH = 50
"""Characters of each part of the feedback. In the lab's tokenizer a character of a program is a token, and a prompt
with feedback has to fit into the base's context."""

BY_TESTS = "the tests of its programs"
"""Who judges programs, in words."""


def lab_programs(settings: SourceSettings, world_seed: int) -> Task:
    """The task in the world of a seed. Whether its programs can run is checked before anything else.

    Raises:
        ConfigError: there can be no such sandbox on this machine.
    """
    code = settings.code or CodeSettings(feedback_length=FEEDBACK_LENGTH)
    verifier = program_verifier(settings.model_copy(update={"code": code}))
    from holdfast.lab.programs import DESCRIPTION

    splits = program_splits(world_seed, code.public_tests)
    return Task(settings.name, splits["train"], splits["test"], verifier, DESCRIPTION, judged_by=BY_TESTS)


def program_splits(world_seed: int = 0, public_tests: int | None = None) -> dict[str, list[Example]]:
    """The examples of the splits `train` and `test`, without what judges them.

    Args:
        world_seed: of the world that they are drawn from.
        public_tests: as for `program_examples`.
    """
    from holdfast.lab.programs import records
    from holdfast.lab.world import world

    return {
        split: program_examples(
            [Record(values, n, f"lab:programs/{split}, record {n}") for n, values in enumerate(found, 1)],
            f"lab:programs/{split}",
            public_tests=public_tests,
        )
        for split, found in records(world(world_seed)).items()
    }
