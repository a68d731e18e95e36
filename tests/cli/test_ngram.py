"""The demo's training script, loaded from its path: it needs no package around it."""

import importlib.util
import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "mlepool" / "cli" / "ngram.py"
SMOOTHINGS = ("witten-bell", "absolute", "laplace")
TEXT = "def add(a, b):\n    return a + b\n\n\ndef abba(b):\n    return add(b, b)\n"
RESULT = re.compile(
    r"result bits_per_char=(\d+\.\d{4}) order=(\d) smoothing=(\S+) characters=(\d+)"
)


def load_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ngram_script", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


ngram = load_script()


def trained(order: int, smoothing: str, *texts: str) -> Any:
    model = ngram.NgramModel(order, smoothing, frozenset("".join(texts)))
    for text in texts:
        for grams in ngram.ngrams(text, order):
            model.train(grams)
    model.summarise()
    return model


def bits_per_character(model: Any, text: str) -> float:
    chunks = ngram.ngrams(text, model.order)
    sample = Counter(gram for grams in chunks for gram in grams)
    bits = ngram.evaluate(model, sample, ngram.Progress(1))
    assert isinstance(bits, float)
    return bits


def command(*arguments: str) -> list[str]:
    return [sys.executable, str(SCRIPT), *arguments]


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
@pytest.mark.parametrize("order", [1, 2, 4])
@pytest.mark.parametrize("context", ["\n\n\n", "def", "  a", "ddd", "x\u20acz"])
def test_probabilities_sum_to_one_after_any_context(
    order: int, smoothing: str, context: str
) -> None:
    model = trained(order, smoothing, TEXT)
    history = context[len(context) - order + 1 :]
    alphabet = [*sorted(set(TEXT)), "\u20ac"]  # The last stands for all unknown ones.
    probabilities = [model.probability(history + char) for char in alphabet]
    assert min(probabilities) > 0
    assert sum(probabilities) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_probabilities_follow_the_formulas_of_the_docstring(smoothing: str) -> None:
    order, padded = 3, "\n\n" + TEXT
    classes = len(set(TEXT)) + 1
    model = trained(order, smoothing, TEXT)

    def followers(context: str) -> Counter[str]:
        starts = range(order - 1 - len(context), len(padded) - len(context))
        found = [at + len(context) for at in starts if padded.startswith(context, at)]
        return Counter(padded[at] for at in found)

    def expected(context: str, char: str) -> float:
        after = followers(context)
        n, t, c = after.total(), len(after), after[char]
        if smoothing == "laplace":
            return (c + 1) / (n + classes)
        lower = expected(context[1:], char) if context else 1 / classes
        if not n:
            return lower
        if smoothing == "witten-bell":
            return (c + t * lower) / (n + t)
        d: float = model.discounts[len(context) + 1]
        return (max(c - d, 0) + d * t * lower) / n

    for context in ("\n\n", "\nd", "de", "bb", "\u20aca"):
        for char in [*set(TEXT), "\u20ac"]:
            probability = model.probability(context + char)
            assert probability == pytest.approx(expected(context, char), rel=1e-12)


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_training_in_shares_makes_the_same_model_as_training_at_once(
    smoothing: str,
) -> None:
    texts = TEXT, "import os\n", TEXT.upper()
    whole = trained(3, smoothing, *texts)
    grown = ngram.NgramModel(3, smoothing, frozenset("".join(texts)))
    for text in texts:
        ngram.train(grown, [text], ngram.Progress(3))
    assert grown.counts == whole.counts
    assert grown.totals == whole.totals
    assert grown.kinds == whole.kinds
    assert grown.discounts == whole.discounts


def test_chunks_cover_each_character_of_a_file_once() -> None:
    text = TEXT * 400
    chunks = list(ngram.ngrams(text, 4))
    assert len(chunks) > 1
    assert "".join(gram[-1] for chunk in chunks for gram in chunk) == text
    assert chunks[0][0] == "\n\n\nd"
    assert {len(gram) for chunk in chunks for gram in chunk} == {4}


@pytest.mark.parametrize("smoothing", ["witten-bell", "absolute"])
def test_a_higher_order_needs_fewer_bits_on_real_text(smoothing: str) -> None:
    training = (ngram.STDLIB / "argparse.py").read_text(encoding="utf-8")
    held_out = (ngram.STDLIB / "shutil.py").read_text(encoding="utf-8")[:8000]
    one, two, four = (
        bits_per_character(trained(order, smoothing, training), held_out)
        for order in (1, 2, 4)
    )
    assert 6 > one > two > four > 2


