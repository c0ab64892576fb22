"""How fast: real-time factors, first output, stages, floors; suite.batches=[1,4] suite.prompt_tokens=[128,512,2048]; on a quiet machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.api import CodecSpec, Curve, Settings, SuiteInfo, Task, TimingPlan

METRICS = (
    "rtf", "rtf_encode", "rtf_decode", "rtf_batched", "rtf_prefill", "rtf_lm", "rtf_codec", "rtf_vocoder", "ttft_token_ms",
    "ttf_frame_ms", "ttfc_ms", "ttfa_ms", "underrun_0_ms", "underrun_100_ms", "underrun_200_ms", "codebook_tokens_per_s", "floor_rtf",
    "floor_share_encode", "floor_share_decode", "floor_share_prefill", "floor_share_lm", "host_peak_mib", "device_peak_mib",
    "kv_cache_mib", "joules_per_s", "load_audio_per_s", "load_ttfa_p50_ms", "load_ttfa_p90_ms", "load_ttfa_p95_ms", "load_ttfa_p99_ms",
    "load_latency_p50_ms", "load_latency_p95_ms",
)  # fmt: skip
HEADLINE = (
    "rtf", "floor_rtf", "rtf_encode", "rtf_decode", "rtf_lm", "floor_share_lm", "ttft_token_ms", "ttfa_ms", "codebook_tokens_per_s",
)  # fmt: skip


@dataclass(frozen=True)
class SpeedSuite:
    """Every codec encodes and decodes every recording, every synthesizer speaks every text, again and again until the median is known.

    Nothing is said about quality, so untrained systems may run: ``systems.NAME.weights=random``. Timings of a busy machine are refused.
    Run ``seeds=[1]`` to time the same once more.

    Args:
        batches: utterances at once; of codecs and synthesizers that take several.
        prompt_tokens: text tokens that synthesizers read, where they tell; 0 for the text of the item as it is.
        seconds: of speech that a synthesizer makes each time, where it can be told.
        budget_s: for each thing that is timed.
        concurrent: loads of so many requests served at once, of streaming synthesizers.
        arrivals_hz: loads of so many requests a second, by chance, the first of ``concurrent`` (else 1) served at once.
        requests: of each load.
        least, width, warmups, others: see `harness.api.TimingPlan`.
    """

    batches: Sequence[int] = (1,)
    prompt_tokens: Sequence[int] = (0,)
    seconds: float = 2.0
    budget_s: float = 10.0
    least: int = 7
    width: float = 0.05
    warmups: int = 2
    others: float = 0.1
    concurrent: Sequence[int] = ()
    arrivals_hz: Sequence[float] = ()
    requests: int = 20

    def __post_init__(self) -> None:
        _check("batches", self.batches, 1, needed=True)
        _check("prompt_tokens", self.prompt_tokens, 0, needed=True)
        _check("concurrent", self.concurrent, 1)
        _check("arrivals_hz", self.arrivals_hz, 0, whole=False)
        _ = self.info  # the plan of its timing is checked where it is made

    @property
    def info(self) -> SuiteInfo:
        return SuiteInfo(
            name="speed",
            title="Speed",
            task=Task.TIMING,
            systems=("qdac16", "socodec120"),
            metrics=METRICS,
            headline=HEADLINE,
            curves=(Curve("First output against text", x="settings.prompt_tokens", y=("ttft_token_ms", "ttfa_ms"), log_x=True),)
            if len(self.prompt_tokens) > 1
            else (),
            timing=TimingPlan(self.seconds, self.budget_s, self.least, self.width, self.warmups, self.others, self.requests),
        )

    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        batches: list[Settings] = [{"batch": batch} if batch > 1 else {} for batch in self.batches]
        if spec is not None:
            return batches
        plain: list[Settings] = [{**batch, **({"prompt_tokens": n} if n else {})} for n in self.prompt_tokens for batch in batches]
        served = self.concurrent[0] if self.concurrent else 1
        by_chance: list[Settings] = [{"arrivals_hz": float(rate), "concurrent": served} for rate in self.arrivals_hz]
        return [*plain, *({"concurrent": users} for users in self.concurrent), *by_chance]


def _check(name: str, values: Sequence[float], least: int, *, needed: bool = False, whole: bool = True) -> None:
    """Refuses what is no list of different numbers, from ``least`` on where they are whole, above it where not."""
    kinds = (int,) if whole else (int, float)

    def fits(v: object) -> bool:
        return isinstance(v, kinds) and not isinstance(v, bool) and (v >= least if whole else v > least)

    listed = isinstance(values, Sequence) and not isinstance(values, str) and all(map(fits, values))
    if not listed or (needed and not values) or len(set(values)) != len(values):
        wanted = f"whole numbers from {least} on" if whole else f"numbers above {least}"
        raise ValueError(f"suite.{name}={values}: a list of different {wanted} is wanted")
