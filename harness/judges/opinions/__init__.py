"""Predictors of opinion scores: networks that were fitted to what listeners said of speech, each on a scale of its own."""
