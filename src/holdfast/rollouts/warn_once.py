"""A warning that appears once, although its reason may hold for many rows."""

import warnings


class WarnOnce:
    """Warns at the first call and ignores all others. One is shared by everything that makes a run's batches."""

    def __init__(self) -> None:
        self._has_warned = False

    def __call__(self, problem: str, missing: str) -> None:
        """Warn about a row that is trained on without something.

        Args:
            problem: what is wrong with the first such row.
            missing: what the row does not get, e.g. "a teacher".
        """
        if not self._has_warned:
            warnings.warn(
                f"{problem}. Such rows go without {missing}. Raise train.max_reprompt_length to include them. "
                "This warning appears once.",
                stacklevel=3,
            )
        self._has_warned = True
