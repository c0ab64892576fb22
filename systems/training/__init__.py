"""Training: one loop for every recipe. What a recipe must offer stands in `systems.training.recipe`."""

TRAINERS = {
    "qdac": "systems.qdac.recipe:QdacRecipe",
    "socodec": "systems.socodec.recipe:SocodecRecipe",
    "mel_vocoder": "systems.vocoder.recipe:WaveVocoderRecipe",
    "lm_tts": "systems.lm.recipe:LmRecipe",
    "qtts_decoder": "systems.tts.speaker_decoder_recipe:SpeakerDecoderRecipe",
    "speech_encoder": "systems.speech_encoder.recipe:SpeechEncoderRecipe",
}
"""Registry family to "module:attr" of its recipe; third parties join by entry points in the group ``harness.trainers``."""
