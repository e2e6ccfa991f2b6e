"""What a rendered scene can show, as groups of classes, and how one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

CAMERAS = (
    "still",
    "pan_left",
    "pan_right",
    "pan_up",
    "pan_down",
    "zoom_in",
    "zoom_out",
    "roll_left",
    "roll_right",
    "shake",
)
PACES = ("steady", "faster", "slower", "pause", "return")
TEMPOS = ("slow", "normal", "quick")
MOVERS = (
    "still",
    "left",
    "right",
    "up",
    "down",
    "drop",
    "grow",
    "shrink",
    "spin_left",
    "spin_right",
    "sway",
    "bob",
    "bounce",
    "orbit",
    "tremble",
    "stretch",
    "pulse",
    "slide",
)
PAIRS = ("collide", "meet", "part", "chase", "cover", "circle", "scatter", "gather")
ACTIONS = (
    "stand",
    "wave",
    "walk",
    "run",
    "jump",
    "punch",
    "kick",
    "fall",
    "rise",
    "crouch",
    "bend",
    "throw",
    "clap",
    "dance",
    "jacks",
)
MEETINGS = ("talk", "pass", "greet", "hug", "pursue", "stroll", "push", "wrestle", "fight")
MAX_COUNT = 4

GROUPS: dict[str, tuple[str, ...]] = {
    "camera": CAMERAS,
    "pace": PACES,
    "tempo": TEMPOS,
    "mover": MOVERS,
    "pair": PAIRS,
    "action": ACTIONS,
    "meeting": MEETINGS,
    "count": tuple(str(number) for number in range(MAX_COUNT + 1)),
}
CLASSES = tuple(f"{group}/{name}" for group, names in GROUPS.items() for name in names)
"""All classes, group by group: ``camera/still``, ``camera/pan_left`` and so on."""

_INDEX = {name: number for number, name in enumerate(CLASSES)}
_MEETING_SHARES = (0.12, 0.08, 0.08, 0.08, 0.08, 0.08, 0.12, 0.12, 0.24)
_BODIES = {"scatter": 4, "gather": 4}


@dataclass(frozen=True)
class ScenePlan:
    """What happens in a scene; how it looks is drawn when it is rendered."""

    camera: str
    pace: str
    tempo: str
    movers: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()
    actions: tuple[str, ...] = ()
    """Of single figures."""
    meetings: tuple[str, ...] = ()
    """Of two figures each."""
    extra_fighter: bool = False
    """A third figure joins a fight."""

    @property
    def bodies(self) -> int:
        """Number of things that are drawn; shapes that do not move do not count."""
        moving = sum(name != "still" for name in self.movers)
        paired = sum(_BODIES.get(name, 2) for name in self.pairs)
        return (
            moving + paired + len(self.actions) + 2 * len(self.meetings) + int(self.extra_fighter)
        )

    @property
    def labels(self) -> tuple[int, ...]:
        """Indexes into ``CLASSES`` of all that the scene shows, each once, in order."""
        names = {f"camera/{self.camera}", f"count/{min(self.bodies, MAX_COUNT)}"}
        for group, members in (
            ("mover", self.movers),
            ("pair", self.pairs),
            ("action", self.actions),
            ("meeting", self.meetings),
        ):
            names |= {f"{group}/{member}" for member in members}
        if self._moves:
            names |= {f"pace/{self.pace}", f"tempo/{self.tempo}"}
        return tuple(sorted(_INDEX[name] for name in names))

    @property
    def _moves(self) -> bool:
        """Whether there is a motion that has a recognisable pace."""
        resting = {"still", "stand", "talk"}
        shown = (self.camera, *self.movers, *self.pairs, *self.actions, *self.meetings)
        return any(name not in resting for name in shown)


def _pick(
    rng: np.random.Generator, names: Sequence[str], shares: Sequence[float] | None = None
) -> str:
    """One of some names; ``Generator.choice`` does the same five times slower."""
    share = rng.random()
    if shares is None:
        return names[int(share * len(names))]
    for name, own in zip(names, shares, strict=True):
        share -= own
        if share < 0:
            return name
    return names[-1]


def draw_plan(rng: np.random.Generator) -> ScenePlan:
    """Draw a scene: a third of them with shapes, the others with figures, a few with both."""
    camera = "still" if rng.random() < 0.55 else _pick(rng, CAMERAS[1:])
    pace = "steady" if rng.random() < 0.6 else _pick(rng, PACES[1:])
    tempo = _pick(rng, TEMPOS, (0.25, 0.5, 0.25))
    kind = rng.random()
    movers: list[str] = []
    pairs: list[str] = []
    actions: list[str] = []
    meetings: list[str] = []
    extra = False
    if kind < 0.35:
        for _ in range(int(_pick(rng, "123", (0.55, 0.33, 0.12)))):
            if rng.random() < 0.7:
                movers.append(_pick(rng, MOVERS))
            elif not pairs:
                pairs.append(_pick(rng, PAIRS))
    else:
        if rng.random() < 0.5:
            meetings.append(_pick(rng, MEETINGS, _MEETING_SHARES))
            extra = meetings[0] == "fight" and rng.random() < 0.25
        else:
            actions.append(_pick(rng, ACTIONS))
        for _ in range(int(_pick(rng, "012", (0.5, 0.3, 0.2)))):
            usual = rng.random()
            name = "stand" if usual < 0.4 else "walk" if usual < 0.8 else _pick(rng, ACTIONS)
            actions.append(name)
        if kind > 0.92:
            movers.append(_pick(rng, MOVERS[1:]))
    return ScenePlan(
        camera, pace, tempo, tuple(movers), tuple(pairs), tuple(actions), tuple(meetings), extra
    )
