"""The command line of White Box: parse, dispatch, nothing else."""

import argparse
import codecs
import io
import json
import os
import sys
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

from attribution import (
    ANY_MODEL_METHODS,
    BASELINES,
    ENSEMBLES,
    LAYER_METHODS,
    LEVEL,
    METHODS,
    SAMPLES,
    STEPS,
    canonical_ensemble,
    canonical_method,
)
from common.errors import InputError
from common.imports import is_user_code
from common.parsing import number, positive
from data import DATA_DIR, DATASETS, GENERATED
from data.folders import TARGET_PREFIX
from evaluation import CONTROL_CURVES, EVALUATIONS
from evaluation.configs import CONFIGS
from evaluation.options import defaults_of, options_of
from evaluation.runs import MaskOptions
from models import ATTENTIONS, OPTIONS
from training import VALIDATION_RATE

if TYPE_CHECKING:
    from experiments.request import Request

ALL = "all"
NONE = "none"
STOPPED, UNREAD = 130, 141  # as a shell has it of SIGINT and SIGPIPE
PLAIN = {  # of the letters that we write, those that have a usual spelling in ASCII
    letter: word
    for letters, word in (
        *(("±", "+/-"), ("×", "x"), ("−–—▼", "-"), ("▲", "+"), ("·†", "*"), ("≈", "~"), ("≥", ">="), ("≤", "<=")),
        *(("→", "->"), ("↑", "^"), ("↓", "v"), ("‖", "||"), ("‘’", "'"), ("“”", '"'), ("√", "sqrt"), ("Σ", "sum")),
        *(("α", "alpha"), ("β", "beta"), ("δ", "delta"), ("σ", "sigma"), ("φ", "phi"), ("ø", "o"), ("ß", "ss")),
    )
    for letter in letters
}


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"main.py: {message} (main.py --help lists the options)\n")


def one_or_more(canonical: Callable[[str], str], everything: Sequence[str]) -> Callable[[str], tuple[str, ...]]:
    """An argument type for `a`, `a,b` or `all`."""

    def names(text: str) -> tuple[str, ...]:
        if text == ALL:
            return tuple(everything)
        try:
            return tuple(dict.fromkeys(canonical(name) for name in text.split(",")))
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return names


def among(what: str, known: Sequence[str]) -> Callable[[str], str]:
    def name(text: str) -> str:
        found = {one.lower(): one for one in known}.get(text.lower())
        if found is None:
            raise InputError(f"unknown {what} {text!r}: choose from {', '.join(known)}, {ALL}")
        return found

    return name


def evaluation(text: str) -> str:
    return text if is_user_code(text) else among("evaluation", EVALUATIONS)(text)


def target(text: str) -> str:
    return text if text.startswith(TARGET_PREFIX) else among("target", (*DATASETS, *GENERATED))(text)


def ensemble(text: str) -> str:
    return NONE if text.lower() == NONE else canonical_ensemble(text)


def json_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except json.JSONDecodeError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"""{text!r} is no JSON object such as '{{"n_samples": 20}}'""")
    return found


def own_model(text: str) -> str:
    if ":" not in text:
        raise argparse.ArgumentTypeError(f"{text!r} is not package.module:factory or file.py:factory")
    return text


