"""The commands that the published tables need, in their order: `python main.py --reproduce`."""

RETRAINED = "--limit-train=20000 --batch-size=64"
CIFAR10 = "--target=cifar10 --ratios=0.5,0.9 --epochs=5 --batch-size=128 --lr=0.1"
GRADIENTS = "--target=all --method=VBP,IB,DeconvNet,GB,IG,GC,GB-GC,CO --seeds=3"
WITHOUT_RETRAINING = f"--eval=ROAD,insertion-deletion {GRADIENTS}"
FULL = (
    "--eval=ROAR --method=GC --target=mnist --quick",  # the demo
    "--train --target=all --attention=none,CAM,CBAM --seeds=3",
    "--train --target=all --attention=RAN,WARN",
    "--eval=coherence --target=all --method=all --correct-only",
    "--eval=selectivity --target=all --method=all --steps=10",
    f"--eval=ROAR,KAR --target=mnist --method=all --seeds=3 --epochs=1 {RETRAINED}",
    "--eval=ROAR --target=mnist --method=GC --attention=none,CAM,CBAM --ratios=0.1,0.3,0.5,0.7,0.9 --seeds=3 "
    f"--epochs=1 {RETRAINED}",
    f"--eval=ROAR,KAR --method=all --steps=10 --seeds=3 {CIFAR10}",
    f"--eval=ROAR --method=GC --attention=CAM,CBAM --seeds=3 {CIFAR10}",
    f"--eval=ROAR,KAR --target=mnist --method=RANDOM --control=blur --seeds=3 --epochs=1 {RETRAINED}",
    f"--eval=ROAR,KAR --method=RANDOM --control=blur --seeds=3 {CIFAR10}",
    f"--eval=ROAR --method=VBP,IB,GB,GC,CO --fill=linear {CIFAR10}",
    f"--eval=ROAR,KAR --method=VBP --ensemble=none,SG-SQ,SG-VAR --seeds=3 {CIFAR10}",
    "--eval=ROAR,KAR --target=mnist --method=VBP,IB,IG,GC --ratios=0.1,0.3,0.5,0.7,0.9 --mask-split=train "
    f"--granularity=element --epochs=1 {RETRAINED}",
    "--eval=ROAD,F-Fidelity,insertion-deletion --target=all --method=all --seeds=3",
    "--eval=ROAD,F-Fidelity,insertion-deletion --target=all --method=VBP --ensemble=SG-SQ --seeds=3",
    "--eval=ROAD,insertion-deletion --target=all --method=VBP,IB,GC,CO --control=blur --by-image",
    "--eval=sanity --target=all --method=all --steps=10 --seeds=3",
    *(f"{WITHOUT_RETRAINING} --rank={rank}" for rank in ("absolute", "square")),
    *(f"--eval=insertion-deletion {GRADIENTS} --fill={fill}" for fill in ("mean", "black")),
    f"--eval=ROAR --target=mnist --method=VBP,GC,CO --explained-seeds=own --seeds=3 --epochs=1 {RETRAINED}",
    "--report",
)
QUICK = (
    "--eval=ROAR --method=GC --target=mnist --quick",
    "--train --target=all --attention=none,CAM,CBAM --quick",
    "--eval=coherence --target=all --method=all --steps=10 --quick",
    "--eval=selectivity --target=all --method=all --steps=10 --limit-test=50 --removals=20 --quick",
    "--eval=ROAR,KAR --target=mnist --method=all --steps=10 --ratios=0.5,0.9 --epochs=1 --quick",
    "--eval=ROAR,KAR --target=cifar10 --method=GC,GB --ratios=0.5,0.9 --epochs=2 --quick",
    "--eval=ROAR --target=mnist --method=VBP,GC --ratios=0.5,0.9 --mask-split=train --granularity=element --epochs=1 "
    "--quick",
    "--eval=ROAD,F-Fidelity,insertion-deletion --target=all --method=all --steps=10 --limit-test=200 --quick",
    "--eval=sanity --target=all --method=all --steps=10 --limit-test=50 --quick",
    "--report --quick",
)


def steps(quick: bool) -> list[list[str]]:
    """Return the words of each command line.

    Args:
        quick: small versions of the tables: fewer and smaller networks, fewer images, half an hour on two cores.
    """
    return [command.split() for command in (QUICK if quick else FULL)]
