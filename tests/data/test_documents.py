import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from tests.typecheck import value_error
from ziggurat.data.descriptors import described, ink_profiles
from ziggurat.data.documents import LAYOUTS, REGIONS, synthetic_documents
from ziggurat.data.page_drawing import Pen, moved, scanned, strip
from ziggurat.data.rvl_cdip import CLASSES, RVLCDIP, SPLITS


def test_pages_depend_on_the_seed_alone():
    one, two, other = (synthetic_documents(n, seed, 64) for n, seed in ((9, 5), (16, 5), (9, 6)))
    assert torch.equal(one.images.images, two.images.images[:9]) and one.images.images.shape == (9, 1, 64, 64)
    assert not torch.equal(one.images.images, other.images.images)
    assert torch.equal(one.images.labels, torch.arange(9) % 8) and one.images.classes == LAYOUTS


def test_regions_are_on_the_page():
    pages = synthetic_documents(24, 1)
    for boxes, kinds in zip(pages.boxes, pages.kinds, strict=True):
        assert len(boxes) == len(kinds) >= 1 and int(kinds.max()) < len(REGIONS)
        assert float(boxes.min()) >= 0 and float(boxes.max()) <= 128
    tables = [REGIONS[k] for i in (2, 10, 18) for k in pages.kinds[i].tolist()]
    assert tables.count("table") == 3


def test_ink_is_where_the_regions_are():
    page, boxes = Image.new("L", (256, 256), 255), []
    page.paste(0, (60, 100, 120, 140))
    found, matrix = scanned(page, np.random.default_rng(0), turn=8)
    boxes = moved(np.array([[60.0, 100.0, 120.0, 140.0]]), matrix, 256) / 2
    left, top, right, bottom = boxes[0].round().astype(int)
    inside = found[top:bottom, left:right].mean()
    outside = np.concatenate([found[20:top, 20:-20].ravel(), found[bottom:-20, 20:-20].ravel()]).mean()
    assert inside < outside - 80


def test_the_amount_of_ink_does_not_give_the_class_away():
    train, test = (synthetic_documents(n, 2 + n, 64).images for n in (120, 64))
    ink = [described(part, lambda x: ink_profiles(x, 1)) for part in (train, test)]
    found = KNeighborsClassifier(15).fit(ink[0][:, :1], train.labels).score(ink[1][:, :1], test.labels)
    assert found < 0.4


def test_a_line_is_as_wide_as_asked():
    pen = Pen(200, np.random.default_rng(0))
    pen.line(0.1, 0.2, 0.5, 0.05)
    rows, columns = np.nonzero(np.asarray(pen.page) < 255)
    assert columns.min() >= 20 and columns.max() <= 120 and rows.min() >= 40
    assert strip(10, "01") is strip(10, "01")


@pytest.mark.fact("document_cnn", 1)
def test_rvl_cdip_has_sixteen_classes_and_three_splits():
    assert len(CLASSES) == 16 and CLASSES[0] == "letter" and CLASSES[15] == "memo"
    assert SPLITS == {"train": 320_000, "val": 40_000, "test": 40_000} and sum(SPLITS.values()) == 16 * 25_000


@pytest.fixture
def archive(tmp_path):
    (tmp_path / "labels").mkdir()
    (tmp_path / "images" / "a").mkdir(parents=True)
    for i, (width, height) in enumerate(((75, 100), (100, 60), (75, 100))):
        page = np.full((height, width), 255, np.uint8)
        page[: height // 2] = 40 * i
        Image.fromarray(page).save(tmp_path / "images" / "a" / f"{i} b.tif")
    (tmp_path / "images" / "a" / "bad.tif").write_bytes(b"II*\0 no picture")
    (tmp_path / "labels" / "train.txt").write_text("a/0 b.tif 15\na/1 b.tif 0\na/2 b.tif 3\na/bad.tif 2\n")
    return tmp_path


def test_rvl_cdip_is_read_and_warped(archive):
    data = RVLCDIP(archive, "train", 20)
    assert len(data) == 4 and data.labels.tolist() == [15, 0, 3, 2] and data.ids[0] == "a/0 b.tif"
    x = data.inputs([1, 0])
    assert x.shape == (2, 1, 20, 20) and float(x[0, 0, 2, 10]) == pytest.approx(40 / 255) and float(x[1, 0, 18, 3]) == 1
    assert "4 pages warped to 20x20" in data.describe()
    good = data.without(["a/bad.tif"])
    assert len(good) == 3 and good.inputs(slice(None)).shape == (3, 1, 20, 20)
    assert good.subset(torch.tensor([False, True, True])).labels.tolist() == [0, 3]


def test_mistakes_are_named(archive):
    (archive / "labels" / "val.txt").write_text("a/0 b.tif 16\n")
    for call, says in (
        (lambda: synthetic_documents(0), "1 or more"),
        (lambda: RVLCDIP(archive, "dev"), "train, val, test"),
        (lambda: RVLCDIP(archive, "val"), "line 1: expected a path and a label"),
        (lambda: RVLCDIP(archive).inputs([3]), "bad.tif is no picture of the kinds"),
    ):
        with value_error(says):
            call()
    with pytest.raises(FileNotFoundError, match=r"test\.txt; unpack"):
        RVLCDIP(archive, "test")
