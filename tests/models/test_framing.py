"""Framing pictures as images of 28 x 28, and refusing files that are not pictures."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from mtlbench import data
from mtlbench.errors import UserError
from mtlbench.models import framing, pictures
from mtlbench.models.framing import Framing, framed, framing_of
from mtlbench.setups import multimnist

MASS, BOX = Framing(20, "mass"), Framing(28, "box")
Grey = NDArray[np.uint8]


@pytest.fixture(scope="module")
def digits() -> Grey:
    data.fetch(data.MNIST, print)
    return data.test(data.MNIST).images[:300].numpy().reshape(-1, 28, 28)


@st.composite
def figures(draw: st.DrawFn) -> Grey:
    """Strokes of any width and strength on a dark background, at least two pixels from the border."""
    picture = Image.new("L", (48, 48))
    pen = ImageDraw.Draw(picture)
    places = st.tuples(st.integers(8, 39), st.integers(8, 39))
    for _ in range(draw(st.integers(1, 4))):
        pen.line(
            [draw(places), draw(places), draw(places)], fill=draw(st.integers(120, 255)), width=draw(st.integers(1, 6))
        )
    pixels = np.array(picture)
    pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:] = 0, 0, 0, 0
    return pixels if pixels.any() else np.pad(np.full((4, 4), 255, np.uint8), 22)


@given(figures(), st.sampled_from([MASS, BOX]), st.tuples(*[st.integers(0, 40)] * 4), st.integers(0, 50))
@settings(max_examples=60)
def test_padding_and_inversion_change_nothing(figure: Grey, framing: Framing, pad: tuple[int, ...], paper: int) -> None:
    expected = framed(figure, framing)
    padded = np.pad(figure, (pad[:2], pad[2:]))
    assert np.array_equal(framed(padded, framing), expected)
    assert np.array_equal(framed(255 - padded, framing), expected)
    in_colour = np.stack([255 - padded, np.full_like(padded, paper), np.full_like(padded, 255 - paper)], axis=-1)
    assert np.array_equal(framed(in_colour, framing), expected)


@given(figures(), st.sampled_from([MASS, BOX]), st.integers(2, 5))
@settings(max_examples=40)
def test_an_integer_scale_changes_nothing_but_rounding(figure: Grey, framing: Framing, factor: int) -> None:
    larger = np.kron(figure, np.ones((factor, factor), np.uint8))
    assert np.abs(framed(larger, framing).astype(int) - framed(figure, framing)).max() <= 1


@given(figures(), st.sampled_from([MASS, BOX]))
@settings(max_examples=40)
def test_a_figure_fills_its_box_and_is_centred(figure: Grey, framing: Framing) -> None:
    image = framed(figure, framing)
    rows, columns = np.nonzero(image)
    assert image.max() == 255
    assert max(np.ptp(rows), np.ptp(columns)) + 1 in (framing.box - 1, framing.box)  # a faint edge may round to 0
    if framing.centre == "mass":
        free = [side.min() > 0 and side.max() < 27 for side in (rows, columns)]
        centres = [(image.astype(float) * (grid + 0.5)).sum() / image.sum() for grid in np.mgrid[:28, :28]]
        for centre, is_free in zip(centres, free, strict=True):
            assert not is_free or 13.9 < centre < 15.1


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 2**32 - 1))
@settings(max_examples=40)
def test_averages_are_exact_over_areas(height: int, width: int, new: int, wide: int, seed: int) -> None:
    image = np.random.default_rng(seed).random((height, width))
    # Each old pixel as new x wide equal ones, so that every new pixel covers whole ones.
    fine = np.kron(image, np.ones((new, wide)))
    expected = fine.reshape(new, height, wide, width).mean(axis=(1, 3))
    assert np.allclose(framing._averaged(image, new, wide), expected)  # pyright: ignore[reportPrivateUsage]


def test_an_image_of_mnist_is_unchanged(digits: Grey) -> None:
    made = np.stack([framed(255 - digit, MASS) for digit in digits]).astype(float)
    distances = np.abs(made - digits * (255 / digits.max(axis=(1, 2), keepdims=True))).reshape(len(digits), -1)
    assert (distances.max(axis=1) <= 0.5 + 1e-9).mean() > 0.75
    assert distances.mean() < 0.25  # in the others a side's last pixels are so faint that they are cut off


@pytest.mark.parametrize("noise", ["normal", "specks", "JPEG"])
def test_noise_does_not_belong_to_the_figure(digits: Grey, noise: str) -> None:
    generator = np.random.default_rng(0)
    distances: list[float] = []
    for digit in digits[:40]:
        clean = np.array(Image.fromarray(255 - digit).resize((140, 140), Image.Resampling.BICUBIC), float)
        noisy = clean
        if noise == "normal":
            noisy = np.clip(clean + generator.normal(0, 15, clean.shape), 0, 255)
        elif noise == "specks":
            noisy = np.where(generator.random(clean.shape) < 0.01, 0, clean)
        else:
            buffer = io.BytesIO()
            Image.fromarray(clean.astype(np.uint8)).save(buffer, "JPEG", quality=40)
            noisy = np.array(Image.open(buffer))
        distances.append(float(np.corrcoef(framed(noisy, MASS).ravel(), framed(clean, MASS).ravel())[0, 1]))
    assert np.mean(distances) > 0.95


def test_a_thin_stroke_is_as_strong_as_a_thick_one() -> None:
    picture = Image.new("L", (600, 400), 255)
    ImageDraw.Draw(picture).line([(100, 350), (300, 50)], fill=0, width=1)
    image = framed(np.array(picture), MASS)
    rows, _ = np.nonzero(image)
    assert (image.max(), np.ptp(rows) + 1) == (255, 20)


def test_a_figure_that_fills_the_picture_is_found(digits: Grey) -> None:
    (zero,) = digits[3:4]
    rows, columns = zero.any(axis=1), zero.any(axis=0)
    assert np.array_equal(framed(255 - zero[rows][:, columns], MASS), framed(zero, MASS))


def test_framing_is_determined_from_images(digits: Grey) -> None:
    data.fetch(data.FASHION_MNIST, print)
    assert framing_of(digits) == MASS
    assert framing_of(data.test(data.FASHION_MNIST).images[:300].numpy()) == BOX
    left, right = torch.from_numpy(digits[:200].astype(np.uint8)).flatten(1).split(100)
    two_digits = multimnist.overlaid(left, right).numpy()
    anything = np.random.default_rng(0).integers(256, size=(50, 784), dtype=np.uint8)
    uniform = np.full((2, 784), 255, np.uint8)
    for odd in (two_digits, 255 - digits, anything, uniform, np.zeros((2, 784), np.uint8)):
        assert framing_of(odd) is None


def test_without_a_common_framing_pictures_are_used_unchanged(digits: Grey, tmp_path: Path) -> None:
    path = tmp_path / "digit.png"
    Image.fromarray(digits[0].astype(np.uint8)).save(path)
    (picture,) = pictures.read(path)
    assert np.array_equal(picture.image(None), digits[0])
    Image.fromarray(digits[0].astype(np.uint8)).resize((56, 28)).save(path)
    (picture,) = pictures.read(path)
    with pytest.raises(UserError, match="is 28 x 56"):
        picture.image(None)


def save(picture: Image.Image, path: Path, **options: Any) -> NDArray[Any]:
    picture.save(path, **options)
    (read,) = pictures.read(path)
    assert read.index is None
    return read.image(MASS)


def test_all_modes_of_pictures_give_equal_images(digits: Grey, tmp_path: Path) -> None:
    digit = np.kron(digits[0], np.ones((4, 4), np.uint8))
    expected, picture = framed(digit, MASS), Image.fromarray(digit)
    path = tmp_path / "digit.png"

    def distance(other: Image.Image, file: Path = path, **options: Any) -> int:
        return int(np.abs(save(other, file, **options).astype(int) - expected).max())

    assert distance(picture) == 0
    assert distance(picture.convert("RGB")) == 0
    assert distance(picture.convert("P")) == 0
    assert distance(Image.fromarray(digit.astype(np.uint16) * 257)) <= 1
    for ink in (0, 255):
        on_nothing = Image.merge("LA", (Image.new("L", picture.size, ink), picture))
        assert distance(on_nothing) <= 1
        assert distance(on_nothing.convert("RGBA")) <= 1
    assert distance(picture, tmp_path / "digit.jpg", quality=100) <= 40
    black_is_transparent = picture.convert("P")
    assert distance(black_is_transparent, transparency=0) == 0
    on_its_side = Image.Exif()
    on_its_side[0x0112] = 6  # to be turned by a quarter to the right
    assert distance(picture.rotate(90), exif=on_its_side) == 0


def test_a_large_picture_is_reduced(digits: Grey, tmp_path: Path) -> None:
    large = Image.fromarray(np.kron(digits[0], np.ones((150, 150), np.uint8)))
    assert np.abs(save(large, tmp_path / "large.png").astype(int) - framed(digits[0], MASS)).max() <= 40


def idx(*shape: int, content: bytes | None = None, magic: int = 0x803) -> bytes:
    return struct.pack(f">{1 + len(shape)}I", magic, *shape) + (bytes(np.prod(shape)) if content is None else content)


def test_an_idx_file_has_many_images(digits: Grey, tmp_path: Path) -> None:
    path = tmp_path / "digits"
    for write in (bytes, gzip.compress):
        path.write_bytes(write(idx(3, 28, 28, content=digits[:3].tobytes())))
        read = list(pictures.read(path))
        assert [picture.index for picture in read] == [0, 1, 2]
        assert np.array_equal([picture.image(MASS) for picture in read], digits[:3])
    larger = np.kron(digits[:2], np.ones((1, 3, 3), np.uint8))
    path.write_bytes(idx(2, 84, 84, content=larger.tobytes()))
    assert np.array_equal(
        [picture.image(MASS) for picture in pictures.read(path)], [framed(d, MASS) for d in digits[:2]]
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b"text", "neither a PNG"),
        (b"\0\0", "something else"),
        (idx(10, magic=0x801), "labels"),
        (idx(2, 28, 28)[:-1], "damaged"),
        (idx(2, 28, 28) + b"1", "damaged"),
        (idx(0, 28, 28), "without an image"),
        (idx(2, 2, 2, content=b"").replace(struct.pack(">I", 2), struct.pack(">I", 2**31)), "too large"),
        (gzip.compress(b"hello", mtime=0), "gzip file"),
        (gzip.compress(idx(2, 28, 28), mtime=0)[:-9], "damaged"),
        (b"\x1f\x8b\x08" + bytes(40), "damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(20), "neither a PNG|damaged"),
    ],
)
def test_a_file_that_is_not_a_picture_is_refused_in_one_line(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(UserError, match=says) as error:
        list(pictures.read(path))
    assert "\n" not in str(error.value)


def test_a_path_that_is_not_a_file_is_refused_in_one_line(tmp_path: Path) -> None:
    for path, says in (
        (tmp_path, "is a folder"),
        (tmp_path / "absent", "does not exist"),
        (Path("/dev/null"), "is not a regular file"),
        (tmp_path / ("x" * 300), "cannot be read|does not exist"),
        (Path("\0"), "cannot be read|does not exist"),
    ):
        with pytest.raises(UserError, match=says):
            list(pictures.read(path))


def test_a_picture_with_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    path = tmp_path / "large.png"
    Image.new("1", (300, 300)).save(path)
    whole = path.read_bytes()
    for side, says in ((10_001, "10,001 x 10,001"), (100_000, "far more")):
        header = b"IHDR" + struct.pack(">II", side, side) + whole[24:29]
        checksum = struct.pack(">I", zlib.crc32(header))
        path.write_bytes(whole[:12] + header + checksum + whole[33:])
        with pytest.raises(UserError, match=says):
            list(pictures.read(path))


@pytest.mark.parametrize("shade", [0, 130, 255])
def test_a_blank_picture_is_refused(tmp_path: Path, shade: int) -> None:
    with pytest.raises(UserError, match="blank"):
        save(Image.new("RGB", (30, 20), (shade, shade, shade)), tmp_path / "blank.png")
    with pytest.raises(UserError, match="blank"):
        save(Image.new("RGBA", (30, 20), (shade, shade, shade, 0)), tmp_path / "blank.png")
    with pytest.raises(UserError, match="blank"):
        save(Image.new("L", (1, 1), shade), tmp_path / "blank.png")


@pytest.fixture(scope="module")
def whole(digits: Grey) -> dict[str, bytes]:
    """A valid file of each kind."""
    found: dict[str, bytes] = {"idx": idx(2, 28, 28, content=digits[:2].tobytes())}
    found["gzip"] = gzip.compress(found["idx"], mtime=0)
    for kind in ("PNG", "JPEG"):
        buffer = io.BytesIO()
        Image.fromarray(digits[0]).save(buffer, kind)
        found[kind] = buffer.getvalue()
    return found


@given(kind=st.sampled_from(["PNG", "JPEG", "idx", "gzip"]), chance=st.data())
@settings(max_examples=150)
def test_damaged_bytes_give_a_picture_or_one_line(
    whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, kind: str, chance: st.DataObject
) -> None:
    content = bytearray(whole[kind])
    for _ in range(chance.draw(st.integers(0, 4))):
        content[chance.draw(st.integers(0, len(content) - 1))] = chance.draw(st.integers(0, 255))
    if chance.draw(st.booleans()):
        del content[chance.draw(st.integers(0, len(content) - 1)) :]
    path = tmp_path_factory.getbasetemp() / f"damaged-{kind}"
    path.write_bytes(content)
    try:
        for picture in pictures.read(path):
            assert picture.image(MASS).shape == (28, 28)
    except UserError as error:
        assert len(str(error).splitlines()) == 1
