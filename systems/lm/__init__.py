"""Language models over the codes of a codec: SoCodec's multi-stream GPT, QTTS's hierarchical and multihead models, and generation."""
