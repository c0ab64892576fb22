"""What is asked of systems: a suite names the task, the metrics, the variants of each system and what its report shows; it is asked of the
items of a dataset, and a synthesizer gets a request made of one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Protocol, runtime_checkable

from harness.api.audio import Audio, CodecSpec


class Task(StrEnum):
    """RESYNTHESIS: encode and decode the item's recording. SYNTHESIS: speak the item's text in its prompt's voice.

    TIMING: do either again and again, as the suite's `TimingPlan` says, and keep how long it takes.
    """

    RESYNTHESIS = "resynthesis"
    SYNTHESIS = "synthesis"
    TIMING = "timing"


Settings = Mapping[str, int | float | str | bool]
"""One variant of a system within a suite, e.g. ``{"codebooks": 4}``. Known to the runner: ``codebooks`` (decode a prefix), and of a
timing ``batch`` (utterances at once), ``prompt_tokens`` (text tokens that a language model reads), ``concurrent`` (requests served at
once) and ``arrivals_hz`` (requests a second, by chance)."""


@dataclass(frozen=True)
class TimingPlan:
    """How often something is timed, and when a timing is no good."""

    seconds: float = 2.0  # of speech that a synthesizer makes each time, where it can be told
    budget_s: float = 10.0  # after which no new lap begins, once there are five
    least: int = 7  # laps before the interval of the median is looked at
    width: float = 0.05  # of that interval over the median, at which it is narrow enough
    warmups: int = 2  # untimed calls after the first one
    others: float = 0.1  # cores that other processes may use without a lap being set aside
    requests: int = 20  # of a load
    seed: int = 0  # of the times at which requests come

    def __post_init__(self) -> None:
        for name in ("seconds", "budget_s", "least", "width", "warmups", "others", "requests", "seed"):
            value, whole = getattr(self, name), name in ("least", "warmups", "requests", "seed")
            if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
                raise ValueError(f"{name} is a {'whole ' if whole else ''}number; got {value!r}")
        if not (self.seconds > 0 and self.budget_s > 0 and self.width > 0 and self.others >= 0):
            raise ValueError(f"seconds, budget_s and width are positive and others is not negative; got {self}")
        if self.least < 1 or self.warmups < 0 or self.requests < 1:
            raise ValueError(f"least and requests are at least 1 and warmups is not negative; got {self}")


@dataclass(frozen=True)
class Curve:
    """A figure of the report: pooled metrics against each other, one line a system (or family)."""

    title: str
    x: str  # metric, ``settings.<name>``, or ``config.<name>``: a number of the system's own configuration, a delay it was trained with say
    y: tuple[str, ...]  # metrics, one panel each
    log_x: bool = False


@dataclass(frozen=True)
class SuiteInfo:
    """Declaration of a suite."""

    name: str  # as in ``suite=NAME``
    title: str  # one line
    task: Task  # what each system is asked to do
    systems: tuple[str, ...]  # run when the user names none
    metrics: tuple[str, ...]  # measured by default, in the order of the full table
    headline: tuple[str, ...]  # the few metrics of the terminal table
    curves: tuple[Curve, ...] = ()  # figures of the report
    # Calibration rows beside the systems. Measured by voice only: "same_speaker" (the same voice saying something else than what SIM-o
    # compares with: the prompt in resynthesis, the item's recording in synthesis) and "impostor" (another speaker's recording).
    # "ground_truth" is the item's recording, measured with everything that listens to the output alone or beside text and prompt: the
    # judges' own error, and in synthesis the voice's likeness to itself. It stands, asked for or not, wherever words are measured.
    calibration: tuple[str, ...] = ()
    timing: TimingPlan | None = None  # of a suite whose task is TIMING
    further: tuple[str, ...] = ()  # measured as well where ``metrics=full`` asks for all there is to say

    def __post_init__(self) -> None:
        if (self.task is Task.TIMING) != (self.timing is not None):
            raise ValueError(f"suite '{self.name}': the task TIMING has a TimingPlan, and no other has one")


@runtime_checkable
class Suite(Protocol):
    """A question asked of every system on every item."""

    @property
    def info(self) -> SuiteInfo: ...
    def variants(self, spec: CodecSpec | None) -> Sequence[Settings]:
        """The settings under which one system is run; ``[{}]`` for just once.

        Args:
            spec: of the system if it is a codec, else None.
        """
        ...


_CODES = (
    "aar-aa abk-ab afr-af aka-ak sqi-sq alb-sq als-sq amh-am ara-ar arb-ar arg-an hye-hy arm-hy asm-as ava-av ave-ae aym-ay aze-az azj-az bak-ba "
    "bam-bm eus-eu baq-eu bel-be ben-bn bis-bi bod-bo tib-bo bos-bs bre-br bul-bg mya-my bur-my cat-ca ces-cs cze-cs cha-ch che-ce zho-zh "
    "chi-zh cmn-zh chu-cu chv-cv cor-kw cos-co cre-cr cym-cy wel-cy dan-da deu-de ger-de div-dv nld-nl dut-nl dzo-dz ell-el gre-el eng-en "
    "epo-eo est-et ekk-et ewe-ee fao-fo fas-fa per-fa pes-fa prs-fa fij-fj fin-fi fra-fr fre-fr fry-fy ful-ff kat-ka geo-ka gla-gd gle-ga "
    "glg-gl glv-gv grn-gn gug-gn guj-gu hat-ht hau-ha hbs-sh heb-he her-hz hin-hi hmo-ho hrv-hr hun-hu ibo-ig isl-is ice-is ido-io iii-ii "
    "iku-iu ile-ie ina-ia ind-id ipk-ik ita-it jav-jv jpn-ja kal-kl kan-kn kas-ks kau-kr kaz-kk khm-km kik-ki kin-rw kir-ky kom-kv kon-kg "
    "kor-ko kua-kj kur-ku kmr-ku lao-lo lat-la lav-lv lvs-lv lim-li lin-ln lit-lt ltz-lb lub-lu lug-lg mkd-mk mac-mk mah-mh mal-ml mri-mi "
    "mao-mi mar-mr msa-ms may-ms zsm-ms mlg-mg plt-mg mlt-mt mon-mn khk-mn nau-na nav-nv nbl-nr nde-nd ndo-ng nep-ne npi-ne nno-nn nob-nb "
    "nor-no nya-ny oci-oc oji-oj ori-or ory-or orm-om oss-os pan-pa pli-pi pol-pl por-pt pus-ps que-qu roh-rm ron-ro rum-ro run-rn rus-ru "
    "sag-sg san-sa sin-si slk-sk slo-sk slv-sl sme-se smo-sm sna-sn snd-sd som-so sot-st spa-es srd-sc srp-sr ssw-ss sun-su swa-sw swh-sw "
    "swe-sv tah-ty tam-ta tat-tt tel-te tgk-tg tgl-tl fil-tl tha-th tir-ti ton-to tsn-tn tso-ts tuk-tk tur-tr twi-tw uig-ug ukr-uk urd-ur "
    "uzb-uz uzn-uz ven-ve vie-vi vol-vo wln-wa wol-wo xho-xh yid-yi ydd-yi yor-yo zha-za zul-zu"
)
"""ISO 639-3 and 639-2 codes, and the usual names of a macrolanguage's own standard, to ISO 639-1."""
_THREE_LETTERS = {pair[:3]: pair[4:] for pair in _CODES.split()}


