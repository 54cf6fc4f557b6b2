"""What all contenders share: their arguments, a clock, and one line of JSON at the end."""

import argparse
import json
import statistics
import time


def arguments(**own: str | int) -> argparse.Namespace:
    """`--data`, `--epochs` and a contender's `own`, with their defaults; what it does not know is refused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="folder with MNIST/raw")
    for name, default in {"epochs": 3, **own}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


class Clock:
    """Images a second in the median of all epochs but the first, which pays for compiling and for files that are not cached yet."""

    def __init__(self) -> None:
        self.last: float | None = None
        self.speeds: list[float] = []

    def epoch(self, images: int) -> None:
        """An epoch of `images` has ended."""
        now = time.perf_counter()
        if self.last is not None:
            self.speeds.append(images / (now - self.last))
        self.last = now

    @property
    def images_per_second(self) -> float:
        return statistics.median(self.speeds)


def report(images_per_second: float, train_loss: float, **more: float) -> None:
    print(json.dumps({"images_per_second": images_per_second, "train_loss": train_loss, **more}), flush=True)
