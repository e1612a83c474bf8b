"""What a command loads before its first word, as names of modules and not as seconds."""

import importlib
import inspect

import pytest
import typer

from iaa.cli import verbs
from tests.iaa.conftest import run_python

HEAVY = (
    "torch", "torchvision", "timm", "open_clip", "onnx", "onnxruntime", "transformers", "sklearn", "scipy",
    "pandas", "pyarrow", "matplotlib", "PIL", "fastapi", "uvicorn", "lxml", "pydantic",
)  # fmt: skip
ARRAYS = ("numpy", "h5py", "jaxtyping")
SHELL = ("pyarrow", "typer", "rich", "embed", "analysis", "store", *ARRAYS)
KNOWN_BY_ARRAYS = ("dataset", "export", "import")
"""Whose help names the kinds of data sets or the formats, as the modules that read and write them say."""


def loaded_by(*arguments):
    """Answer of `iaa` with these arguments, and the packages that it had loaded at its end."""
    code = (
        "import atexit, sys\n"
        "tell = lambda: print(*sorted({m for m in sys.modules if '.' not in m}), file=sys.stderr)\n"
        f"atexit.register(tell); sys.argv = ['iaa', *{arguments!r}]\n"
        "from iaa.__main__ import main\nmain()"
    )
    done = run_python(code)
    return done.stdout, set(done.stderr.splitlines()[-1].split())


def words_of(verb):
    """A verb by its words: those of two words by their last ones, too."""
    loaded = verbs.load(verb)
    return [[verb], *([verb, second] for second in getattr(loaded, "commands", {}))]


@pytest.mark.parametrize("verb", ["", *verbs.LINES])
def test_help_loads_nothing_that_computes(verb):
    """One process per verb asks for the help of it and of all that is below it."""
    asked = [[*words, "--help"] for words in (words_of(verb) if verb else [[]])]
    code = (
        "import contextlib, sys\nfrom iaa.cli.app import main\n"
        f"for words in {asked!r}:\n"
        "    with contextlib.suppress(SystemExit):\n        main(words)\n"
        "print(*sorted({m for m in sys.modules if '.' not in m}), file=sys.stderr)"
    )
    done = run_python(code)
    loaded = set(done.stderr.splitlines()[-1].split())
    assert done.stdout.count("Usage: iaa") == len(asked)
    assert not loaded.intersection(HEAVY)
    assert verb in KNOWN_BY_ARRAYS or not loaded.intersection(ARRAYS)


def test_the_help_of_all_verbs_loads_the_module_of_none():
    code = (
        "import contextlib, sys\nfrom iaa.cli.app import main\n"
        "with contextlib.suppress(SystemExit):\n    main(['--help'])\n"
        "print(*sorted(m for m in sys.modules if m.startswith('iaa.cli.')), file=sys.stderr)"
    )
    done = run_python(code)
    assert done.stderr.split() == ["iaa.cli.app", "iaa.cli.console", "iaa.cli.verbs"]
    assert all(f" {verb} " in done.stdout for verb in verbs.LINES)


def test_the_table_of_verbs_says_what_the_modules_say():
    """A verb's line is the first paragraph of its command, a module has no verb that the table lacks."""
    found = set()
    for verb in verbs.LINES:
        loaded = verbs.load(verb)
        if isinstance(loaded, typer.core.TyperGroup):
            assert verb not in verbs.COMMANDS.split() and loaded.help == verbs.LINES[verb]
            continue
        first = inspect.cleandoc(loaded.help).split("\n\n")[0]
        assert " ".join(first.split()) == verbs.LINES[verb]
        found.add((verbs.MODULES[verb], verb))
    for module, verb in found:
        there = importlib.import_module(f"iaa.cli.{module}").verbs.registered_commands
        assert {(module, each.name) for each in there} == {each for each in found if each[0] == module}, verb


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A data root with one small sealed file."""
    import numpy as np

    from store import Targets, write_targets

    root = tmp_path_factory.mktemp("data")
    ids = np.array(["a", "b"])
    targets = Targets(ids, ids, None, None, None, 0.0, np.array(["", ""]), "none", "mine")
    write_targets(root / "mine/targets.h5", targets, {"images": "0" * 64}, {"kind": "folder"})
    return root


@pytest.mark.parametrize(
    "arguments, without",
    [
        (["dataset", "list"], ("h5py",)),
        (["info", "{}/mine/targets.h5"], ()),
        (["verify", "{}"], ()),
        (["head", "list"], ()),
        (["backbone", "list"], ARRAYS),
        (["rate", "show", "-d", "mine"], ()),
    ],
)
def test_a_small_question_loads_nothing_that_it_does_not_need(arguments, without, data):
    words = [word.format(data) for word in arguments]
    answer, loaded = loaded_by(*words, *([] if arguments[0] == "backbone" else ["--data", str(data)]))
    assert answer and not loaded.intersection({*HEAVY, *without})


def test_a_mistyped_backbone_is_answered_by_the_first_process_without_arrays(tmp_path):
    """Typed at a shell, where `embed` starts a process of its own for what decodes."""
    code = (
        "import atexit, os, subprocess, sys\n"
        "def refuse(*a, **k): raise AssertionError('a process was started')\n"
        "subprocess.Popen = os.fork = refuse\n"
        "tell = lambda: print(*sorted({m for m in sys.modules if '.' not in m}))\n"
        "atexit.register(tell)\n"
        f"sys.argv = 'iaa embed -d demo -b vit_b23.openai --data'.split() + [{str(tmp_path)!r}]\n"
        "from iaa.__main__ import main\nmain()"
    )
    done = run_python(code)
    assert done.returncode == 1 and done.stderr.endswith("Try: iaa backbone list\n"), done.stderr
    assert not set(done.stdout.split()).intersection(HEAVY + ARRAYS)


def test_the_version_is_told_by_the_standard_library_alone():
    answer, loaded = loaded_by("--version")
    assert not loaded.intersection(HEAVY + SHELL)
    whole, loaded = loaded_by("--verbose", "--version")
    assert answer == whole and answer.startswith("iaa ") and "typer" in loaded


@pytest.mark.parametrize("package", ["iaa", "store", "iaa.library.names"])
def test_a_package_is_there_at_once(package):
    code = f"import sys, {package}; print(*{{m for m in sys.modules if '.' not in m}})"
    done = run_python(code)
    assert done.returncode == 0 and not set(done.stdout.split()).intersection(HEAVY + ARRAYS)


def test_every_name_of_the_store_is_there_and_no_other():
    import store

    assert all(getattr(store, name).__name__ == name for name in store.__all__)
    with pytest.raises(AttributeError, match=r"no attribute 'open_featurs'; it has BusyError"):
        store.open_featurs  # noqa: B018
