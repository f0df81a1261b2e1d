import io
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from tests.typecheck import value_error
from ziggurat.data import load
from ziggurat.data.files import choose_size, read_folder
from ziggurat.data.loading import channel_stats, splits, stratified
from ziggurat.data.pictures import open_image, resize


def picture(path, size=(40, 48), colour=(200, 30, 30), mode="RGB", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).convert(mode).save(path, **options)
    return path


@pytest.fixture
def folder(tmp_path):
    for i in range(6):
        picture(tmp_path / "animals" / "cat" / f"{i}.jpg", colour=(200, 20 * i, 30))
        picture(tmp_path / "animals" / "dog" / f"{i}.png", colour=(20, 20 * i, 200))
    return tmp_path / "animals"


def test_folder_of_classes(folder):
    data = load(folder)
    assert data.classes == ("cat", "dog") and data.labels.tolist() == [0] * 6 + [1] * 6
    assert data.images.shape == (12, 3, 32, 32) and data.ids[0] == "cat/0.jpg"
    assert data.describe() == "animals: 12 images of 32x32 (colour), 2 classes (6 to 6 images each)"
    assert load(folder, size=16).images.shape[-1] == 16


def test_damaged_files_are_left_out_counted_and_named(folder):
    (folder / "cat" / "broken.jpg").write_bytes((folder / "cat" / "0.jpg").read_bytes()[:200])
    (folder / "dog" / "text.png").write_text("not a picture")
    with pytest.warns(UserWarning, match=r"2 of 14 files.*broken.jpg, text.png"):
        data = load(folder)
    assert len(data) == 12 and "2 of 14 files could not be read" in data.describe()


def test_flat_folder_has_no_labels(tmp_path):
    picture(tmp_path / "a.png")
    data = load(tmp_path)
    assert data.labels.tolist() == [-1] and "no labels" in data.describe()


