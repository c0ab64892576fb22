"""Building blocks shared by several systems: spectra, convolutions, transformers and how they decode, adversaries."""
