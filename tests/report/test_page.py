"""The page of a comparison in a real browser: no error, nothing wider than the window, every picture there, a row for each method."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

from ziggurat.report.comparison import write_page
from ziggurat.workflows.budget import parse_budget
from ziggurat.workflows.comparing import Comparison, summarise
from ziggurat.workflows.outcome import Outcome

METHODS = ["mlp", "resnet18:stem=cifar,some_option=of_a_length,another_one=longer", "simsiam/resnet18", "gcn"]
WATCH = "<script>window.mistakes=[];window.addEventListener('error',e=>mistakes.push(String(e.message||e.target.src)),true);"
WATCH += "console.error=(...x)=>mistakes.push(x.join(' '));</script>"
LOOK = """<script>window.addEventListener('load',()=>{
const wide=[...document.querySelectorAll('body *')].filter(e=>!e.closest('.scroll')&&e.getBoundingClientRect().right>innerWidth+1);
const seen={mistakes,inner:innerWidth,scroll:document.documentElement.scrollWidth,wide:wide.map(e=>e.tagName),
pictures:[...document.images].map(i=>[i.complete,i.naturalWidth]),rows:document.querySelector('table tbody').rows.length};
parent.postMessage(JSON.stringify(seen),'*');});</script>"""
# The page stands in a frame of the wanted width: a window of Chromium is never narrower than 500 pixels.
FRAME = """<!doctype html><script>addEventListener('message',e=>{
const p=document.createElement('pre');p.id='seen';p.textContent=e.data;document.body.append(p);});</script>
<body><iframe src="page.html" style="border:0;width:WIDTHpx;height:900px"></iframe></body>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A comparison as it may become: long names and paths, a method that failed, notes and warnings."""
    folder = tmp_path_factory.mktemp("a-folder-with-a-name-that-is-as-long-as-folders-of-runs-are")
    outcomes = [
        Outcome(
            method, seed, 0.9 - 0.1 * k, 0.88, 0.9, 11_173_962, 556_651_520, 61.3, 812.0, 1523.0, 400,
            curve=[(step, 2.3 / (1 + step / 50) + 0.1 * k) for step in range(4, 401, 4)],
        )
        for k, method in enumerate(METHODS[:-1]) for seed in range(3)
    ]  # fmt: skip
    outcomes.append(
        Outcome(METHODS[-1], 0, error="ValueError: " + "it did not fit and this is said at some length " * 3)
    )
    notes, warnings = ("digits: 1,797 images of 8x8 (grey), 10 classes",), ("simsiam/resnet18 has collapsed." * 5,)
    best = folder / "best.safetensors"
    return write_page(
        Comparison(summarise(outcomes), outcomes, best, folder, "digits", parse_budget("400steps"), notes, warnings)
    )


@pytest.mark.parametrize("width", [1300, 400])
def test_the_page_in_a_browser(page, width, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("machine: there is no Chromium")
    text = page.read_text()
    copy = tmp_path / "page.html"
    copy.write_text(text.replace("<head>", "<head>" + WATCH, 1).replace("</body>", LOOK + "</body>", 1))
    frame = tmp_path / "frame.html"
    frame.write_text(FRAME.replace("WIDTH", str(width)))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--window-size=1400,1000",
        f"--user-data-dir={tmp_path}/profile",
    ]
    done = subprocess.run(
        [browser, *options, "--virtual-time-budget=5000", "--dump-dom", frame.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    seen = json.loads(unescape(found.group(1)))
    assert seen["mistakes"] == []
    assert seen["inner"] == width and seen["scroll"] <= width and seen["wide"] == [], seen
    assert seen["pictures"] and all(complete and side > 0 for complete, side in seen["pictures"])
    assert seen["rows"] == len(METHODS)
    assert "http://" not in text and "https://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text), (
        "the page stands alone"
    )
