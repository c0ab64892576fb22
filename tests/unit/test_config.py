"""Names and overrides: checked before anything runs, with the reason and a way out."""

import pytest

from harness.config import compose, system_names
from harness.errors import ConfigError, UnknownName


def test_systems_keep_the_order_of_the_command_line():
    config = compose(["systems=[noise,passthrough,opus16]"])
    assert list(config["systems"]) == ["noise", "passthrough", "opus16"]
    assert config["systems"]["noise"]["family"] == "noise"


def test_a_parameter_of_one_system():
    config = compose(["systems=[opus6,opus16]", "systems.opus6.bitrate_bps=7000"])
    assert config["systems"]["opus6"]["bitrate_bps"] == 7000
    assert config["systems"]["opus16"]["bitrate_bps"] != 7000


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        (["systems=[opus61]"], UnknownName, "Did you mean opus6"),
        (["systems=opsu16"], UnknownName, "opus16"),
        (["suite=codex"], UnknownName, "Did you mean codec"),
        (["dataset=seedtt"], UnknownName, "Did you mean seedtts"),
        (["asr=nothing"], UnknownName, "embedded"),
        (["datset.limit=3"], ConfigError, "dataset.limit"),
        (["executor.worker=3"], ConfigError, "executor.workers"),
        (["codec"], ConfigError, "key=value"),
        (["run.name=[a,b"], ConfigError, "run.name"),
        (["systems=[passthrough,passthrough]"], ConfigError, "twice"),
        (["systems=[../../etc/passwd]"], ConfigError, "not a name"),
        (["+systems.x._target_=os.system"], ConfigError, "refused"),
        (["+dataset.extra={_target_:os.system}"], ConfigError, "refused"),
        (["systems=[noise]", "systems.noise.seed=nan"], ConfigError, "not a finite"),
        (["hydra.run.dir=/tmp/x"], ConfigError, "Hydra's own"),
    ],
)
def test_what_cannot_be_is_refused_with_advice(words, error, message):
    with pytest.raises(error) as caught:
        compose(words)
    assert message in str(caught.value)


def test_a_target_in_a_users_yaml_is_refused(tmp_path):
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "evil.yaml").write_text("# @package systems.evil\nfamily: noise\nextra:\n  _target_: os.system\n")
    with pytest.raises(ConfigError, match=r"systems\.evil\.extra\._target_"):
        compose(["systems=[evil]"], tmp_path)


def test_a_users_own_yaml_joins_the_built_in_ones(tmp_path):
    (tmp_path / "systems").mkdir()
    (tmp_path / "systems" / "quiet.yaml").write_text("# @package systems.quiet\n# my own\nfamily: noise\nseed: 7\n")
    config = compose(["systems=[quiet,noise]"], tmp_path)
    assert config["systems"]["quiet"] == {"family": "noise", "seed": 7}


def test_a_parameter_that_the_yaml_does_not_state(tmp_path):
    assert compose(["systems=[noise]", "systems.noise.extra=3"])["systems"]["noise"]["extra"] == 3


def test_a_parameter_of_no_chosen_system_is_refused():
    with pytest.raises(ConfigError, match="opus6"):
        compose(["systems=[noise]", "systems.opus6.bitrate_bps=7000"])


def test_names_in_a_list():
    assert system_names("[a, b ,c]") == ["a", "b", "c"]
    assert system_names("a") == ["a"]
    assert system_names("[]") == []
