"""The library speaks of parameters, the command line of options."""

import pytest
import typer.main

from lowdim import cli
from lowdim.cli import _voice
from lowdim.errors import InputError, UsageError


@pytest.fixture
def running():
    """Lets a command run, as far as its messages can tell."""

    def use(name):
        command = typer.main.get_command(cli.app).commands[name]
        _voice.use({parameter.name: parameter for parameter in command.params})

    yield use
    _voice.use({})


@pytest.mark.parametrize(
    ("command", "message", "told"),
    [
        ("finetune", "Use `layer`.", "Use --layer."),
        ("finetune", '`batch_norm="batch"` goes with `method="full"`.', "--batch-norm batch goes with --method full."),
        ("finetune", '`also=["lp-ft", "full"]`', "--also lp-ft --also full"),
        ("finetune", "`watch=True` or `views=3`", "--watch or --views 3"),
        ("finetune", "`prompts`", "--prompt"),
        ("finetune", "`weights=FILE`", "--weights FILE"),
        ("finetune", "`model.named_modules()`", "--list-layers"),
        ("finetune", "`bias` and `x=3` are no options", "`bias` and `x=3` are no options"),
        ("measure", "another `folder`, or `pools=['avg', 'cls']`", "another --out, or --pool avg --pool cls"),
        ("measure", "`layers='blocks.*'`", "--layers 'blocks.*'"),
        ("measure", "`mean=[0.5, 0.5, 0.5]`", "--mean 0.5,0.5,0.5"),
        ("rank", "`probe=False`", "--no-probe"),
        ("complete", "`scale=False`, `random_state=1`", "--no-scale, --seed 1"),
        ("check", "`names=NAME,NAME`", "--weights NAME,NAME"),
        ("reproduce", "`iterations=20000`, `full=True`", "--set iterations=20000, --full"),
    ],
)
def test_parameters_of_the_running_command_become_its_options(running, command, message, told):
    running(command)
    assert _voice.in_flags(message) == told


def test_a_value_of_another_command_is_told_as_its_option() -> None:
    commands = typer.main.get_command(cli.app).commands  # pyright: ignore[reportAttributeAccessIssue]
    others = {one.name: one for command in commands.values() for one in command.params}
    _voice.use({one.name: one for one in commands["export"].params}, others)
    try:
        assert _voice.in_flags('tune with `method="layer"`') == "tune with --method layer"
        assert (
            _voice.in_flags("`task=regression`, which `measure` and `rank` know")
            == "--task regression, which `measure` and `rank` know"
        )
        assert _voice.in_flags("`probe` and `torch.load` and `y=3`") == "`probe` and `torch.load` and `y=3`"
    finally:
        _voice.use({})


def test_without_a_command_the_library_is_left_as_it_is(running):
    assert _voice.in_flags("`layer`") == "`layer`"


def test_an_error_that_knows_its_argument_puts_the_option_in_front(running):
    running("measure")
    assert _voice.spoken(UsageError("7 is odd.", argument="pools")) == "--pool: 7 is odd."
    assert _voice.spoken(UsageError("`pools` is odd.", argument="pools")) == "--pool is odd."
    assert _voice.spoken(InputError("7 is odd.", argument="elsewhere")) == "7 is odd."
    assert _voice.spoken(InputError("7 is odd.")) == "7 is odd."


def test_sentences_of_a_result_are_told_in_options_and_values_are_not(running):
    running("rank")
    result = {"config": {"notes": ["`by`"]}, "warnings": ["`by`"], "classes": [{"name": "`by`"}], "failed": [{"error": "`by`"}]}  # fmt: skip
    assert _voice.result_in_flags(result) == result | {"warnings": ["--by"], "failed": [{"error": "--by"}]}


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("rank --data digits --models a,b", "a,b does not exist. Networks are named so: --model a --model b.\n"),
        ("advise --data digits --models zoo", "zoo does not exist. Networks are named so: --model zoo.\n"),
        ("advise --data digits --model a,b", "FILE.py:FUNCTION. Several are given one by one: --model a --model b.\n"),
        ("reproduce a,b", " Several are given one by one: a b.\n"),
        ("finetune --also lp-ft,full", "'norm'. Several are given one by one: --also lp-ft --also full. See: "),
        ("measure --model digits,x --data digits", "FILE.py:FUNCTION.\n"),
    ],
)
def test_how_to_give_several_is_said_where_they_were_joined_by_commas(typed, told, capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lowdim", *typed.split()])
    with pytest.raises(SystemExit):
        cli.main()
    assert told in capsys.readouterr().err