def language_code(tag: str) -> str:
    """The language of a tag as everything here knows it: "zh" of "zh-CN", "zh_TW", "zho", "chi" and "cmn-Hans"; "" stays "".

    Lower case, without region and script; codes of three letters become those of two where there are any.
    """
    code = tag.strip().lower().replace("_", "-").split("-")[0]
    return _THREE_LETTERS.get(code, code)


@dataclass(frozen=True)
class Item:
    """One utterance of a dataset, as its manifest describes it. Audio is read by the harness when it is needed."""

    id: str  # unique in the dataset
    dataset: str  # its name
    path: Path | None = None  # recording of the utterance (the reference), where there is one
    text: str = ""  # what is said, "" where unknown
    language: str = ""  # ISO 639-1 code ("en", "zh"), "" where unknown
    speaker: str = ""  # id; items are resampled by speaker in every interval
    prompt_path: Path | None = None  # recording of the same speaker saying something else, for zero-shot TTS
    prompt_text: str = ""  # what the prompt says
    synthetic: bool = False  # the recording itself is synthetic speech; every table says so
    notes: Mapping[str, str] = field(default_factory=dict)  # further columns of the manifest, kept for filtering
    channel: int | None = None  # which channel of its recording and prompt is taken, from 1; None averages them


@dataclass(frozen=True, eq=False)
class Utterance:
    """What a synthesizer is asked to say, and in whose voice."""

    text: str  # to be spoken
    language: str  # ISO 639-1 code
    prompt: Audio | None = None  # recording of the voice to follow, at its own rate; None for systems without cloning
    prompt_text: str = ""  # transcript of the prompt, "" where unknown
