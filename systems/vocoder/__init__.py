"""From mel frames to audio: the released BigVGAN and the small source-filter vocoder."""
