"""Evaluation harness for neural speech codecs and language-model text-to-speech.

From Python: `run` carries out a suite, `evaluate` measures an object or a function, `load` reads the records of a run, and
``harness.metrics`` holds what is measured; see `harness.notebook`. Nothing heavy is imported before one of them is asked for.
"""

TYPE_CHECKING = False  # as type checkers take it: importing typing would cost `harness --help` a tenth of its time
if TYPE_CHECKING:
    from harness import metrics
    from harness.notebook import Run, evaluate, load, run

__version__ = "0.1.0"
__all__ = ["Run", "evaluate", "load", "metrics", "run"]


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'harness' has no attribute '{name}'")
    from importlib import import_module

    return import_module("harness.metrics") if name == "metrics" else getattr(import_module("harness.notebook"), name)
