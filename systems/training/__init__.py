"""Training: one loop for every recipe. What a recipe must offer stands in `systems.training.recipe`."""

TRAINERS = {
    "qdac": "systems.qdac.recipe:QdacRecipe",
}
"""Registry family to "module:attr" of its recipe; third parties join by entry points in the group ``harness.trainers``."""
