"""Words to a recipe's parameters: plain ones, fields of dataclasses, and the values a size has by itself."""

from dataclasses import dataclass

import pytest

from harness.errors import ConfigError
from harness.settings.training import build_recipe, known_parameters


@dataclass(frozen=True)
class Choices:
    batch_size: int = 4
    gain_db: tuple[float, float] = (-3.0, 3.0)
    rate: float = 0.5
    asr: bool = True


@dataclass(frozen=True)
class Weights:
    mel: float = 1.0
    asr: float = 2.0


class Nested:
    def __init__(self, size: str = "small", choices: Choices | None = None, weights: Weights | None = None, seed: int = 0) -> None:
        self.size, self.seed = size, seed
        self.chosen = choices or (Choices(batch_size=72) if size == "paper" else Choices())
        self.weights = weights or Weights()


class Plain:
    def __init__(self, width=3):
        self.width = width


def test_words_that_are_known():
    assert known_parameters(Nested) == [
        "size", "batch_size", "gain_db", "rate", "asr", "mel",
        "choices.batch_size", "choices.gain_db", "choices.rate", "choices.asr", "weights.mel", "weights.asr",
    ]  # fmt: skip
    assert known_parameters(Plain) == ["width"]


def test_fields_change_and_the_rest_stays_as_the_size_has_it():
    recipe = build_recipe(Nested, {"size": "paper", "rate": 1, "gain_db": [0, 1]}, seed=5)
    assert recipe.chosen == Choices(batch_size=72, rate=1.0, gain_db=(0, 1))
    assert isinstance(recipe.chosen.rate, float)
    assert recipe.seed == 5
    assert build_recipe(Nested, {}, seed=0).chosen == Choices()


def test_a_name_in_two_groups_is_the_first_ones():
    recipe = build_recipe(Nested, {"asr": False, "weights.asr": 0.5, "mel": 3.0}, seed=0)
    assert recipe.chosen.asr is False
    assert recipe.weights == Weights(mel=3.0, asr=0.5)


def test_recipes_without_groups_or_seed():
    assert build_recipe(Plain, {"width": 9}, seed=1).width == 9


@pytest.mark.parametrize(("word", "value"), [("batch_size", 2.5), ("asr", 1), ("batch_size", True), ("gain_db", "loud"), ("rate", "fast")])
def test_wrong_types(word, value):
    with pytest.raises(ConfigError, match=rf"choices\.{word} must be of type"):
        build_recipe(Nested, {word: value}, seed=0)
