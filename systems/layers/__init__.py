"""Building blocks shared by several systems: spectra, mel bands, convolution blocks."""
