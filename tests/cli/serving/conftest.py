"""A memory of 120 digits under a small network that was never trained: nothing here depends on how good it is."""

import io

import numpy as np
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from tests.untrained import untrained
from ziggurat.cli.serving.app import create_app
from ziggurat.data import load
from ziggurat.memory.memory import Memory
from ziggurat.report.album import Album
from ziggurat.workflows.embedding import represent

COUNT = 120


@pytest.fixture(scope="session")
def artifact():
    return untrained("cifar_resnet20")


@pytest.fixture(scope="session")
def digits():
    return load("digits")


@pytest.fixture(scope="session")
def vectors(artifact, digits):
    return represent(artifact, digits.inputs(torch.arange(COUNT)))


@pytest.fixture
def memory(tmp_path, vectors, digits):
    """Ids as `embed` gives them; a label, a year, and whether the number is odd."""
    made = Memory.open(tmp_path / "store", vectors.shape[1])
    labels = [digits.classes[k] for k in digits.labels[:COUNT].tolist()]
    rows = [{"label": k, "data": "digits", "year": 1900 + i, "odd": int(k) % 2 == 1} for i, k in enumerate(labels)]
    made.add([f"digits/{i}" for i in range(COUNT)], vectors, rows)
    return made


@pytest.fixture
def album(tmp_path, digits):
    return Album(tmp_path / "store" / "thumbnails", [digits])


@pytest.fixture
def serve(memory, artifact, album):
    """A client of a server with these options."""

    made = []

    def start(artifact=artifact, album=album, memory=memory, **options):
        app = create_app(memory, artifact, album=album, **options)
        made.append(app)
        return TestClient(app, "http://127.0.0.1:8000", raise_server_exceptions=False)

    yield start
    for app in made:
        app.state.workers.threads.shutdown(cancel_futures=True)
        app.state.changes.threads.shutdown(cancel_futures=True)


@pytest.fixture
def client(serve):
    return serve()


def encoded(pixels, kind="PNG", **options):
    """A picture as a file's content."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture
def digit(digits):
    """A digit as a PNG, by its number."""
    return lambda i: encoded(digits.images[i, 0].numpy())


@pytest.fixture
def noise():
    """A picture that is in no data set."""
    return encoded(np.random.default_rng(0).integers(0, 255, (40, 64, 3), dtype=np.uint8))
