"""The laws of a synthesizer, and of recorded outputs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from harness.api import Audio, CodecSynthesizer, Codes, MissingOutput, Recorded, RecordedFiles, Speech, Synthesizer, Utterance
from harness.data.audio import read_recording
from harness.testing.laws import ContractReport, Laws, expect, expect_alike, expect_audio, expect_info, expect_kind, speechlike


def check_synthesizer(
    synthesizer: Synthesizer,
    utterances: Sequence[Utterance] | None = None,
    factory: Callable[[], Synthesizer] | None = None,
    tolerance: float = 1e-4,
) -> ContractReport:
    """Check every law of a synthesizer.

    Args:
        synthesizer: to check.
        utterances: at least two requests it should fulfil; by default short English ones with prompts at 16 and 24 kHz.
        factory: makes an equal synthesizer; with it, the same request is made of a fresh instance.
        tolerance: largest difference between two waveforms that should be equal.

    Raises:
        BrokenLaw: a law is broken.
    """
    requests = list(utterances) if utterances is not None else _requests()
    if len(requests) < 2:
        raise ValueError("check_synthesizer needs at least two utterances")
    laws = Laws(type(synthesizer).__name__)
    with laws.law("declaration"):
        expect(isinstance(synthesizer, Synthesizer), "a synthesizer has info, sample_rate, synthesize and stream")
        expect_info(synthesizer)
        expect(synthesizer.sample_rate > 0, f"sample_rate is {synthesizer.sample_rate}")
    with laws.law("prompt untouched"):
        for request in requests:
            before = request.prompt.digest() if request.prompt else ""
            synthesizer.synthesize(request, 0)
            expect((request.prompt.digest() if request.prompt else "") == before, "synthesize changed the prompt's samples")
    with laws.law("speech"):
        first = [_speech(synthesizer, request) for request in requests]
    with laws.law("determinism"):
        for i, request in reversed(list(enumerate(requests))):
            expect_alike(first[i].audio, synthesizer.synthesize(request, 0).audio, tolerance, f"request {i} with the same seed again")
    if factory is None:
        laws.skip("fresh instance", "no factory was given")
    else:
        with laws.law("fresh instance"):
            expect_alike(first[-1].audio, factory().synthesize(requests[-1], 0).audio, tolerance, "a fresh instance")
    with laws.law("stream"):
        for i, request in enumerate(requests):
            _stream(synthesizer, request, first[i].audio, tolerance)
    if isinstance(synthesizer, CodecSynthesizer):
        with laws.law("resynthesis"):
            for prompt in (request.prompt for request in requests if request.prompt is not None):
                _resynthesis(synthesizer, prompt, tolerance)
    return laws.report()


def _requests() -> list[Utterance]:
    return [
        Utterance("The river was calm.", "en", speechlike(1.5, 16000, seed=1), "A red kite over the hill."),
        Utterance("Nine boats came home late.", "en", speechlike(1.2, 24000, seed=2), "We sang until it rained."),
    ]


def _speech(synthesizer: Synthesizer, request: Utterance) -> Speech:
    speech = expect_kind(synthesizer.synthesize(request, 0), Speech, "what synthesize returns")
    expect_audio(speech.audio, synthesizer.sample_rate, "the speech")
    expect(speech.audio.num_samples > 0, f"no sample was made for {request.text!r}")
    expect(
        isinstance(speech.stop_reason, str),
        f'stop_reason should be a word, or "" where the system does not say, got {speech.stop_reason!r}',
    )
    expect(speech.codes is None or isinstance(speech.codes, Codes), f"codes should be Codes or None, got {type(speech.codes).__name__}")
    return speech


def _resynthesis(synthesizer: CodecSynthesizer, prompt: Audio, tolerance: float) -> None:
    before = prompt.digest()
    heard = expect_audio(synthesizer.resynthesize(prompt), synthesizer.sample_rate, "the resynthesised prompt")
    expect(prompt.digest() == before, "resynthesize changed the prompt's samples")
    wanted = round(prompt.duration_s * synthesizer.sample_rate)
    expect(abs(heard.num_samples - wanted) <= 1, f"a prompt of {prompt.duration_s:.3f} s came back as {heard.duration_s:.3f} s")
    expect_alike(heard, synthesizer.resynthesize(prompt), tolerance, "the same prompt resynthesised again")


def _stream(synthesizer: Synthesizer, request: Utterance, whole: Audio, tolerance: float) -> None:
    chunks = [expect_audio(c, synthesizer.sample_rate, "a chunk of the stream") for c in synthesizer.stream(request, 0)]
    expect(chunks, f"the stream of {request.text!r} gave no chunk")
    joined = Audio(np.concatenate([c.samples for c in chunks], axis=1), synthesizer.sample_rate)
    expect(joined.num_samples == whole.num_samples, f"the stream gave {joined.num_samples} samples, synthesize {whole.num_samples}")
    expect_alike(whole, joined, tolerance, f"the stream of {len(chunks)} chunks, compared with synthesize,")


HOSTILE_IDS = ("", ".", "..", "../outside", "../../etc/passwd", "/etc/passwd", "a\x00b", "a\nb", "*", "{id}", "{0.__class__}", "x" * 300)


def check_recorded(recorded: Recorded | RecordedFiles, item_ids: Sequence[str], absent_id: str = "no-such-item") -> ContractReport:
    """Check every law of a recorded system.

    Args:
        recorded: to check.
        item_ids: ids it has outputs for, at least one.
        absent_id: an id it has none for.

    Raises:
        BrokenLaw: a law is broken.
    """
    if not item_ids:
        raise ValueError("check_recorded needs at least one id with an output")
    laws = Laws(type(recorded).__name__)
    with laws.law("declaration"):
        expect(isinstance(recorded, (Recorded, RecordedFiles)), "a recorded system has info, and recall or locate")
        expect_info(recorded)
    with laws.law("recall"):
        first = {}
        for item in item_ids:
            first[item] = expect_kind(_output(recorded, item), Audio, f"recall('{item}')").digest()
    with laws.law("determinism"):
        for item in reversed(item_ids):
            expect(_output(recorded, item).digest() == first[item], f"recalling '{item}' again gave other audio")
    with laws.law("missing output"):
        _refuses(recorded, absent_id)
    with laws.law("hostile ids"):
        for item in HOSTILE_IDS:
            _refuses(recorded, item)
    return laws.report()


def _output(recorded: Recorded | RecordedFiles, item: str) -> Audio:
    """As the harness takes it."""
    return read_recording(recorded.locate(item)).audio if isinstance(recorded, RecordedFiles) else recorded.recall(item)


def _refuses(recorded: Recorded | RecordedFiles, item: str) -> None:
    try:
        audio = _output(recorded, item)
    except MissingOutput:
        return
    expect(False, f"recall({item[:40]!r}) gave {audio.num_samples} samples instead of raising MissingOutput")
