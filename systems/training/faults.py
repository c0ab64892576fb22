"""What can stop a training run, each with its own class so that a command can tell them apart.

::

    TrainingFault
    |-- BadRecordings       training data that cannot be read, or too little of it
    |-- StateMismatch       a checkpoint of another run, or a damaged one
    `-- Diverged            losses or weights stopped being finite
"""


class TrainingFault(Exception):
    """Base of all; the message says what was found and what to do."""


class BadRecordings(TrainingFault):
    pass


class StateMismatch(TrainingFault):
    pass


class Diverged(TrainingFault):
    pass
