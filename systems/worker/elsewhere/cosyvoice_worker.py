"""CosyVoice 1 and 2 from a checkout of FunAudioLLM/CosyVoice and a folder that holds the model, in an environment of their own.

``checkout``: the repository, with its submodule third_party/Matcha-TTS, recent enough to have `AutoModel`. ``model``: a folder such as
pretrained_models/CosyVoice-300M or pretrained_models/CosyVoice2-0.5B. ``streaming``: pieces as they come; speech made so differs from
speech made at once, so `synthesize` then joins the pieces. Written against that repository's example.py. Tested with a stand-in of its
interface, not with the checkout and its weights.
"""

import sys
from pathlib import Path

import numpy as np
import speech_worker


class CosyVoice:
    def __init__(self, checkout, model, streaming=False, text_frontend=True):
        folders = [Path(checkout), Path(checkout) / "third_party" / "Matcha-TTS", Path(model)]
        for folder in folders:
            if not folder.is_dir():  # a model that is no folder would be downloaded
                raise FileNotFoundError(f"no folder {folder}")
        sys.path[:0] = map(str, folders[:2])
        from cosyvoice.cli.cosyvoice import AutoModel

        self.model, self.options = AutoModel(model_dir=str(model)), {"stream": streaming, "text_frontend": text_frontend}
        self.sample_rate = self.model.sample_rate
        self.about = speech_worker.About(
            name=type(self.model).__name__,
            version=folders[2].name,
            weights=(str(model),),
            device=str(self.model.model.device),  # it takes a GPU by itself where there is one
            packages=("torch",),
        )

    def stream(self, request):
        if not request.prompt_text:
            raise speech_worker.MissingOutput("CosyVoice's zero-shot mode wants the transcript of the prompt, and the item has none")
        for piece in self.model.inference_zero_shot(request.text, request.prompt_text, request.prompt_file(), **self.options):
            yield piece["tts_speech"]

    def synthesize(self, request):
        return np.concatenate([piece.cpu().numpy().reshape(-1) for piece in self.stream(request)])


if __name__ == "__main__":
    speech_worker.serve(CosyVoice)
