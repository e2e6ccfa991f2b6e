"""Rendered scenes for training: endless variety of motion, no footage, no files.

A *plan* says what happens (``vocabulary.py``): what the camera does, which shapes move how, what
figures do on their own and with each other, at which pace. It is drawn from a sample's number, and
its labels are the sample's. How it looks (surfaces, colours, sizes, places, light, compression) is
drawn again each time it is shown and does not depend on the labels.

The order of difficulty follows "Learning Video Representations without Natural Videos" (2024), in
which moving shapes, their transformation, acceleration and textures each add to what a network
learns; the shape with a surface that slides within it is the masked motion of "Self-supervised
Motion Learning from Static Images" (2021); the relative pace is that of "Video Playback Rate
Perception" (2020). The figures are added because most videos show people.
"""

from __future__ import annotations

from vidfeat.datasets.synthetic_motion.dataset import (
    NAME,
    SceneRequest,
    evaluation_request,
    read_scenes,
    training_request,
)
from vidfeat.datasets.synthetic_motion.render import plan_of, render_clip
from vidfeat.datasets.synthetic_motion.vocabulary import CLASSES, GROUPS, ScenePlan

__all__ = [
    "CLASSES",
    "GROUPS",
    "NAME",
    "ScenePlan",
    "SceneRequest",
    "evaluation_request",
    "plan_of",
    "read_scenes",
    "render_clip",
    "training_request",
]
