"""Published neural codecs, each through the package that its authors or transformers keep."""
