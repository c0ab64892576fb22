"""XTTS v2 by the package coqui-tts (pip install coqui-tts in an environment of its own), from a folder that holds the model.

``model``: the folder, with config.json, model.pth, vocab.json and speakers_xtts.pth as published. Nothing is downloaded.
Written against the documented interface of coqui-tts 0.27 (`TTS.api.TTS`). Tested with a stand-in of that interface, not with the package
and its weights.
"""

from pathlib import Path

import speech_worker

LANGUAGES = {"zh": "zh-cn"}  # XTTS's word for an ISO 639-1 code, where they differ


class Xtts:
    def __init__(self, model, device="cpu"):
        config = Path(model) / "config.json"
        if not config.is_file():
            raise FileNotFoundError(f"model={model} is no folder of XTTS v2: it has no config.json")
        from TTS.api import TTS

        self.tts = TTS(model_path=str(model), config_path=str(config), progress_bar=False).to(device)
        self.sample_rate = self.tts.synthesizer.output_sample_rate
        self.about = speech_worker.About(
            name="XTTS",
            version="v2",
            weights=(str(model),),
            num_parameters=sum(p.numel() for p in self.tts.parameters()),
            device=device,
            packages=("coqui-tts", "torch"),
        )

    def synthesize(self, request):
        language = LANGUAGES.get(request.language, request.language)
        if language not in self.tts.languages:
            raise speech_worker.MissingOutput(f"XTTS speaks {', '.join(self.tts.languages)}, asked for '{request.language}'")
        return self.tts.tts(text=request.text, speaker_wav=request.prompt_file(), language=language)


if __name__ == "__main__":
    speech_worker.serve(Xtts)
