"""`harness fetch` of what lies on a hub, against a stand-in on loopback."""

import pytest

from harness.cli import main
from harness.settings.registry import resolve

REVISION = "c1dbe2ae3f1de713481a3b3e7c47f357092ee040"
WEIGHTS = bytes(range(256)) * 4000


@pytest.fixture
def encodec(hub):
    hub.commit = REVISION
    files = {"README.md": b"# EnCodec", "config.json": b"{}", "model.safetensors": WEIGHTS, "pytorch_model.bin": b"the same, pickled"}
    hub.publish("facebook/encodec_24khz", files)
    return hub


def here():
    from systems.published.neural import locate

    return locate(resolve("systems", "encodec").release, None, REVISION)


def test_it_tells_first_then_fetches_what_is_needed_and_finds_it_again(encodec, capsys):
    assert main(["fetch", "--list", "encodec6"]) == 1
    told = capsys.readouterr().out
    assert encodec.transfers() == [] and here() is None
    for words in (
        "encodec6",
        "1.0 MB",
        "MIT, as its code; by its model card mit",
        REVISION,
        "sha256 ",
        "model.safetensors",
        "Hugging Face",
    ):
        assert words in told
    assert "pytorch_model.bin" not in told
    assert main(["fetch", "encodec6"]) == 0
    assert {name for name, _ in encodec.transfers()} == {"model.safetensors", "config.json"}
    assert capsys.readouterr().out.startswith(told) and here().label == f"facebook/encodec_24khz@{REVISION[:12]}"
    asked = len(encodec.asked)
    assert main(["fetch", "encodec6"]) == 0 and main(["fetch", "--list", "encodec6"]) == 0
    assert len(encodec.asked) == asked, "what is here is asked of nobody"


def test_an_interrupted_transfer_goes_on_where_it_stopped(encodec, capsys):
    encodec.cut["model.safetensors"] = len(WEIGHTS) // 2
    assert main(["fetch", "encodec6"]) == 2
    said = capsys.readouterr().err
    assert "'model.safetensors' of facebook/encodec_24khz (1.0 MB) stopped" in said and "the same command goes on" in said
    assert here() is None and "config.json" not in dict(encodec.transfers())
    encodec.cut.clear()
    encodec.asked.clear()
    assert main(["fetch", "encodec6"]) == 0
    assert dict(encodec.transfers())["model.safetensors"] > len(WEIGHTS) // 4
    assert (here().folder / "model.safetensors").read_bytes() == WEIGHTS


def test_other_bytes_than_the_hub_tells_of_are_removed(encodec, capsys):
    encodec.say["model.safetensors"] = "0" * 64
    assert main(["fetch", "encodec6"]) == 2
    assert "other bytes than the hub tells of" in capsys.readouterr().err and here() is None
    encodec.say.clear()
    assert main(["fetch", "encodec6"]) == 0 and (here().folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_gated_repository_says_what_to_accept_and_never_the_token(encodec, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_not_for_anybodys_eyes")
    encodec.gated.add("facebook/encodec_24khz")
    assert main(["fetch", "encodec6"]) == 2
    said = "".join(capsys.readouterr())
    assert "facebook/encodec_24khz is gated: accept its conditions at http" in said and "HF_TOKEN" in said
    assert any("hf_not_for_anybodys_eyes" in token for token in encodec.tokens) and "hf_not_for" not in said


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda hub: hub.absent.add("facebook/encodec_24khz"), "there is no repository facebook/encodec_24khz"),
        (lambda hub: setattr(hub, "commit", "f" * 40), f"facebook/encodec_24khz has no revision '{REVISION}'"),
        (lambda hub: hub.repositories["facebook/encodec_24khz"].pop("config.json"), "has no config.json"),
    ],
    ids=["no repository", "no revision", "no file"],
)
def test_what_is_absent_is_said_by_name(encodec, capsys, change, expected):
    change(encodec)
    assert main(["fetch", "encodec6"]) == 2
    said = capsys.readouterr()
    assert expected in said.err and "Traceback" not in said.err and not encodec.transfers()