def test_an_untrained_model_knows_only_the_size_of_the_alphabet() -> None:
    model = ngram.NgramModel(3, "witten-bell", frozenset("abc"))
    assert bits_per_character(model, "abcd") == pytest.approx(2)


def test_every_tenth_file_is_held_out_and_test_folders_are_skipped(
    tmp_path: Path,
) -> None:
    for number in range(21):
        (tmp_path / f"m{number:02}.py").write_text(f"n = {number:02}\n")
    for folder in ("test", "site-packages", "idlelib"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.py").write_text("left = out\n")
    training, held_out = ngram.read_corpus(tmp_path, 1.0)
    assert held_out == ["n = 00\n", "n = 10\n", "n = 20\n"]
    assert len(training) == 18
    assert not any("left" in text for text in training)


def test_reading_warns_of_files_it_leaves_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.py").write_bytes(b"name = '\xff'\n")
    (tmp_path / "b.py").write_text("b" * 60)
    (tmp_path / "c.py").write_text("c" * 60)
    (tmp_path / "d.py").write_text("d" * 60)
    training, held_out = ngram.read_corpus(tmp_path, 0.0001)
    assert held_out == ["b" * 60]
    assert training == ["c" * 40]
    warnings = capsys.readouterr().err.splitlines()
    assert warnings[0] == "warning: 1 files skipped that are not UTF-8"
    assert warnings[1] == "warning: 0.0 MB read, 1 source files left unread"


@pytest.mark.real
def test_a_run_rewrites_its_progress_and_ends_with_a_result_line() -> None:
    small = command("--order", "3", "--epochs", "2", "--megabytes", "0.5")
    run = subprocess.run(small, capture_output=True, timeout=100, check=True)
    *epochs, result = run.stdout.decode("ascii").split("\n")[:-1]
    assert len(epochs) == 2
    for number, line in enumerate(epochs, start=1):
        *progress, last = line.split("\r")[1:]
        place = rf"epoch {number}/2 +\d+ % \d\.\d MB"
        assert all(re.fullmatch(place, text) for text in progress)
        rest = r"\d\.\d{3} bits/char, 0\.\d MB, [\d,]+ contexts, \d+\.\d s"
        assert re.fullmatch(rf"epoch {number}/2: {rest}", last)
    match = RESULT.fullmatch(result)
    assert match is not None
    assert 1.5 < float(match[1]) < 4
    assert match.groups()[1:3] == ("3", "witten-bell")
    assert 300_000 < int(match[4]) < 500_000
    assert "warning: " in run.stderr.decode()


@pytest.mark.real
def test_a_run_is_deterministic() -> None:
    small = command("--order", "2", "--epochs", "1", "--megabytes", "0.2")
    first, second = (
        subprocess.run(small, capture_output=True, timeout=100, check=True)
        for _ in range(2)
    )
    assert first.stdout.split(b"\n")[-2] == second.stdout.split(b"\n")[-2]


def read_until(process: subprocess.Popen[bytes], wanted: bytes) -> None:
    assert process.stdout is not None
    seen = b""
    while wanted not in seen:
        piece = process.stdout.read(1)
        assert piece, f"the script ended before it wrote {wanted!r}"
        seen += piece


@pytest.mark.real
def test_sigint_stops_a_run_by_the_signal_with_one_line() -> None:
    with subprocess.Popen(
        command("--order", "4", "--epochs", "2"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        read_until(process, b"epoch 2/2 ")
        process.send_signal(signal.SIGINT)
        errors = process.communicate(timeout=60)[1].decode().splitlines()
    assert process.returncode == -signal.SIGINT
    assert [line for line in errors if not line.startswith("warning: ")] == [
        "stopped at epoch 2"
    ]


@pytest.mark.real
@pytest.mark.parametrize(
    "arguments",
    [("--epochs", "0"), ("--megabytes", "nan"), ("--order", "0"), ("--smoothing", "x")],
)
def test_wrong_options_end_with_usage(arguments: tuple[str, ...]) -> None:
    run = subprocess.run(
        command(*arguments), capture_output=True, timeout=60, check=False
    )
    assert run.returncode == 2
    assert run.stderr.startswith(b"usage: ngram.py")
    assert not run.stdout


@pytest.mark.real
def test_too_little_text_is_an_error_of_one_line() -> None:
    run = subprocess.run(
        command("--megabytes", "0.000001"), capture_output=True, timeout=60, check=False
    )
    assert run.returncode == 1
    assert b"error: too little source text" in run.stderr
    assert b"Traceback" not in run.stderr
