"""A pen for pages: lines of letters, rules, pictures, handwriting and tables, and the scanner that the page goes through."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, UInt8
from PIL import Image, ImageDraw, ImageFilter, ImageFont

LETTERS, DIGITS = "abcdefghijklmnopqrstuvwxyz", "0123456789"
STRIP = 120
"""Characters of a strip."""
Box = tuple[float, float, float, float]
"""Left, top, right, bottom, as shares of the page."""


@lru_cache(maxsize=256)
def strip(height: int, alphabet: str) -> Image.Image:
    """A long line of random characters with a space after every few, drawn once in Pillow's own font: lines of text are cut from it."""
    rng = np.random.default_rng(height)
    drawn = rng.choice(list(alphabet), STRIP)
    drawn[rng.random(STRIP) < 0.17] = " "
    text, font = "".join(drawn), ImageFont.load_default(height)
    left, top, right, bottom = font.getbbox(text)
    mask = Image.new("L", (int(right - left), int(bottom - top)), 0)
    ImageDraw.Draw(mask).text((-left, -top), text, fill=255, font=font)
    return mask


@dataclass
class Pen:
    """Draws on a white page and remembers the regions.

    Arguments:
        side: of the page in pixels.
        rng: of everything that is drawn.
        text: height of plain text as a share of the page.
        gap: distance of two lines, in heights of the text.
    """

    side: int
    rng: np.random.Generator
    page: Image.Image = field(init=False)
    draw: ImageDraw.ImageDraw = field(init=False)
    regions: list[tuple[str, Box]] = field(default_factory=list)
    text: float = field(init=False)
    gap: float = field(init=False)

    def __post_init__(self) -> None:
        self.page = Image.new("L", (self.side, self.side), 255)
        self.draw = ImageDraw.Draw(self.page)
        self.text = float(self.rng.uniform(0.018, 0.034))
        self.gap = float(self.rng.uniform(1.15, 2.2))

    def between(self, low: float, high: float) -> float:
        """A uniform number."""
        return float(self.rng.uniform(low, high))

    def maybe(self, p: float) -> bool:
        """True with probability p."""
        return bool(self.rng.random() < p)

    def ink(self) -> int:
        """A dark grey."""
        return int(self.rng.integers(0, 110))

    def px(self, *shares: float) -> list[int]:
        """Shares of the page in pixels."""
        return [round(s * self.side) for s in shares]

    def line(self, x: float, y: float, width: float, height: float, alphabet: str = LETTERS) -> None:
        """One line of characters from (x, y) on, `width` wide."""
        text = strip(max(4, self.px(height)[0]), alphabet)
        wide = min(max(2, self.px(width)[0]), text.width)
        start = int(self.rng.integers(text.width - wide + 1))
        left, top = self.px(x, y)
        self.page.paste(self.ink(), (left, top), text.crop((start, 0, start + wide, text.height)))

    def paragraph(self, box: Box, height: float | None = None, ragged: float = 0.1, kind: str = "text") -> None:
        """Lines that fill a box from its top; the last one is short."""
        height = height or self.text
        left, top, right, bottom = box
        step = height * self.gap
        rows = max(1, int((bottom - top) / step))
        for row in range(rows):
            short = self.between(0.3, 0.8) if row == rows - 1 and rows > 2 else 1 - self.between(0, ragged)
            self.line(left, top + row * step, (right - left) * short, height)
        self.mark(kind, (left, top, right, top + rows * step))

    def centred(self, y: float, width: float, height: float, kind: str = "title") -> None:
        """One line about the middle of the page."""
        self.line(0.5 - width / 2, y, width, height)
        self.mark(kind, (0.5 - width / 2, y, 0.5 + width / 2, y + 1.2 * height))

    def rule(self, x0: float, y0: float, x1: float, y1: float, width: int = 1) -> None:
        """A straight line."""
        self.draw.line(self.px(x0, y0, x1, y1), fill=self.ink(), width=width)

    def frame(self, box: Box) -> None:
        """The outline of a box."""
        self.draw.rectangle(self.px(*box), outline=self.ink())

    def picture(self, box: Box) -> None:
        """A grey block with a gradient and some shapes in it."""
        left, top, right, bottom = self.px(*box)
        wide, high = max(2, right - left), max(2, bottom - top)
        slope = self.rng.normal(size=2)
        grid = slope[0] * np.linspace(-1, 1, high)[:, None] + slope[1] * np.linspace(-1, 1, wide)
        grey = np.clip(self.between(70, 190) + 50 * grid, 0, 255).astype(np.uint8)
        self.page.paste(Image.fromarray(grey), (left, top))
        for _ in range(int(self.rng.integers(1, 5))):
            x, y = self.between(box[0], box[2]), self.between(box[1], box[3])
            r = self.between(0.01, 0.06)
            inside = (max(x - r, box[0]), max(y - r, box[1]), min(x + r, box[2]), min(y + r, box[3]))
            if inside[2] > inside[0] and inside[3] > inside[1]:
                self.draw.ellipse(self.px(*inside), fill=int(self.rng.integers(20, 240)))
        self.mark("picture", box)

    def scribble(self, box: Box, width: int = 1) -> None:
        """A word by hand: a curve that swings up and down on its way to the right."""
        left, top, right, bottom = box
        count = max(8, int((right - left) * 90))
        x = left + (right - left) * np.linspace(0, 1, count) + self.rng.normal(0, 0.004, count)
        swing = np.convolve(self.rng.normal(size=count + 2), np.ones(3) / 3, mode="valid")
        y = (top + bottom) / 2 + (bottom - top) * 0.45 * np.clip(swing, -1, 1)
        self.draw.line(
            [tuple(self.px(a, b)) for a, b in zip(x, y, strict=True)], fill=self.ink(), width=width, joint="curve"
        )

    def hand(self, box: Box) -> None:
        """Lines by hand that fill a box."""
        left, top, right, bottom = box
        step = self.between(0.035, 0.065)
        rows = max(1, int((bottom - top) / step))
        width = int(self.rng.integers(1, 4))
        for row in range(rows):
            x, y = left + self.between(0, 0.03), top + row * step
            end = right - self.between(0, 0.25 * (right - left))
            while x < end:
                wide = self.between(0.04, 0.14)
                self.scribble((x, y, min(x + wide, right), y + 0.75 * step), width)
                x += wide + self.between(0.01, 0.03)
        self.mark("handwriting", (left, top, right, top + rows * step))

    def table(self, box: Box, rows: int, columns: int, ruled: bool) -> None:
        """Cells of digits under a row of names, with lines or without."""
        left, top, right, bottom = box
        x, y = np.linspace(left, right, columns + 1), np.linspace(top, bottom, rows + 1)
        high = min(self.text, 0.7 * (bottom - top) / rows)
        for i in range(rows):
            for j in range(columns):
                if self.maybe(0.85):
                    names = i == 0 or j == 0
                    wide = (x[j + 1] - x[j]) * self.between(0.3, 0.7)
                    alphabet = LETTERS if names else DIGITS
                    self.line(x[j] + 0.006, y[i] + 0.003, wide, high, alphabet)
        if ruled:
            for value in y:
                self.rule(left, value, right, value)
            for value in x:
                self.rule(value, top, value, bottom)
        self.mark("table", box)

    def mark(self, kind: str, box: Box) -> None:
        """Remembers a region."""
        self.regions.append((kind, box))


