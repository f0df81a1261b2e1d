"""The page in Chromium, as people use it: drop a picture, filter, look why, add and undo, forget; by mouse and by keyboard."""

import base64
import json
import os
import shutil
import threading
import time

import pytest

from tests.cli.serving.conftest import COUNT

pytestmark = pytest.mark.slow
TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="machine: playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("machine: there is no Chromium")
    with playwright.sync_playwright() as started:
        made = started.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.fixture
def address(serve, request):
    """A server on a free port, with the options that a test gives as parameters."""
    import uvicorn

    from ziggurat.cli.serving.serve import listen

    listening = listen("127.0.0.1", 0)
    app = serve(**getattr(request, "param", {})).app
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", ws="none"))
    running = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    running.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    running.join(30)


@pytest.fixture
def visit(browser, address):
    """A window of a width; every mistake on its console fails the test, but for answers that were refused."""
    windows, mistakes = [], []

    def open_(width=1280, scheme="light"):
        window = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        window.set_default_timeout(120_000)
        page = window.new_page()
        windows.append(window)
        page.on("console", lambda said: said.type in ("error", "warning") and mistakes.append(said.text))
        page.on("pageerror", lambda error: mistakes.append(str(error)))
        page.goto(address)
        return page

    yield open_
    for window in windows:
        window.close()
    assert [said for said in mistakes if "the server responded with a status of 4" not in said] == []


DROP = """([name, text]) => {
  const bytes = Uint8Array.from(atob(text), (sign) => sign.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type: "image/png" }));
  for (const type of ["dragover", "drop"]) {
    document.getElementById("drop").dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }));
  }
}"""


def drop(page, content, name="a digit.png"):
    page.wait_for_selector("#memory:not([hidden])")
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])
    until(page, "document.querySelectorAll('.card').length > 0")


