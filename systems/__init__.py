"""Systems under test. Of the harness they know `harness.api` only."""
