"""A recogniser that knows only the sentences it may hear: an intelligibility probe, not a measure of word error rate."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Sequence
from pathlib import Path

from harness.api import BackendInfo, FloatArray
from harness.errors import MissingDependency
from harness.judges.checkpoints import Loading, installed, package
from harness.judges.normalisers import spoken_words
from harness.judges.pocketsphinx import DITHER, acoustic_files, decode, decoder, model_folder


class ClosedVocabulary:
    """PocketSphinx with a trigram model of a corpus's own reference texts.

    What it hears is biased towards those texts, so its error share is far below a WER; but it needs no download, follows distortion
    closely (clean synthetic speech near 0, low-rate codecs a few per cent, 20 dB noise 2-3 %), and runs at a few hundredths of real
    time. Sentences with a word that the pronouncing dictionary lacks cannot be recognised: they are left out of the language model,
    counted in `left_out`, and whoever scores them can ask `out_of_vocabulary`.

    Args:
        texts: the reference texts; order and repetitions do not matter.
        max_active_hmms, max_words_per_frame: search limits, see `PocketSphinx`.

    Raises:
        MissingDependency: pocketsphinx is not installed, or no text is wholly within its dictionary.
    """

    def __init__(self, texts: Sequence[str], max_active_hmms: int = 3000, max_words_per_frame: int = 20) -> None:
        if reason := self.missing():
            raise MissingDependency(reason)
        self._dictionary = _dictionary()
        sentences = sorted({spoken_words(text) for text in texts} - {""})
        known = [sentence for sentence in sentences if not self.out_of_vocabulary(sentence)]
        self.left_out = len(sentences) - len(known)
        if not known:
            raise MissingDependency(
                f"the intelligibility probe needs English reference texts whose words are all in its dictionary; of {len(sentences)} "
                "distinct texts there is none"
            )
        model = _trigrams(known)
        loading = Loading(acoustic_files(), extra=model)
        with tempfile.TemporaryDirectory() as folder:  # the decoder reads the files once, while it is made
            path, words = Path(folder) / "closed.arpa", Path(folder) / "closed.dict"
            path.write_text(model, encoding="utf-8")
            spoken = sorted({word for sentence in known for word in sentence.split()})
            words.write_text("".join(line for word in spoken for line in self._dictionary[word]), encoding="utf-8")
            self._decoder = decoder(path, words, max_active_hmms, max_words_per_frame)
        self.info = BackendInfo(
            family="closed_vocabulary",
            model=f"en-us closed trigram of {len(known)} texts ({self.left_out} left out), {DITHER}, "
            f"{max_active_hmms} HMMs, {max_words_per_frame} words a frame",
            digest=loading.digest(),
            package=package("pocketsphinx"),
            languages=("en",),
        )

    @classmethod
    def missing(cls, texts: Sequence[str] = (), max_active_hmms: int = 3000, max_words_per_frame: int = 20) -> str | None:
        """None if it can be built, else what to install."""
        return None if installed("pocketsphinx") else "PocketSphinx is not installed: pip install pocketsphinx"

    def out_of_vocabulary(self, text: str) -> tuple[str, ...]:
        """The words of ``text`` that the pronouncing dictionary lacks, in order."""
        return tuple(word for word in spoken_words(text).split() if word not in self._dictionary)

    def transcribe(self, samples: FloatArray, language: str) -> str:
        """Words of mono ``samples [N]`` at 16 kHz, all from the corpus's vocabulary.

        Raises:
            ValueError: another language than English, or NaN in the samples.
        """
        return decode(self._decoder, samples, language)


def _dictionary() -> dict[str, list[str]]:
    """Lines of the pronouncing dictionary by word; "word(2)" is another pronunciation of "word"."""
    pronunciations: dict[str, list[str]] = {}
    with (model_folder() / "cmudict-en-us.dict").open(encoding="utf-8") as lines:
        for line in lines:
            if line.strip():
                pronunciations.setdefault(line.split(maxsplit=1)[0].partition("(")[0], []).append(line)
    return pronunciations


def _trigrams(sentences: Sequence[str]) -> str:
    """A back-off trigram model in ARPA format."""
    from pocketsphinx.lm import ArpaBoLM

    model = ArpaBoLM(text="\n".join(sentences), add_start=True)
    model.compute()
    out = io.StringIO()
    model.write(out)
    return out.getvalue()
