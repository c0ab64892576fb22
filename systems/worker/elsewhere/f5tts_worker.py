"""F5-TTS by the package f5-tts (pip install f5-tts in an environment of its own), from local files.

``checkpoint``, ``vocab``: model_*.safetensors and vocab.txt as published. ``vocoder``: the folder of Vocos. Nothing is downloaded; for the
same reason an item without the transcript of its prompt is refused: the package would fetch a recogniser to make one. Written against
`f5_tts.api.F5TTS` as it is since F5TTS_v1_Base. Tested with a stand-in of that interface, not with the package and its weights.
"""

from pathlib import Path

import speech_worker

LANGUAGES = ("en", "zh")  # of the published base models


class F5:
    def __init__(self, checkpoint, vocab, vocoder, model="F5TTS_v1_Base", device="cpu", steps=32):
        for path in (checkpoint, vocab, vocoder):
            if not path or not Path(path).exists():  # a missing one would be downloaded
                raise FileNotFoundError(f"checkpoint, vocab and vocoder are local files; there is no {path}")
        from f5_tts.api import F5TTS

        self.f5 = F5TTS(model=model, ckpt_file=str(checkpoint), vocab_file=str(vocab), vocoder_local_path=str(vocoder), device=device)
        self.sample_rate, self.steps = self.f5.target_sample_rate, steps
        self.about = speech_worker.About(
            name="F5-TTS",
            version=model,
            weights=(str(checkpoint), str(vocab), str(vocoder)),
            num_parameters=sum(p.numel() for p in self.f5.ema_model.parameters()),
            device=device,
            packages=("f5-tts", "torch"),
        )

    def synthesize(self, request):
        if request.language not in LANGUAGES:
            raise speech_worker.MissingOutput(f"F5-TTS speaks {', '.join(LANGUAGES)}, asked for '{request.language}'")
        if not request.prompt_text.strip():
            raise speech_worker.MissingOutput("F5-TTS wants the transcript of the prompt, and the item has none")
        made = self.f5.infer(request.prompt_file(), request.prompt_text, request.text, nfe_step=self.steps, seed=request.seed)
        return made[0]


if __name__ == "__main__":
    speech_worker.serve(F5)