def until(page, expression, argument=None, seconds=120):
    """Asks again and again from here: the page's own policy forbids Playwright to do so inside."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression, argument):
        assert time.monotonic() < end, (expression, argument, page.inner_text("body"))
        page.wait_for_timeout(50)


def names(page):
    return page.locator(".card .name").all_inner_texts()


def settled(page, text):
    until(page, "(text) => document.getElementById('status').textContent.includes(text)", text)


def test_drop_filter_look_add_and_forget(visit, digit, memory):
    page = visit()
    drop(page, digit(17))
    settled(page, "10 neighbours of a digit.png")
    assert names(page)[0] == "digits/17" and page.locator(".card").count() == 10
    shares = [int(text.split()[0]) for text in page.locator("#votes .percent").all_inner_texts()]
    assert shares == sorted(shares, reverse=True) and 95 <= sum(shares) <= 105
    until(page, "[...document.querySelectorAll('.card img')].every((image) => image.naturalWidth === 8)")

    page.select_option("#field", "label")
    page.select_option("#value", "'3'")
    page.click("text=Add to filter")
    page.select_option("#field", "year")
    page.fill("#low", "1910")
    page.fill("#high", "1990")
    page.click("text=Add to filter")
    assert page.input_value("#where") == "label = '3' and year >= 1910 and year <= 1990"
    rows = memory.store.scan("label = '3' and year >= 1910 and year <= 1990")
    settled(page, f"{min(len(rows), 10)} neighbours")
    assert set(names(page)) <= set(rows["id"]) and page.locator(".card .label").all_inner_texts()[0] == "3"
    page.fill("#where", "colour = 'red'")
    page.press("#where", "Enter")
    page.wait_for_selector("text=there is no field 'colour'")
    page.click("#clear")
    settled(page, "10 neighbours")

    page.click(".card .look >> nth=2")
    page.wait_for_selector("#maps:not([hidden])")
    assert page.evaluate("document.getElementById('maps').naturalWidth") == 656
    distance = float(page.locator(".card .distance >> nth=2").inner_text().split()[1])
    assert f"cosine is {1 - distance:.3f}"[:14] in page.inner_text("#why-text")
    page.keyboard.press("Escape")

    drop(page, digit(500), "new one")
    settled(page, "of new one")
    page.fill("#new-0", "five")
    page.fill("#more-name", "price")
    page.select_option("#more-kind", "numbers")
    page.fill("#more-value", "2.5")
    page.click("text=Add example")
    page.wait_for_selector("text=new one is in the memory.")
    assert (
        memory.get(["new one"])[0]["metadata"]["price"] == 2.5
        and memory.get(["new one"])[0]["metadata"]["label"] == "five"
    )
    until(page, "document.querySelector('.card .name').textContent === 'new one'")
    page.click("#undo")
    page.wait_for_selector("text=new one is out of the memory again.")
    assert memory.get(["new one"]) == [None]

    settled(page, "10 neighbours")
    first = names(page)[0]
    page.click(".card .forget >> nth=0")
    page.click("text=Keep it")
    assert memory.get([first]) != [None]
    page.click(".card .forget >> nth=0")
    page.click("text=Forget it")
    page.wait_for_selector(f"text={first} is forgotten.")
    until(page, "(first) => document.querySelector('.card .name').textContent !== first", first)
    assert memory.get([first]) == [None] and f"{COUNT - 1} examples" in page.inner_text("#about")


def test_by_keyboard_alone(visit):
    page = visit()
    page.wait_for_selector("#memory:not([hidden])")
    order = []
    for _ in range(12):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()"))
    assert order[:6] == ["Skip to the neighbours", "file", "id", "Find", "Which neighbours", "where"]
    page.focus("#id")
    page.keyboard.type("digits/3")
    page.keyboard.press("Enter")
    settled(page, "neighbours of digits/3")
    assert "digits/3" not in names(page)
    page.focus(".card .look")
    page.keyboard.press("Enter")
    page.wait_for_selector("#maps:not([hidden])")
    assert page.evaluate("document.getElementById('maps').alt").startswith("Maps of the similarity over digits/3")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.className") == "look", "the focus comes back"
    page.focus(".card .forget")
    page.keyboard.press("Enter")
    page.wait_for_selector("#sure[open]")
    assert page.evaluate("document.activeElement.value") == "no", "the harmless answer is chosen"
    page.keyboard.press("Enter")
    assert f"{COUNT} examples" in page.inner_text("#about")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 380])
def test_it_fits_names_everything_and_can_be_read(visit, digit, memory, width, scheme):
    memory.add(["a" * 300], memory.get(["digits/17"])[0]["vector"][None], [{"label": "l" * 200, "note": "n" * 400}])
    page = visit(width, scheme)
    page.wait_for_selector("#memory:not([hidden])")
    drop(page, digit(17))
    page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
    folder = os.environ.get("ZIGGURAT_SHOTS")  # to look at
    if folder:
        page.screenshot(path=f"{folder}/{width}-{scheme}.png", full_page=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    unnamed = page.evaluate("""() => [...document.querySelectorAll('input, select, button')].filter((part) => part.checkVisibility()
        && !(part.labels?.length || part.getAttribute('aria-label') || part.textContent.trim())).map((part) => part.outerHTML)""")
    assert unnamed == []
    assert (
        page.evaluate(
            "[...document.images].filter((image) => image.checkVisibility() && !image.hasAttribute('alt')).length"
        )
        == 0
    )
    assert min(page.evaluate(CONTRAST)) >= 4.5


# The contrast of every visible text with what is behind it, as WCAG 2 defines it.
CONTRAST = """() => {
  const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (part) => {
    for (; part; part = part.parentElement) {
      const colour = rgb(getComputedStyle(part).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return rgb(getComputedStyle(document.body).backgroundColor);
  };
  return [...document.querySelectorAll('body *')]
    .filter((part) => part.checkVisibility() && [...part.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((part) => [light(rgb(getComputedStyle(part).color)), light(behind(part))].sort((a, b) => b - a))
    .map(([high, low]) => (high + 0.05) / (low + 0.05));
}"""


@pytest.mark.parametrize("address", [{"token": TOKEN}], indirect=True)
def test_the_token_is_asked_for(visit, digit):
    page = visit()
    page.wait_for_selector("#entry:not([hidden])")
    assert not page.is_visible("#memory")
    page.fill("#token", "wrong")
    page.click("text=Enter")
    page.wait_for_selector("text=That is not the token")
    page.fill("#token", TOKEN)
    page.press("#token", "Enter")
    page.wait_for_selector("#memory:not([hidden])")
    drop(page, digit(3))
    until(page, "document.querySelector('.card img').naturalWidth === 8")
    page.reload()
    page.wait_for_selector("#memory:not([hidden])")


@pytest.mark.parametrize("address", [{"artifact": None}], indirect=True)
def test_without_a_checkpoint_there_is_nothing_to_drop(visit):
    page = visit()
    page.wait_for_selector("#memory:not([hidden])")
    assert not page.is_visible("#drop") and not page.is_visible("#add-section")
    page.fill("#id", "digits/3")
    page.click("text=Find")
    settled(page, "neighbours of digits/3")
    page.click(".card .look >> nth=0")
    page.wait_for_selector("text=There are no maps of the similarity: this server was started without a checkpoint")


def test_what_comes_from_the_memory_is_text(visit, memory, digit):
    evil = "<img src=x onerror=\"document.title='evil'\"><script>document.title='evil'</script>"
    memory.add(
        [evil],
        memory.get(["digits/17"])[0]["vector"][None],
        [{"label": evil, "note": evil, "constructor": "x", evil: evil}],
    )
    page = visit()
    page.wait_for_selector("#memory:not([hidden])")
    drop(page, digit(17))
    assert (
        evil in names(page)
        and evil in page.locator("#votes .what").all_inner_texts() + page.locator(".card .label").all_inner_texts()
    )
    page.click(f".card .look >> nth={names(page).index(evil)}")
    page.wait_for_selector("#why[open]")
    page.keyboard.press("Escape")
    page.click(f".card .similar >> nth={names(page).index(evil)}")
    settled(page, "neighbours of <img")
    assert "evil" not in page.title() and page.locator("#results img[src='x']").count() == 0
    assert json.dumps(page.evaluate("document.querySelectorAll('.card script').length")) == "0"