def test_what_is_known_of_pictures(tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2024:05:17 12:00:00"
    picture(tmp_path / "trips" / "sea" / "day 1" / "a.jpg", exif=exif)
    picture(tmp_path / "trips" / "sea" / "b.jpg", size=(64, 32))
    data = load(tmp_path / "trips")
    assert data.metadata == (
        {"width": 64, "height": 32},
        {"width": 40, "height": 48, "taken": "2024-05-17", "folder": "sea/day 1"},
    )
    assert data.subset([1]).metadata == (data.metadata[1],)
    exif = Image.Exif()
    exif[0x0132] = "no day at all"
    picture(tmp_path / "other" / "c.jpg", exif=exif)
    assert load(tmp_path / "other").metadata == ({"width": 40, "height": 48},)


def test_hidden_files_are_left_alone_and_flat_ones_beside_classes_are_named(folder, monkeypatch):
    picture(folder / ".thumbnails" / "x.jpg")
    picture(folder / "cat" / "._0.jpg")
    assert load(folder).classes == ("cat", "dog") and len(load(folder)) == 12
    picture(folder / "on top.jpg")
    with pytest.warns(UserWarning, match=r"1 of 13 pictures lie beside the folders.*\(on top.jpg"):
        assert len(load(folder)) == 12
    (folder / "on top.jpg").unlink()
    monkeypatch.chdir(folder / "cat")
    data = load(".")
    assert (data.name, len(data)) == ("cat", 6)
    monkeypatch.undo()


def test_grey_pictures_give_one_channel(tmp_path):
    for i in range(2):
        picture(tmp_path / "x" / f"{i}.png", mode="L")
    assert read_folder(tmp_path).images.shape[1] == 1


def test_modes_are_converted(tmp_path):
    red = (200, 30, 30)
    for name, mode, options in (
        ("a.png", "RGB", {}),
        ("b.png", "P", {}),
        ("c.png", "RGBA", {}),
        ("d.jpg", "CMYK", {"quality": 95}),
    ):
        image = open_image(picture(tmp_path / name, colour=red, mode=mode, **options))
        assert image.shape == (48, 40, 3) and image.dtype == np.uint8
        assert np.abs(image[24, 20].astype(int) - red).max() <= (32 if mode == "P" else 12), name  # a palette is coarse
    ramp = (np.arange(64 * 32).reshape(64, 32) * 31).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    deep = open_image(tmp_path / "deep.png")
    assert np.abs(deep[..., 0].astype(float) - ramp / 65535 * 255).max() <= 1
    clear = Image.new("RGBA", (8, 8), (255, 0, 0, 0))
    clear.save(tmp_path / "clear.png")
    assert (open_image(tmp_path / "clear.png") == 255).all()


def test_exif_rotation_is_applied(tmp_path):
    image = Image.new("RGB", (40, 20))
    image.paste((255, 0, 0), (0, 0, 20, 20))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    image.save(tmp_path / "turned.jpg", exif=exif, quality=95)
    upright = open_image(tmp_path / "turned.jpg")
    assert upright.shape == (40, 20, 3) and upright[5, 10, 0] > 200 and upright[35, 10, 0] < 60


def test_too_many_pixels_are_refused(tmp_path):
    buffer = io.BytesIO()
    Image.new("1", (9000, 6000)).save(buffer, "PNG")
    (tmp_path / "huge.png").write_bytes(buffer.getvalue())
    with warnings.catch_warnings(), value_error("50,000,000"):
        warnings.simplefilter("ignore")
        open_image(tmp_path / "huge.png")


@pytest.mark.parametrize("kind", ["EPS", "ICO", "PCX", "TGA", "DDS", "SGI", "JPEG2000"])
def test_only_the_usual_formats_are_tried(tmp_path, kind):
    """Whatever its name says: Pillow would hand an EPS to Ghostscript."""
    Image.new("RGB", (16, 16), (9, 99, 199)).save(tmp_path / "drawn.png", kind)
    with value_error("drawn.png is no picture of the kinds JPEG, PNG.*save it as one of them"):
        open_image(tmp_path / "drawn.png")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM"])
def test_damage_is_one_sentence(tmp_path, kind):
    """Bytes changed at random, and files cut off: the decoders raise many kinds of errors, a person reads one."""
    rng, path, buffer = np.random.default_rng(0), tmp_path / "hurt.png", io.BytesIO()
    Image.fromarray(rng.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(buffer, kind)
    whole, refused = np.frombuffer(buffer.getvalue(), np.uint8), 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for _ in range(150):
            hurt = whole[: rng.integers(len(whole) // 2, len(whole) + 1)].copy()
            places = rng.integers(0, min(len(hurt), 300), 3)
            hurt[places] = rng.integers(0, 256, 3)
            path.write_bytes(hurt.tobytes())
            try:
                assert open_image(path).ndim == 3
            except ValueError as error:
                refused += 1
                assert str(error).startswith(f"{path} ") and "\n" not in str(error)
    assert refused > 20


def test_a_camera_s_picture_of_two_frames(tmp_path):
    """MPO, which phones and cameras write under the name .jpg."""
    first, second = Image.new("RGB", (16, 12), (200, 30, 30)), Image.new("RGB", (16, 12), (30, 30, 200))
    first.save(tmp_path / "two.jpg", "MPO", save_all=True, append_images=[second])
    assert np.abs(open_image(tmp_path / "two.jpg")[6, 8].astype(int) - (200, 30, 30)).max() < 12


def test_size_is_the_usual_one_below_the_median(tmp_path):
    files = [picture(tmp_path / f"{i}.png", size=(100, 150)) for i in range(3)]
    assert choose_size(files) == 96
    assert resize(np.zeros((30, 200, 3), np.uint8), 16).shape == (16, 16, 3)


def test_csv_of_pictures_and_escape(folder):
    (folder / "list.csv").write_text("path,label\ncat/0.jpg,a\ndog/1.png,b\n")
    data = load(folder / "list.csv")
    assert data.classes == ("a", "b") and len(data) == 2
    (folder / "list.csv").write_text("path,label,year\ncat/0.jpg,,2020\ncat/1.jpg,a,\ndog/1.png,b,2021\n")
    data = load(folder / "list.csv")
    assert data.labels.tolist() == [-1, 0, 1] and [row.get("year") for row in data.metadata] == [2020, None, 2021]
    (folder / "list.csv").write_text("path,sunny\ncat/0.jpg,True\ndog/1.png,False\n")
    data = load(folder / "list.csv")
    assert (
        data.classes == () and data.labels.tolist() == [-1, -1] and [m["sunny"] for m in data.metadata] == [True, False]
    )
    (folder / "bad.csv").write_text("path,label\n../../etc/passwd,a\n")
    with value_error("outside its folder"):
        load(folder / "bad.csv")


def test_csv_of_numbers(tmp_path):
    (tmp_path / "t.csv").write_text("a,b,y\n1,x,no\n2,y,yes\n,x,no\n")
    table = load(tmp_path / "t.csv")
    assert table.x.tolist() == [[1, 1, 0], [2, 0, 1], [1.5, 1, 0]] and table.labels.tolist() == [0, 1, 0]
    assert table.classes == ("no", "yes") and "1 missing" in table.describe()
    (tmp_path / "n.csv").write_text("a,b\n1,2\n")
    with value_error("rename the one to be predicted"):
        load(tmp_path / "n.csv")


def test_mistakes_are_named(tmp_path):
    with value_error("has no pictures"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="neither a data set"):
        load("nowhere/at/all")
    with pytest.raises(FileNotFoundError, match="Did you mean digits"):
        load("digit")
    (tmp_path / "x.bin").write_text("")
    with value_error("none of the files that are understood"):
        load(tmp_path / "x.bin")
    with value_error("the parts train, test"):
        load("fashion_mnist", "valid")


GRAPH = {"edge_index": np.array([[0, 1, 2], [1, 2, 0]]), "y": np.array([0, 1, 1]), "x": np.eye(3, 4)}


def save(path, **changes):
    np.savez(path, **{k: v for k, v in {**GRAPH, **changes}.items() if v is not None})
    return path


def test_graph_from_npz(tmp_path):
    graph = load(save(tmp_path / "g.npz", edge_weight=np.ones(3), train_mask=np.array([1, 0, 1])))
    assert graph.x.shape == (3, 4) and graph.edge_index.tolist() == [[0, 1, 2], [1, 2, 0]]
    assert graph.train_mask.tolist() == [True, False, True] and graph.classes == ("0", "1") and graph.name == "g"
    assert load(save(tmp_path / "h.npz", x=None)).x.tolist() == [[1], [1], [1]]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"edge_index": np.array([[0, 1], [1, 9]])}, "nodes 0 to 2"),
        ({"edge_index": np.array([[0.0], [1.0]])}, "astype"),
        ({"edge_index": np.array([0, 1])}, "sources in the first row"),
        ({"x": np.full((3, 2), np.nan)}, "not finite"),
        ({"x": np.zeros((2, 2))}, "one row for each"),
        ({"y": None}, "no array y"),
        ({"edge_weight": np.ones(2)}, "one finite number"),
        ({"val_mask": np.ones(2)}, "one value for each"),
    ],
)
def test_bad_graphs_are_named(tmp_path, changes, says):
    with value_error(says):
        load(save(tmp_path / "g.npz", **changes))


