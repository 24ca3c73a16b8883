"""KAR − ROAR: the two curves of each method beside each other."""

from dataclasses import dataclass, replace

from reporting.evaluation_summary import EvaluationSummary
from reporting.retraining_summary import RetrainingSummary
from reporting.tables import gap_table


@dataclass(frozen=True)
class Gap(EvaluationSummary):
    """KAR − ROAR, of two summaries that differ in nothing else."""

    roar: RetrainingSummary
    kar: RetrainingSummary

    @property
    def is_of_the_same(self) -> bool:
        """Return whether nothing else differs."""
        as_kar = replace(self.roar.config, evaluation="KAR")
        is_of_roar = (self.roar.evaluation, self.roar.checkpoints_sha256) == ("ROAR", self.kar.checkpoints_sha256)
        return is_of_roar and as_kar == self.kar.config

    @property
    def title(self) -> str:
        return self.roar.title.replace("ROAR", "KAR − ROAR", 1)

    @property
    def note(self) -> str:
        paired = f" ± is the 95 % interval, {self.roar.interval_words}; differences are paired by seed."
        about = "0 for a random order of the pixels. A leaking mask lifts both areas, and can make or hide a gap."
        return about + paired * (self.roar.config.seeds > 1)

    @property
    def body(self) -> str:
        return f"{gap_table(self.roar.image_curves, self.kar.image_curves)}\n{self.random_check}{self.roar.verdicts}"

    @property
    def stem(self) -> str:
        return self.roar.stem.replace("ROAR", "KAR-ROAR", 1)

    @property
    def random_check(self) -> str:
        """A line on RANDOM, for which removing the most and the least important pixels is the same in theory."""
        curves = [curve for curve in (*self.roar.image_curves, *self.kar.image_curves) if curve.method == "RANDOM"]
        if len(curves) < 2:
            return ""
        points = list(zip(*(curve.estimates for curve in curves), strict=True))
        overlap = sum(first.low <= second.high and second.low <= first.high for first, second in points)
        widest = max(abs(first.mean - second.mean) for first, second in points)
        return (
            f"- check: RANDOM's curves of ROAR and KAR, the same in theory, have overlapping intervals at {overlap} of "
            f"{len(points)} ratios; they differ by {widest:.3f} at most\n"
        )
