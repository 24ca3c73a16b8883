"""Evaluations of attribution methods. Here are the choices that they offer; the first of each is the default."""

RETRAINING = ("ROAR", "KAR")
EVALUATIONS = ("coherence", "selectivity", *RETRAINING)
EXPLAIN = ("prediction", "label")
GRANULARITIES = ("pixel", "element")
RANKS = ("signed", "absolute", "square")
FILLS = ("mean", "black", "linear")
CONTROL_CURVES = ("blur",)
MASK_SPLITS = ("both", "train")
ORDERS = ("most", "least")  # of selectivity: which pixel goes first
REMOVALS = 50  # of selectivity: pixels removed from each image
TEST_SHARE = 0.1  # of the test images that selectivity looks at
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
QUICK_CONTROLS = ("RANDOM",)  # every other evaluation has all of `attribution.CONTROLS`
QUICK_RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
