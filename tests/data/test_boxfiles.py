import json

import numpy as np
import pytest
from PIL import Image

from tests.typecheck import value_error
from ziggurat.data import load
from ziggurat.data.boxfiles import kind_of


def picture(path, width=40, height=30):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(path)
    return path


def coco(root, boxes, file_name="images/1.jpg"):
    picture(root / "images/1.jpg")
    content = {
        "images": [{"id": 7, "file_name": file_name}],
        "categories": [{"id": 3, "name": "dog"}, {"id": 1, "name": "cat"}],
        "annotations": [{"image_id": 7, "category_id": c, "bbox": b} for c, b in boxes],
    }
    (root / "annotations").mkdir(exist_ok=True)
    (root / "annotations" / "instances.json").write_text(json.dumps(content))
    return root


def voc(root, name="a"):
    picture(root / "JPEGImages" / f"{name}.jpg")
    (root / "Annotations").mkdir(exist_ok=True)
    (root / "Annotations" / f"{name}.xml").write_text(
        "<annotation><object><name>dog</name><bndbox><xmin>3</xmin><ymin>5</ymin><xmax>20</xmax><ymax>25</ymax></bndbox></object>"
        "<object><name>cat</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>40</xmax><ymax>30</ymax></bndbox></object></annotation>"
    )
    return root


def yolo(root, names=True):
    picture(root / "images" / "train" / "x.png")
    (root / "labels" / "train").mkdir(parents=True)
    (root / "labels" / "train" / "x.txt").write_text("1 0.5 0.5 0.25 0.2\n0 0.1 0.1 0.4 0.4\n")
    if names:
        (root / "classes.txt").write_text("cat\ndog\n")
    return root


def test_coco(tmp_path):
    data = load(coco(tmp_path, [(3, [2, 3, 10, 12]), (1, [30, 20, 30, 30])]))
    assert data.classes == ("cat", "dog") and data.images[0].shape == (3, 30, 40)
    assert data.targets[0]["boxes"].tolist() == [[2, 3, 12, 15], [30, 20, 40, 30]], "cut at the picture's edge"
    assert data.targets[0]["labels"].tolist() == [1, 0] and data.ids == ("images/1.jpg",)
    assert "1 images, 2 boxes, 2 classes; COCO annotations" in data.describe()


def test_voc_counts_from_one(tmp_path):
    data = load(voc(tmp_path))
    assert data.targets[0]["boxes"].tolist() == [[2, 4, 20, 25], [0, 0, 40, 30]]
    assert [data.classes[i] for i in data.targets[0]["labels"]] == ["dog", "cat"]


@pytest.mark.parametrize("names", [True, False])
def test_yolo_counts_in_shares(tmp_path, names):
    data = load(yolo(tmp_path, names))
    np.testing.assert_allclose(data.targets[0]["boxes"].numpy(), [[15, 12, 25, 18], [0, 0, 12, 9]], atol=1e-4)
    assert [data.classes[i] for i in data.targets[0]["labels"]] == (["dog", "cat"] if names else ["1", "0"])


@pytest.mark.parametrize(
    "text", ["names: [cat, 'dog']\n", "nc: 2\nnames:\n  - cat\n  - dog\n", "names:\n  0: cat\n  1: dog\n"]
)
def test_yolo_names_from_yaml(tmp_path, text):
    root = yolo(tmp_path, names=False)
    (root / "data.yaml").write_text(text)
    assert load(root).classes == ("cat", "dog")


def test_what_is_wrong_is_dropped_counted_and_named(tmp_path):
    root = coco(tmp_path, [(3, [2, 3, 0, 12]), (1, [1, 1, 5, 5]), (1, [float("nan"), 1, 5, 5])])
    with pytest.warns(UserWarning, match="2 boxes without area were dropped"):
        assert len(load(root).targets[0]["boxes"]) == 1
    two = voc(tmp_path / "voc")
    voc(two, "b")
    (two / "JPEGImages" / "b.jpg").write_bytes(b"nothing")
    (two / "Annotations" / "c.xml").write_text("<annotation>")
    with pytest.warns(UserWarning, match=r"1 of 2 files could not be read.*b.jpg") as seen:
        assert len(load(two)) == 1
    assert any("c.xml is no xml" in str(w.message) for w in seen)


def test_names_do_not_lead_out_of_the_folder(tmp_path):
    picture(tmp_path / "secret.jpg")
    with value_error("lies outside"):
        load(coco(tmp_path / "data", [(3, [1, 1, 5, 5])], "../secret.jpg"))
    root = voc(tmp_path / "voc")
    (root / "Annotations" / "a.xml").write_text('<!DOCTYPE a [<!ENTITY x "y">]><annotation/>')
    with value_error("declares entities"):
        load(root)


def test_folders_without_boxes_are_not_taken_for_them(tmp_path):
    for name in ("cat", "dog"):
        picture(tmp_path / name / "1.jpg")
    (tmp_path / "notes.txt").write_text("hello")
    (tmp_path / "other.json").write_text("[1, 2]")
    assert kind_of(tmp_path) is None and load(tmp_path).classes == ("cat", "dog")
