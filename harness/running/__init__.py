"""A run: `runner` carries it out from configuration to records.

`plan` names every prediction and number by its key; `building` and `metric_set` build what is measured and what measures; `predicting` and
`scoring` are the workers of the two `stages`, kept by a `workforce`; `joining` and `shards` write what a run folder holds.
"""
