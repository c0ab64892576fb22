"""What runs in the other environment: speech_worker.py, the one file it needs, and workers of known systems. Python 3.8 or later, numpy."""
