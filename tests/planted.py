"""Maps of the planted data set whose worth is known, and the options of a small run with them."""

MAPS = {name: f"evaluation.planted:{name}" for name in ("TrueMap", "ReversedMap")}
OPTIONS = ["--target=planted", "--quick", f"--method={','.join(MAPS.values())}", "--seeds=2", "--ratios=0.1,0.5"]
