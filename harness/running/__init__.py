"""A run: `runner` carries it out from configuration to records, and keeps the workers of its two `stages`: `predicting` and `scoring`.

`plan` names every prediction and number by its key; `metric_set` builds what measures; `stages` writes what a run folder holds, and `shards` puts
several together.
"""
