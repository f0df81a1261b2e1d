import json
from pathlib import Path

from ziggurat.cli import doctoring
from ziggurat.cli.doctoring import clash, room_on_disk


def test_doctor_says_what_is_there(command, monkeypatch, tmp_path):
    monkeypatch.setenv("ZIGGURAT_DATA", str(tmp_path))
    code, out, _ = command("doctor")
    assert code == 0
    for text in ("ziggurat ", "torch build: ", "devices: cpu", "OpenMP: ", "data found: ", "cache: ", "GB free"):
        assert text in out
    assert f"data folder (ZIGGURAT_DATA): {tmp_path}" in out


def test_json(command, monkeypatch):
    monkeypatch.delenv("ZIGGURAT_DATA", raising=False)
    report = json.loads(command("doctor", "--json")[1])
    assert report["data_folder"] is None and report["torch_build"].split()[0] in ("CPU", "CUDA")
    assert report["packages"]["torch"] and report["packages"]["scikit-learn"]
    assert {"psycopg", "pgvector", "fastapi", "uvicorn", "python-multipart"} <= set(report["packages"])
    assert "digits" in report["data_found"] + report["data_missing"] and report["free_gb"] > 0
    assert not set(report["data_found"]) & set(report["data_missing"])


def test_the_clash_of_openmp():
    assert clash(["libgomp (libgomp-1.so)", "libgomp (libgomp.so.1)"], None) is None
    assert "may crash" in clash(["libiomp (a)", "libomp (b)"], None)
    assert "faiss is installed" in clash(["libgomp (a)"], "1.15.1")


def test_a_clash_is_a_warning_on_stderr(command, monkeypatch):
    report = doctoring.examine()
    monkeypatch.setattr(doctoring, "examine", lambda: {**report, "openmp_clash": "They clash."})
    assert command("doctor", "--json")[2] == "They clash.\n"
    assert command("doctor", "--json", "--quiet")[2] == ""


def test_room_where_the_folder_does_not_exist_yet(tmp_path):
    assert room_on_disk(tmp_path / "a/b/c") == room_on_disk(tmp_path) > 0
    assert room_on_disk(Path("/")) > 0


def test_downloads_what_its_source_offers(command, monkeypatch, tmp_path):
    monkeypatch.setattr("ziggurat.data.downloading.download", lambda name, progress: [tmp_path / f"{name}.bin"])
    code, out, err = command("doctor", "--download", "it")
    assert code == 0 and out == f"{tmp_path / 'it.bin'}\n" and err == ""


def test_an_unknown_data_set_is_not_downloaded(command):
    code, out, err = command("doctor", "--download", "nothing")
    assert code == 2 and out == "" and "there is no data set 'nothing'" in err
