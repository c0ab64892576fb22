"""VALL-E (AudioDec tokens, Wenetspeech4TTS) from a checkout of dukGuo/valle-audiodec, in an environment of its own. Mandarin only.

``checkout``: the repository with AudioDec/exp unpacked as its README says; ``ar``, ``nar``: the two checkpoints. The repository offers one
function, which reads its weights again for every utterance and writes a file: the real-time factor includes that, and a run is slow.
Written against its infer_tts.py. Tested with a stand-in of that file, not with the checkout and its weights.
"""

import os
import sys
import wave
from argparse import Namespace
from pathlib import Path

import numpy as np
import speech_worker


class ValleAudioDec:
    sample_rate = 24000

    def __init__(self, checkout, ar, nar, device="cpu"):
        files = {"ar_ckpt": str(Path(ar).resolve()), "nar_ckpt": str(Path(nar).resolve())}
        os.chdir(checkout)  # it finds its codec and writes its output relative to itself
        sys.path.insert(0, str(Path.cwd()))
        import infer_tts

        self.module, self.arguments = infer_tts, {**files, "device": device, "config": "config/hparams.yaml"}
        note = "reads its weights for every utterance, which is in its real-time factor"
        weights = (*files.values(), "AudioDec/exp")
        self.about = speech_worker.About("VALL-E", "valle-audiodec", note, weights=weights, device=device, packages=("torch",))

    def synthesize(self, request):
        if request.language != "zh" or not request.prompt_text:
            raise speech_worker.MissingOutput("this VALL-E speaks Mandarin after a prompt with its transcript")
        made = Path("test/syn.wav")
        made.unlink(missing_ok=True)  # what is there afterwards is of this utterance
        hparams = self.module.get_config_from_file(self.arguments["config"]).hparams
        told = {"prompt_wav": request.prompt_file(), "prompt_text": request.prompt_text, "text": request.text}
        self.module.do_tts(hparams, Namespace(**self.arguments, **told))
        with wave.open(str(made)) as file:
            return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768.0


if __name__ == "__main__":
    speech_worker.serve(ValleAudioDec)
