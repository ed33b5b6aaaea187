"""SD-LoRA-KD (knowledge distillation): pairs that old directions hold are folded into their α."""

# Nothing may set magnitudes back that hold a folded pair, so this stands before the "released"
# preset, whose other choices KD can have.
DEFAULTS = {"method.tau": 9e-4, "method.alpha_reset": False}
