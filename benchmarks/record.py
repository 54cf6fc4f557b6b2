"""What a session on a GPU finds: one JSON and one log, both up to date at any moment."""

import json
import math
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

FORMAT = 1


class Record:
    """`gpu.json` and `gpu.log` in `folder`.

    The log is written line by line; the JSON is replaced as a whole after every change, so that a session that is killed leaves a
    file that can be read, with all that was found until then.
    """

    def __init__(self, folder: Path, seconds: float, device: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.json, self.log_path = folder / "gpu.json", folder / "gpu.log"
        self.started = time.monotonic()
        self._log = self.log_path.open("w", buffering=1, errors="replace")
        self.content: dict[str, Any] = {
            "format": FORMAT,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": device,
            "budget_seconds": seconds,
            "finished": False,
            "machine": {},
            "stages": [],
        }
        self.write()

    @property
    def seconds(self) -> float:
        """Seconds since the session began."""
        return time.monotonic() - self.started

    def log(self, line: str) -> None:
        self._log.write(f"{self.seconds:7.1f} {line}\n")
        self._log.flush()

    def say(self, line: str) -> None:
        """Into the log and onto the screen."""
        self.log(line)
        print(f"{self.seconds:6.0f} s  {line}", flush=True)

    def write(self) -> None:
        self.content["seconds"] = round(self.seconds, 1)
        scratch = self.json.with_suffix(".new")
        scratch.write_text(json.dumps(self.content, indent=1, allow_nan=False) + "\n")
        os.replace(scratch, self.json)

    def begin(self, stage: str) -> None:
        self.content["stages"].append({"stage": stage, "state": "running", "why": None, "seconds": 0.0, "rows": []})
        self._began = self.seconds
        self.write()
        self.say(f"== {stage}")

    def row(self, name: str, **facts: Any) -> None:
        """Something that the present stage has found."""
        facts = {key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in facts.items()}
        self.content["stages"][-1]["rows"].append({"name": name, **facts})
        words = ", ".join(f"{key} {_short(value)}" for key, value in facts.items() if value not in (None, []))
        self.write()
        self.say(f"{name}: {words}")

    def end(self, state: str, why: str | None = None) -> None:
        """`state`: done, failed, skipped or out of time."""
        self.content["stages"][-1] |= {"state": state, "why": why, "seconds": round(self.seconds - self._began, 1)}
        self.write()
        self.say(f"   {state}" + (f": {why}" if why else ""))

    def finish(self) -> None:
        self.content["finished"] = True
        self.write()


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def failed_rows(content: dict[str, Any]) -> list[str]:
    """Names of rows that failed, and of stages that did not end as they should."""
    rows = [row["name"] for stage in content["stages"] for row in stage["rows"] if row.get("why") or row.get("outcome") == "failed"]
    return rows + [stage["stage"] for stage in content["stages"] if stage["state"] in ("failed", "out of time")]
