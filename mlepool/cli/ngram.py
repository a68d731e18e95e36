"""Train a character n-gram language model on Python's own standard library.

The demo of mlepool runs this script on several workers at once, because every machine
with Python 3.11 has this text. Epoch k adds the k-th share of the training files to
the model, then measures the bits per character on a fixed sample of held-out files.

The maths. Let c(hx) be how often character x followed context h in training,
N(h) = sum over x of c(hx), T(h) = the number of different x with c(hx) > 0, and h'
the context h without its first character. V is the size of the alphabet: the
characters of the training files, and one class for every other character. Then

    P(x|h) = (max(c(hx) - d, 0) + w P(x|h')) / (N(h) - d T(h) + w)

    witten-bell   d = 0, w = T(h)
    absolute      d = D, w = D T(h), where D < 1 is estimated for each length of h
    laplace       d = 0, w = V, and 1 / V for P(x|h'): it adds one to each count

and P(x|h) = P(x|h') where N(h) = 0. Below the empty context lies P(x) = 1 / V. As
the sum over x of max(c(hx) - d, 0) is N(h) - d T(h), each P(.|h) sums to one.
"""

import argparse
import math
import os
import re
import signal
import sys
import sysconfig
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

# Tests hold odd text on purpose, encodings and pydoc_data are generated tables, and
# the others differ from machine to machine.
SKIPPED_FOLDERS = re.compile(
    "(dist|site)-packages|encodings|idlelib|lib2to3|pydoc_data|tests?|turtledemo"
)
STDLIB = Path(sysconfig.get_paths()["stdlib"])
SMOOTHINGS = ("witten-bell", "absolute", "laplace")
HELD_OUT_EVERY = 10
SAMPLE_EVERY = 5  # Scoring is slow, and one character in five tells the same.
CHUNK = 8_192  # Small enough that a slow core still shows its progress often.


def ngrams(text: str, order: int) -> Iterator[list[str]]:
    """Yield chunks of the n-grams that end at each character of one file.

    The file is read as if it followed blank lines, so each character has a context.
    """
    padded = "\n" * (order - 1) + text
    for start in range(0, len(text), CHUNK):
        places = range(start, min(start + CHUNK, len(text)))
        yield [padded[place : place + order] for place in places]


class NgramModel:
    """Counts of n-grams, and the probabilities made of them.

    Args:
        order: The length of the longest n-gram: order - 1 characters of context.
        smoothing: One of `SMOOTHINGS`.
        alphabet: Every character that training will show.
    """

    def __init__(self, order: int, smoothing: str, alphabet: frozenset[str]) -> None:
        self.order = order
        self.smoothing = smoothing
        self.classes = len(alphabet) + 1
        self.lengths = range(order if smoothing == "laplace" else 1, order + 1)
        self.counts = {n: defaultdict[str, int](int) for n in self.lengths}
        self.totals = defaultdict[str, int](int)
        self.kinds = defaultdict[str, int](int)
        self.discounts: dict[int, float] = {}
        self._new = Counter[str]()

    def train(self, grams: list[str]) -> None:
        """Take n-grams of the full length; call `summarise` after the last."""
        self._new.update(grams)

    def summarise(self) -> None:
        """Add what `train` took to the counts of all lengths."""
        new: dict[str, int] = self._new
        for length in reversed(self.lengths):
            counts, shorter = self.counts[length], defaultdict[str, int](int)
            for gram, count in new.items():
                context = gram[:-1]
                self.totals[context] += count
                self.kinds[context] += gram not in counts
                counts[gram] += count
                shorter[gram[1:]] += count
            new = shorter
            # Ney's D = n1 / (n1 + 2 n2), where ni n-grams occur i times. The added
            # ones keep 0 < D < 1 on tiny texts, so nothing is impossible.
            if self.smoothing == "absolute":
                seen = Counter(counts.values())
                self.discounts[length] = (seen[1] + 1) / (seen[1] + 2 * seen[2] + 3)
        self._new.clear()

    def probability(self, gram: str) -> float:
        """Return P(x|h), where x is the last character of the n-gram and h the rest.

        All characters x outside the alphabet share the probability of one class.
        """
        value = 1 / self.classes
        for length in self.lengths:
            part = gram[-length:]
            total = self.totals.get(part[:-1], 0)
            if not total:
                break  # A longer context that ends in an unseen one is unseen too.
            kinds = self.kinds[part[:-1]]
            d = self.discounts.get(length, 0.0)
            weights = {"witten-bell": kinds, "absolute": d * kinds}
            w = weights.get(self.smoothing, self.classes)
            count = max(self.counts[length].get(part, 0) - d, 0)
            value = (count + w * value) / (total - d * kinds + w)
        return value


def warn(text: str) -> None:
    """Print a warning on stderr."""
    print(f"warning: {text}", file=sys.stderr, flush=True)


