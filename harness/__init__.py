"""Evaluation harness for neural speech codecs and language-model text-to-speech.

`harness.load(run)` gives the records of a run as a pandas DataFrame; everything else is in the submodules.
"""

from __future__ import annotations

TYPE_CHECKING = False  # type checkers take it for true; importing typing would cost `harness --help` a tenth of its time
if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

__version__ = "0.1.0"


def load(run: str | Path) -> pd.DataFrame:
    """The records of a run, one row a measurement (see `harness.api.Record` for the columns).

    Args:
        run: a run folder, finished or not.

    Raises:
        UsageError: the folder is not a run.
    """
    from harness.storing.frame import load as load_frame

    return load_frame(run)
