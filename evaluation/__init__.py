"""Evaluations of attribution methods; here are their choices, of which the first is the default."""

RETRAINING = ("ROAR", "KAR")
REMOVING = ("ROAD", "F-Fidelity", "insertion-deletion")  # without retraining on masks
OF_SEEDS = (*REMOVING, "sanity", "learned")  # without retraining, of classifiers of several seeds
EVALUATIONS = ("coherence", "selectivity", *RETRAINING, *OF_SEEDS)
TRUST = "trust"  # the answer of several evaluations without retraining
OWN = "FILE.py:NAME"  # any evaluation of the user's own
EXPLAIN = ("prediction", "label")
GRANULARITIES = ("pixel", "element")
RANKS = ("signed", "absolute", "square")
FILLS = ("mean", "black", "linear")
CONTROL_CURVES = ("blur",)
MASK_SPLITS = ("both", "train")
RETRAIN_FROM = ("scratch", "weights")
EXPLAINED_SEEDS = ("same", "own")
ORDERS = ("MoRF", "LeRF")  # the most, or the least relevant first
RECORDED_ORDERS = {"MoRF": "most", "LeRF": "least"}  # in records, file names and tables
ORDER_OF = {"ROAR": "MoRF", "KAR": "LeRF"}
TEST_SHARE = 0.1  # of the test images that evaluations without retraining use
RATIOS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
INSERTION_RATIOS = tuple(round(0.05 * step, 2) for step in range(1, 20))  # and the whole image, and none of it
FILLS_OF = {  # what a removed pixel becomes
    "selectivity": ("mean", "black"),
    **dict.fromkeys(RETRAINING, FILLS),
    "ROAD": ("linear",),
    "F-Fidelity": ("mean", "black"),
    **dict.fromkeys(("insertion-deletion", "learned", TRUST), ("blur", "mean", "black")),
}
ALL_FILLS = (*FILLS, "blur")
QUICK_CONTROLS = ("RANDOM",)  # every other evaluation has all of `attribution.CONTROLS`
QUICK_RATIOS = (0.1, 0.3, 0.5, 0.7, 0.9)