def test_without_a_network_a_sentence_within_seconds(hub, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    assert main(["fetch", "encodec6"]) == 2
    said = capsys.readouterr()
    assert "http://127.0.0.1:9 cannot be reached (ConnectError)" in said.err and "copy its folder" in said.err
    assert f"revision  {REVISION}" in said.out
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert main(["fetch", "encodec6"]) == 2 and "HF_HUB_OFFLINE is set" in capsys.readouterr().err


def test_one_that_fails_keeps_no_other_from_being_fetched(encodec, capsys):
    hub_id = "descript/dac_16khz"
    assert main(["fetch", "dac16k", "encodec6"]) == 2
    assert f"dac16k: there is no repository {hub_id}" in capsys.readouterr().err and here() is not None


def test_an_index_brings_its_shards_and_no_other_format(hub, tmp_path, capsys):
    shards = {f"model-0000{n}-of-00002.safetensors": bytes([n]) * 5000 for n in (1, 2)}
    files = {
        "config.json": b"{}", "preprocessor_config.json": b"{ }", "tokenizer.json": b"{  }", "merges.txt": b"a b", "flax_model.msgpack": b"x" * 99,
        "model.safetensors.index.json": b"{   }", "onnx/model.bin": b"y" * 99,
    }  # fmt: skip
    hub.publish("openai/whisper-large-v3", {**files, **shards}, "apache-2.0")
    assert main(["fetch", "asr=whisper-en"]) == 0
    fetched = [name for name, _ in hub.transfers()]
    assert set(fetched) == {*files, *shards} - {"flax_model.msgpack", "onnx/model.bin"}
    assert fetched[:2] == sorted(shards), "the largest first, so that what is interrupted never looks complete"
    assert "by its model card apache-2.0" in capsys.readouterr().out


def test_a_subfolder_of_a_repository(hub):
    from systems.published.neural import locate
    from systems.published.speechtokenizer import SpeechTokenizer

    hub.commit = "4d54939beef00572fa7bfe41ee35a335c3732f51"
    folder = "speechtokenizer_hubert_avg"
    hub.publish("fnlp/SpeechTokenizer", {f"{folder}/config.json": b"{}", f"{folder}/SpeechTokenizer.pt": WEIGHTS, "samples/a.bin": b"?"})
    assert main(["fetch", "speechtokenizer"]) in (0, 2)  # 2 where the package is not installed: the weights come all the same
    assert locate(SpeechTokenizer.release, None, hub.commit).folder.name == folder


def test_what_modelscope_alone_has_is_told_with_its_command(hub, capsys):
    assert main(["fetch", "asr=seedtts", "asr.en=null", "asr.zh.checkpoint=paraformer"]) == 2
    assert "modelscope download --model iic/speech_paraformer-large" in capsys.readouterr().err


def test_names_that_are_none(hub, capsys):
    assert main(["fetch", "encodec7"]) == 2
    said = capsys.readouterr().err
    assert "encodec6" in said and "whisper-base" in said and "asr=NAME" in said


def test_what_no_metric_asks_for_is_not_wanted(hub, capsys):
    assert main(["fetch", "--list", "suite=codec", "asr=seedtts", "metrics=[stoi]"]) == 0
    assert main(["fetch", "--list", "suite=codec", "asr=seedtts", "metrics=[stoi,wer]", "asr.zh=null"]) == 1
    assert "openai/whisper-large-v3, for asr=seedtts" in capsys.readouterr().out
    main(["fetch", "--list", "suite=codec", "asr=seedtts", "metrics=[cer]", "dataset.language=zh"])
    told = capsys.readouterr().out
    assert "paraformer" in told and "whisper" not in told  # no recogniser of a language that is not spoken


@pytest.mark.parametrize("asked", [False, True])
def test_a_run_fetches_only_when_it_is_told_to(hub, stubs, tmp_path, capsys, asked):
    pytest.importorskip("transformers", reason="the package transformers is not installed")
    import tiny_codecs

    folder = tiny_codecs.save(tmp_path / "tiny", "encodec")
    hub.commit = REVISION
    hub.publish("facebook/encodec_24khz", {path.name: path.read_bytes() for path in folder.iterdir()})
    words = ["run", "systems=[encodec6]", "metrics=[nominal_bps]", "dataset.limit=1", "executor=serial", f"run.root={tmp_path / 'runs'}"]
    code = main([*words, "--no-report", *(["run.fetch=true"] if asked else [])])
    said = "".join(capsys.readouterr())
    if asked:
        assert code == 0 and "size" in said and "by its model card mit" in said and hub.transfers()
    else:
        assert code == 2 and not hub.asked and "harness fetch" in said


def test_a_run_that_cannot_fetch_is_not_begun(hub, tmp_path, capsys):
    words = ["run", "systems=[encodec6]", "metrics=[nominal_bps]", "run.fetch=true", f"run.root={tmp_path / 'runs'}"]
    assert main(words) == 2
    assert "run.fetch=true: encodec6: there is no repository facebook/encodec_24khz" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
