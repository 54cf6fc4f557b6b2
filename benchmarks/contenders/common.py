"""What all contenders share: their arguments, a clock that leaves the first epoch out, and one line of JSON at the end."""

import argparse
import json
import time


def arguments(**own: str | int) -> argparse.Namespace:
    """`--data`, `--epochs` and a contender's `own`, with their defaults; what it does not know is refused."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="folder with MNIST/raw")
    for name, default in {"epochs": 3, **own}.items():
        parser.add_argument(f"--{name}", type=type(default), default=default)
    return parser.parse_args()


class Clock:
    """Images a second over all epochs but the first, which pays for compiling and for files that are not cached yet."""

    def __init__(self) -> None:
        self.since: float | None = None
        self.until = 0.0
        self.images = 0

    def epoch(self, images: int) -> None:
        """An epoch of `images` has ended."""
        self.until = time.perf_counter()
        if self.since is None:
            self.since = self.until
        else:
            self.images += images

    @property
    def images_per_second(self) -> float:
        assert self.since is not None
        return self.images / (self.until - self.since)


def report(images_per_second: float, train_loss: float, **more: float) -> None:
    print(json.dumps({"images_per_second": images_per_second, "train_loss": train_loss, **more}), flush=True)