def value(parse: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the argument type of a parser that raises `InputError`."""

    def parsed(text: str) -> Any:
        try:
            return parse(text)
        except InputError as error:
            raise argparse.ArgumentTypeError(str(error)) from error

    return parsed


def add_options(group: Any, config: Any, known: set[str]) -> None:
    """Add a flag for each option of a configuration, but those that are `known` already."""
    for name, option in options_of(config).items():
        if name in known:
            continue
        known.add(name)
        default = defaults_of(config)[name]
        text = option.help + (f" (default: {option.usual or default})" if default not in (False, ()) else "")
        facts: dict[str, Any] = {"help": text, "default": None}
        if isinstance(default, bool):
            facts["action"] = "store_true"
        else:
            facts |= {"type": value(option.parse or str), "metavar": option.metavar, "choices": option.choices or None}
        group.add_argument(f"--{name.replace('_', '-')}", **facts)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="main.py",
        description="Train image classifiers, explain them, and measure which explanations can be trusted.",
        epilog="What a command needs and does not find (data, trained model, maps) it makes first, and keeps.",
        allow_abbrev=False,
    )
    whole, share = value(positive), value(number(float, 0, 1))

    commands = parser.add_argument_group("what to do (one of them)")
    command = commands.add_mutually_exclusive_group(required=True)
    command.add_argument("--train", action="store_true", help="train the classifier and report its test accuracy")
    command.add_argument("--saliency", action="store_true", help="write the maps of a method for a whole data set")
    command.add_argument(
        "--report",
        action="store_true",
        help="tables, figures and a page of all that is finished, beside the original's",
    )
    command.add_argument(
        "--reproduce",
        action="store_true",
        help="everything that the published tables need, one command after the other; with --quick in small",
    )
    command.add_argument(
        "--eval",
        metavar="NAME",
        type=one_or_more(evaluation, EVALUATIONS),
        help=f"evaluate methods: {', '.join(EVALUATIONS)}, several with commas, or {ALL}; or PACKAGE.MODULE:NAME or "
        "FILE.py:NAME of your own",
    )

    on_what = parser.add_argument_group("on what")
    on_what.add_argument(
        "--target",
        metavar="NAME",
        type=one_or_more(target, DATASETS),
        help=f"data set: {', '.join(DATASETS)}, several with commas, or {ALL} (default: mnist); or planted, a test of "
        f"evaluations; or {TARGET_PREFIX}PATH, images of your own, a folder for each class",
    )
    on_what.add_argument(
        "--attention",
        metavar="NAME",
        type=one_or_more(among("attention", (NONE, *ATTENTIONS)), (NONE, *ATTENTIONS)),
        default=(NONE,),
        help=f"model: {NONE} (SimpleCNN), {', '.join(ATTENTIONS)}, several with commas, or {ALL} (default: {NONE})",
    )
    on_what.add_argument(
        "--model",
        metavar="PLACE",
        type=own_model,
        help="a model of your own instead of --attention, as PACKAGE.MODULE:FACTORY or FILE.py:FACTORY: what "
        "FACTORY(shape, classes) returns, a torch.nn.Module that maps (N, C, H, W) to logits (N, classes)",
    )
    for attention, (option, values) in OPTIONS.items():
        on_what.add_argument(
            f"--{option}",
            type=int,
            choices=values,
            help=f"{option} of {attention}: {' or '.join(map(str, values))} (default: {values[0]})",
        )
    on_what.add_argument(
        "--method",
        metavar="NAME",
        type=one_or_more(canonical_method, ANY_MODEL_METHODS),
        default=ANY_MODEL_METHODS,
        help=f"attribution method: {', '.join(METHODS)}, several with commas, or {ALL} but CAM (default: {ALL}); or "
        "PACKAGE.MODULE:NAME or FILE.py:NAME of your own or of another library",
    )
    on_what.add_argument(
        "--method-args",
        metavar="JSON",
        type=json_object,
        default={},
        help="arguments of PACKAGE.MODULE:NAME, of its constructor or its attribute(): a JSON object such as "
        """'{"sliding_window_shapes": [3, 4, 4]}'; of one of several methods: '{"PACKAGE.MODULE:NAME": {...}}'""",
    )
    on_what.add_argument(
        "--layer",
        metavar="NAME",
        help=f"the layer that {', '.join(LAYER_METHODS)} and other people's methods of a layer look at, by its name in "
        "named_modules() (default: the last convolution block)",
    )

    on_what.add_argument(
        "--ensemble",
        metavar="NAME",
        type=one_or_more(ensemble, (NONE, *ENSEMBLES)),
        default=(NONE,),
        help=f"around each method: {NONE}, {', '.join(ENSEMBLES)}, several with commas, or {ALL} (default: {NONE})",
    )
    on_what.add_argument(
        "--steps", metavar="N", type=whole, default=STEPS, help="steps of the integral of IG (default: %(default)s)"
    )
    on_what.add_argument(
        "--baseline", choices=BASELINES, default=BASELINES[0], help="where the path of IG begins (default: %(default)s)"
    )
    on_what.add_argument(
        "--samples", metavar="N", type=whole, default=SAMPLES, help="noisy copies of an ensemble (default: %(default)s)"
    )
    on_what.add_argument(
        "--level",
        metavar="X",
        type=value(number(float, 0)),
        default=LEVEL,
        help="noise of an ensemble, as a share of each image's range (default: %(default)s)",
    )

    training = parser.add_argument_group("training and retraining (defaults: the recipe of the data set and model)")
    training.add_argument("--epochs", metavar="N", type=whole, help="passes over the training images")
    training.add_argument("--batch-size", "--batch_size", metavar="N", type=whole, help="images per step")
    training.add_argument(
        "--lr",
        metavar="X",
        type=value(number(float, 0, low_counts=False)),
        help="peak of the one-cycle learning rate",
    )
    training.add_argument(
        "--small-epochs",
        metavar="N",
        type=value(number(int, 0)),
        help="the first N epochs see images at half of their size, which is four times as fast (default: the recipe's; "
        "0 where --epochs is given)",
    )
    training.add_argument(
        "--seeds",
        metavar="N",
        type=whole,
        default=1,
        help="train with the seeds 0 … N−1 (default: %(default)s)",
    )
    training.add_argument(
        "--valid-rate",
        "--valid_rate",
        metavar="X",
        type=share,
        default=VALIDATION_RATE,
        help="share of the training images that --train holds out to show progress (default: %(default)s)",
    )
    training.add_argument("--limit-train", metavar="N", type=whole, help="use N training images (default: all)")
    training.add_argument(
        "--limit-test",
        metavar="N",
        type=whole,
        help="use N test images in evaluations (default: all; of selectivity: a tenth)",
    )
    training.add_argument("--quick", action="store_true", help="fewer images, epochs and ratios: minutes on two cores")

    training.add_argument(
        "--resume",
        action="store_true",
        help="go on with the training of a classifier that was interrupted, from its last whole epoch",
    )

    training.add_argument(
        "--tensorboard", action="store_true", help="write loss, learning rate and accuracy per epoch for TensorBoard"
    )

    reports = parser.add_argument_group("reports")
    reports.add_argument(
        "--publish",
        action="store_true",
        help="with --report: gather what is finished in results/published; write its tables and the README's numbers",
    )

    known = {"limit_test"}
    for title, configs in CONFIGS.items():
        group = parser.add_argument_group(title)
        for config in configs:
            add_options(group, config, known)
        if MaskOptions in configs:
            group.add_argument(
                "--control",
                choices=CONTROL_CURVES,
                help="for each method another curve, of its maps blurred (default: none)",
            )

    running = parser.add_argument_group("running")
    running.add_argument(
        "--device", metavar="NAME", default="auto", help="auto, cpu, cuda, cuda:N (default: %(default)s)"
    )
    running.add_argument(
        "--jobs",
        metavar="N",
        type=whole,
        help="networks that are retrained, or methods that are measured, side by side, a process each (default: one "
        "for each core; on a GPU one)",
    )
    running.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        default=DATA_DIR,
        help="data sets, in torchvision's layout (default: %(default)s)",
    )
    running.add_argument(
        "--output-dir",
        metavar="DIR",
        type=Path,
        default=Path(),
        help="where checkpoints, saliency_maps and results lie (default: here)",
    )
    running.add_argument("--dry-run", action="store_true", help="say what would be done, and write nothing")
    running.add_argument("--overwrite", action="store_true", help="do again what is finished")
    return parser


def plainly(error: UnicodeError) -> tuple[str, int]:
    """Write what a stream can't encode in ASCII: the `codecs` error handler `plainly`."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(_plain, error.object[error.start : error.end])), error.end


def _plain(letter: str) -> str:
    """A letter by its usual spelling, else without its accent, else by its number."""
    if letter in PLAIN:
        return PLAIN[letter]
    bare = unicodedata.normalize("NFKD", letter).encode("ascii", "ignore").decode()
    return bare or letter.encode("ascii", "backslashreplace").decode()


def set_up_streams() -> None:
    """Let stdout and stderr write what their terminal can show, whatever its encoding; nothing changes for UTF-8."""
    codecs.register_error("plainly", plainly)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # others have no encoding, or are None
            stream.reconfigure(errors="plainly")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 2 for a wrong input, 130 when interrupted, or 141 when nobody reads on."""
    set_up_streams()
    try:
        try:
            return run_command(arguments)
        finally:
            flush()
    except BrokenPipeError:
        silence(sys.stdout, sys.stderr)
        return UNREAD


def flush() -> None:
    """Write what is left now, while it can still be said that it fails."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None and not stream.closed:
                stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        silence(sys.stdout)
        sys.exit(fail(f"stdout: {error.strerror}"))


def silence(*streams: TextIO | None) -> None:
    """Send what is still to be written nowhere: Python would try again at its end, and complain."""
    for stream in streams:
        with suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
            if stream is not None:
                os.dup2(nowhere.fileno(), stream.fileno())


def request_of(namespace: argparse.Namespace) -> "Request":
    """Return the request of a parsed command line."""
    from experiments.request import Request

    values = vars(namespace)
    names = {one.name for one in fields(Request)} - {"options"}
    given = {name: value for name, value in values.items() if name in names}
    options = {name: value for name, value in values.items() if name not in names}
    return Request(**given | {"eval": namespace.eval or ()}, options=options)


def run_command(arguments: Sequence[str] | None) -> int:
    """Parse and run one command; return the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        from experiments.commands import reproduce, run  # the heavy imports come after a wrong argument was answered

        if options.reproduce:
            reproduce(request_of(options), lambda words: request_of(parser.parse_args(words)))
        else:
            run(request_of(options))
    except InputError as error:
        return fail(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        if error.errno is None:
            raise
        return fail(f"{error.filename or 'file'}: {error.strerror}")
    except KeyboardInterrupt:
        command = "the same command without --overwrite" if options.overwrite else "the same command"
        print(f"\nmain.py: stopped; {command} goes on where it stopped (a training: with --resume)", file=sys.stderr)
        return STOPPED
    return 0


def fail(message: str) -> int:
    print(f"main.py: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
