"""From text to the tokens that language models read."""
