"""The workers that come with the harness, against stand-ins of the interfaces they were written for, in an environment with numpy only.

The packages themselves and their weights are not here: what these tests show is that each worker starts, speaks the protocol and calls
the documented interface with the arguments it has. The stand-ins keep the documented signatures.
"""

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from harness.api import Audio, MissingOutput, Utterance
from harness.testing import speechlike
from systems.worker.adapters import WorkerSynthesizer
from systems.worker.process import WORKERS

SPOKEN = '''
import wave
import numpy as np

class Tensor:
    """As much of a torch tensor as a worker touches."""
    def __init__(self, array): self.array = array
    def detach(self): return self
    def float(self): return self
    def cpu(self): return self
    def numpy(self): return self.array
    def numel(self): return self.array.size

def spoken(text, path):
    """A hundred samples a letter, at the level of the prompt."""
    with wave.open(str(path)) as file:
        assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
        level = np.abs(np.frombuffer(file.readframes(file.getnframes()), "<i2")).max() / 32768
    print("Synthesising", text)
    return np.full(100 * len(text), level, dtype=np.float32)
'''

COQUI = """
import spoken
class _Synthesizer:
    output_sample_rate = 24000
class TTS:
    def __init__(self, model_name="", *, model_path=None, config_path=None, progress_bar=True, gpu=False):
        print("> Using model: xtts", model_path, config_path)
        assert not model_name
        self.synthesizer, self.languages = _Synthesizer(), ["en", "de", "zh-cn"]
    def to(self, device):
        assert device == "cpu"
        return self
    def parameters(self):
        import numpy
        return [spoken.Tensor(numpy.zeros(11))]
    def tts(self, text, speaker=None, language=None, speaker_wav=None, emotion=None, split_sentences=True, **kwargs):
        assert language in self.languages
        return list(spoken.spoken(text, speaker_wav))
"""

COSY = """
import spoken
class CosyVoice2:
    sample_rate = 24000
    def __init__(self, model_dir, load_jit=False, load_trt=False, load_vllm=False, fp16=False, trt_concurrent=1):
        self.model = type("Model", (), {"device": "cpu"})()
    def inference_zero_shot(self, tts_text, prompt_text, prompt_wav, zero_shot_spk_id="", stream=False, speed=1.0, text_frontend=True):
        assert prompt_text and not text_frontend
        whole = spoken.spoken(tts_text, prompt_wav)[None]
        for start in range(0, whole.shape[1], 300 if stream else whole.shape[1]):
            yield {"tts_speech": spoken.Tensor(whole[:, start : start + (300 if stream else whole.shape[1])])}
def AutoModel(**kwargs):
    return CosyVoice2(**kwargs)
"""

F5 = """
import spoken
class F5TTS:
    target_sample_rate = 24000
    def __init__(self, model="F5TTS_v1_Base", ckpt_file="", vocab_file="", ode_method="euler", use_ema=True, vocoder_local_path=None,
                 device=None, hf_cache_dir=None):
        import numpy
        print("vocab :", vocab_file)
        assert ckpt_file and vocab_file and vocoder_local_path
        self.ema_model = type("Model", (), {"parameters": lambda self: [spoken.Tensor(numpy.zeros(5))]})()
    def infer(self, ref_file, ref_text, gen_text, show_info=print, progress=None, target_rms=0.1, cross_fade_duration=0.15,
              sway_sampling_coef=-1, cfg_strength=2, nfe_step=32, speed=1.0, fix_duration=None, remove_silence=False, file_wave=None,
              file_spec=None, seed=None):
        assert ref_text and seed == 0 and nfe_step == 16
        return spoken.spoken(gen_text, ref_file), self.target_sample_rate, None
"""

