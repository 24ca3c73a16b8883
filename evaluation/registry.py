"""The evaluations of methods on trained classifiers. To add one, write its file and its line here."""

from evaluation.protocol import Evaluation
from evaluation.removal import RemovalEvaluation
from evaluation.sanity import Sanity
from evaluation.selectivity import Selectivity

EVALUATIONS: dict[str, Evaluation] = {
    **{name: RemovalEvaluation(name) for name in ("ROAD", "F-Fidelity", "insertion-deletion")},
    "sanity": Sanity(),
    "selectivity": Selectivity(),
}
