"""Names from elsewhere on a terminal: shown, never obeyed; no encoding or closed pipe ends the program."""

import json
import os
import pty
import re
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest

from iaa.cli.console import answer_json, answer_table, note
from iaa.library.plain import clean, clean_lines
from iaa.library.table import Table
from store import Targets, write_targets
from store.features import FEATURES_SCHEMA
from store.sealed import write_sealed

REPOSITORY = Path(__file__).resolve().parents[2]
NAMES = [
    "A.jpg", "cafe\u0301.jpg", "\u5199\u771f.jpg", "\x1b[2J\x1b]0;owned\x07.jpg", "\x9b31mred.jpg",
    "evil\u202egpj.exe", "two\nlines\r.jpg", "error: fake", "not utf8 \udcff\udce9.jpg", "tab\t.jpg",
    "zero\u200bwidth.jpg",
    ":cat: [red]b[/red].jpg", "\U000e0041tag.jpg", "line\u2028end.jpg",
    "\U0001f468\u200d\U0001f469.jpg", "x" * 300,
]  # fmt: skip
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200b\u2028\u2029\ud800-\udfff]")
ENCODINGS = ["utf-8:strict", "ascii:strict", "latin-1:surrogateescape"]


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Features of images with such names, in a data set of its own; one failed for such a reason."""
    root = tmp_path_factory.mktemp("data")
    ids = np.array(NAMES)
    empty = np.full(len(ids), "", "U5")
    targets = Targets(ids, ids, None, None, None, 0.0, empty, "none", "x")
    write_targets(root / "x" / "targets.h5", targets, {}, {})
    vectors = np.random.default_rng(0).standard_normal((len(ids), 4)).astype(np.float32)
    status = np.ones(len(ids), np.uint8)
    status[3], vectors[3] = 2, np.nan
    arrays = {
        "image_id": ids, "status": status, "outputs/embedding": vectors,
        "failures/row": np.array([3]), "failures/reason": np.array(["cannot read \x1b[31m\udcff"]),
    }  # fmt: skip
    identity = {"backbone": "y", "note": "\x1b[2J\u202e\udcff"}
    write_sealed(root / "x" / "features" / "y.h5", FEATURES_SCHEMA, identity, {"a": "\x9b1m"}, arrays)
    return root


def iaa(root: Path, *arguments: object, redirect: str = "", **environment: str | None):
    """`iaa` in a process of its own, through a shell where its streams are redirected."""
    variables = {**os.environ, "IAA_DATA": str(root), "PYTHONPATH": str(REPOSITORY), **environment}
    words = [sys.executable, "-m", "iaa", *(os.fsencode(str(a)) for a in arguments)]
    if redirect:
        words = ["bash", "-o", "pipefail", "-c", f'"$@" {redirect}', "bash", *words]
    return subprocess.run(
        words, capture_output=True, timeout=120, cwd=root,
        env={name: value for name, value in variables.items() if value is not None},
    )  # fmt: skip


def check_harmless(text: str) -> None:
    assert not OBEYED.search(text), ascii(text)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_tables_and_json_in_any_encoding(root, encoding):
    """One process answers all four, each between marks on both streams."""
    name, mark = encoding.partition(":")[0], "\x1d"
    asked = [["search", "--like", "A.jpg", "-d", "x"], ["info", str(root / "x" / "features" / "y.h5")]]
    asked = [[*words, *json] for words in asked for json in ([], ["--json"])]
    code = (
        "import sys\nfrom iaa.cli.app import main\n"
        f"for words in {asked!r}:\n"
        "    try:\n        main(words)\n    except SystemExit as end:\n        assert not end.code, words\n"
        "    for stream in (sys.stdout, sys.stderr):\n"
        f"        print({mark!r}, end='', file=stream, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, timeout=120, cwd=root,
        env={
            **os.environ, "IAA_DATA": str(root), "PYTHONPATH": str(REPOSITORY), "PYTHONIOENCODING": encoding,
        },
    )  # fmt: skip
    assert done.returncode == 0 and b"Traceback" not in done.stderr, done.stderr
    out, err = (stream.decode(name).split(mark)[:-1] for stream in (done.stdout, done.stderr))
    for shown, said, words in zip(out, err, asked, strict=True):
        check_harmless(shown + said)
        if "--json" not in words:
            assert "\\u202e" in shown and "\\x9b" in shown
            continue
        assert shown.count("\n") == 1
        answer = json.loads(shown)
        if "shown" in answer:
            ranked = {line["image_id"] for line in answer["shown"]}
            assert ranked == {n for n in NAMES if n not in ("A.jpg", NAMES[3])}
            assert {line["file"] for line in answer["shown"]} == ranked
        else:
            assert answer["failures"] == {NAMES[3]: "cannot read \x1b[31m\udcff"}
            assert answer["identity"]["note"] == "\x1b[2J\u202e\udcff"


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "xx_YY.nonsense", "LANG": None},
    ],
)
def test_without_a_locale(root, environment):
    done = iaa(root, "search", "--like", "not utf8 \udcff\udce9.jpg", "-d", "x", "--json", **environment)
    assert done.returncode == 0 and json.loads(done.stdout)["like"] == "not utf8 \udcff\udce9.jpg"


def test_errors_name_what_was_given_harmlessly(root, invoke, monkeypatch):
    monkeypatch.setenv("IAA_DATA", str(root))
    for arguments in (
        ["search", "--like", "\x1b[2J\u202e", "-d", "x"],
        ["search", "--like", ".jpg", "-d", "x"],
        ["embed", "-d", "\x1b[2J"],
        ["info", "\x1b[2Jno\u202ewhere"],
        ["verify", "no\udcff\x1bwhere"],
        ["no\x1b[2Jcommand"],
        ["info", "--no\x1b[2J"],
        ["import", "no\x1bwhere", "-d", "../../x", "-b", "y"],
        ["dataset", "show", "\x9b2J"],
        ["embed", "--batch-size", "\x1b[2J", "-d", "x"],
        ["export", "x", "-d", "x", "--output", "\x1b\u202e"],
        ["--verbose", "info", "\x1b"],
    ):
        code, out, err = invoke(*arguments)
        assert code in (1, 2) and "Traceback" not in err, err
        check_harmless(out + err)
    assert os.listdir(root) == ["x"]


def test_a_reader_that_leaves_and_streams_that_are_closed(root):
    table = ["search", "--like", "A.jpg", "-d", "x"]
    for redirect, code in (
        ("| head -c 1 > /dev/null", None), ("2>&1 | true", None), 
        ("<&- >&- 2>&-", 0), ("> /dev/full", 1),
    ):  # fmt: skip
        done = iaa(root, *table, redirect=redirect)
        assert b"Traceback" not in done.stderr and b"Exception ignored" not in done.stderr, done.stderr
        assert code is None or done.returncode == code, (redirect, done)
    assert b"No space left" in done.stderr


def test_a_closed_stream_is_not_written_into_a_file(root, tmp_path):
    """A file that gets the number of standard output would hold what is printed."""
    out = tmp_path / "x.safetensors"
    done = iaa(root, "export", out, "-d", "x", "--to", "safetensors", redirect="<&- >&- 2>&-")
    assert done.returncode == 0
    from safetensors.numpy import load_file

    assert load_file(out)["embedding"].shape == (len(NAMES), 4)


@pytest.mark.parametrize("columns", [1, 20])
def test_on_a_real_terminal_of_any_width(root, columns):
    def read(arguments: list[str]) -> str:
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "iaa", *arguments], stdout=child, stderr=child, stdin=child, cwd=root,
            env={**os.environ, "IAA_DATA": str(root), "PYTHONPATH": str(REPOSITORY), "COLUMNS": str(columns)},
        )  # fmt: skip
        os.close(child)
        said = b""
        try:
            while piece := os.read(parent, 65536):
                said += piece
        except OSError:
            pass
        assert process.wait() == 0
        return said.decode()

    said = read(["search", "--like", "A.jpg", "-d", "x", "--top", "30"])
    plain = re.sub("\x1b\\[[0-9;]*m", "", said).replace("\r\n", "\n")  # the table's own colours
    assert "Traceback" not in said and not OBEYED.search(plain), ascii(plain)
    rows = re.sub("[\\s\u2500-\u257f]", "", plain)
    for number in range(1, 10):
        assert str(number) in rows
    assert "percentile" in plain and "evil" in plain


def test_clean_is_visible_and_keeps_words():
    assert clean("a\x1b[2J\u202e\udcff\n") == "a\\x1b[2J\\u202e\\udcff\\n"
    for kept in (
        "cafe\u0301",
        "\u5199\u771f",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
        "\U0001f468\u200d\U0001f469",
        "a b \\ [x] :cat:",
    ):
        assert clean(kept) == kept
    every = "".join(map(chr, range(sys.maxunicode + 1)))
    left = {c for c in clean(every) if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp")}
    assert not left
    assert clean_lines("error: x\nerror: fake\n  y") == "error: x\n  error: fake\n  y"


def test_every_way_out_is_clean(capsys):
    note("\x1b[2J\u202e[bold]x[/bold] :cat:")
    answer_table(Table("t\x1b", {"c\x1b": ["v\x1b\n", ("one\x1b", "two")], "d": [1.5, 2.5]}))
    answer_json({"k\x1b\x9b": "v\u202e\udcff\U000e0041", "n": 1})
    out, err = capsys.readouterr()
    assert "[bold]x[/bold] :cat:" in err and "v\\x1b\\n" in out and "two" in out
    check_harmless(out + err)
    assert json.loads(out.splitlines()[-1]) == {"k\x1b\x9b": "v\u202e\udcff\U000e0041", "n": 1}
