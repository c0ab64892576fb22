"""Text-to-speech: from text to tokens, language model and codec as one synthesizer."""
