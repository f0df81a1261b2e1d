"""The page of a comparison in a real browser: no error, nothing wider than the window, every picture there, a row for each method."""

import json
import re
import shutil
import subprocess
from html import unescape

import pytest

METHODS = ["mlp", "mono_forward/mlp"]
WATCH = "<script>window.mistakes=[];window.addEventListener('error',e=>mistakes.push(String(e.message||e.target.src)),true);"
WATCH += "console.error=(...x)=>mistakes.push(x.join(' '));</script>"
LOOK = """<script>window.addEventListener('load',()=>{
const wide=[...document.querySelectorAll('body *')].filter(e=>!e.closest('.scroll')&&e.getBoundingClientRect().right>innerWidth+1);
const seen={mistakes,inner:innerWidth,scroll:document.documentElement.scrollWidth,wide:wide.map(e=>e.tagName),
pictures:[...document.images].map(i=>[i.complete,i.naturalWidth]),rows:document.querySelector('table tbody').rows.length};
const p=document.createElement('pre');p.id='seen';p.textContent=JSON.stringify(seen);document.body.append(p);});</script>"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    from ziggurat.report.comparison import write_page
    from ziggurat.workflows.comparing import run_comparison

    return write_page(run_comparison("digits", METHODS, "3steps", 1, tmp_path_factory.mktemp("page")))


@pytest.mark.parametrize("width", [1300, 500])
def test_the_page_in_a_browser(page, width, tmp_path):
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("machine: there is no Chromium")
    text = page.read_text()
    copy = tmp_path / "page.html"
    copy.write_text(text.replace("<head>", "<head>" + WATCH, 1).replace("</body>", LOOK + "</body>", 1))
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--window-size={width},900",
        f"--user-data-dir={tmp_path}/profile",
    ]
    done = subprocess.run(
        [browser, *options, "--virtual-time-budget=5000", "--dump-dom", copy.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
    )
    found = re.search(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    assert found, done.stderr[-2000:]
    seen = json.loads(unescape(found.group(1)))
    assert seen["mistakes"] == []
    assert seen["inner"] <= width and seen["scroll"] <= seen["inner"], seen
    assert seen["pictures"] and all(complete and side > 0 for complete, side in seen["pictures"])
    assert seen["rows"] == len(METHODS)
    assert "http://" not in text and "https://" not in re.sub(r'xmlns(:\w+)?="[^"]*"', "", text), (
        "the page stands alone"
    )
