"""Fixtures of the command line's tests."""

import pytest

from iaa.cli import main


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Run `iaa`: exit code, standard output, standard error. Data lie in a folder of the test."""
    monkeypatch.setenv("IAA_DATA", str(tmp_path / "data"))

    def run_command(*arguments):
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        captured = capsys.readouterr()
        return stop.value.code, captured.out, captured.err

    return run_command
