"""A candidate's record: what was built, how it was judged, how fast it is."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from models.optimize.candidates import Candidate
from models.optimize.contestant import Build, Setting
from models.optimize.evidence import Evidence
from models.optimize.fidelity import ENOUGH_IMAGES, Fidelity
from models.optimize.timing import Speed, best_speed

LEFT_OUT = "left out"  # how the reason of a candidate begins that was not tried to its end


@dataclass(frozen=True)
class Trial:
    """One candidate.

    Attributes:
        candidate: what was tried.
        build: None when it could not be built.
        fidelity: None when it could not be asked.
        refusal: why it is out, in one line, or "".
        reservation: why it is not chosen although it passed, or "".
        inconsistent: settings that are left out, because they answer differently from the one it was judged by.
        speeds: one per setting; empty for one that is out.
    """

    candidate: Candidate
    build: Build | None = None
    fidelity: Fidelity | None = None
    refusal: str = ""
    reservation: str = ""
    inconsistent: Sequence[Setting] = ()
    speeds: Sequence[Speed] = ()

    @property
    def name(self) -> str:
        """Of the candidate."""
        return self.candidate.name

    @property
    def is_left_out(self) -> bool:
        """Whether it is out for want of time only."""
        return self.refusal.startswith(LEFT_OUT)

    def refused(self, reason: str) -> Trial:
        """The same, out for `reason`."""
        return dataclasses.replace(self, refusal=reason, speeds=())

    @property
    def speed(self) -> Speed | None:
        """Its best setting."""
        return best_speed(self.speeds) if self.speeds else None

    def with_speeds(self, speeds: Sequence[Speed]) -> Trial:
        """The same with further measurements, which replace those of the same settings."""
        measured = {speed.setting for speed in speeds}
        kept = [speed for speed in self.speeds if speed.setting not in measured]
        return dataclasses.replace(self, speeds=[*speeds, *kept])

    @property
    def peak(self) -> float:
        """`Speed.peak` of its best setting; 0 for one that is out."""
        return self.speed.peak if self.speed else 0.0

    @property
    def is_eligible(self) -> bool:
        """Whether it may be chosen."""
        return bool(self.speeds) and not self.reservation

    def to_json(self) -> dict[str, Any]:
        """For the bundle's table."""
        return {
            "name": self.name,
            "precision": self.candidate.precision,
            "refusal": self.refusal,
            "reservation": self.reservation,
            "inconsistent": [str(setting) for setting in self.inconsistent],
            "fidelity": self.fidelity.to_json() if self.fidelity else {},
            "build_s": round(self.build.seconds, 1) if self.build else None,
            "megabytes": round(self.build.megabytes, 1) if self.build else None,
            "speeds": [speed.to_json() for speed in self.speeds],
        }


def reservation_of(candidate: Candidate, evidence: Evidence, accept_weak_gate: bool) -> str:
    """Why a candidate that passed is not chosen, or ""."""
    if not candidate.servable:
        return "not served: would hold the interpreter lock"
    proven = candidate.precision != "int8" or candidate.is_published or evidence.photos >= ENOUGH_IMAGES
    return "" if proven or accept_weak_gate else f"weak gate: {evidence.photos} of {ENOUGH_IMAGES} images"
