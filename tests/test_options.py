"""An option is one field: its flag, help, record, file name and note come from it."""

import argparse
from dataclasses import dataclass

import pytest

from common.parsing import number
from evaluation.configs import CONFIGS, RemovalConfig, SelectivityConfig
from evaluation.options import defaults_of, from_record, notes_of, option, options_of, record_of, words_of
from evaluation.runs import MaskOptions, RetrainingConfig, Run
from main import add_options, build_parser
from training.recipe import recipe_for


@dataclass(frozen=True)
class WithSigma(MaskOptions):
    """The options of masks with one more field, as docs/architecture.md has it."""

    blur_sigma: float = option(
        2.0,
        "width of the blur, in pixels",
        parse=number(float, 0),
        metavar="X",
        is_new=True,
        word="blur-{:g}",
        note="Blurred by σ = {:g} pixels.",
    )


def test_a_new_field_is_a_flag_a_record_a_word_and_a_note():
    parser = argparse.ArgumentParser()
    add_options(parser, WithSigma, set())
    assert parser.parse_args(["--blur-sigma=3"]).blur_sigma == 3.0
    assert "width of the blur, in pixels (default: 2.0)" in " ".join(parser.format_help().split())
    with pytest.raises(SystemExit):
        parser.parse_args(["--blur-sigma=-1"])
    assert record_of(WithSigma()) == record_of(MaskOptions())  # older records keep their hashes
    changed = WithSigma(blur_sigma=3.0)
    assert record_of(changed) == record_of(MaskOptions()) | {"blur_sigma": 3.0}
    assert WithSigma(**from_record(WithSigma, record_of(changed))) == changed
    assert WithSigma(**from_record(WithSigma, record_of(MaskOptions()))) == WithSigma()
    assert words_of(changed) == ["blur-3"]
    assert notes_of(changed) == " Blurred by σ = 3 pixels."
    assert words_of(WithSigma()) == [] == list(notes_of(WithSigma()))


def test_records_keep_the_names_of_format_1():
    run = RetrainingConfig("ROAR", "mnist", None, (), recipe_for("mnist")).baseline("data", 0)
    record = run.configuration()
    assert {"dataset_sum", "checkpoint_sum", "sees"} <= set(record)
    assert Run.of(record) == run
    removal = RemovalConfig("F-Fidelity", alpha=0.3, beta=0.2)
    assert {"share": 0.3, "most": 0.2}.items() <= record_of(removal).items()
    assert record_of(SelectivityConfig(9, order="LeRF"))["order"] == "least"
    assert from_record(SelectivityConfig, {"order": "least"}) == {"order": "LeRF"}


def test_every_option_of_an_evaluation_is_on_the_command_line_once():
    flags = [flag for action in build_parser()._actions for flag in action.option_strings]
    assert len(flags) == len(set(flags))
    for configs in CONFIGS.values():
        for config in configs:
            for name in options_of(config):
                assert f"--{name.replace('_', '-')}" in flags
                assert options_of(config)[name].help
            assert defaults_of(config).keys() == options_of(config).keys()


@pytest.mark.parametrize("order", ["most", "MoRF", "morf", "least", "LeRF"])
def test_the_order_of_removal_has_two_spellings(order):
    options = build_parser().parse_args(["--eval=selectivity", f"--order={order}"])
    assert options.order == ("LeRF" if order.lower().startswith("l") else "MoRF")
