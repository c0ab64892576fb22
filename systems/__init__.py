"""Systems under test. Of the harness they know `harness.api` only.

==============================  =====================================================================================
classical                       codecs of before neural networks, bounds, recorded outputs, programs that speak
published                       neural codecs of others, through the packages that carry them
worker                          systems in another Python environment, asked over pipes
qdac, socodec                   the two codecs of the papers: networks, objectives, how they are trained, adapters
vocoder, speech_encoder         what they lean on: mel spectra to waveforms, self-supervised features
text, lm, tts                   text to tokens, tokens to codes, both with a codec as a synthesizer
layers, quantizers              what several networks are made of
training                        the one loop, and what it asks of a recipe
conf, weights                   systems by name (`harness list systems`), small checkpoints; `bundled` finds them
checkpoints, pcm                what adapters share: reading weights, samples as codecs want them
==============================  =====================================================================================
"""
