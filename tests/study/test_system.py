import io
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO, cast

import pytest
from rich.console import Console

from study.system import (
    Output,
    all_output_is_lost,
    guarded_output,
    harmless,
    is_own,
    keep_output,
    output_is_lost,
    say,
)


def full_disk() -> TextIO:
    return open("/dev/full", "w", encoding="utf-8")  # noqa: PTH123


def no_reader() -> TextIO:
    end, pipe = os.pipe()
    os.close(end)
    return os.fdopen(pipe, "w", encoding="utf-8")


def closed() -> TextIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.fixture(params=[full_disk, no_reader, closed])
def broken(request: pytest.FixtureRequest) -> Iterator[TextIO]:
    stream = request.param()
    yield stream
    stream.close()


def test_a_stream_that_takes_nothing_more_is_said_once_and_left(broken: TextIO) -> None:
    told: list[str] = []
    output = Output(broken, told.append)
    for _ in range(3):
        output.write("line\n")
        output.flush()
    assert (output.lost, output.isatty(), len(told)) == (True, False, 1)
    assert told[0].startswith("The terminal takes nothing more (")


def test_the_other_stream_says_what_was_lost(
    monkeypatch: pytest.MonkeyPatch, broken: TextIO
) -> None:
    monkeypatch.setattr(sys, "stdout", broken)
    monkeypatch.setattr(sys, "stderr", error := io.StringIO())
    with guarded_output():
        Console().print("a table")
        say("more of it")
        say("lost", error=output_is_lost())
    assert error.getvalue().endswith("going on without it.\nlost\n")
    assert (sys.stdout, sys.stderr) == (broken, error)


@pytest.mark.parametrize("buffered", [True, False])
def test_both_streams_may_be_gone_and_a_file_has_what_was_lost(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, buffered: bool
) -> None:
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, full_disk())
    file = tmp_path / "console.log"
    with guarded_output():
        say("before there is a place")
        if not buffered:
            sys.stdout.flush()
        keep_output(file)
        say("\x1b[2Kin the middle ε")
        say("an error", error=True)
        assert all_output_is_lost()
        say("at the end")
    sys.stdout.close()
    sys.stderr.close()
    lines = file.read_text("utf-8").splitlines()
    assert sum(line.startswith("The terminal takes nothing more (") for line in lines) == 2
    rest = [line for line in lines if not line.startswith("The terminal")]
    assert sorted(rest) == sorted(
        ["before there is a place", "\\x1b[2Kin the middle ε", "an error", "at the end"]
    )


def test_what_was_shown_is_kept_nowhere(tmp_path: Path) -> None:
    end, pipe = os.pipe()
    with os.fdopen(pipe, "w", encoding="utf-8") as stream:
        output = Output(stream, lambda text: None)
        output.keep(tmp_path / "console.log")
        output.write("shown\n")
        output.flush()
        os.close(end)
        output.write("\x1b[2Klost \ud83d\n")
        output.flush()
        output.write("later\n")
        output.keep(tmp_path / "gone" / "console.log")
        output.write("nowhere\n")
    assert (tmp_path / "console.log").read_text("utf-8") == "lost \\ud83d\nlater\n"
    assert [path.name for path in tmp_path.iterdir()] == ["console.log"]


def test_closed_streams_lead_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    # As Python has them after `>&- 2>&-`.
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    with guarded_output():
        say("line")
        say("line", error=True)


def test_a_reader_that_is_slow_loses_lines_and_nothing_else() -> None:
    end, pipe = os.pipe()
    os.set_blocking(pipe, False)
    told: list[str] = []
    with os.fdopen(pipe, "w", encoding="utf-8") as stream:
        output = Output(stream, told.append)
        for _ in range(5):
            output.write("x" * 50_000)
            output.flush()
        assert (output.lost, told) == (False, [])
        os.set_blocking(end, False)
        while _read(end):
            pass
        output.write("later\n")
        output.flush()
        assert _read(end).endswith(b"later\n")
        output.write("x" * 100_000)
        output.end()
        assert output.lost
    os.close(end)


def _read(end: int) -> bytes:
    try:
        return os.read(end, 1 << 20)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize("text", ["ε = 0.95", "\ud83d", "日本"])
def test_a_letter_that_has_no_code_is_an_escape(text: str) -> None:
    buffer = io.BytesIO()
    stream = io.TextIOWrapper(buffer, encoding="ascii")
    output = Output(stream, pytest.fail)
    output.write(text)
    output.flush()
    assert buffer.getvalue() == text.encode("ascii", "backslashreplace")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\tof ε", "two\nlines\tof ε"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\x9b2J", "\\x9b2J"),
        ("a\rb", "a\\x0db"),
        ("abc\u202edcba", "abc\\u202edcba"),
        ("a\u200fb\u2028c", "a\\u200fb\\u2028c"),
    ],
)
def test_a_name_commands_no_terminal(text: str, shown: str) -> None:
    assert harmless(text) == shown


def test_output_stands_for_its_stream() -> None:
    stream: Any = io.StringIO()
    output = cast(TextIO, Output(stream, pytest.fail))
    print("line", file=output)
    assert (stream.getvalue(), output.encoding) == ("line\n", stream.encoding)


def test_what_others_made_or_can_write_to_is_not_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (file := tmp_path / "file").touch(mode=0o600)
    (tmp_path / "link").symlink_to(file)
    assert is_own(file)
    assert not is_own(tmp_path / "link") and not is_own(tmp_path / "nothing")
    file.chmod(0o666)
    assert not is_own(file)
    file.chmod(0o600)
    found = file.lstat()
    other = os.stat_result((*found[:4], 65534, *found[5:]))
    monkeypatch.setattr(Path, "lstat", lambda path: other)
    assert not is_own(file)
