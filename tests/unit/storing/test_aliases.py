"""What of this machine stands in nothing that is sent: secrets, environments, folders."""

import base64
import json
import stat
import zlib
from pathlib import Path

import numpy as np
import pytest

from harness.metrics.tokens import packed, unpacked
from harness.storing.aliases import WITHHELD, Aliases, is_secret, places, typed, without_secrets


@pytest.mark.parametrize(
    "name",
    [
        "HF_TOKEN",
        "token",
        "apiKey",
        "api-key",
        "client_secret",
        "AWS_SECRET_ACCESS_KEY",
        "aws_access_key_id",
        "db.password",
        "Authorization",
    ],
)
def test_names_of_secrets(name):
    assert is_secret(name)


@pytest.mark.parametrize("name", ["prompt_tokens", "max_tokens", "tokenizer", "key", "keys", "top_k", "checkpoint", "author", "root"])
def test_names_that_are_no_secrets(name):
    assert not is_secret(name)


def test_environments_and_secrets_are_withheld_whole_and_nothing_else_is():
    config = {
        "environment": {"LD_PRELOAD": "x.so", "HF_TOKEN": "abc"},
        "parameters": {"api_key": "k", "prompt_tokens": 5, "nested": [{"password": 12345}], "token": None},
        "via": ["docker", "run", "-e", "MODE=fast", "--token", "abc", "--memory", "8g", "IMAGE"],
        "url": "https://ann:pw@host/x?access_token=abc&n=1",
    }
    assert without_secrets(config) == {
        "environment": WITHHELD,
        "parameters": {"api_key": WITHHELD, "prompt_tokens": 5, "nested": [{"password": WITHHELD}], "token": None},
        "via": ["docker", "run", "-e", f"MODE={WITHHELD}", "--token", WITHHELD, "--memory", "8g", "IMAGE"],
        "url": f"https://{WITHHELD}@host/x?access_token={WITHHELD}",
    }


@pytest.mark.parametrize(
    ("word", "shown"),
    [
        ("systems.x.environment.MODE=abc", f"systems.x.environment.MODE={WITHHELD}"),
        ("++systems.x.environment={A:b c}", f"++systems.x.environment={WITHHELD}"),
        ("systems.x.parameters={api_key:abc,n:1}", f"systems.x.parameters={WITHHELD}"),
        ("+systems.y={family:worker_codec,environment:{A:b}}", f"+systems.y={WITHHELD}"),
        ("systems.x.via=[docker,run,-e,A=b,IMAGE]", f"systems.x.via=[docker,run,-e,A={WITHHELD},IMAGE]"),
        ("run.publish=s3://id:abc@bucket/x", f"run.publish=s3://{WITHHELD}@bucket/x"),
        (
            "run.publish=https://b/x?X-Amz-Date=1&X-Amz-Signature=b",
            f"run.publish=https://b/x?X-Amz-Date=1&X-Amz-Signature={WITHHELD}",
        ),
        ("run.publish=https://b/x?sv=1&sig=a%3D", f"run.publish=https://b/x?sv=1&sig={WITHHELD}"),
        ("systems.x.parameters.model=hf_" + "a" * 20, f"systems.x.parameters.model={WITHHELD}"),
        ("systems=[opus6,opus16]", "systems=[opus6,opus16]"),
        ("systems.x.generation.max_tokens=5", "systems.x.generation.max_tokens=5"),
    ],
)
def test_words_as_they_may_be_shown(word, shown):
    assert typed([word]).strip("'") == shown  # quoted where a shell needs it


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/data/ann/corpus/a/1.wav: no", "<dataset>/a/1.wav: no"),
        ("/data/ann/corpus2/1.wav", "<elsewhere>/1.wav"),
        ("'/data/ann/corpus/two words.wav'", "'<dataset>/two words.wav'"),
        ("'/mnt/two words/b.wav' is empty", "'<elsewhere>/b.wav' is empty"),
        ("PosixPath('/mnt/x/y.wav'), root=/models", "PosixPath('<elsewhere>/y.wav'), root=<elsewhere>/models"),
        ("file:///mnt/x/y.wav", "file://<elsewhere>/y.wav"),
        ("https://host/a/b and s3://bucket/a", "https://host/a/b and s3://bucket/a"),
        ("wall seconds / audio seconds, 12 kbit/s, a/b/c, and/or", "wall seconds / audio seconds, 12 kbit/s, a/b/c, and/or"),
        ("GET https://b/x?Signature=a%2B&Expires=1 failed", f"GET https://b/x?Signature={WITHHELD}&Expires=1 failed"),
        ("the worker said: bad key open-sesame!", f"the worker said: bad key {WITHHELD}!"),
    ],
)
def test_texts_name_folders_by_alias(text, shown):
    config = {"run": {"root": "/data/ann/runs"}, "systems": {"x": {"environment": {"KEY": "open-sesame"}}}}
    aliases = Aliases.here(config, Path("/data/ann/corpus"))
    assert aliases.text(text) == shown


def test_aliases_are_found_again_on_this_machine_only(tmp_path):
    aliases = Aliases.here({"run": {"root": str(tmp_path / "runs")}}, tmp_path / "corpus")
    config = {"dataset": {"root": str(tmp_path / "corpus"), "limit": 3}, "words": [str(tmp_path / "runs" / "a")]}
    told = aliases.cleaned(config)
    assert told == {"dataset": {"root": "<dataset>", "limit": 3}, "words": ["<runs>/a"]}
    aliases.save(tmp_path / "store", "0123456789abcdef")
    (kept,) = (tmp_path / "store" / "places").iterdir()
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    found = places(tmp_path / "store", "0123456789abcdef")
    assert found.restored(told) == config
    assert found.located("<dataset>/a.wav") == tmp_path / "corpus" / "a.wav"
    for hostile in ("<dataset>/../runs/a", "<dataset>//etc/passwd", "/etc/passwd", "<elsewhere>/a.wav"):
        assert found.located(hostile) is None
    assert places(tmp_path / "elsewhere", "0123456789abcdef").located("<dataset>/a.wav") is None
    assert places(tmp_path / "store", "../../x").roots == ()
    kept.write_text(json.dumps({"roots": 3}), encoding="utf-8")
    assert places(tmp_path / "store", "0123456789abcdef").roots == ()


@pytest.mark.cases(
    "D7", before="codebook use and entropy: its pool failed, only base64 data is allowed", after="figures; packed tokens are no path"
)
def test_what_is_no_path_is_left_alone():
    """Packed tokens are text in which a slash means nothing, and those of earlier stores are written into records too."""
    rng, here = np.random.default_rng(0), Aliases.here()
    for _ in range(100):
        values = rng.integers(0, 1024, size=300)
        early = base64.b64encode(zlib.compress(values.astype("<u2").tobytes())).decode()
        for text in (early, packed(values, "<u2")):
            np.testing.assert_array_equal(unpacked(here.text(text), "<u2"), values)
        assert "/" not in packed(values, "<u2")
