"""Help texts of the verbs that judge runs; apart from the code, so that printing them loads nothing."""

COMPARE_HELP = """\
  harness compare RUN_A RUN_B [key=value ...]              what RUN_B does otherwise than RUN_A, system by system
  harness compare RUN left=opus16 right=qdac16             two systems of one run; with two runs, one of each

Paired over common items, clustered by speaker, corrected for the number of tests; writes compare.html (players) and compare.md.

  systems=[A,B] metrics=[X,Y]     only these
  margin.pesq_wb=0.1              the difference that matters: "no difference" is said within it, and how many items it takes to see it
  rules=NAME|FILE                 gate whose tolerances are the other margins (default)
  items=5                         listed as worst and most changed, of each metric
  confidence=0.95 resamples=10000 seed=0 audio_limit_mb=24 out=DIR (RUN_B; never a baseline)
  force=true                      compare although data, package versions or signatures differ; the output says so
"""

GATE_HELP = """\
  harness gate RUN against=BASELINE [key=value ...]

Fails where a metric is shown to be worse than its tolerance allows. Writes gate.json, gate.md (a comment for a pull request), gate.xml (JUnit).

  against=DIR       a baseline (`harness bless`), or another run
  rules=NAME|FILE   default, speed, exact, or a YAML file of your own (reports/gate/rules.py says what is in it)
  force=true        judge although data, package versions or signatures differ; the output says so
  out=DIR           where to write (RUN)

Exit codes: 0 pass, 1 regression, 2 the request cannot be carried out, 3 incomparable (missing, renamed, measured otherwise, partial).
"""

BLESS_HELP = """\
  harness bless RUN [REPEAT ...] [out=DIR]

Makes a baseline to gate against: records and manifest without audio, texts and paths, small enough to commit. Repeats of the run, each
with its own run.root= so that nothing is taken from the store, say what varies from run to run.

  out=DIR           where (baselines/SUITE); a baseline that is there is replaced
"""