def scanned(
    page: Image.Image, rng: np.random.Generator, turn: float = 5.0, shift: float = 0.05, scale: float = 0.12
) -> tuple[UInt8[np.ndarray, "h w"], Float64[np.ndarray, "2 3"]]:
    """The page at half its size as a scanner gives it, and the affine map of its points (x, y, 1), in pixels before halving.

    Arguments:
        turn: largest skew in degrees.
        shift: largest shift as a share of the page.
        scale: largest change of each side.
    """
    side = page.width
    angle = np.radians(rng.uniform(-turn, turn))
    stretch = 1 + rng.uniform(-scale, scale, 2)
    linear = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * stretch
    middle = np.full(2, side / 2)
    offset = middle - linear @ middle + rng.uniform(-shift, shift, 2) * side
    inverse = np.linalg.inv(linear)
    back = np.concatenate([inverse, (-inverse @ offset)[:, None]], 1)
    border = 255 if rng.random() < 0.8 else int(rng.integers(0, 90))
    page = page.transform(
        (side, side), Image.Transform.AFFINE, tuple(back.ravel()), Image.Resampling.BILINEAR, fillcolor=border
    )
    small = page.filter(ImageFilter.GaussianBlur(rng.uniform(0, 2.0))).resize(
        (side // 2, side // 2), Image.Resampling.BOX
    )
    grey = np.asarray(small, dtype=np.float64) / 255
    paper = rng.uniform(0.75, 1.0)
    black = rng.uniform(0.0, 0.35)
    light = 1 + rng.uniform(-0.12, 0.12) * np.linspace(-1, 1, side // 2)
    light = light[:, None] if rng.random() < 0.5 else light
    grey = (black + (paper - black) * grey) * light + rng.uniform(0.0, 0.12) * rng.standard_normal(grey.shape)
    specks = rng.random(grey.shape) < rng.uniform(0, 0.01)
    grey[specks] = rng.random(int(specks.sum()))
    return (255 * grey.clip(0, 1)).round().astype(np.uint8), np.concatenate([linear, offset[:, None]], 1)


def moved(
    boxes: Float64[np.ndarray, "n 4"], matrix: Float64[np.ndarray, "2 3"], side: int
) -> Float64[np.ndarray, "n 4"]:
    """The boxes around the corners of boxes after an affine map, inside a page."""
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]] @ matrix[:, :2].T + matrix[:, 2]
    return np.concatenate([corners.min(1), corners.max(1)], 1).clip(0, side)