def test_damaged_npz_and_pickles_are_refused(tmp_path):
    (tmp_path / "g.npz").write_bytes(b"PK not really")
    with value_error("cannot be read as npz"):
        load(tmp_path / "g.npz")
    np.savez(tmp_path / "o.npz", **{**GRAPH, "y": np.array([{}, {}, {}], dtype=object)})
    with value_error("no objects"):
        load(tmp_path / "o.npz")


def test_edge_list_and_graphml(tmp_path):
    import networkx as nx

    (tmp_path / "e.txt").write_text("# comment\na b\nb c\n")
    graph = load(tmp_path / "e.txt")
    assert graph.num_nodes == 3 and graph.edge_index.shape == (2, 4) and graph.x.flatten().tolist() == [1, 2, 1]
    network = nx.path_graph(3)
    nx.set_node_attributes(network, {0: "p", 1: "q", 2: "p"}, "y")
    nx.write_graphml(network, tmp_path / "p.graphml")
    assert load(tmp_path / "p.graphml").y.tolist() == [0, 1, 0]


def test_splits_are_disjoint_stratified_and_fixed():
    train, valid, test = splits("digits")
    assert len(train) + len(valid) + len(test) == 1797
    counts = [torch.bincount(part.labels) / len(part) for part in (train, valid, test)]
    assert all((c - 0.1).abs().max() < 0.02 for c in counts)
    assert torch.equal(splits("digits").test.images, test.images)
    assert torch.equal(splits("digits", seed=7).test.images, test.images)
    keep, held = stratified(torch.tensor([0] * 9 + [1] * 9 + [2]), 0.34, 0)
    assert not set(keep.tolist()) & set(held.tolist()) and 18 in keep.tolist() and len(held) == 6


def test_samples_without_a_label_are_not_split(folder):
    rows = [f"cat/{i}.jpg,a" for i in range(6)] + [f"dog/{i}.png,b" for i in range(5)] + ["dog/5.png,"]
    (folder / "list.csv").write_text("\n".join(["path,label", *rows]))
    assert sum(map(len, splits(folder / "list.csv"))) == 11


def test_one_class_only_cannot_be_split(tmp_path):
    picture(tmp_path / "only" / "a.png")
    with value_error("fewer than two classes"):
        splits(tmp_path)


def test_channel_statistics():
    mean, std = channel_stats(splits("digits").train)
    x = splits("digits").train.inputs(slice(None))
    torch.testing.assert_close(mean[0], x.mean(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(std[0], x.std(correction=0), atol=1e-5, rtol=1e-4)
