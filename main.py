"""The command line of White Box: parse, dispatch, nothing else."""

import argparse
import sys
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

INSTALL = "is not installed: type `make .venv/run` and `. .venv/bin/activate`, and the same command again"

try:
    from common.errors import InputError
    from common.interrupts import lasting_interrupts
    from common.parsing import ALL, one_or_more
    from common.terminal import set_up_streams, silence
    from evaluation import EVALUATIONS, TRUST
    from evaluation.options import defaults_of, options_of
    from experiments.options import GROUPS, evaluation_name
except ModuleNotFoundError as missing:
    print(f"main.py: {missing.name} {INSTALL}", file=sys.stderr)
    sys.exit(2)

if TYPE_CHECKING:
    from experiments.request import Request

COMMANDS = {
    "train": "train the classifier and report its test accuracy",
    "saliency": "write the maps of a method for a whole data set",
    "report": "tables, figures and a page of all that is finished, beside the original's",
    "reproduce": "everything that the published tables need, one command after the other; with --quick in small",
}
ORIGINAL_SPELLINGS = ("batch_size", "valid_rate")
STOPPED, UNREAD = 130, 141  # as a shell has it of SIGINT and SIGPIPE


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            words = [word for word in rest if not word.startswith("-")]
            hint = ": several values have commas between them and no spaces, as in --method=VBP,GC" if words else ""
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return options

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"main.py: {message} (main.py --help lists the options)\n")


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
        text = option.help + (f" (default: {option.usual or default})" if default not in (None, False, ()) else "")
        facts: dict[str, Any] = {"help": text, "default": None}
        if isinstance(default, bool):
            facts["action"] = "store_true"
        else:
            facts |= {"type": value(option.parse or str), "metavar": option.metavar, "choices": option.choices or None}
        spellings = [f"--{name.replace('_', '-')}", *([f"--{name}"] if name in ORIGINAL_SPELLINGS else [])]
        group.add_argument(*spellings, **facts)


def build_parser() -> argparse.ArgumentParser:
    parser = Parser(
        prog="main.py",
        description="Train image classifiers, explain them, and measure which explanations can be trusted.",
        epilog="What a command needs and does not find (data, trained model, maps) it makes first, and keeps.",
        allow_abbrev=False,
    )
    commands = parser.add_argument_group("what to do (one of them)").add_mutually_exclusive_group(required=True)
    for name, text in COMMANDS.items():
        commands.add_argument(f"--{name}", action="store_true", help=text)
    commands.add_argument(
        "--eval",
        metavar="NAME",
        type=value(one_or_more(evaluation_name, EVALUATIONS)),
        help=f"evaluate methods: {', '.join(EVALUATIONS)}, several with commas, or {ALL}; or {TRUST}, the answer that "
        "those without retraining give together; or PACKAGE.MODULE:NAME or FILE.py:NAME of your own",
    )
    known: set[str] = set()
    for title, configs in GROUPS.items():
        group = parser.add_argument_group(title)
        for config in configs:
            add_options(group, config, known)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit status is 0, 2 for a wrong input, 130 when interrupted, or 141 when nobody reads on."""
    set_up_streams()
    try:
        try:
            with lasting_interrupts():
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


def request_of(namespace: argparse.Namespace) -> "Request":
    """Return the request of a parsed command line."""
    from experiments.request import Request

    return Request.of(vars(namespace))


def load_commands() -> ModuleType:
    """Import what carries out commands: heavy modules, which come after a wrong argument was answered."""
    try:
        from experiments import commands
    except ModuleNotFoundError as missing:
        raise InputError(f"{missing.name} {INSTALL}") from missing
    return commands


def run_command(arguments: Sequence[str] | None) -> int:
    """Parse and run one command; return the exit status."""
    parser = build_parser()
    options = parser.parse_args(arguments)
    try:
        commands = load_commands()
        if options.reproduce:
            commands.reproduce(request_of(options), lambda words: request_of(parser.parse_args(words)))
        else:
            commands.run(request_of(options))
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
        again = "with --resume the same command goes on" if options.train else f"{command} goes on"
        hint = "" if options.train else " (a training: with --resume)"
        print(f"\nmain.py: stopped; {again} where it stopped{hint}", file=sys.stderr)
        return STOPPED
    return 0


def fail(message: str) -> int:
    print(f"main.py: {' '.join(message.split())}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
