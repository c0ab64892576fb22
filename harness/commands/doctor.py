"""what works on this machine, and how to get what is missing"""

from __future__ import annotations

import inspect
import shutil
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from harness.errors import HarnessError
from harness.foreign import attempt, bounded, reason_of
from harness.settings.registry import CONF_DIR, broken_plugins, config_names, entries, resolve
from harness.settings.schema import JUDGES
from harness.settings.systems import expanded, system_section
from harness.torchaudio import ensure_torchaudio

PROGRAMS = {
    "flite": "to make the embedded speech again: apt-get install flite",
    "espeak-ng": "to make the embedded speech again: apt-get install espeak-ng",
    "chromium": "to test the report page: apt-get install chromium",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    area: str  # "machine", "system", "judge", "plug-in" or "program"
    name: str
    ok: bool
    optional: bool  # a default run does not need it
    text: str  # version, or what is missing and how to get it
    state: str = ""  # "ready", or what keeps it from being so, in two words

    @property
    def mark(self) -> str:
        """What stands before the name."""
        return self.state or ("ready" if self.ok else "missing" if self.optional else "BROKEN")


def declare(parser: ArgumentParser) -> None:
    pass


def main(options: Namespace) -> int:
    """Looks at everything without running a model; 1 where a default run lacks something."""
    from harness.running.progress import Progress

    findings = []
    with Progress() as progress:
        progress.stage("looking at everything", None)
        for finding in (finding for area in (_machine, _systems, _judges, _plugins, _programs) for finding in area()):
            findings.append(finding)
            progress.advance()
    print(render(findings))
    return 0 if all(f.ok or f.optional for f in findings) else 1


def render(findings: list[Finding]) -> str:
    """Lines of text, grouped by area."""
    lines = []
    width = max(len(f.name) for f in findings)
    for area in dict.fromkeys(f.area for f in findings):
        lines.append(f"{area}s:" if area != "machine" else "machine:")
        there = [f for f in findings if f.area == area]
        marks = max(len(f.mark) for f in there)
        lines += [f"  {f.mark:<{marks}}  {f.name:<{width}}  {f.text}".rstrip() for f in there]
    bad = [f for f in findings if not f.ok and not f.optional]
    lines.append(
        "everything a default run needs is here" if not bad else f"{len(bad)} needed by a default run: {', '.join(f.name for f in bad)}"
    )
    return "\n".join(lines)


def _machine() -> Iterator[Finding]:
    from harness.running.provenance import machine, packages

    facts = machine()
    told = f"{facts['processor']}, {facts['cores']} cores, {facts['memory_gib']} GiB, Python {facts['python']}"
    yield Finding("machine", "processor", True, False, told)
    try:
        import torch

        from harness.torchaudio import is_stubbed, load_torchaudio

        cuda = f"CUDA {torch.version.cuda}, {torch.cuda.device_count()} devices" if torch.cuda.is_available() else "CPU only"
        yield Finding("machine", "torch", True, False, f"{torch.__version__}, {cuda}")
        version = load_torchaudio().__version__
        without = ", without its compiled part (built for another torch; not needed here)" if is_stubbed() else ""
        yield Finding("machine", "torchaudio", True, False, f"{version}{without}")
    except (ImportError, OSError) as error:
        yield Finding("machine", "torch", False, False, f"{error}: pip install torch==2.13.0 torchaudio==2.11.0")
    absent = [name for name, version in packages().items() if version == "absent" and name != "transformers"]
    told = f"missing: {', '.join(absent)}; install with the README's first command" if absent else "all installed"
    yield Finding("machine", "packages", not absent, False, told)


def _systems() -> Iterator[Finding]:
    for name in sorted(config_names("systems")):
        section = expanded({name: system_section(name)})[name]
        section.pop("training", None)
        state, reason = state_of(section.pop("family"), section)
        yield Finding("system", name, state == "ready", True, reason, state)


def state_of(family: str, parameters: Mapping[str, Any]) -> tuple[str, str]:
    """How a system stands here, and why.

    Args:
        family: in the registry. Its class may tell by ``missing(**parameters)`` what is absent, with the line that gets it, and by
            ``broken()`` why an installed package cannot be imported.
        parameters: of the variant.

    Returns:
        "ready", "needs package", "needs program", "needs weights", "needs setting" or "broken"; and one sentence, "" when ready.
    """
    ensure_torchaudio()  # a system's libraries may import it
    try:
        kind = resolve("systems", family)
        ask, look = getattr(kind, "missing", None), getattr(kind, "broken", None)
        reason = bounded(attempt(lambda: str(ask(**parameters) or ""))) if ask is not None else ""
        if "pip install" not in reason and look is not None and (fault := attempt(look)):
            return "broken", bounded(str(fault))
    except HarnessError as error:
        return "broken", str(error)
    except Exception as error:  # a plug-in's own look may raise anything: it is reported, never hidden
        return "broken", reason_of(error)
    if not reason:
        return "ready", ""
    if "pip install" in reason:
        return "needs package", reason
    if "apt-get install" in reason:
        return "needs program", reason
    return ("needs weights" if "checkpoint" in inspect.signature(kind).parameters else "needs setting"), reason


def _judges() -> Iterator[Finding]:
    import yaml

    from harness.judges import downloads, missing
    from harness.judges.presets import asr_downloads, missing_asr

    needed = {"asr", "speaker", "mos"}  # by the suites' own metrics
    chosen = yaml.safe_load((CONF_DIR / "run.yaml").read_text(encoding="utf-8"))["defaults"]
    defaults = {kind: name for choice in chosen if isinstance(choice, dict) for kind, name in choice.items()}
    for kind in JUDGES:
        for path in sorted((CONF_DIR / kind).glob("*.yaml")):
            section = yaml.safe_load(path.read_text(encoding="utf-8"))
            reason = (missing_asr(section) if kind == "asr" else missing(kind, section)) or ""
            if reason and (asr_downloads(section) if kind == "asr" else downloads(kind, section)):
                reason = f"`harness fetch {kind}={path.stem}`: {reason}"
            yield Finding("judge", f"{kind}={path.stem}", not reason, kind not in needed or path.stem != defaults[kind], reason)


def _plugins() -> Iterator[Finding]:
    broken = {(e.group, e.name): reason for e, reason in broken_plugins().items()}
    for group in ("systems", "suites", "metrics"):
        for entry in entries(group).values():
            if entry.origin and (group, entry.name) not in broken:
                yield Finding("plug-in", f"{group}/{entry.name}", True, True, entry.origin)
    for (group, name), reason in broken.items():
        yield Finding("plug-in", f"{group}/{name}", False, True, reason)


def _programs() -> Iterator[Finding]:
    for name, how in PROGRAMS.items():
        found = shutil.which(name)
        yield Finding("program", name, found is not None, True, found or how)