VALLE = """
import os, wave
import spoken
def get_config_from_file(file):
    assert os.path.exists(file)
    return type("Config", (), {"hparams": {"num_semantic": 1}})()
def do_tts(hp, args):
    assert os.path.exists(args.ar_ckpt) and os.path.exists(args.nar_ckpt) and args.device == "cpu" and args.prompt_text
    if args.text == "坏":
        print("error in reconstruction")
        return
    samples = spoken.spoken(args.text, args.prompt_wav)
    with wave.open("./test/syn.wav", "wb") as file:
        file.setnchannels(1); file.setsampwidth(2); file.setframerate(24000)
        file.writeframes((samples * 32768).astype("<i2").tobytes())
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """A second environment with numpy only, and the stand-ins: a folder for PYTHONPATH, two checkouts, model files."""
    root = tmp_path_factory.mktemp("elsewhere")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root / "env")], check=True)
    packages = next((root / "env").glob("lib/python3*/site-packages"))
    for folder in Path(np.__file__).parents[1].glob("numpy*"):
        (packages / folder.name).symlink_to(folder)
    for name, text in {
        "path/spoken.py": SPOKEN,
        "path/TTS/api.py": COQUI,
        "path/f5_tts/api.py": F5,
        "cosy/cosyvoice/cli/cosyvoice.py": COSY,
        "cosy/third_party/Matcha-TTS/matcha.py": "",
        "valle/infer_tts.py": VALLE,
        "valle/config/hparams.yaml": "",
        "valle/AudioDec/exp/codec.pkl": "c",
        "valle/test/prompt.wav": "",
        "model/config.json": "{}",
        "model/model.pth": "weights",
        "model/ar.pt": "a",
        "model/nar.pt": "n",
        "model/vocab.txt": "v",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@pytest.fixture
def built(elsewhere):
    made = []

    def build(worker, **parameters):
        python = str(elsewhere / "env" / "bin" / "python")
        system = WorkerSynthesizer(
            python=python, worker=worker, parameters=parameters, environment={"PYTHONPATH": elsewhere / "path"}, timeout_s=20
        )
        made.append(system)
        return system

    yield build
    for system in made:
        system.close()


def said(system, text, language="en", prompt_text="what the prompt says", level=0.25):
    prompt = Audio.mono(np.clip(speechlike(0.3, 16000).samples[0], -level, level), 16000)
    return system.synthesize(Utterance(text, language, prompt, prompt_text), 0).audio


def check(system, text, language="en"):
    """It says so many letters at the level of the prompt, each time anew."""
    for level in (0.25, 0.125):
        audio = said(system, text, language, level=level)
        assert (audio.sample_rate, audio.num_samples) == (24000, 100 * len(text))
        assert audio.samples.max() == pytest.approx(level, abs=2e-4)
    assert system.info.weights == "trained"
    assert len(system.info.weights_digest) == 32


def test_xtts(built, elsewhere):
    system = built("xtts", model=str(elsewhere / "model"))
    check(system, "hello there")
    check(system, "你好", "zh")  # XTTS's own word for the language is zh-cn
    assert system.info.num_parameters == 11
    assert ("coqui-tts", "from a checkout") in system.info.tools
    with pytest.raises(MissingOutput, match="XTTS speaks en, de, zh-cn, asked for 'cy'"):
        said(system, "helo", "cy")
    with pytest.raises(MissingOutput, match="no voice prompt"):
        system.synthesize(Utterance("hello", "en"), 0)
    with pytest.raises(RuntimeError, match="no folder of XTTS v2"):
        built("xtts", model=str(elsewhere))


def test_cosyvoice(built, elsewhere):
    for streaming in (False, True):
        system = built(
            "cosyvoice", checkout=str(elsewhere / "cosy"), model=str(elsewhere / "model"), streaming=streaming, text_frontend=False
        )
        check(system, "hello there")
        request = Utterance("hello there", "en", speechlike(0.3, 16000), "words")
        assert [piece.num_samples for piece in system.stream(request, 0)] == ([300, 300, 300, 200] if streaming else [1100])
    assert "CosyVoice2 model" in system.info.description
    with pytest.raises(MissingOutput, match="wants the transcript of the prompt"):
        said(system, "hello", prompt_text="")
    with pytest.raises(RuntimeError, match="no folder"):
        built("cosyvoice", checkout=str(elsewhere / "cosy"), model="FunAudioLLM/CosyVoice2-0.5B")


def test_f5tts(built, elsewhere):
    files = {
        "checkpoint": str(elsewhere / "model/model.pth"),
        "vocab": str(elsewhere / "model/vocab.txt"),
        "vocoder": str(elsewhere / "model"),
    }
    system = built("f5tts", **files, steps=16)
    check(system, "hello there")
    with pytest.raises(MissingOutput, match="F5-TTS speaks en, zh"):
        said(system, "hallo", "de")
    with pytest.raises(MissingOutput, match="wants the transcript"):
        said(system, "hello", prompt_text=" ")
    with pytest.raises(RuntimeError, match="local files; there is no"):
        built("f5tts", **{**files, "vocoder": None})


def test_valle(built, elsewhere):
    system = built("valle", checkout=str(elsewhere / "valle"), ar=str(elsewhere / "model/ar.pt"), nar=str(elsewhere / "model/nar.pt"))
    check(system, "今天早上", "zh")
    with pytest.raises(MissingOutput, match="speaks Mandarin"):
        said(system, "hello", "en")
    with pytest.raises(RuntimeError, match=r"FileNotFoundError.*syn\.wav"):  # not the file of the utterance before
        said(system, "坏", "zh")
    check(system, "今天早上", "zh")


@pytest.mark.parametrize("path", sorted(WORKERS.glob("*.py")), ids=lambda p: p.stem)
def test_the_files_for_elsewhere_want_an_old_python_and_numpy_only(path):
    tree = ast.parse(path.read_text(encoding="utf-8"), feature_version=(3, 8))
    outside = set()
    for node in tree.body:
        names = [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
        outside |= {name.partition(".")[0] for name in names}
    assert outside <= {*sys.stdlib_module_names, "numpy", "speech_worker"}
    if path.stem not in ("speech_worker", "__init__"):
        assert len([line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]) <= 42
        assert "speech_worker.serve(" in path.read_text(encoding="utf-8")
