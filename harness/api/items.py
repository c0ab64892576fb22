"""What is measured on: items of a dataset, and the request a synthesizer gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.api.audio import Audio

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
    """One utterance of a dataset, as its manifest describes it. Audio is read by the harness when it is needed.

    Args:
        id: unique in the dataset.
        dataset: name of the dataset.
        path: recording of the utterance (the reference), or None where there is none.
        text: what is said, or "" where unknown.
        language: ISO 639-1 code ("en", "zh"), or "" where unknown.
        speaker: speaker id, or ""; items are resampled by speaker in every interval.
        prompt_path: recording of the same speaker saying something else, for zero-shot TTS.
        prompt_text: what the prompt says.
        synthetic: the recording itself is synthetic speech; every table says so.
        notes: further columns of the manifest, kept for filtering.
        channel: which channel of its recording and prompt is taken, from 1; None averages them.
    """

    id: str
    dataset: str
    path: Path | None = None
    text: str = ""
    language: str = ""
    speaker: str = ""
    prompt_path: Path | None = None
    prompt_text: str = ""
    synthetic: bool = False
    notes: Mapping[str, str] = field(default_factory=dict)
    channel: int | None = None


@dataclass(frozen=True, eq=False)
class Utterance:
    """What a synthesizer is asked to say, and in whose voice.

    Args:
        text: to be spoken.
        language: ISO 639-1 code.
        prompt: recording of the voice to follow, at its own rate; None for systems without cloning.
        prompt_text: transcript of the prompt, "" where unknown.
    """

    text: str
    language: str
    prompt: Audio | None = None
    prompt_text: str = ""
