"""run a suite: predict, score, report

Every setting is key=value; `harness run --show-config` prints them all with their present values.

  suite=NAME               what is asked of the systems       (harness list suites)
  systems=[A,B,...]        who is asked                       (harness list systems)
  systems.A.PARAM=VALUE    a parameter of system A
  dataset=NAME             on what                            (harness list datasets)
  dataset.root=DIR  dataset.language=en  dataset.items=[id,...]  dataset.channel=N
  dataset.limit=N          so many items, spread over languages and speakers; the same each time; null takes all (embedded: 20 of 60)
  metrics=[A,B,...]        instead of the suite's usual ones  (harness list metrics); metrics=full is all that it can measure
  asr=PRESET  speaker=NAME  mos=NAME                          the judging models (harness list asr|speaker|mos)
  executor.workers=N  executor.timeout_s=120  executor=serial
  run.name=NAME  run.root=DIR  run.overwrite=true  run.keep_failed=true  run.max_failures=N  run.allow_missing=true
  run.fetch=true           get weights that are not here first      (harness fetch --help)

Names and paths are the text that is typed (null: none; quotes around the whole come off; ~ at the beginning is the home folder). Every value is
checked before anything runs. Options stand anywhere.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from harness.commands import take_words


def declare(parser: ArgumentParser) -> None:
    take_words(parser, "key=value", "folder with YAML of your own (systems/NAME.yaml, dataset/NAME.yaml, ...)")
    parser.add_argument("--show-config", action="store_true", help="print the composed configuration and stop")
    parser.add_argument("--no-report", action="store_true", help="leave out the report files (the table is still printed)")


def main(options: Namespace) -> int:
    from harness.commands.report import show
    from harness.notebook import carried_out, composed
    from harness.storing.aliases import typed

    config = composed(options.words, options.config_dir)
    if options.show_config:
        import yaml

        print(yaml.safe_dump(config, sort_keys=False, allow_unicode=True), end="")
        return 0
    done = carried_out(config, f"harness run {typed(options.words)}".strip())
    show(done, None if options.no_report else done.folder, config["report"]["audio_limit_mb"])
    done.check()
    return 0
