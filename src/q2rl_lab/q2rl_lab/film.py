# SPDX-License-Identifier: Apache-2.0
"""The film on the page of an episode: a picture per tick, as good as fits into the page."""

from __future__ import annotations

from collections.abc import Sequence
import io

import numpy as np

from q2rl_lab.episode_ticks import EpisodeTicks
from q2rl_lab.trace_pictures import TracePictures

WIDTH, HEIGHT = 560, 420
FILM_BYTES = 2_600_000
"""What a film may take; base64 makes it a third more."""
STEPS_DOWN = ((1.0, 72), (1.0, 50), (0.75, 50), (0.75, 30), (0.5, 30))
"""Size and WebP quality, tried in this order until a film is small enough."""


def make_film(pictures: TracePictures, ticks: EpisodeTicks) -> tuple[list[bytes], str]:
    """Return a WebP picture per row of `ticks`; and why there is none, empty where there are."""
    drawn = pictures.draw(ticks.row, ticks.stamps)
    if not drawn:
        missing = pictures.note or f'the trace does not hold {ticks.row.episode} whole'
        return [], f'No film: {missing}.'
    return encode(drawn), ''


def encode(pictures: Sequence[np.ndarray], most: int = FILM_BYTES) -> list[bytes]:
    """Return pictures (H, W, 3) uint8 as WebP, as good as fits into `most` bytes; the coarsest where nothing fits."""
    from PIL import Image

    images = [Image.fromarray(picture) for picture in pictures]
    made: list[bytes] = []
    for scale, quality in STEPS_DOWN:
        made = []
        for image in images:
            size = (round(image.width * scale), round(image.height * scale))
            buffer = io.BytesIO()
            shown = image if scale == 1.0 else image.resize(size)
            shown.save(buffer, format='WEBP', quality=quality, method=2)
            made.append(buffer.getvalue())
        if sum(map(len, made)) <= most:
            break
    return made
