"""A worker that does what each step says; for the tests of executors."""

import ctypes
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from harness.errors import StoreError, UnknownName
from harness.foreign import loading


@dataclass
class Obedient:
    """Answers "<job>:<step>", unless the step (or the job's payload) is one of the words below."""

    began: str = ""

    def begin(self, job):
        self.began = job.name
        if job.payload == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if job.payload == "raise":
            raise ValueError("cannot begin")
        if job.payload == "leave":
            loading("metric 'mine' (plug-in theirs-1.0)")
            os._exit(0)

    def step(self, step):
        if step == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if step == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if step.startswith("once:"):  # killed the first time, fine the second
            seen = Path(step.removeprefix("once:"))
            if not seen.exists():
                seen.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if step == "hang":
            time.sleep(3600)
        if step == "raise":
            raise ValueError("no good")
        if step == "memory":
            raise MemoryError
        if step == "huge":
            return str(len(bytearray(8 << 30)))
        if step == "disk":
            raise StoreError("disk full")
        if step == "unknown":
            raise UnknownName("system", "opsu", ["opus"])
        if step == "threads":
            return os.environ["OMP_NUM_THREADS"]
        if step == "device":
            return os.environ.get("CUDA_VISIBLE_DEVICES", "")
        if step == "sleep":
            time.sleep(0.3)
        if step == "close":
            os.closerange(0, 4096)
        if step == "close and hang":
            os.closerange(0, 4096)
            time.sleep(3600)
        if step == "hang in C":
            ctypes.PyDLL(None).sleep(3600)  # with the interpreter's lock in hand
        if step.startswith("child:"):  # of a session of its own, with every descriptor of ours
            subprocess.Popen(["sleep", step.removeprefix("child:")], start_new_session=True, close_fds=False)
        if step == "leave":
            os._exit(0)
        if step == "interrupt":
            raise KeyboardInterrupt
        if step == "exit":
            raise SystemExit(0)
        if step == "unpickled":
            return lambda: None
        if step == "print":
            print("said on standard output", flush=True)
        return f"{self.began}:{step}"

    def end(self):
        pass

    def close(self):
        pass
