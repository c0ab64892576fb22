"""QDAC: the residual-codebook codec of QTTS, with an autoregressive recogniser supervising codebook 1."""
