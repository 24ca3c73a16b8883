"""The evaluations of methods on trained classifiers. To add one, write its file and its line here."""

from collections.abc import Mapping
from typing import Any

from attribution.spec import MethodSpec
from common.errors import InputError
from common.fingerprint import require_unchanged
from common.imports import import_object, is_user_code
from evaluation import RETRAINING
from evaluation.learned import Learned
from evaluation.protocol import Artefacts, Evaluation, Result
from evaluation.removal import RemovalEvaluation
from evaluation.sanity import Sanity
from evaluation.selectivity import Selectivity
from evaluation.tasks import OnImages
from training.checkpoint import versions
from training.device import device_name

EVALUATIONS: dict[str, Evaluation] = {
    **{name: RemovalEvaluation(name) for name in ("ROAD", "F-Fidelity", "insertion-deletion")},
    "sanity": Sanity(),
    "learned": Learned(),
    "selectivity": Selectivity(),
}


def load_evaluation(name: str) -> Evaluation:
    """Return an evaluation by its name, or by the place of a class of the user's own: `package.module:Name`.

    Raises:
        InputError: there is none, or it is no `Evaluation`, or has the name of one of ours.
    """
    if not is_user_code(name):
        return EVALUATIONS[name]
    kind = import_object(name, "an evaluation")
    if not (isinstance(kind, type) and issubclass(kind, Evaluation)):
        raise InputError(f"{name} is no class that derives from evaluation.protocol.Evaluation")
    if kind.name in (*EVALUATIONS, *RETRAINING):
        raise InputError(f"{name} is called {kind.name!r}, like one of ours: give it another name")
    return kind()


def measure(
    name: str,
    code: str | None,
    fields: Mapping[str, Any],
    method: MethodSpec,
    artefacts: Artefacts,
    on_images: OnImages,
) -> Result:
    """Carry out one measurement: a task for any process, which loads a user's own evaluation by its name.

    The result says on which device and with which versions it was computed.

    Args:
        code: stands for the code of a user's own evaluation.
        fields: of the configuration.

    Raises:
        InputError: the code was edited meanwhile.
    """
    evaluation = load_evaluation(name)
    if code:
        require_unchanged(name, code)
    result = evaluation.measure(evaluation.config(**fields), method, artefacts, on_images)
    return result | {"device": device_name(artefacts.device), "versions": versions()}
