"""put the shards of a run together

  harness join RUN [--from URL]

Puts the shards of a run together: after `harness run run.name=big run.shard=I/N ...` for every I from 1 to N, on as many machines as
there are, `harness join runs/big` makes runs/big of runs/big.1ofN ..., as if it had been one run. Shards that were published elsewhere
(run.publish=URL) are read from there by --from URL.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from harness.commands import path


def declare(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=path, metavar="RUN", help="folder of the whole run, e.g. runs/big")
    parser.add_argument("--from", dest="source", metavar="URL", help="where the shards were published (beside RUN)")


def main(options: Namespace) -> int:
    from harness.running.shards import join

    joined = join(options.run, options.source)
    counts = ", ".join(f"{number} {status}" for status, number in sorted(joined.counts.items()))
    print(f"{joined.folder}: {joined.records} records of {joined.shards} shards ({counts}); `harness report` shows them")
    joined.check()
    return 0
