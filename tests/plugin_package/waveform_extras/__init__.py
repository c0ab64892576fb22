"""A codec, a metric and a suite that join the harness by entry points."""