def source_files(folder: Path) -> list[Path]:
    """Return the .py files below a folder, in the order of their relative paths."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not SKIPPED_FOLDERS.fullmatch(name)]
        found += [Path(parent, name) for name in names if name.endswith(".py")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def read_corpus(folder: Path, megabytes: float) -> tuple[list[str], list[str]]:
    """Return the training texts and the held-out ones, every tenth file."""
    texts: list[str] = []
    left, skipped, unread = round(megabytes * 1e6), 0, 0
    for path in source_files(folder):
        if left <= 0:
            unread += 1
            continue
        try:
            texts.append(path.read_text(encoding="utf-8")[:left])
            left -= len(texts[-1])
        except UnicodeDecodeError:
            skipped += 1
    if skipped:
        warn(f"{skipped} files skipped that are not UTF-8")
    warn(f"{megabytes - left / 1e6:.1f} MB read, {unread} source files left unread")
    training = [text for at, text in enumerate(texts) if at % HELD_OUT_EVERY]
    return training, texts[::HELD_OUT_EVERY]


class Progress:
    """Rewrites one line of stdout, so that a reader sees how far an epoch is."""

    def __init__(self, epochs: int) -> None:
        self.epochs = epochs
        self.epoch = 1  # Reading the text counts as part of the first epoch.
        self.characters = 0
        self.is_open = False  # A line was begun and not ended.
        self._started = self._shown = time.monotonic()

    def show(self, percent: float) -> None:
        """Show the place in the epoch, at most ten times a second."""
        now = time.monotonic()
        if now - self._shown >= 0.1:
            self._shown = now
            head = f"\repoch {self.epoch}/{self.epochs} {percent:3.0f} % "
            print(f"{head}{self.characters / 1e6:.1f} MB", end="", flush=True)
            self.is_open = True

    def finish(self, bits: str, contexts: str) -> None:
        """Replace the line by the result of the epoch."""
        seconds = time.monotonic() - self._started
        text = f"{bits}, {self.characters / 1e6:.1f} MB, {contexts}, {seconds:.1f} s"
        print(f"\repoch {self.epoch}/{self.epochs}: {text}", flush=True)
        self.is_open = False
        self._started += seconds


def train(model: NgramModel, share: list[str], progress: Progress) -> None:
    """Add one share of the training files to the model."""
    done, size = 0, sum(map(len, share))
    for grams in (grams for text in share for grams in ngrams(text, model.order)):
        model.train(grams)
        done += len(grams)
        progress.characters += len(grams)
        progress.show(60 * done / size)
    model.summarise()


def evaluate(model: NgramModel, sample: Counter[str], progress: Progress) -> float:
    """Return the bits per character of n-grams, given how often each occurs."""
    bits = 0.0
    for number, (gram, count) in enumerate(sample.items()):
        bits -= count * math.log2(model.probability(gram))
        progress.show(80 + 20 * number / len(sample))
    return bits / sample.total()


def run(options: argparse.Namespace, progress: Progress) -> None:
    """Read the text, run all epochs and print the result."""
    training, held_out = read_corpus(STDLIB, options.megabytes)
    if not any(training) or not any(held_out):
        sys.exit(f"error: too little source text read from {STDLIB}")
    alphabet = frozenset[str]().union(*training)
    if unseen := sum(char not in alphabet for text in held_out for char in text):
        warn(f"{unseen:,} held-out characters never occur in training")
    model = NgramModel(options.order, options.smoothing, alphabet)
    chunks = (chunk for text in held_out for chunk in ngrams(text, model.order))
    sample = Counter(gram for chunk in chunks for gram in chunk[::SAMPLE_EVERY])
    bits, epochs = 0.0, options.epochs
    for k in range(epochs):
        progress.epoch = k + 1
        share = slice(len(training) * k // epochs, len(training) * (k + 1) // epochs)
        train(model, training[share], progress)
        bits = evaluate(model, sample, progress)
        progress.finish(f"{bits:.3f} bits/char", f"{len(model.totals):,} contexts")
    result = f"order={options.order} smoothing={options.smoothing}"
    print(f"result bits_per_char={bits:.4f} {result} characters={progress.characters}")
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        (options.out / "result.txt").write_text(f"{bits:.4f} {result}\n")


def parse_options() -> argparse.Namespace:
    """Return the checked command line options."""
    parser = argparse.ArgumentParser(description="Train a character n-gram model.")
    parser.add_argument("--order", type=int, choices=range(1, 9), default=5)
    parser.add_argument("--smoothing", choices=SMOOTHINGS, default="witten-bell")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--megabytes", type=float, default=2.5)
    parser.add_argument("--out", type=Path, help="folder for the result")
    options = parser.parse_args()
    if options.epochs < 1 or not 0 < options.megabytes <= 100:
        parser.error("--epochs must be positive, --megabytes between 0 and 100")
    return options


def main() -> None:
    """Run the script; stopped by SIGINT, end by that signal without a traceback."""
    options = parse_options()
    progress = Progress(options.epochs)
    try:
        run(options, progress)
    except KeyboardInterrupt:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # A second one must not cut this.
        if progress.is_open:
            print(flush=True)
        print(f"stopped at epoch {progress.epoch}", file=sys.stderr, flush=True)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)


if __name__ == "__main__":
    main()
