"""An option that has no effect on a command is refused; one that a part of the command uses is taken."""

import pytest

import main
from common.errors import InputError
from evaluation.options import options_of
from evaluation.sanity import Sanity
from experiments.options import GROUPS
from experiments.reproduction import steps
from experiments.usage import USERS, require_options_are_used, users_of

IDLE = {
    "--eval=selectivity --ratios=0.5": "--ratios is for --eval=ROAR,KAR,ROAD,F-Fidelity,insertion-deletion,learned,",
    "--eval=sanity --mask-split=train": "--mask-split is for --eval=ROAR,KAR",
    "--eval=ROAD --epochs=3": "--epochs is for --train or --eval=ROAR,KAR",
    "--eval=F-Fidelity,sanity --lr=0.1": "--lr is for --train or --eval=ROAR,KAR",
    "--eval=ROAD --alpha=0.3": "--alpha is for --eval=F-Fidelity",
    "--eval=ROAD --removals=9": "--removals is for --eval=selectivity,trust",
    "--eval=sanity --map-dtype=float16": "--map-dtype is for --saliency or --eval=ROAR",
    "--eval=trust --seeds=2": "--seeds is for --train or --eval=ROAR",
    "--eval=trust --draws=2": "--draws is for --eval=F-Fidelity",
    "--eval=tests.test_usage:Stages --ratios=0.5": "--ratios is for --eval=ROAR",
    "--saliency --batch-size=9": "--batch-size is for --train or --eval=ROAR,KAR",
    "--saliency --rank=square": "--rank is for --eval=",
    "--train --method=GC": "--method is for --saliency or --eval",
    "--train --method=all": "--method is for --saliency or --eval",
    "--train --jobs=2": "--jobs is for --reproduce or --eval",
    "--eval=ROAD --dry-run --gpus-per-task=2": "--gpus-per-task is for --engine=ray",
    "--eval=selectivity --dry-run --target=planted --removals=30 --share=0.05": "more than an image's",
    "--eval=trust --dry-run --target=planted --limit-test=1": "1 image: an answer needs 10 or more",
    "--eval=trust --dry-run --target=planted --removals=21": "more than an image's",
    "--train --limit-test=9": "--limit-test is for --saliency or --eval",
    "--report --jobs=2": "--jobs is for --reproduce or --eval",
    "--report --method=GC": "--method is for --saliency or --eval",
    "--reproduce --target=mnist": "--target is for --train, --saliency, --report or --eval",
    "--reproduce --overwrite": "--overwrite is for --train, --saliency or --eval",
    "--eval=ROAD --method=GC --steps=9": "--steps is for --method=IG",
    "--eval=ROAR --method=GC --seeds=2 --mask-seeds=3": "--mask-seeds=3 is more than --seeds=2",
    "--saliency --method=GC --samples=9": "give --ensemble=NAME too",
}
USED = [
    "--eval=ROAD,F-Fidelity --seeds=3 --alpha=0.3",
    "--eval=ROAD,selectivity --ratios=0.5 --order=least",
    "--eval=ROAD,ROAR --epochs=3",
    "--eval=trust --ratios=0.5 --removals=3 --stages=2 --steps=9 --samples=9 --limit-test=20",
    "--eval=coherence --index=3 --explain=label",
    "--eval=tests.test_usage:Stages --stages=3 --seeds=2 --explain=label",
    "--saliency --map-dtype=float16 --limit-train=9 --ensemble=SG --method=GC --samples=3",
    "--eval=ROAR --method=VBP --control=blur --mask-split=train",
    "--report --target=mnist --quick --dry-run",
    "--reproduce --quick --dry-run --jobs=2",
]


class Stages(Sanity):
    """An evaluation of the user's own, with the options of another."""

    name = "stages"


def request(command: str):
    return main.request_of(main.build_parser().parse_args(command.split()))


@pytest.mark.parametrize("command", IDLE)
def test_an_option_without_effect_is_one_line(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main.main(command.split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert IDLE[command] in line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("command", USED)
def test_an_option_that_a_part_of_the_command_uses_is_taken(command):
    require_options_are_used(request(command))


@pytest.mark.parametrize("quick", [False, True])
def test_the_commands_of_the_published_tables_use_their_options(quick):
    for words in steps(quick):
        require_options_are_used(request(" ".join(words)))


def test_each_option_has_its_users():
    for config in (config for configs in GROUPS.values() for config in configs):
        assert USERS[config]
        for name in options_of(config):
            assert users_of(name), name


def test_the_python_interface_refuses_it_too():
    import whitebox

    with pytest.raises(InputError, match="--epochs is for --train or --eval=ROAR,KAR"):
        whitebox.evaluate("SimpleCNN", dataset="planted", methods=["VBP"], evaluation="ROAD", epochs=3)
