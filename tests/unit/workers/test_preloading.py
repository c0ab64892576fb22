"""The fork server imports what can be imported, and workers are forked of it, in a program of its own."""

import subprocess
import sys

PROGRAM = """
import sys
from functools import partial
from harness.workers import build
from harness.workers.jobs import Finished, Job, Resources, Stop
from harness.workers.preloading import preload

class Worker:
    def begin(self, job): pass
    def step(self, step): return sorted(set(step) & set(sys.modules))
    def end(self): pass
    def close(self): pass

if __name__ == "__main__":
    sys.modules["program"] = sys.modules["__main__"]
    preload(["colorsys", "no_such_module", "broken_module", "chunk"])
    import program_worker
    pool = build("local", program_worker.Worker, Resources(2, 1, 60.0), Stop())
    print([event.result for event in pool.run([Job("j", None, (("colorsys", "chunk", "wave"),))])])
    pool.close()
"""


def test_what_cannot_be_imported_keeps_nothing_else_from_it(tmp_path):
    worker = PROGRAM[PROGRAM.index("class Worker") : PROGRAM.index("if __name__")]
    (tmp_path / "program_worker.py").write_text(f"import sys\n\n{worker}")
    (tmp_path / "broken_module.py").write_text("raise OSError('its library is not here')\n")
    (tmp_path / "program.py").write_text(PROGRAM)
    done = subprocess.run([sys.executable, tmp_path / "program.py"], capture_output=True, text=True, cwd=tmp_path, timeout=60)
    assert done.stdout.strip() == "[['chunk', 'colorsys']]", done.stderr
    assert "Traceback" not in done.stderr
